//! Service levels for people, and as reports.

use std::time::Duration;

use dwcp_api::sla::{
    NewSla, SlaCreated, SlaHistory, SlaItem, SlaList, SlaParams, SlaStanding,
};
use dwcp_monitor::sla::Standing;

use super::Look;
use crate::table::{Cell, Table, row};
use crate::terminal::Tone;
use crate::text;

/// What is promised, a line each.
pub(crate) fn slas(list: &SlaList, look: Look) -> String {
    let mut table = Table::new(&[
        "SLA",
        "NAME",
        "METRIC",
        "TARGET",
        ">COMPLIANCE",
        ">WINDOW",
        ">PERIOD",
        "SEVERITY",
        "REGION",
        "FROM",
    ]);
    for item in &list.items {
        let promised = &item.promised;
        let compliance = text::percent_ppm(u64::from(promised.compliance_ppm));
        table.push(row![
            id(promised),
            text::plain(&promised.name),
            promised.metric,
            target(promised),
            compliance,
            span(promised.window_s),
            span(promised.period_s),
            promised.severity.word(),
            promised.region.as_ref().map_or("each", |region| region.as_str()),
            if item.from_file { "file" } else { "command" },
        ]);
    }
    with_foot(list, table.render(look.colored))
}

/// How each stands in each region.
pub(crate) fn sla_status(list: &SlaList, look: Look) -> String {
    let mut table = Table::new(&[
        "SLA",
        "REGION",
        ">NOW",
        "TARGET",
        "STANDING",
        ">COMPLIANCE",
        ">COVERAGE",
        ">BUDGET SPENT",
        ">GOOD",
        ">BAD",
        ">UNMEASURED",
        "GONE IN",
    ]);
    for (item, it) in standings(list) {
        table.push(row![
            id(&item.promised),
            &it.region,
            now(item, it),
            target(&item.promised),
            standing(it.standing),
            compliance(it),
            text::percent_ppm(u64::from(it.coverage_ppm)),
            text::percent_ppm(it.spent_ppm),
            it.windows_good,
            it.windows_bad,
            it.windows_unmeasured,
            it.gone_in_s.map_or_else(|| "-".to_owned(), span),
        ]);
    }
    with_foot(list, table.render(look.colored))
}

/// The arithmetic of each figure.
pub(crate) fn sla_explained(list: &SlaList, _look: Look) -> String {
    let mut out = String::new();
    for (item, it) in standings(list) {
        let of = id(&item.promised);
        let word = text::word(&it.standing);
        out += &format!("{of} in {}: {word}\n", it.region);
        for line in &it.explained {
            out += &format!("  {}\n", text::plain(line));
        }
        out.push('\n');
    }
    with_foot(list, out)
}

/// When one was kept.
pub(crate) fn sla_history(history: &SlaHistory, look: Look) -> String {
    let mut table = Table::new(&["FROM", "UNTIL", ">WINDOWS", "KEPT"]);
    for run in &history.runs {
        let kept = match run.kept {
            Some(true) => Cell::toned("yes", Tone::Good),
            Some(false) => Cell::toned("no", Tone::Bad),
            None => Cell::toned("not measured", Tone::Warn),
        };
        table.push(row![
            text::moment(run.from),
            text::moment(run.until),
            run.windows,
            kept
        ]);
    }
    let of = format!("{} in {}", text::plain(&history.sla), history.region);
    if history.runs.is_empty() {
        return format!("{of}: no window is over yet\n");
    }
    let window = span(history.window_s);
    format!("{of}, windows of {window}\n\n{}", table.render(look.colored))
}

/// What was made.
pub(crate) fn sla_created(made: &SlaCreated, _look: Look) -> String {
    format!("{} is promised\n", text::plain(&made.id))
}

/// What is no more.
pub(crate) fn sla_deleted(of: &SlaParams, _look: Look) -> String {
    format!("{} is promised no more\n", text::plain(&of.sla))
}

