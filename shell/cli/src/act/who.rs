//! `credentials`: who this tool is to the federation, and until when.

use serde::Serialize;

use super::show;
use crate::app::Run;
use crate::credentials::{Folder, SOON};
use crate::failure::Failure;
use crate::table::Sheet;
use crate::text;

/// What `-o json` prints. Names and times only; nothing of a key.
#[derive(Debug, Serialize)]
struct Holder {
    identity: String,
    folder: String,
    not_before: String,
    not_after: String,
    valid_for_seconds: u64,
    endpoints: Vec<String>,
}

/// Says who and until when, and warns when little time is left.
pub(crate) fn who(run: &mut Run<'_>) -> Result<(), Failure> {
    let folder = Folder::find(run.global, &run.surroundings)?;
    let now = run.surroundings.clock.now();
    let peer = folder.holder(now)?;
    // Loading looks at the key as well: that it is there, fits and is private.
    folder.tls(now)?;
    let left = peer.not_after.since(now);
    let named = &run.global.endpoint;
    let holder = Holder {
        identity: peer.identity.to_string(),
        folder: folder.path.display().to_string(),
        not_before: text::moment(peer.not_before),
        not_after: text::moment(peer.not_after),
        valid_for_seconds: left.as_secs(),
        endpoints: if named.is_empty() { folder.endpoints()? } else { named.clone() },
    };
    show(run, &holder, |holder, look| {
        let mut sheet = Sheet::default();
        sheet
            .line("you are", &holder.identity)
            .line("credentials", &holder.folder)
            .line(
                "valid until",
                format!("{} ({} left)", holder.not_after, text::age(left)),
            )
            .line("endpoints", text::listed(&holder.endpoints));
        sheet.render(look.colored)
    })?;
    if left < SOON {
        run.terminal.note(&format!(
            "they expire in {}; renew them: `./dwcp renew`",
            text::age(left)
        ));
    }
    Ok(())
}
