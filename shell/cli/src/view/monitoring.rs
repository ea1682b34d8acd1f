//! Incidents for people.

use dwcp_api::monitoring::{IncidentList, IncidentReply};
use dwcp_monitor::incident::{Incident, Severity, Status};
use dwcp_types::RegionId;

use super::Look;
use crate::table::{Cell, Sheet, Table, row};
use crate::terminal::Tone;
use crate::text;

/// Incidents in a line each, and who looks after them.
pub(crate) fn incidents(list: &IncidentList, look: Look) -> String {
    let mut heads = vec![
        "INCIDENT", "STATUS", "SEVERITY", "REGION", "SINCE", ">BACK", "PART OF", "TITLE",
    ];
    if look.wide {
        heads.extend(["CATEGORY", "ASSIGNEE", ">TOLD", ">WAITING", ">GIVEN UP"]);
    }
    let mut table = Table::new(&heads);
    for it in &list.items {
        let mut row = row![
            it.id,
            standing(it),
            severity(it.severity),
            region(it),
            since(it, look),
            it.flaps,
            it.parent.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            &it.title,
        ];
        if look.wide {
            row.extend(row![
                it.category.word(),
                it.assignee.as_deref().unwrap_or("-"),
                it.delivered,
                waiting(it),
                it.given_up,
            ]);
        }
        table.push(row);
    }
    let mut shown = if list.items.is_empty() {
        "no incidents\n".to_owned()
    } else {
        table.render(look.colored)
    };
    let by = match &list.evaluated_by {
        Some(region) => format!("evaluated by {region}"),
        None => "nobody evaluates them now".to_owned(),
    };
    shown += &format!("\n{}; {by}\n", answered(&list.answered_by, list.age_ms));
    shown
}

/// One incident, what happened, and who is still to be told.
pub(crate) fn incident(reply: &IncidentReply, look: Look) -> String {
    let it = &reply.incident;
    let mut sheet = Sheet::default();
    sheet
        .line("incident", it.id)
        .line("title", &it.title)
        .line("status", status(it.status))
        .line("severity", severity(it.severity))
        .line("category", it.category.word())
        .line("region", region(it))
        .line("seen", &it.description)
        .line("detected", text::moment(it.detected_at));
    if let Some(mark) = &it.acknowledged {
        let by = format!("{} by {}", text::moment(mark.at), mark.by);
        sheet.line("acknowledged", by);
    }
    if let Some(assignee) = &it.assignee {
        sheet.line("assigned to", assignee);
    }
    if let Some(at) = it.resolved_at {
        sheet.line("resolved", text::moment(at));
    }
    if let Some(root_cause) = &it.root_cause {
        sheet.line("root cause", root_cause);
    }
    if let Some(resolution) = &it.resolution {
        sheet.line("resolution", resolution);
    }
    if let Some(parent) = it.parent {
        sheet.line("part of", parent);
    }
    if let Some(silence) = it.silenced {
        sheet.line("silenced by", silence);
    }
    let told = format!(
        "{} deliveries, {} waiting, {} given up",
        it.delivered,
        waiting(it),
        it.given_up
    );
    sheet.line("came back", format!("{} times", it.flaps)).line("told", told);
    let mut out = sheet.render(look.colored);
    let mut table = Table::new(&["AT", "WHAT"]);
    for (place, entry) in it.timeline.iter().enumerate() {
        table.push(row![text::moment(entry.at), &entry.what]);
        if place == 0 && it.left_out > 0 {
            table.push(row!["", format!("({} more)", it.left_out)]);
        }
    }
    out += &format!("\n{}", table.render(look.colored));
    if !it.notices.is_empty() {
        out += &format!("\n{}", untold(it, look));
    }
    out += &format!("\n{}\n", answered(&reply.answered_by, reply.age_ms));
    out
}

fn untold(it: &Incident, look: Look) -> String {
    let mut table = Table::new(&["STILL TO BE TOLD", "OF", ">ATTEMPTS", "LAST ERROR"]);
    for notice in &it.notices {
        for (name, delivery) in &notice.to {
            let error = delivery.last_error.as_deref().unwrap_or("-");
            let what = text::word(&notice.change);
            table.push(row![name, what, delivery.attempts, error]);
        }
    }
    table.render(look.colored)
}

fn waiting(it: &Incident) -> usize {
    it.notices.iter().map(|notice| notice.to.len()).sum()
}

fn region(it: &Incident) -> &str {
    it.region.as_ref().map_or("-", RegionId::as_str)
}

fn since(it: &Incident, look: Look) -> String {
    text::age(look.now.since(it.detected_at))
}

pub(super) fn answered(region: &RegionId, age_ms: Option<u64>) -> String {
    match age_ms {
        Some(0) => format!("as {region} knows it now"),
        Some(age) => format!("as {region} knew it {} ago", text::age_ms(Some(age))),
        None => format!("{region} has not read incidents yet"),
    }
}

fn standing(it: &Incident) -> Cell {
    let Some(silence) = it.silenced else { return status(it.status) };
    Cell::toned(format!("{}, {silence}", text::word(&it.status)), Tone::Warn)
}

fn status(status: Status) -> Cell {
    let tone = match status {
        Status::Open => Tone::Bad,
        Status::Acknowledged => Tone::Warn,
        Status::Resolved => Tone::Good,
    };
    Cell::toned(text::word(&status), tone)
}

fn severity(severity: Severity) -> Cell {
    let tone = match severity {
        Severity::Critical => Tone::Bad,
        Severity::High => Tone::Warn,
        Severity::Medium | Severity::Low => Tone::Plain,
    };
    Cell::toned(severity.word(), tone)
}
