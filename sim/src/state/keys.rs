//! The keys of a run: few, so that everybody writes the same ones; of every kind; some that only
//! some regions may hold, and some that live for a time.
//!
//! Values are numbers, so that oracles compare numbers. Whatever belongs to a fenced key, its
//! name too, carries [`CANARY`]: no frame to a region outside the fence may contain it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dwcp_state::shard::{Jurisdiction, JurisdictionName, ShardMap};
use dwcp_state::{
    Bytes, ClusterId, Key, Kind, Level, Member, Membership, Phase, Policies, Policy,
    Reading, ReplicaId,
};
use dwcp_types::RegionId;

use super::faults::regions_of;
use super::options::Options;
use super::oracle::in_field;

/// What no frame to a region outside the fence may contain.
pub(super) const CANARY: &str = "stays-inside";
/// How long values live that live for a time: longer than clocks are wrong, shorter than a run.
pub(super) const TTL_MS: u64 = 9_000;
/// The federation that all replicas are of.
pub(super) const CLUSTER: ClusterId = ClusterId::new(7);

/// One key.
#[derive(Clone, Debug)]
pub(super) struct KeySpec {
    pub(super) name: Key,
    pub(super) kind: Kind,
    /// The weakest level of a write.
    pub(super) floor: Level,
    /// Whether only the regions inside the fence may hold it.
    pub(super) fenced: bool,
    /// Whether its value lives for a time.
    pub(super) mortal: bool,
}

/// A prefix: its kind, the floor of its writes, whether it is fenced, whether it is mortal.
type Row = (&'static str, Kind, Level, bool, bool);

/// Every prefix; a run has some of them.
const ROWS: [Row; 16] = [
    ("grown/", Kind::GCounter, Level::Eventual, false, false),
    ("balance/", Kind::PnCounter, Level::Eventual, false, false),
    ("seen/", Kind::GSet, Level::Eventual, false, false),
    ("tags/", Kind::OrSet, Level::Eventual, false, false),
    ("latest/", Kind::Lww, Level::Eventual, false, false),
    ("text/", Kind::Mv, Level::Eventual, false, false),
    ("record/", Kind::OrMap, Level::Eventual, false, false),
    ("credits/", Kind::Bounded, Level::Local, false, false),
    ("config/", Kind::Register, Level::Quorum, false, false),
    ("agreed/", Kind::OrSet, Level::Quorum, false, false),
    ("sum/", Kind::PnCounter, Level::Quorum, false, false),
    ("eu-tags/", Kind::OrSet, Level::Eventual, true, false),
    ("eu-config/", Kind::Register, Level::Quorum, true, false),
    ("eu-seen/", Kind::GSet, Level::Local, true, false),
    ("alive/", Kind::Lww, Level::Eventual, false, true),
    ("online/", Kind::OrSet, Level::Eventual, false, true),
];

/// How many prefixes there are.
pub(super) const PREFIXES: usize = ROWS.len();

/// The keys of a run.
pub(super) fn keys_of(options: &Options) -> Vec<KeySpec> {
    let mut keys = Vec::new();
    let chosen = |(place, row): (usize, &Row)| {
        (options.prefixes >> place & 1 == 1).then_some(*row)
    };
    for (prefix, kind, floor, fenced, mortal) in
        ROWS.iter().enumerate().filter_map(chosen)
    {
        for number in 0..options.keys_each {
            let secret = if fenced { CANARY } else { "" };
            let name = Arc::from(format!("{prefix}{secret}{number}"));
            keys.push(KeySpec { name, kind, floor, fenced, mortal });
        }
    }
    keys
}

/// The region of an index.
pub(super) fn region_id(region: usize) -> RegionId {
    let name = ["us-east", "eu-west", "eu-central", "asia", "brazil", "sydney", "tokyo"]
        [region % 7];
    RegionId::new(name).expect("names of regions are valid")
}

/// The replica of an index.
pub(super) fn replica_id(node: usize) -> ReplicaId {
    ReplicaId::new(u16::try_from(node + 1).unwrap_or(u16::MAX))
}

/// The index of a replica.
pub(super) fn node_of(replica: ReplicaId) -> usize {
    usize::from(replica.get()).saturating_sub(1)
}

/// Whether a region is inside the fence: all but the first, so that there is one outside and a
/// majority of at least two inside.
pub(super) const fn is_inside(region: usize) -> bool {
    region != 0
}

/// The first membership: everybody votes.
pub(super) fn first_membership(options: &Options) -> Membership {
    let nodes = regions_of(options);
    let active = |(node, region): (usize, &usize)| {
        let region = region_id(*region);
        (replica_id(node), Member { region, admission: 1, phase: Phase::Active })
    };
    let everywhere = JurisdictionName::from("everywhere");
    let inside = JurisdictionName::from("inside");
    let policies = ROWS.iter().map(|(prefix, kind, floor, fenced, mortal)| {
        let area = if *fenced { inside.clone() } else { everywhere.clone() };
        let mut policy = Policy::of(*kind, *floor, area);
        policy.ttl = mortal.then_some(Duration::from_millis(TTL_MS));
        (Arc::from(*prefix), policy)
    });
    let regions: BTreeSet<usize> = nodes.iter().copied().collect();
    let all = Jurisdiction::everywhere(regions.iter().copied().map(region_id));
    let within = regions.iter().copied().filter(|region| is_inside(*region));
    let within = Jurisdiction::everywhere(within.map(region_id));
    Membership {
        cluster: CLUSTER,
        epoch: 1,
        members: nodes.iter().enumerate().map(active).collect(),
        policies: Policies::new(policies),
        shards: ShardMap { jurisdictions: [(everywhere, all), (inside, within)].into() },
        ..Membership::default()
    }
}

/// The fields of a map.
pub(super) const FIELDS: u32 = 2;

/// A number as the bytes of an element or a value.
pub(super) fn bytes_of(key: &KeySpec, number: u64) -> Bytes {
    let secret = if key.fenced { CANARY } else { "" };
    Bytes::from(format!("{secret}{number}").as_str())
}

/// The name of a field.
pub(super) fn field_name(field: u32) -> Bytes {
    Bytes::from(format!("field{field}").as_str())
}

/// What was read, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The sum of a counter.
    Sum(i128),
    /// The elements of a set, the fields with their elements of a map, the values of a
    /// register.
    Values(BTreeSet<u64>),
    /// What was minted of a bounded counter, and what is used.
    Rights { minted: i128, used: i128 },
}

