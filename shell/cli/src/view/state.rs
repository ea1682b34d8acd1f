//! Replicated state for people.

use std::collections::BTreeSet;

use dwcp_api::shards::{ShardItem, ShardList, SlotPlace};
use dwcp_api::state::{
    KeyChanges, KeyPage, PeerState, ReplicaReport, ReplicaReports, StateEntry,
    StatePolicies, StatePolicy, StateValue, Text, Written,
};

use dwcp_types::RegionId;

use super::Look;
use crate::table::{Cell, Sheet, Table, row};
use crate::terminal::Tone;
use crate::text;

/// Longest value in a table, in characters.
const SHOWN_MAX: usize = 60;

/// A key in full.
pub(crate) fn key(entry: &StateEntry, look: Look) -> String {
    let mut sheet = Sheet::default();
    sheet
        .line("key", &entry.key)
        .line("kind", text::word(&entry.kind))
        .line("value", shown(entry.value.as_ref()))
        .line("served", format!("{} by {}", text::word(&entry.level), entry.served_by));
    if let Some(staleness) = entry.staleness_ms {
        sheet.line("at most behind", text::span_us(staleness.saturating_mul(1_000)));
    }
    if let Some(revision) = entry.revision {
        sheet.line("revision", revision);
    }
    if let Some(context) = &entry.context {
        sheet.line("context", context);
    }
    if look.wide {
        sheet.line("session", &entry.session);
    }
    sheet.render(look.colored)
}

fn shown(value: Option<&StateValue>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    match value {
        StateValue::Number(number) => number.to_string(),
        StateValue::Content(content) => content_text(content),
        StateValue::Many(items) if items.is_empty() => "empty".to_owned(),
        StateValue::Many(items) => text::listed(items.iter().map(content_text)),
        StateValue::Budget(budget) => format!(
            "{} available ({} here), {} used",
            budget.available, budget.available_here, budget.used
        ),
        StateValue::Fields(fields) if fields.is_empty() => "empty".to_owned(),
        StateValue::Fields(fields) => text::listed(
            fields.iter().map(|(name, value)| format!("{name}={}", shown(Some(value)))),
        ),
    }
}

fn content_text(content: &Text) -> String {
    match content {
        Text::Plain(text) => text.clone(),
        Text::Binary { base64 } => format!("base64:{base64}"),
    }
}

/// Keys, one a line.
pub(crate) fn keys(page: &KeyPage, look: Look) -> String {
    if page.items.is_empty() {
        return "no keys\n".to_owned();
    }
    let mut table = Table::new(&["KEY", "KIND", "VALUE"]);
    for entry in &page.items {
        let value = shown(entry.value.as_ref());
        table.push(row![&entry.key, text::word(&entry.kind), short(&value)]);
    }
    let mut shown = table.render(look.colored);
    if let Some(next) = &page.next {
        shown.push_str(&format!("more from {next} on; raise --limit to see them\n"));
    }
    shown
}

fn short(value: &str) -> String {
    if value.chars().count() <= SHOWN_MAX {
        return value.to_owned();
    }
    value.chars().take(SHOWN_MAX - 3).chain("...".chars()).collect()
}

/// What changed, one key a line.
pub(crate) fn key_changes(changes: &KeyChanges, _look: Look) -> String {
    let mut lines = String::new();
    if changes.reset {
        lines.push_str("-- the replica started anew or more changed than it remembers\n");
    }
    for entry in &changes.items {
        let value = text::plain(&shown(entry.value.as_ref()));
        lines.push_str(&format!("{}  {value}\n", text::plain(&entry.key)));
    }
    lines
}

/// A change that was acknowledged.
pub(crate) fn key_written(written: &Written, look: Look) -> String {
    let mut line = format!(
        "{} is written ({}, by {})\n",
        text::plain(&written.key),
        text::word(&written.level),
        written.region
    );
    if let Some(revision) = written.revision {
        line.push_str(&format!("revision {revision}\n"));
    }
    if look.wide {
        let op_id = written.op_id.as_deref().unwrap_or("none");
        line.push_str(&format!("op id {op_id}\nsession {}\n", written.session));
    }
    line
}

