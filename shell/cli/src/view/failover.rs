//! Liveness and failover for people.

use std::time::Duration;

use dwcp_api::failover::{
    FailoverList, FailoverReply, FailoverRequestItem, FailoverRequestList, FailoverStatus,
};
use dwcp_controller::failover::{Log, Points, Request, StaysDown, Trigger, Unrecovered};
use dwcp_controller::liveness::{LeaseSight, RegionState};
use dwcp_controller::ownership::{Loss, Proof};
use dwcp_controller::replica::round::is_late;
use dwcp_types::Timestamp;

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
        Some(active) => format!("{}{}\n\n{table}", headline(active), began(active)),
        None => table,
    }
}

/// Who goes where.
pub(crate) fn failover_plan(reply: &FailoverReply, look: Look) -> String {
    let mut out = match (&reply.log, &reply.request) {
        (Some(begun), _) => headline(begun),
        (None, Some(request)) => waits(request),
        (None, None) => would_be(reply),
    };
    let mut moves = Table::new(&["VM", ">PRIORITY", "GOES TO", "HOST", "LOSES"]);
    for it in &reply.plan.moves {
        let Some((region, _, host)) = it.first() else { continue };
        let lost_at = reply.log.as_ref().and_then(|log| log.lost_at);
        let loss = lost(it.loss, lost_at.unwrap_or(look.now));
        moves.push(row![&it.vm, it.priority, region, host, loss]);
    }
    if !reply.plan.moves.is_empty() {
        out += &format!("\n{}", moves.render(look.colored));
    }
    if !reply.plan.down.is_empty() {
        out += &format!("\n{}", down(&reply.plan.down, look));
    }
    out
}

/// What is told of a failover that nobody wants yet.
fn would_be(reply: &FailoverReply) -> String {
    let approved =
        if reply.two_persons { ", once another operator approves it" } else { "" };
    format!("{} would be failed over like this{approved}:\n", reply.plan.region)
}

/// What is told of one that waits for its second person, who is told the command.
fn waits(request: &Request) -> String {
    let Request { id, from_region, until, .. } = request;
    let until = text::moment(*until);
    format!(
        "nothing has begun: the failover of {from_region} waits for another operator until \
         {until}, who says\n  dwcp-cli federation failover approve {id}\n"
    )
}

/// Every request in a line.
pub(crate) fn failover_requests(list: &FailoverRequestList, look: Look) -> String {
    if list.items.is_empty() {
        return "no failover waits for another operator\n".to_owned();
    }
    let heads =
        ["REQUEST", "REGION", "GOES TO", "WITH", "ASKED", "BY", "EXPIRES", "REASON"];
    let mut table = Table::new(&heads);
    for FailoverRequestItem { request, expired } in &list.items {
        let expires = if *expired {
            Cell::toned("expired", Tone::Warn)
        } else {
            Cell::from(format!("in {}", text::age(request.until.since(look.now))))
        };
        let to = request.to_regions.as_ref();
        table.push(row![
            &request.id,
            &request.from_region,
            to.map_or_else(|| "any".to_owned(), text::listed),
            leave(request),
            text::moment(request.asked_at),
            &request.asked_by,
            expires,
            &request.reason,
        ]);
    }
    table.render(look.colored)
}

/// A request that is no more.
pub(crate) fn failover_denied(item: &FailoverRequestItem, _: Look) -> String {
    let Request { id, from_region, asked_by, .. } = &item.request;
    format!("request {id} of {asked_by} for the failover of {from_region} is removed\n")
}

/// What a request allows that is not usual.
fn leave(request: &Request) -> String {
    let alive = request.even_if_alive.then_some("even if alive");
    let loss = request.accept_data_loss.then_some("data loss");
    let off = request.hosts_off.as_ref();
    let off = off.map(|how| format!("hosts are off: {}", text::plain(how)));
    let words = [alive, loss].into_iter().flatten().map(str::to_owned);
    text::listed(words.chain(off))
}

/// Every failover in a line.
pub(crate) fn failover_history(list: &FailoverList, look: Look) -> String {
    let heads = [
        "FAILOVER",
        "REGION",
        "BEGAN",
        "BY",
        "ENDED",
        ">TOOK",
        ">TAKEN OVER",
        ">RUNNING",
        ">DOWN",
    ];
    let mut table = Table::new(&heads);
    for log in &list.items {
        let (ended, took) = end(log);
        table.push(row![
            &log.id,
            &log.region,
            text::moment(log.started_at),
            by(&log.trigger),
            ended,
            took,
            log.owned,
            log.running,
            log.down.len(),
        ]);
    }
    table.render(look.colored)
}

