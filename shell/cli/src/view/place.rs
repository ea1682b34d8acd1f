//! Placements and their reasons for people.
//!
//! One line for each region: what its score is made of, or what speaks against it; then the
//! smallest change that would have helped. Scores and contributions are on the source's scale
//! of 0 to 100.

use dwcp_api::public::{PlaceReply, VmDetail};
use dwcp_controller::placement::{Choice, Explanation, RegionVerdict, Verdict};

use super::Look;
use crate::table::{Cell, Table, row};
use crate::terminal::Tone;
use crate::text;

/// What became of a placement.
pub(crate) fn placed(reply: &PlaceReply, look: Look) -> String {
    let mut shown = String::new();
    let decision = &reply.explanation.decision;
    let times = format!("decided in {}", text::span_us(reply.decide_us));
    match (&reply.vm, &decision.chosen) {
        (Some(vm), _) => {
            let again = if reply.repeated { " already (same token)" } else { "" };
            shown.push_str(&format!(
                "{} placed{again} in {} / {} / {}\n",
                vm.id, vm.region, vm.zone, vm.host
            ));
            if let Some(chosen) = &decision.chosen {
                shown.push_str(&format!("  {}\n", figures(chosen)));
            }
            let commit = text::span_us(reply.commit_us);
            shown.push_str(&format!("  {times}, committed in {commit}\n"));
        }
        (None, Some(chosen)) => {
            shown.push_str(&format!(
                "{} would go to {} / {} / {} (dry run: nothing is booked)\n  {}\n  {times}\n",
                decision.request, chosen.region, chosen.zone, chosen.host, figures(chosen)
            ));
        }
        (None, None) => {}
    }
    if !reply.victims.is_empty() {
        let verb = if reply.vm.is_some() { "stopped" } else { "would be stopped" };
        shown.push_str(&format!(
            "{verb} to make room: {}\n",
            text::listed(&reply.victims)
        ));
    }
    for loss in &reply.n_minus_1 {
        let vms: Vec<_> = loss.stranded.iter().map(|vm| vm.vm.clone()).collect();
        shown.push_str(&format!(
            "warning: the loss of {} would now leave no place for {}\n",
            loss.region,
            text::listed(&vms)
        ));
    }
    if reply.vm.is_none() || look.wide {
        if !shown.is_empty() {
            shown.push('\n');
        }
        shown.push_str(&explanation(&reply.explanation, look));
    }
    shown
}

fn figures(chosen: &Choice) -> String {
    format!(
        "score {}, {}, latency {}",
        text::points(chosen.score),
        text::money_per_hour(chosen.hourly_cost),
        text::latency_or_unknown(chosen.expected_latency)
    )
}

/// Every region with its verdict.
pub(crate) fn explanation(why: &Explanation, look: Look) -> String {
    let decision = &why.decision;
    let mut shown = String::new();
    if !decision.contradictions.is_empty() {
        shown.push_str(&format!("{} cannot be placed anywhere:\n", decision.request));
        for contradiction in &decision.contradictions {
            shown.push_str(&format!("  {}\n", text::plain(&contradiction.to_string())));
        }
        return shown;
    }
    shown.push_str(&regions(why, look).render(look.colored));
    shown.push('\n');
    match &decision.chosen {
        Some(chosen) => shown.push_str(&format!(
            "best: {} / {} / {} by strategy {}\n",
            chosen.region,
            chosen.zone,
            chosen.host,
            text::word(&decision.strategy)
        )),
        None => shown.push_str(&match &why.relaxation {
            Some(relaxation) => {
                format!("no region fits\nsmallest change that would fit: {relaxation}\n")
            }
            None => "no region fits, and no change of the request would help: a region or a host must be added or mended\n".to_owned(),
        }),
    }
    shown
}

fn regions(why: &Explanation, look: Look) -> Table {
    let mut table = Table::new(&[
        "REGION",
        "VERDICT",
        ">SCORE",
        ">=LATENCY",
        ">+COST",
        ">+CAPACITY",
        ">+HEALTH",
        ">+PRIORITY",
        "PLACE OR REASONS",
    ]);
    for verdict in &why.regions {
        match &verdict.verdict {
            Verdict::Fits { place } => table.push(fitting(verdict, place, look)),
            Verdict::Refused { reasons, relaxation } => {
                let mut lines: Vec<_> = reasons.iter().map(ToString::to_string).collect();
                if look.wide {
                    lines.extend(
                        relaxation.iter().map(|change| format!("would fit: {change}")),
                    );
                }
                push_refused(&mut table, verdict, lines);
            }
        }
    }
    table
}

fn fitting(verdict: &RegionVerdict, place: &Choice, look: Look) -> Vec<Cell> {
    let factors = &place.factors;
    let all = [
        factors.latency,
        factors.cost,
        factors.capacity,
        factors.health,
        factors.priority,
    ];
    let mut row = vec![
        Cell::from(&verdict.region),
        Cell::toned("fits", Tone::Good),
        Cell::from(text::points(place.score)),
    ];
    row.extend(all.map(|factor| {
        let adds = text::points(factor.contribution);
        if look.wide {
            Cell::from(format!(
                "{} x {} = {adds}",
                text::points(factor.value),
                text::points(factor.weight)
            ))
        } else {
            Cell::from(adds)
        }
    }));
    row.push(Cell::from(format!(
        "{} / {}, {}, {}",
        place.zone,
        place.host,
        text::latency_or_unknown(place.expected_latency),
        text::money_per_hour(place.hourly_cost)
    )));
    row
}

/// One reason a line, the first beside the region.
fn push_refused(table: &mut Table, verdict: &RegionVerdict, lines: Vec<String>) {
    let mut region = verdict.region.to_string();
    let mut refused = Cell::toned("refused", Tone::Bad);
    for line in lines {
        let mut row =
            vec![Cell::from(std::mem::take(&mut region)), std::mem::take(&mut refused)];
        row.extend(row!["", "", "", "", "", "", line]);
        table.push(row);
    }
}

/// The table that belongs to a refused placement and what would help, when the refusal brought
/// its reasons.
pub(crate) fn refusal(
    details: &serde_json::Value,
    look: Look,
) -> Option<(String, Option<String>)> {
    let why: Explanation = serde_json::from_value(details.clone()).ok()?;
    let table = format!("{}\n", regions(&why, look).render(look.colored));
    let smallest = why.relaxation.as_ref();
    Some((
        table,
        smallest.map(|change| format!("smallest change that would fit: {change}")),
    ))
}

/// Where a VM is and how it came there, above the verdicts of now.
pub(crate) fn still_there(detail: &VmDetail) -> String {
    let item = &detail.item;
    format!(
        "{} is in {} / {} / {}: when it was placed that scored {}, cost {} and had latency {}\nthe same request now, with the VM itself counted as there:\n",
        item.id,
        item.region,
        item.zone,
        item.host,
        text::points(detail.score),
        text::money_per_hour(detail.hourly_cost),
        text::latency_or_unknown(detail.expected_latency),
    )
}
