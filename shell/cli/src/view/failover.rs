//! Liveness and failover for people.

use dwcp_api::failover::{FailoverReply, FailoverStatus};
use dwcp_controller::failover::Log;
use dwcp_controller::liveness::{LeaseSight, RegionState};

use super::Look;
use crate::table::{Cell, Table, row};
use crate::terminal::Tone;
use crate::text;

/// Every region, and what keeps it from being failed over.
pub(crate) fn failover_status(status: &FailoverStatus, look: Look) -> String {
    if !status.enabled {
        return "failover is off (`failover.enabled`): no region keeps a lease\n"
            .to_owned();
    }
    let heads =
        ["REGION", "STATE", "LEASE", "SILENT TO", "HEARD BY", "NOT FAILED OVER BECAUSE"];
    let mut table = Table::new(&heads);
    for item in &status.regions {
        let verdict = &item.verdict;
        let why: Vec<&str> =
            item.not_failed_over_because.iter().map(|why| why.text.as_str()).collect();
        table.push(row![
            &verdict.region,
            state(verdict.state),
            lease(&verdict.lease),
            text::listed(&verdict.silent_to),
            text::listed(&verdict.reachable_from),
            why.join("; "),
        ]);
    }
    let table = table.render(look.colored);
    match &status.active {
        Some(active) => format!("{}\n{table}", log(active)),
        None => table,
    }
}

/// Who goes where.
pub(crate) fn failover_plan(reply: &FailoverReply, look: Look) -> String {
    let mut out = match &reply.log {
        Some(begun) => log(begun),
        None => format!("{} would be failed over like this:\n", reply.plan.region),
    };
    let mut moves = Table::new(&["VM", ">PRIORITY", "GOES TO", "HOST", "LOSES"]);
    for it in &reply.plan.moves {
        let Some((region, _, host)) = it.first() else { continue };
        let loss = "its memory, and its disk since its image";
        moves.push(row![&it.vm, it.priority, region, host, loss]);
    }
    let mut down = Table::new(&["VM", "STAYS DOWN BECAUSE"]);
    for it in &reply.plan.down {
        down.push(row![&it.vm, it.why.to_string()]);
    }
    if !reply.plan.moves.is_empty() {
        out += &format!("\n{}", moves.render(look.colored));
    }
    if !reply.plan.down.is_empty() {
        out += &format!("\n{}", down.render(look.colored));
    }
    out
}

fn log(log: &Log) -> String {
    format!(
        "failover {} of {}: {}, {} taken over, {} running, {} stay down; carried out by {}\n",
        log.id,
        log.region,
        text::word(&log.phase),
        log.owned,
        log.running,
        log.down.len(),
        log.executor
    )
}

fn state(state: RegionState) -> Cell {
    let tone = match state {
        RegionState::Alive => Tone::Good,
        RegionState::Suspect | RegionState::Partitioned | RegionState::Unknown => {
            Tone::Warn
        }
        RegionState::Dead => Tone::Bad,
    };
    Cell::toned(state.to_string(), tone)
}

fn lease(lease: &LeaseSight) -> String {
    match lease {
        LeaseSight::Unread => "not read".to_owned(),
        LeaseSight::Never => "never held".to_owned(),
        LeaseSight::Held { .. } => "held".to_owned(),
        LeaseSight::Lapsed => "lapsed".to_owned(),
        LeaseSight::Fenced { by } => format!("taken by {by}"),
    }
}