/// One failover, with every VM that stays down.
pub(crate) fn failover_log(log: &Log, look: Look) -> String {
    let mut out = headline(log);
    out += &began(log);
    let (ended, took) = end(log);
    out += &format!("\n{ended}{}{took}\n", if took.is_empty() { "" } else { " after " });
    if let Some(proof) = &log.proof {
        out += &format!("proof: {}\n", proven(proof));
    }
    if let Some(Points { vms, age_ms_max, over }) = log.points {
        let age = Duration::from_millis(age_ms_max).as_secs_f64();
        out += &format!(
            "lost: {vms} started from a disk that follows later, at most {age:.1} s old when the \
             region was lost; {over} of them older than it was to become\n"
        );
    }
    if !log.down.is_empty() {
        out += &format!("\n{}", down(&log.down, look));
    }
    out
}

/// Why a region surely ran nothing any more.
pub(super) fn proven(proof: &Proof) -> String {
    match proof {
        Proof::LeaseLapsed { term, watched_ms } => format!(
            "its lease of term {term} stood still for {} and was fenced",
            text::age_ms(Some(*watched_ms))
        ),
        Proof::Operator { name, reason } => {
            format!("the word of {name} that its hosts are off: {}", text::plain(reason))
        }
    }
}

fn end(log: &Log) -> (String, String) {
    log.ended.map_or_else(
        || (text::word(&log.phase), String::new()),
        |ended| {
            let took = text::age(ended.at.since(log.started_at));
            (text::word(&ended.outcome), took)
        },
    )
}

/// When, by whom and why; without the end of the line.
fn began(log: &Log) -> String {
    let why = match &log.trigger {
        Trigger::Automatic { .. } => String::new(),
        Trigger::Operator { reason, .. } => format!(": {}", text::plain(reason)),
    };
    format!("began {} by {}{why}", text::moment(log.started_at), by(&log.trigger))
}

fn by(trigger: &Trigger) -> String {
    match trigger {
        Trigger::Automatic { by } => format!("the verdict of {by}"),
        Trigger::Operator { name, approved_by: None, .. } => name.clone(),
        Trigger::Operator { name, approved_by: Some(other), .. } => {
            format!("{name}, approved by {other}")
        }
    }
}

/// What a VM loses, with its region lost at this moment.
fn lost(loss: Loss, lost_at: Timestamp) -> String {
    match loss {
        Loss::DiskAndMemory { .. } => {
            "its memory, and its disk since its image".to_owned()
        }
        Loss::Memory => "its memory".to_owned(),
        Loss::Latest { since } => {
            format!("its memory, and its disk since {}", text::moment(since))
        }
        Loss::Point { as_of, max_age_s } => {
            let age = lost_at.since(as_of);
            let late =
                if is_late(age, Duration::from_secs(max_age_s)) { ", late" } else { "" };
            let (as_of, age) = (text::moment(as_of), age.as_secs_f64());
            format!(
                "its memory, and {age:.1} s of its disk, since {as_of} (at most {max_age_s} s{late})"
            )
        }
    }
}

/// What a VM lost that runs elsewhere since.
pub(super) fn lost_then(loss: Loss) -> String {
    match loss {
        Loss::Point { as_of, max_age_s } => format!(
            "its memory, and its disk since {} (at most {max_age_s} s)",
            text::moment(as_of)
        ),
        Loss::DiskAndMemory { .. } | Loss::Memory | Loss::Latest { .. } => {
            lost(loss, Timestamp::default())
        }
    }
}

fn down(down: &[StaysDown], look: Look) -> String {
    let mut table = Table::new(&["VM", "STAYS DOWN BECAUSE"]);
    for it in down {
        let since = if let Unrecovered::ReplicaBehind { since } = &it.why {
            format!(" (since {})", text::moment(*since))
        } else {
            String::new()
        };
        table.push(row![&it.vm, format!("{}{since}", it.why)]);
    }
    table.render(look.colored)
}

fn headline(log: &Log) -> String {
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