/// Says a reading in numbers.
///
/// # Errors
///
/// When it holds something that no client can have written.
pub(super) fn seen(key: &KeySpec, reading: Option<&Reading>) -> Result<Seen, String> {
    let Some(reading) = reading else {
        return Ok(match key.kind {
            Kind::GCounter | Kind::PnCounter => Seen::Sum(0),
            Kind::Bounded => Seen::Rights { minted: 0, used: 0 },
            Kind::GSet
            | Kind::OrSet
            | Kind::Lww
            | Kind::Mv
            | Kind::OrMap
            | Kind::Register => Seen::Values(BTreeSet::new()),
        });
    };
    match reading {
        Reading::Count(count) => Ok(Seen::Sum(i128::from(*count))),
        Reading::Balance(balance) => Ok(Seen::Sum(i128::from(*balance))),
        Reading::Set(elements) => values(elements.iter()),
        Reading::Latest(value) | Reading::Register { value, .. } => values(value.iter()),
        Reading::Siblings { values: siblings, .. } => values(siblings.iter()),
        Reading::Fields(fields) => {
            let mut all = BTreeSet::new();
            for field in fields {
                let name = (0..FIELDS).find(|number| field_name(*number) == field.name);
                let (Some(name), Reading::Set(elements)) = (name, &field.reading) else {
                    return Err(format!("{field:?} is no field of a client"));
                };
                for element in elements {
                    let element = u32::try_from(number(element)?).unwrap_or(u32::MAX);
                    all.insert(in_field(name, element));
                }
            }
            Ok(Seen::Values(all))
        }
        Reading::Bounded(bounded) => Ok(Seen::Rights {
            minted: i128::from(bounded.minted),
            used: i128::from(bounded.used),
        }),
    }
}

fn values<'a>(all: impl Iterator<Item = &'a Bytes>) -> Result<Seen, String> {
    all.map(number).collect::<Result<_, _>>().map(Seen::Values)
}

fn number(bytes: &Bytes) -> Result<u64, String> {
    let text = std::str::from_utf8(bytes).ok();
    let text = text.map(|text| text.strip_prefix(CANARY).unwrap_or(text));
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("{bytes:?} is no value of a client"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_membership_can_be() {
        for seed in 0..50 {
            let options = Options::from_seed(seed);
            assert_eq!(first_membership(&options).check(), Ok(()));
            assert!(keys_of(&options).iter().any(|key| !key.fenced), "{options}");
        }
    }

    #[test]
    fn what_a_client_writes_is_read_as_the_same_number() {
        let options = Options { prefixes: u64::MAX, ..Options::from_seed(1) };
        for key in keys_of(&options) {
            let bytes = bytes_of(&key, 42);
            let reading = Reading::Set(vec![bytes.clone()]);
            let expected = Seen::Values(BTreeSet::from([42]));
            assert_eq!(seen(&key, Some(&reading)), Ok(expected));
            let carries = bytes.as_slice().ends_with(b"stays-inside42");
            assert_eq!(carries, key.fenced);
        }
        let nonsense = Reading::Set(vec![Bytes::from("x")]);
        let keys = keys_of(&options);
        assert!(seen(&keys[0], Some(&nonsense)).is_err());
    }
}
