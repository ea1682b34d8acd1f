//! Which regions hold a key.
//!
//! Two steps, so that neither can break the other (F45, F46): the policy's *jurisdiction* says
//! which regions may have a byte of it at all, and the key's *slot* says which of those do.
//! The jurisdiction decides law, the slot spreads load. A slot moves by epochs of the
//! membership: a region is first a learner of it, which receives but does not vote, then a
//! voter, and then the region that it leaves stops. What is wanted is written down, and whoever
//! sees that slots are elsewhere takes the next step ([`Wanted`], [`Jurisdiction::stepped`]).
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
/// Most of them whose slots are spread: where those of each are is some 20 KB of one record.
pub const SPREAD_MAX: usize = 32;

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

impl ShardBy {
    /// What is one tenant's is together.
    pub const TENANT: Self = Self::Segments(1);
    /// What is of one tenant and one type is together.
    pub const TYPE: Self = Self::Segments(2);
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

    /// One step nearer to these voters: those that are missing learn, all at once; then one of
    /// them votes; then one that is not wanted stops. Nothing when it is there.
    #[must_use]
    pub fn toward(&self, wanted: &BTreeSet<RegionId>) -> Option<Self> {
        let mut next = self.clone();
        let missing: Vec<_> = wanted.iter().filter(|it| !self.holds(it)).collect();
        if !missing.is_empty() {
            next.learners.extend(missing.into_iter().cloned());
        } else if let Some(region) = wanted.intersection(&self.learners).next() {
            next.learners.remove(region);
            next.voters.insert(region.clone());
        } else if let Some(region) = self.voters.difference(wanted).next() {
            next.voters.remove(region);
        } else {
            next.learners.clear();
        }
        (next != *self).then_some(next)
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

/// Where the slots of an area are to be, which is where they are when all steps are taken.
///
/// No part of the area itself: replicas follow where slots are, and whoever takes the steps
/// follows what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The regions that may have a byte of it; when empty, every one that votes.
    pub legal: BTreeSet<RegionId>,
    /// In how many of those that vote each slot is, chosen by rendezvous: when a region comes
    /// or goes, only the slots that gain or lose it change.
    pub copies: usize,
    /// Slots whose regions somebody chose; as long as all of these vote.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pinned: BTreeMap<Slot, BTreeSet<RegionId>>,
}

impl Wanted {
    /// Each slot in `copies` of the legal regions, of which these vote.
    ///
    /// # Errors
    ///
    /// When there are fewer regions than copies (F37): copies of one region in two zones are a
    /// matter of its own replicas.
    pub fn spread(
        legal: BTreeSet<RegionId>,
        copies: usize,
        voting: &BTreeSet<RegionId>,
    ) -> Result<Self, ShardError> {
        let wanted = Self { legal, copies, pinned: BTreeMap::new() };
        let legal = wanted.open_to(voting).count();
        if copies == 0 || copies > legal {
            return Err(ShardError::TooFewRegions { legal, copies });
        }
        Ok(wanted)
    }