/// A report to paste.
pub(crate) fn sla_markdown(list: &SlaList, look: Look) -> String {
    let mut out = format!(
        "# Service levels\n\nAs of {}, answered by {}.\n\n| SLA | name | region | promised | \
         standing | compliance | coverage | budget spent | windows good / bad / unmeasured \
         |\n|---|---|---|---|---|---|---|---|---|\n",
        text::moment(look.now),
        list.answered_by
    );
    for (item, it) in standings(list) {
        out += &format!(
            "| {} | {} | {} | {} {} in {} over {} | {} | {} | {} | {} | {} / {} / {} |\n",
            id(&item.promised),
            text::plain(&item.promised.name).replace('|', "/"),
            it.region,
            item.promised.metric,
            target(&item.promised),
            text::percent_ppm(u64::from(item.promised.compliance_ppm)),
            span(item.promised.period_s),
            text::word(&it.standing),
            compliance(it),
            text::percent_ppm(u64::from(it.coverage_ppm)),
            text::percent_ppm(it.spent_ppm),
            it.windows_good,
            it.windows_bad,
            it.windows_unmeasured,
        );
    }
    out
}

/// The same for a spreadsheet; shares in parts per million.
pub(crate) fn sla_csv(list: &SlaList) -> String {
    let mut out = "sla,region,metric,target_milli,standing,compliance_ppm,coverage_ppm,\
                   spent_ppm,windows_good,windows_bad,windows_unmeasured\n"
        .to_owned();
    for (item, it) in standings(list) {
        out += &format!(
            "{},{},{},{},{},{},{},{},{},{},{}\n",
            id(&item.promised),
            it.region,
            item.promised.metric,
            item.promised.target_milli,
            text::word(&it.standing),
            it.compliance_ppm.map(|ppm| ppm.to_string()).unwrap_or_default(),
            it.coverage_ppm,
            it.spent_ppm,
            it.windows_good,
            it.windows_bad,
            it.windows_unmeasured,
        );
    }
    out
}

/// The same as the API has it.
pub(crate) fn sla_json(list: &SlaList) -> String {
    serde_json::to_string(list).unwrap_or_default() + "\n"
}

fn standings(list: &SlaList) -> Vec<(&SlaItem, &SlaStanding)> {
    let mut all = Vec::new();
    for item in &list.items {
        all.extend(item.regions.iter().map(|standing| (item, standing)));
    }
    all
}

fn id(promised: &NewSla) -> String {
    text::plain(promised.id.as_deref().unwrap_or("-"))
}

fn target(promised: &NewSla) -> String {
    let number = text::measured(Some(promised.target_milli), promised.metric.unit());
    format!("{} {number}", promised.operator)
}

fn now(item: &SlaItem, it: &SlaStanding) -> Cell {
    let value = text::measured(it.value_milli, item.promised.metric.unit());
    match it.holds {
        Some(false) => Cell::toned(value, Tone::Bad),
        Some(true) | None => Cell::from(value),
    }
}

fn standing(standing: Standing) -> Cell {
    let tone = match standing {
        Standing::Compliant => Tone::Good,
        Standing::Warning | Standing::Unmeasured => Tone::Warn,
        Standing::Breach => Tone::Bad,
    };
    Cell::toned(text::word(&standing), tone)
}

fn compliance(it: &SlaStanding) -> String {
    let share = |ppm: u32| text::percent_ppm(u64::from(ppm));
    it.compliance_ppm.map_or_else(|| "-".to_owned(), share)
}

fn span(seconds: u64) -> String {
    text::age(Duration::from_secs(seconds))
}

fn with_foot(list: &SlaList, shown: String) -> String {
    let shown =
        if list.items.is_empty() { "nothing is promised\n".to_owned() } else { shown };
    let by = match &list.evaluated_by {
        Some(region) => format!("evaluated by {region}"),
        None => "nobody evaluates them now".to_owned(),
    };
    let age = text::age_ms(list.age_ms);
    format!("{shown}\nanswered by {}, records {age} old; {by}\n", list.answered_by)
}
