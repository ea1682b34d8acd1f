//! The block `engine`: where the strong records are (STATE 8.3).
//!
//! Both engines may be described in one file, and `kind` says which one runs: a rehearsal on one
//! machine and the federation that it rehearses then differ in one word.

use dwcp_types::RegionId;

use super::RegionSpec;
use super::endpoint::Endpoint;
use super::federation::{EngineConfig, EngineKind, EtcdConfig, VoterSpec};
use super::field::Field;
use super::names::Names;
use super::problem::{Position, Report};
use super::section::Section;
use super::yaml::Node;

const KEYS: &[&str] = &["kind", "host", "home", "namespace", "voters"];
const VOTER_KEYS: &[&str] = &["region", "client", "peer"];

/// Where a federation's keys lie in etcd, unless it says otherwise.
const NAMESPACE: &str = "dwcp";
/// Longest namespace: a name of DNS, like every other.
const NAMESPACE_LEN_MAX: usize = 63;
/// Fewest voters: less survives the loss of none.
const VOTERS_MIN: usize = 3;
/// Most voters: more make every write wait for more, and survive hardly more.
const VOTERS_MAX: usize = 5;

/// Reads the block; without one the first region's daemon hosts the records.
pub(super) fn engine(
    root: &Section<'_>,
    regions: Option<&[RegionSpec]>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<EngineConfig> {
    let regions = regions.unwrap_or(&[]);
    let first = regions.first().map(|spec| spec.region.id.clone());
    let Some(field) = root.get("engine") else {
        return Some(EngineConfig::embedded(first?));
    };
    let section = Section::open(field.node, "`engine`", KEYS, report)?;
    let words = [("embedded", EngineKind::Embedded), ("etcd", EngineKind::Etcd)];
    let kind = match section.get("kind") {
        None => Some(EngineKind::Embedded),
        Some(field) => field.choice(&words, report),
    };
    let host = match section.get("host") {
        None => first,
        Some(field) => region(&field, "engine.host", names, report),
    };
    let etcd = match section.get("voters") {
        None => no_voters(&section, kind, report),
        Some(field) => etcd(&section, &field, names, report).map(Some),
    };
    let (kind, host) = (kind?, host?);
    if kind == EngineKind::Embedded {
        check_reachable(&host, regions, field.key_at, report);
    }
    Some(EngineConfig::new(kind, host, etcd?))
}

fn region(
    field: &Field<'_>,
    name: &str,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<RegionId> {
    field.parsed(report).inspect(|id| names.refer(id, field.at(), name))
}

/// Without voters nothing else of etcd may be there, and it cannot be chosen.
#[expect(clippy::option_option, reason = "refused, or rightly without etcd")]
fn no_voters(
    section: &Section<'_>,
    kind: Option<EngineKind>,
    report: &mut Report<'_>,
) -> Option<Option<EtcdConfig>> {
    if kind == Some(EngineKind::Etcd) {
        section.need(
            "voters",
            "[{ region: us-east-1, client: ..., peer: ... }]",
            report,
        )?;
    }
    for name in ["home", "namespace"] {
        if let Some(field) = section.get(name) {
            let reason =
                format!("`{name}` says something of etcd, which has no `voters` here");
            report.error(field.key_at, reason, "add `voters`, or remove it");
            return None;
        }
    }
    Some(None)
}

fn etcd(
    section: &Section<'_>,
    field: &Field<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<EtcdConfig> {
    let items = field.list(VOTERS_MIN..=VOTERS_MAX, report)?;
    let read: Vec<Option<VoterSpec>> =
        items.iter().map(|item| voter(item.node, names, report)).collect();
    let namespace = match section.get("namespace") {
        None => Some(NAMESPACE.to_owned()),
        Some(field) => namespace(&field, report),
    };
    let home = match section.get("home") {
        None => None,
        Some(field) => Some((region(&field, "engine.home", names, report)?, field.at())),
    };
    let mut voters: Vec<VoterSpec> = read.into_iter().collect::<Option<_>>()?;
    check_number(&voters, field.key_at, report)?;
    warn_of_majority(&voters, field.key_at, report);
    name_apart(&mut voters);
    let first = voters.first()?.region.clone();
    let home = match home {
        None => first,
        Some((home, _)) if voters.iter().any(|voter| voter.region == home) => home,
        Some((home, at)) => {
            let reason = format!("the leader cannot be in `{home}`, which has no voter");
            report.error(at, reason, "name the region of a voter, or add one there");
            return None;
        }
    };
    Some(EtcdConfig { namespace: namespace?, home, voters })
}

fn voter(node: &Node, names: &mut Names, report: &mut Report<'_>) -> Option<VoterSpec> {
    let section = Section::open(node, "a voter", VOTER_KEYS, report)?;
    let region = section.need("region", "us-east-1", report);
    let region = region.and_then(|field| self::region(&field, "region", names, report));
    let mut endpoint = |name, example| {
        let field = section.need(name, example, report)?;
        let endpoint: Endpoint = field.parsed(report)?;
        names.endpoint(&endpoint, field.at(), report);
        Some(endpoint)
    };
    let client = endpoint("client", "10.0.0.1:2379");
    let peer = endpoint("peer", "10.0.0.1:2380");
    let region = region?;
    Some(VoterSpec {
        name: region.as_str().to_owned(),
        region,
        client: client?,
        peer: peer?,
    })
}

fn namespace(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text(report)?;
    let sound = text.len() <= NAMESPACE_LEN_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if sound {
        return Some(text.to_owned());
    }
    let wanted = format!("1 to {NAMESPACE_LEN_MAX} letters, digits and `-`");
    field.refuse(wanted, "keys of etcd begin with it; write `dwcp`", report)
}

fn check_number(
    voters: &[VoterSpec],
    at: Position,
    report: &mut Report<'_>,
) -> Option<()> {
    if !voters.len().is_multiple_of(2) {
        return Some(());
    }
    let number = voters.len();
    let reason = format!("{number} voters survive no more than {} do", number - 1);
    report.error(at, reason, "have 3 or 5 voters");
    None
}

/// A region that holds a majority takes the engine with it when it is lost.
fn warn_of_majority(voters: &[VoterSpec], at: Position, report: &mut Report<'_>) {
    for voter in voters {
        let here = voters.iter().filter(|other| other.region == voter.region).count();
        if here * 2 > voters.len() {
            let reason = format!(
                "{here} of {} voters are in `{}`: when that region is lost, so is the engine",
                voters.len(),
                voter.region
            );
            report.warn(at, reason, "spread the voters over at least three regions");
            return;
        }
    }
}

/// The second and third voter of a region have names of their own.
fn name_apart(voters: &mut [VoterSpec]) {
    for at in 0..voters.len() {
        let (before, rest) = voters.split_at_mut(at);
        let Some(voter) = rest.first_mut() else { return };
        let earlier = before.iter().filter(|other| other.region == voter.region).count();
        if earlier > 0 {
            voter.name = format!("{}-{}", voter.region, earlier + 1);
        }
    }
}

/// The others must reach the engine. Where no region has an endpoint there are no others, only
/// descriptions.
fn check_reachable(
    host: &RegionId,
    regions: &[RegionSpec],
    at: Position,
    report: &mut Report<'_>,
) {
    let silent = |spec: &&RegionSpec| spec.region.id == *host && spec.endpoint.is_none();
    let others = regions.iter().any(|spec| spec.endpoint.is_some());
    if others && regions.iter().any(|spec| silent(&spec)) {
        let reason = format!(
            "the strong engine is in `{host}`, which has no `endpoint` for the others to reach"
        );
        report.error(at, reason, "give that region an `endpoint`, or name another host");
    }
}
