//! Reads the block `state` (O36, S8, DETAILS 2.2): rules of key prefixes, and how replicas reach
//! each other.
//!
//! The tunings of the source that ours does not need are accepted and told so: pushes follow
//! each write, batches form by themselves, and every peer has a stream of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use dwcp_state::shard::{SPREAD_MAX, ShardBy};
use dwcp_state::{Kind, Level};
use dwcp_types::RegionId;

use super::federation::{RegionSpec, StateConfig, StateRule, StateTransport};
use super::field::Field;
use super::names::Names;
use super::problem::Report;
use super::section::Section;
use super::yaml::Node;

const KEYS: &[&str] = &[
    "cluster",
    "transport",
    "consistency_level",
    "policies",
    "sync_interval",
    "replication_workers",
    "batch_size",
    "compression",
];
const RULE_KEYS: &[&str] =
    &["prefix", "kind", "level", "regions", "ttl", "copies", "shard_by"];
/// Keys of the source that have no effect.
const WITHOUT_EFFECT: [(&str, &str); 4] = [
    (
        "sync_interval",
        "writes are pushed as they are made; replicas compare every 5 s besides",
    ),
    ("replication_workers", "every peer has a stream and a queue of its own"),
    (
        "batch_size",
        "what is written while the disk or the line is busy goes as one batch",
    ),
    ("compression", "frames are compressed wherever that makes them smaller"),
];
/// Most rules in a file; more are set while the federation runs.
const RULES_MAX: usize = 256;
/// Longest prefix, in bytes.
const PREFIX_LEN_MAX: usize = 256;

/// Levels by their names (S9 to S12).
const LEVELS: [(&str, Level); 4] = [
    ("eventual", Level::Eventual),
    ("local", Level::Local),
    ("quorum", Level::Quorum),
    ("strong", Level::Strong),
];
/// Kinds by their names; a record of the strong engine has none.
const KINDS: [(&str, Option<Kind>); 10] = [
    ("counter", Some(Kind::GCounter)),
    ("up-down-counter", Some(Kind::PnCounter)),
    ("grow-set", Some(Kind::GSet)),
    ("set", Some(Kind::OrSet)),
    ("last", Some(Kind::Lww)),
    ("siblings", Some(Kind::Mv)),
    ("map", Some(Kind::OrMap)),
    ("bounded", Some(Kind::Bounded)),
    ("register", Some(Kind::Register)),
    ("strong", None),
];

/// What of a key decides its slot, by the names of the source (S16): `tenant` is what comes
/// before the first slash, `type` what comes before the second.
const SHARD_BY: [(&str, ShardBy); 3] =
    [("key", ShardBy::Key), ("tenant", ShardBy::TENANT), ("type", ShardBy::TYPE)];

