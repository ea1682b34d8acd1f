//! Moves for people.

use dwcp_api::migration::{MigrationItem, MigrationList};
use dwcp_controller::migration::{Outcome, Step};

use super::Look;
use crate::table::{Cell, Sheet, Table, row};
use crate::terminal::Tone;
use crate::text;

/// Moves, one a line.
pub(crate) fn migrations(list: &MigrationList, look: Look) -> String {
    if list.items.is_empty() {
        return "no moves\n".to_owned();
    }
    let mut heads =
        vec!["MOVE", "VM", "FROM", "TO", "STATE", ">DONE", ">LEFT", ">HALT", ">AGE"];
    if look.wide {
        heads.extend(["HOST", "REASON", "FAILURE"]);
    }
    let mut table = Table::new(&heads);
    for item in &list.items {
        let mut row = row![
            &item.id,
            &item.vm,
            &item.source.region,
            &item.target,
            state(item),
            item.percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent}%")),
            span(item.eta_ms.filter(|_| item.outcome.is_none())),
            span(item.downtime_ms.or(item.foretold_downtime_ms)),
            text::age(look.now.since(item.asked_at)),
        ];
        if look.wide {
            let host = item.site.as_ref().map_or("-", |site| site.host.as_str());
            let failure = item.failure.as_deref().unwrap_or("-");
            row.extend(row![host, text::word(&item.cause), text::plain(failure)]);
        }
        table.push(row);
    }
    table.render(look.colored)
}

/// What was begun, or in a dry run would be.
pub(crate) fn begun(list: &MigrationList, dry_run: bool) -> String {
    let mut shown = String::new();
    for item in &list.items {
        let total = span(item.foretold_ms);
        let halt = span(item.foretold_downtime_ms);
        let (vm, target) = (&item.vm, &item.target);
        shown.push_str(&if dry_run {
            format!("{vm} would move to {target} in {total} with a halt of {halt}")
        } else {
            let id = &item.id;
            format!("{vm} moves to {target} ({id}): {total}, a halt of {halt} foretold")
        });
        if item.replicated {
            shown.push_str(
                "; it has no replica until the move is over and one is made anew",
            );
        }
        shown.push('\n');
    }
    shown
}

/// One move with its log.
pub(crate) fn migration(item: &MigrationItem, look: Look) -> String {
    let mut sheet = Sheet::default();
    sheet.line("move", &item.id);
    sheet.line("vm", &item.vm);
    sheet.line("from", format!("{} on {}", item.source.region, item.source.host));
    let to = item.site.as_ref().map_or_else(
        || item.target.to_string(),
        |site| format!("{} on {}", site.region, site.host),
    );
    sheet.line("to", to);
    sheet.line("state", state(item));
    sheet.line("reason", text::word(&item.cause));
    if let Some(percent) = item.percent {
        sheet.line("done", format!("{percent}%, {} left", span(item.eta_ms)));
    }
    sheet.line("foretold", span(item.foretold_ms));
    let most = Some(item.downtime_ms_max);
    sheet.line("halt", format!("{} of at most {}", span(item.downtime_ms), span(most)));
    if let Some(failure) = &item.failure {
        sheet.line("failure", text::plain(failure));
    }
    let mut shown = sheet.render(look.colored);
    shown.push('\n');
    let mut table = Table::new(&["AT", "WHAT"]);
    for line in &item.log {
        table.push(row![text::moment(line.at), text::plain(&line.what)]);
    }
    shown.push_str(&table.render(look.colored));
    shown
}

fn state(item: &MigrationItem) -> Cell {
    match item.outcome.filter(|_| item.step == Step::Done) {
        Some(Outcome::Moved) => Cell::toned("moved", Tone::Good),
        Some(Outcome::Failed) => Cell::toned("failed", Tone::Bad),
        Some(Outcome::Cancelled) => Cell::toned("cancelled", Tone::Warn),
        None => {
            let wave = item.wave.map(|wave| format!(", wave {wave}")).unwrap_or_default();
            Cell::toned(format!("{}{wave}", text::word(&item.step)), Tone::Plain)
        }
    }
}

fn span(millis: Option<u64>) -> String {
    millis.map_or_else(
        || "-".to_owned(),
        |millis| text::span_us(millis.saturating_mul(1_000)),
    )
}
