//! The membership as one replica uses it: sets of replicas as bits, and for every key its class.
//!
//! Keys with the same placement are of one *class*: the same replicas may hold them and the
//! same majorities decide about them. There are few classes, so whatever is asked for each
//! write (who may see it, is that a majority) is a table and some bit operations.

use std::collections::BTreeMap;
use std::sync::Arc;

use dwcp_types::RegionId;

use crate::clock::ReplicaId;
use crate::membership::{Member, Membership, Phase};
use crate::policy::Policy;
use crate::shard::{Placement, SLOTS, slot_of};

/// A set of replicas: bit i is the i-th of the members in order.
pub(crate) type Mask = u64;

/// Numbers the classes of a view.
pub(crate) type ClassId = u16;

/// Replicas that hold the same keys and decide about them together.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    /// Where they are.
    pub(crate) placement: Placement,
    /// Every replica that may hold the keys.
    pub(crate) holders: Mask,
    /// The regions that vote.
    voters: Vec<Region>,
}

/// The active replicas of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    active: Mask,
}

impl Region {
    /// How many of them are a majority.
    pub(crate) const fn need(self) -> usize {
        self.active.count_ones() as usize / 2 + 1
    }

    /// How many of them are among `replicas`.
    pub(crate) const fn have(self, replicas: Mask) -> usize {
        (self.active & replicas).count_ones() as usize
    }

    /// Whether a majority of them is among `replicas`.
    pub(crate) const fn reached(self, replicas: Mask) -> bool {
        self.have(replicas) >= self.need()
    }

    /// The replicas.
    pub(crate) const fn active(self) -> Mask {
        self.active
    }
}

impl Class {
    /// How many voting regions must answer.
    pub(crate) const fn need(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// In how many voting regions a majority is among `replicas`.
    pub(crate) fn have(&self, replicas: Mask) -> usize {
        self.voters.iter().filter(|region| region.reached(replicas)).count()
    }

    /// Whether a majority of the regions is reached, each by a majority of its replicas.
    pub(crate) fn reached(&self, replicas: Mask) -> bool {
        self.have(replicas) >= self.need()
    }

    /// The replicas that vote.
    pub(crate) fn voters(&self) -> Mask {
        self.voters.iter().fold(0, |mask, region| mask | region.active)
    }
}

/// A membership, made ready for one of its replicas.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) membership: Arc<Membership>,
    /// The members in order.
    ids: Vec<ReplicaId>,
    /// Who this is.
    me: ReplicaId,
    /// Its own region.
    home: Region,
    classes: Vec<Class>,
    /// For each jurisdiction the class of each slot.
    slots: Vec<Vec<ClassId>>,
    /// For each policy its jurisdiction.
    jurisdictions: Vec<usize>,
    /// For each member what it may see: members with equal numbers may see the same.
    sights: Vec<u16>,
}

impl View {
    /// The view of `me`.
    pub(crate) fn new(membership: Arc<Membership>, me: ReplicaId) -> Self {
        let ids: Vec<ReplicaId> = membership.members.keys().copied().collect();
        let mut view = Self {
            ids,
            me,
            home: Region { active: 0 },
            classes: Vec::new(),
            slots: Vec::new(),
            jurisdictions: Vec::new(),
            sights: Vec::new(),
            membership,
        };
        if let Some(region) = view.region().cloned() {
            view.home = view.voting(&region);
        }
        view.classify();
        view.sights = view.sights();
        view
    }

    fn sights(&self) -> Vec<u16> {
        let mut known: BTreeMap<Vec<bool>, u16> = BTreeMap::new();
        let mut sights = Vec::with_capacity(self.ids.len());
        for index in 0..self.ids.len() {
            let sees = self.classes.iter().map(|class| class.holders & (1 << index) != 0);
            let next = u16::try_from(known.len()).unwrap_or(u16::MAX);
            sights.push(*known.entry(sees.collect()).or_insert(next));
        }
        sights
    }

    /// A number that members share who may see the same.
    pub(crate) fn sight(&self, replica: ReplicaId) -> u16 {
        let index = self.ids.binary_search(&replica).ok();
        index.and_then(|index| self.sights.get(index)).copied().unwrap_or(u16::MAX)
    }

