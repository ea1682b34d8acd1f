//! The whole federation on some lines, the worst first.

use dwcp_api::overview::{IncidentsGlance, LevelsGlance, MovesGlance, Overview};
use dwcp_monitor::sla::Standing;
use dwcp_types::RegionId;

use super::Look;
use crate::glance;
use crate::table::{Cell, Table, row};
use crate::terminal::Tone;
use crate::text;

/// Pairs that are named one by one.
const PAIRS_MAX: usize = 6;

/// Everything that an operator looks at first.
pub(crate) fn overview(of: &Overview, look: Look) -> String {
    let by = of.answered_by.as_ref().map_or("?", RegionId::as_str);
    let mut parts = vec![
        format!(
            "as seen from {by}\n{}\n{}\n{}\n",
            glance::summary(of),
            glance::engine(&of.engine),
            glance::traffic(&of.traffic),
        ),
        regions(of, look),
        links(of),
    ];
    parts.extend(of.failover.as_ref().map(|it| glance::failover(it) + "\n"));
    parts.push(incidents(&of.incidents, look));
    parts.extend(moves(&of.moves, look));
    parts.extend(levels(&of.levels, look));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn regions(of: &Overview, look: Look) -> String {
    let mut table = Table::new(&[
        "REGION", "HEALTH", ">AGE", ">HOSTS", ">VMS", ">RUNNING", ">CPU", ">MEMORY",
        "NOTES",
    ]);
    for (id, it) in glance::worst_first(of) {
        let hosts = format!("{}/{}", it.up, it.hosts);
        let tone = if it.up < it.hosts { Tone::Warn } else { Tone::Plain };
        table.push(row![
            id,
            Cell::toned(glance::health(it), glance::tone(it.health.state)),
            glance::age(it.age_s),
            Cell::toned(hosts, tone),
            text::count(it.vms),
            text::count(it.running),
            glance::share(it.cpu),
            glance::share(it.memory),
            glance::notes(it),
        ]);
    }
    if of.regions.is_empty() {
        "no regions\n".to_owned()
    } else {
        table.render(look.colored)
    }
}

fn links(of: &Overview) -> String {
    let lines = glance::lines(of);
    let pairs = lines.measured + lines.stale.len() + lines.cut.len() + lines.never;
    if pairs == 0 {
        return String::new();
    }
    let slowest = lines.slowest.map(|(tenths, one, other)| {
        format!(", the slowest {one} - {other} {} ms", glance::rtt(tenths))
    });
    let named = |what: &str, pairs: &[(&RegionId, &RegionId)]| {
        let shown = pairs.iter().take(PAIRS_MAX);
        let shown: Vec<_> =
            shown.map(|(one, other)| format!("{one} - {other}")).collect();
        let more = pairs.len().saturating_sub(PAIRS_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        if shown.is_empty() {
            String::new()
        } else {
            format!("  {what}: {}{more}\n", shown.join(", "))
        }
    };
    format!(
        "links: {} of {pairs} pairs measured{}\n{}{}",
        lines.measured,
        slowest.unwrap_or_default(),
        named("no line", &lines.cut),
        named("stale", &lines.stale),
    )
}

/// How many more there are than were shown.
fn more(shown: usize, of: u64) -> String {
    let more = of.saturating_sub(u64::try_from(shown).unwrap_or(u64::MAX));
    if more == 0 { String::new() } else { format!("  and {} more\n", text::count(more)) }
}

fn incidents(of: &IncidentsGlance, look: Look) -> String {
    if of.shown.is_empty() {
        return match of.age_s {
            None => "incidents: not read yet\n".to_owned(),
            Some(0) => "incidents: none\n".to_owned(),
            old => format!("incidents: none, as of {} ago\n", glance::age(old)),
        };
    }
    let heads = ["INCIDENT", "SEVERITY", "STATUS", "REGION", ">SINCE", "TITLE"];
    let mut table = Table::new(&heads);
    for it in &of.shown {
        let tone = glance::severity_tone(it.severity);
        table.push(row![
            &it.id,
            Cell::toned(it.severity.word(), tone),
            text::word(&it.status),
            it.region.as_ref().map_or("-", RegionId::as_str),
            text::age(look.now.since(it.since)),
            &it.title,
        ]);
    }
    let old = match of.age_s {
        None | Some(0) => String::new(),
        old => format!("  as of {} ago\n", glance::age(old)),
    };
    table.render(look.colored) + &more(of.shown.len(), of.open) + &old
}

fn moves(of: &MovesGlance, look: Look) -> Option<String> {
    if of.shown.is_empty() {
        return None;
    }
    let mut table = Table::new(&["MOVE", "VM", "FROM", "TO", "STEP", ">SINCE"]);
    for it in &of.shown {
        let since = text::age(look.now.since(it.since));
        table.push(row![&it.id, &it.vm, &it.from, &it.to, text::word(&it.step), since]);
    }
    Some(table.render(look.colored) + &more(of.shown.len(), of.running + of.waiting))
}

fn levels(of: &LevelsGlance, look: Look) -> Option<String> {
    if of.shown.is_empty() {
        return None;
    }
    let mut table = Table::new(&[
        "SERVICE LEVEL",
        "STANDS",
        "WORST IN",
        ">KEPT",
        ">PROMISED",
        ">BUDGET LEFT",
        ">BROKEN",
    ]);
    for it in &of.shown {
        let kept = it.compliance_ppm.map(|ppm| text::percent_ppm(u64::from(ppm)));
        table.push(row![
            &it.id,
            Cell::toned(text::word(&it.standing), glance::standing_tone(it.standing)),
            &it.worst,
            kept.unwrap_or_else(|| "-".to_owned()),
            text::percent_ppm(u64::from(it.promised_ppm)),
            left(it.standing, it.left_ppm),
            format!("{}/{}", it.broken, it.regions),
        ]);
    }
    Some(table.render(look.colored) + &more(of.shown.len(), of.promised))
}

/// Of what was not measured nothing is left or spent.
pub(crate) fn left(standing: Standing, ppm: u64) -> String {
    match standing {
        Standing::Unmeasured => "-".to_owned(),
        Standing::Compliant | Standing::Warning | Standing::Breach => {
            text::percent_ppm(ppm)
        }
    }
}
