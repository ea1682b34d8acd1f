//! `drill`: done by the test bed's own program, which lies beside this one. It makes regions and
//! kills them; whoever only operates a federation need not have it.

use std::path::PathBuf;
use std::process::Command;

use crate::arguments::DrillArgs;
use crate::failure::{Failure, Kind};

const PROGRAM: &str = "dwcp-drill";

/// Runs it and ends as it ended.
pub(super) fn drill(args: &DrillArgs) -> Result<(), Failure> {
    let program = std::env::current_exe()
        .ok()
        .map(|own| own.with_file_name(PROGRAM))
        .filter(|beside| beside.is_file())
        .unwrap_or_else(|| PathBuf::from(PROGRAM));
    let ended = Command::new(&program).args(&args.rest).status().map_err(|reason| {
        let what = format!(
            "the test bed's program {} cannot be run: {reason}",
            program.display()
        );
        Failure::new(Kind::Failed, what)
            .with_remedy("build it beside this one: cargo build --bins")
    })?;
    if ended.success() {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Failed,
        format!("the drill did not hold what is promised: {ended}"),
    )
    .with_remedy("its report says what; .dwcp/drills.jsonl keeps all of them"))
}
