//! Regions that are emptied, for people.

use dwcp_api::evacuation::{EvacuationItem, EvacuationList};
use dwcp_controller::evacuation::Plan;

use super::Look;
use crate::table::{Cell, Table, row};
use crate::terminal::Tone;
use crate::text;

/// The regions that are being emptied.
pub(crate) fn evacuations(list: &EvacuationList, look: Look) -> String {
    if list.items.is_empty() {
        return "no region is being emptied\n".to_owned();
    }
    let shown: Vec<_> = list.items.iter().map(|item| evacuation(item, look)).collect();
    shown.join("\n")
}

/// One region: who leaves, who is on the way, who stays.
pub(crate) fn evacuation(item: &EvacuationItem, look: Look) -> String {
    let plan = &item.plan;
    let mut out = match &item.evacuation {
        None => format!("{} would be emptied like this:\n", plan.region),
        Some(_) if plan.is_empty() => format!(
            "{} is empty; it takes no new VMs until `region enable {}`\n",
            plan.region, plan.region
        ),
        Some(wanted) => format!(
            "{} is being emptied for {}: {}\n",
            plan.region,
            text::age(look.now.since(wanted.at)),
            text::plain(&wanted.reason)
        ),
    };
    if plan.is_empty() && item.evacuation.is_none() {
        out += "it has no VMs\n";
    }
    let table = vms(plan, look);
    if !plan.is_empty() {
        out += &format!("\n{table}");
    }
    out
}

/// What is left where nothing is emptied any more.
pub(crate) fn evacuation_cancelled(item: &EvacuationItem, _: Look) -> String {
    let Plan { region, leave, moving, stay } = &item.plan;
    format!(
        "{region} keeps its {} VMs, {} of them on the way; it takes no new ones until \
         `region enable {region}`\n",
        leave.len() + moving.len() + stay.len(),
        moving.len()
    )
}

fn vms(plan: &Plan, look: Look) -> String {
    let mut table = Table::new(&["VM", "STATE", "GOES TO", "HOW", "BECAUSE"]);
    for it in &plan.moving {
        let state = Cell::toned("on the way", Tone::Plain);
        table.push(row![&it.vm, state, &it.to, &it.id, ""]);
    }
    for it in &plan.leave {
        let (state, why) = match &it.failed {
            None => (Cell::toned("leaves", Tone::Plain), String::new()),
            Some(failed) => {
                let why = format!("its last move failed: {}", text::plain(&failed.why));
                (Cell::toned("leaves", Tone::Warn), why)
            }
        };
        let to = it.first().map_or("-", |to| to.as_str());
        let how = if it.cold { "cold" } else { "live" };
        table.push(row![&it.vm, state, to, how, why]);
    }
    for it in &plan.stay {
        let state = Cell::toned("stays", Tone::Bad);
        table.push(row![&it.vm, state, "-", "-", it.why.to_string()]);
    }
    table.render(look.colored)
}