/// A row for each region that answered, a column for each that anybody knows: what `cell`
/// says of the row's peer in the column.
fn matrix(
    corner: &str,
    reports: &ReplicaReports,
    look: Look,
    cell: impl Fn(&PeerState) -> Cell,
) -> String {
    let answered = reports.items.iter().map(|item| &item.region);
    let peers = reports.items.iter().flat_map(|item| &item.peers);
    let columns: BTreeSet<_> = answered.chain(peers.map(|peer| &peer.region)).collect();
    let heads: Vec<String> = columns.iter().map(|region| format!(">{region}")).collect();
    let mut all = vec![corner];
    all.extend(heads.iter().map(String::as_str));
    let mut table = Table::new(&all);
    for from in &reports.items {
        let mut row = row![&from.region];
        for to in &columns {
            let peer = from.peers.iter().find(|peer| peer.region == **to);
            let none = if from.region == **to { "." } else { text::UNKNOWN };
            row.push(peer.map_or_else(|| Cell::from(none), &cell));
        }
        table.push(row);
    }
    table.render(look.colored) + &missing(reports)
}

fn missing(reports: &ReplicaReports) -> String {
    if reports.missing.is_empty() {
        return String::new();
    }
    format!("no answer from {}\n", text::listed(&reports.missing))
}

fn down() -> Cell {
    Cell::toned("down", Tone::Bad)
}

/// Round trips, p50/p99 (O14).
pub(crate) fn latency_matrix(reports: &ReplicaReports, look: Look) -> String {
    matrix("FROM \\ TO", reports, look, |peer| match (peer.connected, peer.rtt_p50_us) {
        (false, _) => down(),
        (true, None) => Cell::from(text::UNKNOWN),
        (true, Some(p50)) => {
            let p99 = peer.rtt_p99_us.map(text::span_us).unwrap_or_default();
            Cell::from(format!("{}/{p99}", text::span_us(p50)))
        }
    })
}

/// How far the region of the row is behind the region of the column (O33).
pub(crate) fn lag_matrix(reports: &ReplicaReports, look: Look) -> String {
    matrix("REGION \\ BEHIND", reports, look, |peer| match peer.lag_ms {
        None => Cell::from(text::UNKNOWN),
        Some(lag) => {
            let tone = if peer.connected { Tone::Plain } else { Tone::Bad };
            Cell::toned(text::age_ms(Some(lag)), tone)
        }
    })
}

/// What waits, for each pair (O15).
pub(crate) fn queue_depth(reports: &ReplicaReports, look: Look) -> String {
    let mut table =
        Table::new(&["FROM", "TO", "LINK", ">DELTAS", ">BYTES", ">OLDEST", "LAST ERROR"]);
    for from in &reports.items {
        for peer in &from.peers {
            let link = match (&peer.transport, peer.connected) {
                (Some(transport), true) => Cell::from(transport),
                _ => down(),
            };
            let oldest = (peer.queue_deltas > 0).then_some(peer.queue_age_ms);
            table.push(vec![
                Cell::from(&from.region),
                Cell::from(&peer.region),
                link,
                Cell::from(text::count(peer.queue_deltas)),
                Cell::from(text::count(peer.queue_bytes)),
                Cell::from(oldest.map_or_else(String::new, |ms| text::age_ms(Some(ms)))),
                Cell::from(peer.last_error.as_deref().unwrap_or_default()),
            ]);
        }
    }
    table.render(look.colored) + &missing(reports)
}

/// Replicas, one a line.
pub(crate) fn replicas(reports: &ReplicaReports, look: Look) -> String {
    let mut heads =
        vec!["REGION", "ACTOR", ">EPOCH", ">KEYS", ">BYTES", ">LOG", "DIGEST", "PEERS"];
    if look.wide {
        heads.push("SERVED");
    }
    let mut table = Table::new(&heads);
    for item in &reports.items {
        let up = item.peers.iter().filter(|peer| peer.connected).count();
        let tone = if up == item.peers.len() { Tone::Plain } else { Tone::Warn };
        let mut row = row![
            &item.region,
            &item.actor,
            item.epoch,
            text::count(item.keys),
            text::count(item.state_bytes),
            text::count(item.log_deltas),
            &item.digest,
        ];
        row.push(Cell::toned(format!("{up}/{} up", item.peers.len()), tone));
        if look.wide {
            row.push(Cell::from(counted(item.served.iter())));
        }
        table.push(row);
    }
    table.render(look.colored) + &missing(reports)
}

