//! What holds for the keys under a prefix: their plane, kind, levels, fence and life.
//!
//! The policy of a key is that of its longest matching prefix; a key without one is refused,
//! so nothing is stored under rules that nobody wrote down. Policies are part of the
//! membership, which the strong plane owns: every replica of an epoch has the same ones.
//!
//! Rejected: a level or a kind chosen by each call. Then a quorum read would promise what some
//! eventual write has already broken (F90), and two replicas could make two kinds of one key.

mod check;

pub use check::PolicyError;

use std::sync::Arc;
use std::time::Duration;

use dwcp_types::RegionId;
use serde::{Deserialize, Serialize};

use crate::crdt::Kind;
use crate::level::Level;
use crate::shard::{JurisdictionName, ShardBy};

/// Most policies of a federation: a few for each kind of record, with room.
pub const POLICIES_MAX: usize = 1_024;

/// Which machinery holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plane {
    /// Replicated values that join; served here.
    Replicated,
    /// The strong engine; never served here.
    Engine,
}

/// How concurrent writes of one key become one (S14, S15).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conflict {
    /// The kind's own join; nothing is lost.
    Join,
    /// The write with the later stamp stays. Loses the other, and counts it.
    LastWriterWins,
    /// All of them are shown to the reader, who writes one over them.
    Siblings,
    /// All of them are kept, and the reader is shown what the rule of this name makes of them
    /// (see [`crate::conflict`]). Every replica must know the rule.
    Merge(String),
}

/// The rules of one prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Which machinery holds the keys.
    pub plane: Plane,
    /// What their values are.
    pub kind: Kind,
    /// The weakest level of a write, and that of a call which names none.
    pub floor: Level,
    /// Where the keys are at home; routing prefers it, nothing depends on it.
    pub home: Option<RegionId>,
    /// The regions that may have a byte of them (F45).
    pub jurisdiction: JurisdictionName,
    /// What of a key decides its slot.
    pub shard_by: ShardBy,
    /// How long a value lives after its last write.
    pub ttl: Option<Duration>,
    /// What becomes of concurrent writes.
    pub conflict: Conflict,
}

impl Policy {
    /// Keys of one kind with nothing special about them.
    #[must_use]
    pub fn of(kind: Kind, floor: Level, jurisdiction: JurisdictionName) -> Self {
        let conflict = match kind {
            Kind::Lww => Conflict::LastWriterWins,
            Kind::Mv => Conflict::Siblings,
            Kind::GCounter
            | Kind::PnCounter
            | Kind::GSet
            | Kind::OrSet
            | Kind::OrMap
            | Kind::Bounded
            | Kind::Register => Conflict::Join,
        };
        Self {
            plane: if floor == Level::Strong { Plane::Engine } else { Plane::Replicated },
            kind,
            floor,
            home: None,
            jurisdiction,
            shard_by: ShardBy::Key,
            ttl: None,
            conflict,
        }
    }
}

/// All policies, by prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(Arc<str>, Policy)>", into = "Vec<(Arc<str>, Policy)>")]
pub struct Policies {
    /// Sorted by prefix.
    rows: Vec<(Arc<str>, Policy)>,
    /// The longest other prefix that each prefix begins with.
    parents: Vec<Option<usize>>,
}

impl Policies {
    /// The policies of these prefixes; of two for one prefix the later is taken.
    #[must_use]
    pub fn new(policies: impl IntoIterator<Item = (Arc<str>, Policy)>) -> Self {
        let sorted: std::collections::BTreeMap<_, _> = policies.into_iter().collect();
        let rows: Vec<_> = sorted.into_iter().collect();
        let mut parents = Vec::with_capacity(rows.len());
        let mut open: Vec<usize> = Vec::new();
        for (index, (prefix, _)) in rows.iter().enumerate() {
            while open.last().is_some_and(|last| !prefix.starts_with(&*rows[*last].0)) {
                open.pop();
            }
            parents.push(open.last().copied());
            open.push(index);
        }
        Self { rows, parents }
    }

    /// The place of the policy of a key, for [`Self::at`].
    ///
    /// In sorted order every prefix of the key comes before it, and whatever lies between
    /// begins with the longest of them: so the last row before the key has it as ancestor.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<usize> {
        let after = self.rows.partition_point(|(prefix, _)| &**prefix <= key);
        let mut candidate = after.checked_sub(1);
        while let Some(index) = candidate {
            if key.starts_with(&*self.rows[index].0) {
                return Some(index);
            }
            candidate = self.parents[index];
        }
        None
    }

    /// The policy at a place.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<&Policy> {
        self.rows.get(place).map(|(_, policy)| policy)
    }

    /// The policy of a key.
    #[must_use]
    pub fn of(&self, key: &str) -> Option<&Policy> {
        self.find(key).and_then(|place| self.at(place))
    }

    /// The policy of a key, and the prefix that it is of.
    #[must_use]
    pub fn rule_of(&self, key: &str) -> Option<(&str, &Policy)> {
        let (prefix, policy) = self.rows.get(self.find(key)?)?;
        Some((prefix, policy))
    }

    /// Every prefix with its policy, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Policy)> {
        self.rows.iter().map(|(prefix, policy)| (prefix, policy))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none, so that every key is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl From<Vec<(Arc<str>, Policy)>> for Policies {
    fn from(rows: Vec<(Arc<str>, Policy)>) -> Self {
        Self::new(rows)
    }
}

impl From<Policies> for Vec<(Arc<str>, Policy)> {
    fn from(policies: Policies) -> Self {
        policies.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policies(prefixes: &[String]) -> Policies {
        Policies::new(prefixes.iter().map(|prefix| {
            let name = JurisdictionName::from(prefix.as_str());
            (Arc::from(prefix.as_str()), Policy::of(Kind::Lww, Level::Eventual, name))
        }))
    }

    proptest! {
        #[test]
        fn the_longest_matching_prefix_is_found(
            prefixes in proptest::collection::vec("[ab/]{0,5}", 0..20),
            key in "[ab/]{0,7}",
        ) {
            let expected = prefixes
                .iter()
                .filter(|prefix| key.starts_with(prefix.as_str()))
                .max_by_key(|prefix| prefix.len());
            let policies = policies(&prefixes);
            let found = policies.of(&key).map(|policy| policy.jurisdiction.as_str());
            prop_assert_eq!(found, expected.map(String::as_str));
        }
    }
}
