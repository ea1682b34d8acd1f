//! `status --watch`: the federation as it changes, and not again and again.

use dwcp_api::overview::{CHANGED, WHOLE};
use serde::Serialize;
use serde_json::Value;

use super::redraw;
use crate::app::{Run, tell};
use crate::arguments::Format;
use crate::failure::{Failure, Kind};
use crate::follow::{Follower, News};
use crate::view;

/// One line of `-o json`: an event as it came.
#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    version: &'a str,
    data: &'a Value,
}

/// Follows the federation until Ctrl-C. Only the first failure ends it.
pub(super) async fn follow(run: &mut Run<'_>) -> Result<(), Failure> {
    let mut follower = Follower::new(run.session()?);
    let mut interrupt = run.surroundings.take_interrupt();
    let mut began = false;
    loop {
        let news = tokio::select! {
            () = &mut interrupt => return Ok(()),
            news = follower.next() => news,
        };
        match news {
            Ok(news) => {
                began = true;
                show(run, &news)?;
            }
            Err(failure) if !began => return Err(failure),
            Err(failure) => tell(&failure, run.format(), run.terminal),
        }
    }
}

fn show(run: &mut Run<'_>, news: &News) -> Result<(), Failure> {
    let event = if news.whole { WHOLE } else { CHANGED };
    let line = Line { event, version: &news.overview.version, data: &news.data };
    let unwritable = |error: String| {
        Failure::new(Kind::Failed, format!("the event cannot be written: {error}"))
    };
    let text = match run.format() {
        Format::Table | Format::Wide => view::overview(&news.overview, run.look()),
        Format::Json => {
            serde_json::to_string(&line).map_err(|error| unwritable(error.to_string()))?
                + "\n"
        }
        Format::Yaml => {
            let text = serde_saphyr::to_string(&line);
            let text = text.map_err(|error| unwritable(error.to_string()))?;
            format!("---\n{}\n", text.trim_end())
        }
    };
    redraw(run, &text)
}