    /// The regions that may hold it and vote.
    pub fn open_to<'a>(
        &'a self,
        voting: &'a BTreeSet<RegionId>,
    ) -> impl Iterator<Item = &'a RegionId> {
        let is_legal = |it: &&RegionId| self.legal.is_empty() || self.legal.contains(*it);
        voting.iter().filter(is_legal)
    }

    /// The regions that are to hold a slot. One that does not vote (it was evicted, or is not
    /// whole yet) is left out, and its slots are to be elsewhere meanwhile.
    #[must_use]
    pub fn regions(&self, slot: Slot, voting: &BTreeSet<RegionId>) -> BTreeSet<RegionId> {
        let pinned = self.pinned.get(&slot);
        if let Some(pinned) = pinned.filter(|it| it.is_subset(voting)) {
            return pinned.clone();
        }
        let rank =
            |region: &RegionId| mix(hash(region.as_str().as_bytes()) ^ u64::from(slot));
        let mut ranked: Vec<_> =
            self.open_to(voting).map(|region| (rank(region), region)).collect();
        ranked.sort();
        let chosen = ranked.into_iter().take(self.copies);
        chosen.map(|(_, region)| region.clone()).collect()
    }

    /// A slot is to leave a region for another.
    ///
    /// # Errors
    ///
    /// When it is not to be in the one, or is in the other already, or that one may not have it
    /// or has no replica that votes.
    pub fn pin(
        &mut self,
        slot: Slot,
        (from, to): (&RegionId, &RegionId),
        voting: &BTreeSet<RegionId>,
    ) -> Result<(), ShardError> {
        if !self.open_to(voting).any(|it| it == to) {
            return Err(ShardError::NotLegal { region: to.clone() });
        }
        let mut regions = self.regions(slot, voting);
        if !regions.remove(from) {
            return Err(ShardError::NotThere { slot, region: from.clone() });
        }
        if !regions.insert(to.clone()) {
            return Err(ShardError::There { slot, region: to.clone() });
        }
        self.pinned.insert(slot, regions);
        Ok(())
    }

    /// The area with every slot where it is to be.
    #[must_use]
    pub fn area(&self, voting: &BTreeSet<RegionId>) -> Jurisdiction {
        let mut area = Jurisdiction::everywhere(self.open_to(voting).cloned());
        area.usual = Placement::of(self.regions(0, voting));
        for slot in 0..=Slot::MAX {
            area.put(slot, Placement::of(self.regions(slot, voting)));
        }
        area
    }
}

impl Jurisdiction {
    /// Every legal region holds every slot.
    #[must_use]
    pub fn everywhere(legal: impl IntoIterator<Item = RegionId>) -> Self {
        let legal: BTreeSet<RegionId> = legal.into_iter().collect();
        let usual = Placement::of(legal.iter().cloned());
        Self { legal, usual, moved: BTreeMap::new() }
    }

    /// The area with every slot one step nearer to where it is to be, and legal where it may be
    /// or still is. Nothing when all are there.
    #[must_use]
    pub fn stepped(&self, wanted: &Wanted, voting: &BTreeSet<RegionId>) -> Option<Self> {
        let mut next = self.clone();
        for slot in 0..=Slot::MAX {
            let wanted = wanted.regions(slot, voting);
            if wanted.is_empty() {
                continue;
            }
            if let Some(step) = self.placement(slot).toward(&wanted) {
                next.put(slot, step);
            }
        }
        next.tidy();
        next.allow(wanted, voting);
        (next != *self).then_some(next)
    }

    /// Forgets where slots usually are when none is there any more.
    fn tidy(&mut self) {
        if self.moved.len() < SLOTS {
            return;
        }
        let Some(usual) = self.moved.values().next().cloned() else { return };
        self.moved.retain(|_, placement| *placement != usual);
        self.usual = usual;
    }

    /// Legal is where slots may be, and where they are until they have left.
    pub fn allow(&mut self, wanted: &Wanted, voting: &BTreeSet<RegionId>) {
        let held = self.placements().flat_map(Placement::regions).cloned();
        self.legal = held.chain(wanted.open_to(voting).cloned()).collect();
    }

