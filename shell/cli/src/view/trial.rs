//! Trials of failovers for people.

use std::time::Duration;

use super::Look;
use crate::act::Trials;
use crate::table::{Cell, Table, row};
use crate::terminal::Tone;
use crate::text;

/// What became of each.
pub(crate) fn trials(trials: &Trials, look: Look) -> String {
    let heads =
        ["VM", "TRIED IN", "HOST", "DISK OF", ">DISK", ">RUNS", ">PRINTED", "RESULT"];
    let mut table = Table::new(&heads);
    for tried in &trials.items {
        let result = match &tried.failure {
            None => Cell::toned("passed", Tone::Good),
            Some(why) => Cell::toned(text::plain(why), Tone::Bad),
        };
        let Some(trial) = &tried.trial else {
            table.push(row![&tried.vm, "-", "-", "-", "-", "-", "-", result]);
            continue;
        };
        let report = &trial.report;
        let of = match (report.copy, report.as_of) {
            (None, _) => "-".to_owned(),
            (Some(_), None) => "every write".to_owned(),
            (Some(_), Some(as_of)) => text::moment(as_of),
        };
        table.push(row![
            &tried.vm,
            &trial.region,
            &trial.host,
            of,
            after(report.copied_ms),
            after(report.started_ms),
            after(report.printed_ms),
            result,
        ]);
    }
    table.render(look.colored)
}

/// How long after the beginning.
fn after(ms: Option<u64>) -> String {
    let seconds = |ms| format!("{:.1} s", Duration::from_millis(ms).as_secs_f64());
    ms.map_or_else(|| "-".to_owned(), seconds)
}
