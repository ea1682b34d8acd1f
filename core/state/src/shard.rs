//! Which regions hold a key.
//!
//! Two steps, so that neither can break the other (F45, F46): the policy's *jurisdiction* says
//! which regions may have a byte of it at all, and the key's *slot* says which of those do.
//! The jurisdiction decides law, the slot spreads load. A slot moves by an epoch of the
//! membership: a region is first a learner of it, which receives but does not vote, then a
//! voter.
//!
//! Rejected: mapping a region to a shard with copies anywhere, which sends personal data
//! abroad as soon as there are fewer regions in the law's area than copies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use dwcp_types::RegionId;
use serde::{Deserialize, Serialize};

/// How many slots a jurisdiction has.
pub const SLOTS: usize = 256;
/// Most jurisdictions of a federation.
pub const JURISDICTIONS_MAX: usize = 64;

/// Names an area of law, for example `eu` or `global`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JurisdictionName(Arc<str>);

impl JurisdictionName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for JurisdictionName {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl fmt::Display for JurisdictionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What of a key decides its slot (S16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShardBy {
    /// The whole key.
    #[default]
    Key,
    /// Its first segments, between slashes: one for the tenant of `tenant/type/id`, two for
    /// the tenant's type. What they share is then together.
    Segments(u8),
}

/// One of the [`SLOTS`] of a jurisdiction.
pub type Slot = u8;

/// The slot of a key.
#[must_use]
pub fn slot_of(key: &str, by: ShardBy) -> Slot {
    let part = match by {
        ShardBy::Key => key,
        ShardBy::Segments(count) => {
            let end = key.match_indices('/').nth(usize::from(count).saturating_sub(1));
            end.and_then(|(end, _)| key.get(..end)).unwrap_or(key)
        }
    };
    hash(part.as_bytes()).to_be_bytes()[0]
}

/// A hash that is the same everywhere and for ever: it decides places and is compared between
/// replicas. FNV-1a with a finish that spreads its weak upper bits.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hash: u64 = 0xCBF2_9CE4_8422_2325;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    mix(hash)
}

/// Spreads the bits of a number.
#[must_use]
pub const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// The regions of a slot.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Placement {
    /// They hold its keys and count in majorities.
    pub voters: BTreeSet<RegionId>,
    /// They hold its keys and do not count yet.
    pub learners: BTreeSet<RegionId>,
}

impl Placement {
    /// These regions as voters.
    #[must_use]
    pub fn of(voters: impl IntoIterator<Item = RegionId>) -> Self {
        Self { voters: voters.into_iter().collect(), learners: BTreeSet::new() }
    }

    /// Whether a region may have the keys.
    #[must_use]
    pub fn holds(&self, region: &RegionId) -> bool {
        self.voters.contains(region) || self.learners.contains(region)
    }

    /// Every region that may have the keys.
    pub fn regions(&self) -> impl Iterator<Item = &RegionId> {
        self.voters.iter().chain(&self.learners)
    }
}

/// An area of law and where its slots are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jurisdiction {
    /// The regions that may have a byte of it.
    pub legal: BTreeSet<RegionId>,
    /// Where a slot is that is not in [`Self::moved`].
    pub usual: Placement,
    /// The slots that are elsewhere.
    pub moved: BTreeMap<Slot, Placement>,
}

impl Jurisdiction {
    /// Every legal region holds every slot.
    #[must_use]
    pub fn everywhere(legal: impl IntoIterator<Item = RegionId>) -> Self {
        let legal: BTreeSet<RegionId> = legal.into_iter().collect();
        let usual = Placement::of(legal.iter().cloned());
        Self { legal, usual, moved: BTreeMap::new() }
    }

    /// Each slot in `copies` of the legal regions, chosen by rendezvous: when a region comes
    /// or goes, only the slots that gain or lose it change.
    ///
    /// # Errors
    ///
    /// When the law leaves fewer regions than copies (F37): copies of one region in two zones
    /// are a matter of its own replicas.
    pub fn spread(
        legal: impl IntoIterator<Item = RegionId>,
        copies: usize,
    ) -> Result<Self, ShardError> {
        let legal: BTreeSet<RegionId> = legal.into_iter().collect();
        if copies == 0 || copies > legal.len() {
            return Err(ShardError::TooFewRegions { legal: legal.len(), copies });
        }
        let chosen = |slot: Slot| {
            let mut ranked: Vec<_> = legal
                .iter()
                .map(|region| {
                    (mix(hash(region.as_str().as_bytes()) ^ u64::from(slot)), region)
                })
                .collect();
            ranked.sort();
            Placement::of(
                ranked.into_iter().take(copies).map(|(_, region)| region.clone()),
            )
        };
        let usual = chosen(0);
        let moved = (0..=Slot::MAX)
            .map(|slot| (slot, chosen(slot)))
            .filter(|(_, placement)| *placement != usual)
            .collect();
        Ok(Self { legal, usual, moved })
    }

    /// Where a slot is.
    #[must_use]
    pub fn placement(&self, slot: Slot) -> &Placement {
        self.moved.get(&slot).unwrap_or(&self.usual)
    }