    fn put(&mut self, slot: Slot, placement: Placement) {
        if placement == self.usual {
            self.moved.remove(&slot);
        } else {
            self.moved.insert(slot, placement);
        }
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

    pub(crate) fn check(&self, name: &JurisdictionName) -> Result<(), ShardError> {
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
    /// A region that the law excludes.
    #[error(
        "region {region} may not hold it, or has no replica that votes; see which: `state shards`"
    )]
    NotLegal {
        /// Which region.
        region: RegionId,
    },
    /// A slot that is not there.
    #[error(
        "slot {slot} is not in {region}; see where a key's is: `state shards --key KEY`"
    )]
    NotThere {
        /// Which slot.
        slot: Slot,
        /// Not in which region.
        region: RegionId,
    },
    /// A slot that is there already.
    #[error("slot {slot} is in {region} already; name another region")]
    There {
        /// Which slot.
        slot: Slot,
        /// In which region.
        region: RegionId,
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

    fn set(names: &[&str]) -> BTreeSet<RegionId> {
        regions(names).into_iter().collect()
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
        let wanted =
            Wanted::spread(BTreeSet::new(), 3, &set(&["a", "b", "c", "d"])).unwrap();
        let before = wanted.area(&set(&["a", "b", "c", "d"]));
        let after = wanted.area(&set(&["a", "b", "c", "d", "e"]));
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
        let error =
            Wanted::spread(set(&["a", "b", "x"]), 3, &set(&["a", "b"])).unwrap_err();
        assert_eq!(error, ShardError::TooFewRegions { legal: 2, copies: 3 });
    }

    #[test]
    fn slots_step_to_where_they_are_wanted_and_are_never_fewer_than_they_are_to_be() {
        let all = set(&["a", "b", "c", "d", "e"]);
        let mut area = Jurisdiction::everywhere(all.clone());
        let mut wanted = Wanted::spread(BTreeSet::new(), 3, &all).unwrap();
        assert_eq!(walk(&mut area, (&wanted, &all), 3), 2);
        let slots = |area: &Jurisdiction| -> Vec<Placement> {
            (0..=Slot::MAX).map(|slot| area.placement(slot).clone()).collect()
        };
        assert_eq!(slots(&area), slots(&wanted.area(&all)));
        let was = wanted.regions(7, &all);
        let from = was.first().unwrap();
        let to = all.difference(&was).next().unwrap();
        let there = was.last().unwrap();
        let error = wanted.pin(7, (from, there), &all).unwrap_err();
        assert!(matches!(error, ShardError::There { .. }));
        let error = wanted.pin(7, (to, from), &all).unwrap_err();
        assert!(matches!(error, ShardError::NotThere { .. }));
        wanted.pin(7, (from, to), &all).unwrap();
        let steps = walk(&mut area, (&wanted, &all), 3);
        assert_eq!(steps, 3, "it learns, it votes, one stops");
        assert!(area.placement(7).voters.contains(to));
        assert!(!area.placement(7).holds(from));
        wanted.copies = 4;
        wanted.pinned.clear();
        walk(&mut area, (&wanted, &all), 3);
        assert!((0..=Slot::MAX).all(|slot| area.placement(slot).voters.len() == 4));
    }

    #[test]
    fn slots_of_a_region_that_is_put_out_are_made_whole_elsewhere_and_come_back_with_it()
    {
        let (all, left) = (set(&["a", "b", "c", "d"]), set(&["a", "b", "c"]));
        let mut wanted = Wanted::spread(BTreeSet::new(), 2, &all).unwrap();
        let of_d = (0..=Slot::MAX)
            .find(|slot| wanted.regions(*slot, &all) == set(&["a", "d"]))
            .unwrap();
        let (d, b) = (RegionId::new("d").unwrap(), RegionId::new("b").unwrap());
        wanted.pin(of_d, (&RegionId::new("a").unwrap(), &b), &all).unwrap();
        let mut area = wanted.area(&all);
        walk(&mut area, (&wanted, &left), 2);
        assert!(!area.legal.contains(&d), "nothing of it is there any more");
        assert!(area.placements().all(|it| it.voters.len() == 2 && !it.holds(&d)));
        walk(&mut area, (&wanted, &all), 2);
        assert_eq!(area.placement(of_d).voters, set(&["b", "d"]), "as somebody chose");
    }

    /// Takes every step and gives how many there were.
    fn walk(
        area: &mut Jurisdiction,
        (wanted, voting): (&Wanted, &BTreeSet<RegionId>),
        copies: usize,
    ) -> usize {
        let mut steps = 0;
        while let Some(next) = area.stepped(wanted, voting) {
            for slot in 0..=Slot::MAX {
                let (old, new) = (area.placement(slot), next.placement(slot));
                assert!(new.voters.len() >= copies.min(old.voters.len()));
                assert!(old.voters.symmetric_difference(&new.voters).count() <= 1);
                assert!(new.voters.iter().all(|region| old.holds(region)));
            }
            next.check(&"all".into()).unwrap();
            (*area, steps) = (next, steps + 1);
        }
        steps
    }

    #[test]
    fn a_slot_outside_its_law_is_refused() {
        let mut area = Jurisdiction::everywhere(regions(&["a", "b"]));
        area.moved.insert(7, Placement::of(regions(&["a", "x"])));
        let map = ShardMap { jurisdictions: BTreeMap::from([("eu".into(), area)]) };
        assert!(matches!(map.check(), Err(ShardError::Outside { .. })));
    }
}