    fn classify(&mut self) {
        let membership = Arc::clone(&self.membership);
        let mut known: BTreeMap<&Placement, ClassId> = BTreeMap::new();
        let mut places = BTreeMap::new();
        for (name, jurisdiction) in &membership.shards.jurisdictions {
            let mut class_of = |placement| {
                *known.entry(placement).or_insert_with(|| {
                    self.classes.push(self.class(placement));
                    ClassId::try_from(self.classes.len() - 1).unwrap_or(ClassId::MAX)
                })
            };
            // Most slots are where it is usual, and to compare that costs its names each time.
            let usual = class_of(&jurisdiction.usual);
            let mut slots = vec![usual; SLOTS];
            for (slot, placement) in &jurisdiction.moved {
                slots[usize::from(*slot)] = class_of(placement);
            }
            places.insert(name, self.slots.len());
            self.slots.push(slots);
        }
        for (_, policy) in membership.policies.iter() {
            let place = places.get(&policy.jurisdiction).copied().unwrap_or(usize::MAX);
            self.jurisdictions.push(place);
        }
    }

    fn class(&self, placement: &Placement) -> Class {
        let holders = self.mask(|member| placement.holds(&member.region));
        let voters = placement.voters.iter().map(|region| self.voting(region));
        let voters = voters.filter(|region| region.active != 0).collect();
        Class { placement: placement.clone(), holders, voters }
    }

    fn voting(&self, region: &RegionId) -> Region {
        let active =
            self.mask(|member| member.phase == Phase::Active && member.region == *region);
        Region { active }
    }

    fn mask(&self, wanted: impl Fn(&Member) -> bool) -> Mask {
        let members = self.membership.members.values().enumerate();
        members
            .filter(|(_, member)| wanted(member))
            .fold(0, |mask, (bit, _)| mask | 1 << bit)
    }

    /// The epoch.
    pub(crate) fn epoch(&self) -> u64 {
        self.membership.epoch
    }

    /// The record of this replica.
    pub(crate) fn own(&self) -> Option<&Member> {
        self.membership.members.get(&self.me)
    }

    /// Its own region.
    pub(crate) fn region(&self) -> Option<&RegionId> {
        self.own().map(|member| &member.region)
    }

    /// The active replicas of its own region.
    pub(crate) const fn home(&self) -> Region {
        self.home
    }

    /// The bit of a member.
    pub(crate) fn bit(&self, replica: ReplicaId) -> Option<Mask> {
        self.ids.binary_search(&replica).ok().map(|index| 1 << index)
    }

    /// All members.
    pub(crate) fn everybody(&self) -> Mask {
        self.mask(|_| true)
    }

    /// The members of a set.
    pub(crate) fn members(&self, mask: Mask) -> impl Iterator<Item = ReplicaId> + '_ {
        let all = self.ids.iter().enumerate();
        all.filter(move |(index, _)| mask & (1 << index) != 0).map(|(_, id)| *id)
    }

    /// The other members.
    pub(crate) fn others(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.ids.iter().copied().filter(|id| *id != self.me)
    }

    /// The policy of a key and where it is among the policies.
    pub(crate) fn policy(&self, key: &str) -> Option<(u16, &Policy)> {
        let place = self.membership.policies.find(key)?;
        let policy = self.membership.policies.at(place)?;
        Some((u16::try_from(place).ok()?, policy))
    }

    /// The policy at a place.
    pub(crate) fn policy_at(&self, place: u16) -> Option<&Policy> {
        self.membership.policies.at(usize::from(place))
    }

    /// The class of a key of a policy.
    pub(crate) fn class_of(&self, key: &str, place: u16) -> Option<ClassId> {
        let policy = self.policy_at(place)?;
        let jurisdiction = *self.jurisdictions.get(usize::from(place))?;
        let slots = self.slots.get(jurisdiction)?;
        slots.get(usize::from(slot_of(key, policy.shard_by))).copied()
    }

    /// A class.
    pub(crate) fn at(&self, class: ClassId) -> Option<&Class> {
        self.classes.get(usize::from(class))
    }

    /// Whether a replica may hold the keys of a class.
    pub(crate) fn holds(&self, replica: ReplicaId, class: ClassId) -> bool {
        let holders = self.at(class).map_or(0, |class| class.holders);
        self.bit(replica).is_some_and(|bit| holders & bit != 0)
    }

    /// The classes that this replica may hold and some other member too.
    pub(crate) fn held_with_others(&self) -> impl Iterator<Item = ClassId> + '_ {
        let own = self.bit(self.me).unwrap_or(0);
        let classes = self.classes.iter().zip(0..);
        classes
            .filter(move |(class, _)| {
                class.holders & own != 0 && class.holders & !own != 0
            })
            .map(|(_, id)| id)
    }
}