    /// The placements that occur, the usual one first.
    pub fn placements(&self) -> impl Iterator<Item = &Placement> {
        std::iter::once(&self.usual).chain(self.moved.values())
    }

    fn check(&self, name: &JurisdictionName) -> Result<(), ShardError> {
        for placement in self.placements() {
            if placement.voters.is_empty() {
                return Err(ShardError::NoVoter { jurisdiction: name.clone() });
            }
            if let Some(region) =
                placement.regions().find(|region| !self.legal.contains(*region))
            {
                return Err(ShardError::Outside {
                    jurisdiction: name.clone(),
                    region: region.clone(),
                });
            }
        }
        Ok(())
    }
}

/// Where every key of the federation is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMap {
    /// The areas of law.
    pub jurisdictions: BTreeMap<JurisdictionName, Jurisdiction>,
}

impl ShardMap {
    /// One area of law that is everywhere.
    #[must_use]
    pub fn single(
        name: JurisdictionName,
        regions: impl IntoIterator<Item = RegionId>,
    ) -> Self {
        Self {
            jurisdictions: BTreeMap::from([(name, Jurisdiction::everywhere(regions))]),
        }
    }

    /// Whether every slot has a voter and none is outside its law.
    ///
    /// # Errors
    ///
    /// Names the first that is not right.
    pub fn check(&self) -> Result<(), ShardError> {
        if self.jurisdictions.len() > JURISDICTIONS_MAX {
            return Err(ShardError::TooMany {
                count: self.jurisdictions.len(),
                max: JURISDICTIONS_MAX,
            });
        }
        self.jurisdictions
            .iter()
            .try_for_each(|(name, jurisdiction)| jurisdiction.check(name))
    }
}

/// Why keys cannot be placed so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// More copies than legal regions.
    #[error(
        "{copies} copies cannot be kept in {legal} legal regions; ask for at most {legal}, or replicate over the zones of a region"
    )]
    TooFewRegions {
        /// How many regions the law leaves.
        legal: usize,
        /// How many copies were asked for.
        copies: usize,
    },
    /// A slot that nobody votes on.
    #[error(
        "jurisdiction {jurisdiction}: a slot has no voting region; name at least one"
    )]
    NoVoter {
        /// Which area.
        jurisdiction: JurisdictionName,
    },
    /// A slot outside the law.
    #[error(
        "jurisdiction {jurisdiction}: region {region} holds a slot and is not legal; add it to the legal regions or take the slot away"
    )]
    Outside {
        /// Which area.
        jurisdiction: JurisdictionName,
        /// The region outside it.
        region: RegionId,
    },
    /// Too many areas.
    #[error("there are {count} jurisdictions, more than the {max} allowed")]
    TooMany {
        /// How many.
        count: usize,
        /// How many there may be.
        max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions(names: &[&str]) -> Vec<RegionId> {
        names.iter().map(|name| RegionId::new(name).unwrap()).collect()
    }

    #[test]
    fn segments_keep_a_tenant_together() {
        let by = ShardBy::Segments(1);
        assert_eq!(slot_of("acme/vm/1", by), slot_of("acme/disk/2", by));
        assert_ne!(slot_of("acme/vm/1", by), slot_of("other/vm/1", by));
        assert_eq!(slot_of("acme", by), slot_of("acme/x", by));
        let two = ShardBy::Segments(2);
        assert_eq!(slot_of("acme/vm/1", two), slot_of("acme/vm/2", two));
    }

    #[test]
    fn slots_are_spread_evenly_and_a_new_region_takes_only_its_share() {
        let before = Jurisdiction::spread(regions(&["a", "b", "c", "d"]), 3).unwrap();
        let after = Jurisdiction::spread(regions(&["a", "b", "c", "d", "e"]), 3).unwrap();
        let newcomer = RegionId::new("e").unwrap();
        let mut held = 0;
        for slot in 0..=Slot::MAX {
            let (old, new) = (before.placement(slot), after.placement(slot));
            held += usize::from(new.holds(&newcomer));
            let gone = old.voters.difference(&new.voters).count();
            assert_eq!(gone, usize::from(new.holds(&newcomer)), "slot {slot}");
        }
        let fair = SLOTS * 3 / 5;
        assert!((fair - 40..fair + 40).contains(&held), "{held} of {SLOTS}");
    }

    #[test]
    fn more_copies_than_the_law_allows_are_refused() {
        let error = Jurisdiction::spread(regions(&["a", "b"]), 3).unwrap_err();
        assert_eq!(error, ShardError::TooFewRegions { legal: 2, copies: 3 });
    }

    #[test]
    fn a_slot_outside_its_law_is_refused() {
        let mut area = Jurisdiction::everywhere(regions(&["a", "b"]));
        area.moved.insert(7, Placement::of(regions(&["a", "x"])));
        let map = ShardMap { jurisdictions: BTreeMap::from([("eu".into(), area)]) };
        assert!(matches!(map.check(), Err(ShardError::Outside { .. })));
    }
}