fn counted<'a, K: std::fmt::Display + 'a>(
    counts: impl Iterator<Item = (&'a K, &'a u64)>,
) -> String {
    text::listed(counts.map(|(what, count)| format!("{what} {}", text::count(*count))))
}

/// Merges and what they cost, one region a line.
pub(crate) fn conflicts(reports: &ReplicaReports, look: Look) -> String {
    let mut table = Table::new(&[
        "REGION",
        ">LOST WRITES",
        ">SIBLINGS",
        "MERGES",
        "COLLECTION WAITS FOR",
    ]);
    for item in &reports.items {
        table.push(row![
            &item.region,
            text::count(item.lww_discarded),
            item.siblings_max,
            merges(item),
            counted(item.collection_blocked_by.iter()),
        ]);
    }
    table.render(look.colored) + &missing(reports)
}

fn merges(item: &ReplicaReport) -> String {
    if item.conflicts.is_empty() {
        return "none".to_owned();
    }
    counted(item.conflicts.iter())
}

/// Rules, one a line.
pub(crate) fn policies(policies: &StatePolicies, look: Look) -> String {
    let mut table = Table::new(&["PREFIX", "KIND", "LEVEL", "REGIONS", ">TTL"]);
    for policy in &policies.items {
        table.push(row![
            named(&policy.prefix),
            text::word(&policy.kind),
            text::word(&policy.level),
            regions(policy),
            policy.ttl_ms.map_or_else(String::new, |ms| text::age_ms(Some(ms))),
        ]);
    }
    table.render(look.colored)
}

/// A rule on one line.
pub(crate) fn rule(policy: &StatePolicy) -> String {
    format!(
        "{}, level {}, held by {}",
        text::word(&policy.kind),
        text::word(&policy.level),
        regions(policy)
    )
}

/// A prefix, also the one of all keys that have no rule of their own.
fn named(prefix: &str) -> &str {
    if prefix.is_empty() { "(all)" } else { prefix }
}

fn regions(policy: &StatePolicy) -> String {
    let all = if policy.regions.is_empty() {
        "all".to_owned()
    } else {
        text::listed(&policy.regions)
    };
    match policy.copies {
        Some(copies) => format!("{copies} of {all}"),
        None => all,
    }
}

/// Where the slots of each prefix are, and where one key is.
pub(crate) fn shards(list: &ShardList, look: Look) -> String {
    let mut table = Table::new(&["PREFIX", "BY", ">COPIES", ">MOVING", "SLOTS"]);
    for item in &list.items {
        let tone = if item.moving > 0 { Tone::Warn } else { Tone::Plain };
        let moving = Cell::toned(item.moving.to_string(), tone);
        table.push(row![
            named(&item.prefix),
            text::word(&item.shard_by),
            item.copies,
            moving,
            slots(item),
        ]);
    }
    let mut shown = table.render(look.colored);
    for item in &list.items {
        for at in &item.moved {
            let slot =
                format!("\nslot {} of {} was moved: it", at.slot, named(&item.prefix));
            shown.push_str(&where_is(&slot, at));
        }
    }
    if let Some(key) = &list.key {
        let (key, prefix, slot) = (text::plain(&key.key), named(&key.prefix), &key.at);
        let of = format!("\n{key} is in slot {} of {prefix}, which", slot.slot);
        shown.push_str(&where_is(&of, slot));
    }
    shown
}

/// Where a slot is, and where it goes.
fn where_is(of: &str, at: &SlotPlace) -> String {
    let mut line = format!("{of} is held by {}", text::listed(&at.regions));
    if at.is_moving() {
        line.push_str(&format!(", on its way to {}", text::listed(&at.wanted)));
    }
    line.push('\n');
    line
}

/// How many slots each region holds.
fn slots(item: &ShardItem) -> String {
    const ALL: u32 = 256;
    let everywhere = item.regions.iter().all(|it| item.slots.get(it) == Some(&ALL));
    if everywhere {
        return format!("all in {}", text::listed(&item.regions));
    }
    let one = |region: &RegionId| {
        let held = item.slots.get(region).copied().unwrap_or(0);
        match item.learning.get(region) {
            Some(learning) => format!("{region} {held} (+{learning})"),
            None => format!("{region} {held}"),
        }
    };
    item.regions.iter().map(one).collect::<Vec<_>>().join(", ")
}