/// Reads the block.
pub(super) fn state(
    root: &Section<'_>,
    regions: Option<&[RegionSpec]>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<StateConfig> {
    let default = StateConfig::default();
    let Some(field) = root.get("state") else { return Some(default) };
    let section = Section::open(field.node, "`state`", KEYS, report)?;
    for (key, instead) in WITHOUT_EFFECT {
        if let Some(field) = section.get(key) {
            let reason = format!("`{key}` has no effect: {instead}");
            report.warn(field.key_at, reason, "leave it out");
        }
    }
    let cluster = section.get("cluster").map(|field| field.text(report));
    let transport = section.get("transport").map(|field| {
        let words = [
            ("auto", StateTransport::Auto),
            ("quic", StateTransport::Quic),
            ("tcp", StateTransport::Tcp),
        ];
        field.choice(&words, report)
    });
    let level =
        section.get("consistency_level").map(|field| field.choice(&LEVELS, report));
    let rules = match section.get("policies") {
        None => Some(default.rules.clone()),
        Some(field) => rules(field, with_replica(regions).as_ref(), names, report),
    };
    let mut rules = rules?;
    if let Some(level) = level {
        let level = level?;
        rules.retain(|rule| !rule.prefix.is_empty());
        rules.insert(0, usual(level));
    }
    Some(StateConfig {
        cluster: cluster.map_or(Some(default.cluster), |name| name.map(str::to_owned))?,
        transport: transport.unwrap_or(Some(default.transport))?,
        rules,
    })
}

/// The rule of keys that have none of their own, by the level that the source's key names.
fn usual(level: Level) -> StateRule {
    let kind = match level {
        Level::Strong => None,
        Level::Quorum => Some(Kind::Register),
        Level::Eventual | Level::Local => Some(Kind::Lww),
    };
    StateRule::of("", kind, level)
}

/// The regions that have a replica; nothing when the regions are not readable, which is told, and
/// then no number of copies is too large.
fn with_replica(regions: Option<&[RegionSpec]>) -> Option<BTreeSet<&RegionId>> {
    let specs = regions?.iter().filter(|spec| spec.state_endpoint.is_some());
    Some(specs.map(|spec| &spec.region.id).collect())
}

fn rules(
    field: Field<'_>,
    replicas: Option<&BTreeSet<&RegionId>>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Vec<StateRule>> {
    let items = field.list(0..=RULES_MAX, report)?;
    let read: Vec<Option<StateRule>> =
        items.iter().map(|item| rule(item.node, replicas, names, report)).collect();
    let rules: Option<Vec<StateRule>> = read.into_iter().collect();
    let rules = rules?;
    for (at, rule) in rules.iter().enumerate() {
        if rules.iter().take(at).any(|before| before.prefix == rule.prefix) {
            let place = items.get(at).map_or_else(|| field.at(), Field::at);
            let reason = format!("two policies are of the prefix {:?}", rule.prefix);
            report.error(place, reason, "keep one of the two");
            return None;
        }
    }
    let spread = rules.iter().filter(|rule| rule.copies.is_some()).count();
    if spread > SPREAD_MAX {
        let reason = format!("{spread} policies have `copies`, at most {SPREAD_MAX} may");
        report.error(field.at(), reason, "have one of them cover more keys");
        return None;
    }
    Some(rules)
}

fn rule(
    node: &Node,
    replicas: Option<&BTreeSet<&RegionId>>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<StateRule> {
    let section = Section::open(node, "a policy", RULE_KEYS, report)?;
    let prefix = section.need("prefix", "\"vm:config:\"", report);
    let prefix = prefix.and_then(|field| prefix_of(field, report));
    let kind = section.need("kind", "register", report);
    let kind = kind.and_then(|field| field.choice(&KINDS, report));
    let level = section.need("level", "quorum", report);
    let level = level.and_then(|field| Some((field, field.choice(&LEVELS, report)?)));
    let regions = match section.get("regions") {
        None => Some(Vec::new()),
        Some(field) => regions(field, names, report),
    };
    let day = Duration::from_secs(86_400);
    let ttl = section
        .get("ttl")
        .map(|field| field.duration(Duration::from_secs(1)..=day * 366, report));
    let (level_field, level) = level?;
    let kind = kind?;
    fits(level_field, kind, level, report)?;
    let regions = regions?;
    let may_hold = replicas.map_or(super::REGIONS_MAX, |replicas| {
        let is_legal = |it: &&&RegionId| regions.is_empty() || regions.contains(**it);
        replicas.iter().filter(is_legal).count()
    });
    let copies = section.get("copies").map(|field| copies(field, kind, may_hold, report));
    let shard_by = section.get("shard_by").map(|field| field.choice(&SHARD_BY, report));
    Some(StateRule {
        prefix: prefix?.to_owned(),
        kind,
        level,
        regions,
        ttl: match ttl {
            None => None,
            Some(ttl) => Some(ttl?),
        },
        copies: match copies {
            None => None,
            Some(copies) => Some(copies?),
        },
        shard_by: shard_by.unwrap_or(Some(ShardBy::Key))?,
    })
}

/// As many as there are regions that may hold the keys, at most (F37).
fn copies(
    field: Field<'_>,
    kind: Option<Kind>,
    may_hold: usize,
    report: &mut Report<'_>,
) -> Option<usize> {
    let instead = match kind {
        Some(Kind::Bounded) => Some(
            "left away for the kind `bounded`: each region has rights of its own in it",
        ),
        None => Some("left away for the kind `strong`: the engine holds it"),
        Some(_) => None,
    };
    if let Some(instead) = instead {
        return field.refuse(instead, "every region holds these keys", report);
    }
    let count = field.count(1..=u64::try_from(super::REGIONS_MAX).ok()?, report)?;
    let copies = usize::try_from(count).ok()?;
    if copies <= may_hold {
        return Some(copies);
    }
    field.refuse(
        format!("at most {may_hold}: as many regions may hold these keys"),
        "name more `regions`, or give more of them a `state_endpoint`",
        report,
    )
}

/// Some kinds need their level.
fn fits(
    field: Field<'_>,
    kind: Option<Kind>,
    level: Level,
    report: &mut Report<'_>,
) -> Option<()> {
    let needed = match kind {
        None => Level::Strong,
        Some(Kind::Register) => Level::Quorum,
        Some(_) if level == Level::Strong => {
            return field.refuse(
                "weaker than `strong`: values that join are not in the strong engine",
                "write `kind: strong` as well, or a level of `quorum` or weaker",
                report,
            );
        }
        Some(_) => return Some(()),
    };
    if level == needed {
        return Some(());
    }
    let kind = kind.map_or("strong", |_| "register");
    field.refuse(
        format!("`{needed}` for the kind `{kind}`"),
        format!("write `level: {needed}`, or choose another kind"),
        report,
    )
}

/// A prefix may be empty: then the rule is of all keys that have none of their own.
fn prefix_of<'n>(field: Field<'n>, report: &mut Report<'_>) -> Option<&'n str> {
    if let super::yaml::Content::Text(text) = &field.node.content
        && text.len() <= PREFIX_LEN_MAX
    {
        return Some(text);
    }
    field.refuse(
        format!("a text of at most {PREFIX_LEN_MAX} bytes"),
        "put it in quotes, for example `prefix: \"vm:config:\"`",
        report,
    )
}

fn regions(
    field: Field<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Vec<RegionId>> {
    let items = field.list(1..=super::REGIONS_MAX, report)?;
    let mut read = Vec::new();
    for item in items {
        let id: RegionId = item.parsed(report)?;
        names.refer(&id, item.at(), "state.policies.regions");
        read.push(id);
    }
    Some(read)
}
