//! Silences for people.

use dwcp_api::silence::{SilenceItem, SilenceList, SilenceReply};
use dwcp_monitor::incident::{CauseKind, Severity, Silence};

use super::Look;
use crate::table::{Cell, Sheet, Table, row};
use crate::terminal::Tone;
use crate::text;

/// Silences in a line each.
pub(crate) fn silences(list: &SilenceList, look: Look) -> String {
    let mut table = Table::new(&[
        "SILENCE", "KIND", "REGION", "CAUSE", "BELOW", "BEGINS", "ENDS", "BY", "REASON",
        "SILENCES",
    ]);
    for SilenceItem { silence, silences } in &list.items {
        let of = &silence.of;
        let begins = if silence.is_ahead(look.now) {
            Cell::toned(format!("in {}", text::age(of.from.since(look.now))), Tone::Warn)
        } else {
            Cell::from("begun")
        };
        table.push(row![
            silence.id,
            text::word(&of.kind),
            &of.region,
            cause(silence),
            below(silence),
            begins,
            format!("in {}", text::age(of.until.since(look.now))),
            &silence.by,
            &of.reason,
            listed(silences),
        ]);
    }
    let shown = if list.items.is_empty() {
        "no silences\n".to_owned()
    } else {
        table.render(look.colored)
    };
    format!("{shown}\n{}\n", super::answered(&list.answered_by, list.age_ms))
}

/// One silence.
pub(crate) fn silence(reply: &SilenceReply, look: Look) -> String {
    let SilenceItem { silence, silences } = &reply.item;
    let of = &silence.of;
    let mut sheet = Sheet::default();
    sheet
        .line("silence", silence.id)
        .line("kind", text::word(&of.kind))
        .line("region", &of.region)
        .line("cause", cause(silence))
        .line("severity below", below(silence))
        .line("from", text::moment(of.from))
        .line("until", text::moment(of.until))
        .line("reason", &of.reason)
        .line("wanted by", &silence.by)
        .line("made", text::moment(silence.made_at))
        .line("silences now", listed(silences));
    let answered = super::answered(&reply.answered_by, reply.age_ms);
    format!("{}\n{answered}\n", sheet.render(look.colored))
}

/// What was made, or would be.
pub(crate) fn silence_made(reply: &SilenceReply, look: Look) -> String {
    let id = reply.item.silence.id;
    let what = if reply.dry_run {
        "nothing is changed; this would be made:\n".to_owned()
    } else {
        format!("{id} is made\n")
    };
    format!("{what}\n{}", silence(reply, look))
}

/// What is no more, or would be.
pub(crate) fn silence_ended(reply: &SilenceReply, _look: Look) -> String {
    let SilenceItem { silence, silences } = &reply.item;
    let (id, waiting) = (silence.id, listed(silences));
    match (reply.dry_run, silences.is_empty()) {
        (true, true) => format!("nothing is changed; {id} silences nothing now\n"),
        (true, false) => format!("nothing is changed; told would be of {waiting}\n"),
        (false, true) => format!("{id} is ended; it silenced nothing\n"),
        (false, false) => format!("{id} is ended; what stands of {waiting} is told\n"),
    }
}

fn cause(silence: &Silence) -> &'static str {
    silence.of.cause.map_or("any", CauseKind::word)
}

fn below(silence: &Silence) -> &'static str {
    silence.of.severity_below.map_or("-", Severity::word)
}

fn listed(silences: &[dwcp_monitor::incident::IncidentId]) -> String {
    if silences.is_empty() { "-".to_owned() } else { text::listed(silences) }
}
