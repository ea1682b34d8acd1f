//! Where the members of each affinity group are, counted by host, zone and region (F30).
//!
//! A VM that is placed again (moved, failed over) does not count against itself. Rejected:
//! counting every rule from the list of VMs at each decision, which is linear in the fleet.

use std::collections::BTreeMap;

use dwcp_types::{Affinity, AffinityMode, Scope};

/// Where a VM is, by index; nothing where the view does not know the place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) region: Option<usize>,
    pub(crate) zone: Option<usize>,
    pub(crate) host: Option<usize>,
}

/// The members of one group that are placed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    total: u32,
    hosts: BTreeMap<usize, u32>,
    zones: BTreeMap<usize, u32>,
    pub(crate) regions: BTreeMap<usize, u32>,
}

impl Members {
    /// Counts one more member.
    pub(crate) fn add(&mut self, spot: Spot) {
        self.total = self.total.saturating_add(1);
        let places = [
            (&mut self.hosts, spot.host),
            (&mut self.zones, spot.zone),
            (&mut self.regions, spot.region),
        ];
        for (counts, place) in places {
            if let Some(place) = place {
                *counts.entry(place).or_default() += 1;
            }
        }
    }

    /// Counts one member less. Says whether none is left.
    pub(crate) fn remove(&mut self, spot: Spot) -> bool {
        self.total = self.total.saturating_sub(1);
        let places = [
            (&mut self.hosts, spot.host),
            (&mut self.zones, spot.zone),
            (&mut self.regions, spot.region),
        ];
        for (counts, place) in places {
            let Some(place) = place else { continue };
            if let Some(count) = counts.get_mut(&place) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&place);
                }
            }
        }
        self.total == 0
    }
}

/// A rule of the request with the members that it looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuleView<'a> {
    /// The rule.
    pub(crate) rule: &'a Affinity,
    /// The members; nothing when none is placed.
    pub(crate) members: Option<&'a Members>,
    /// Where the VM itself is, when it is placed already and is a member.
    pub(crate) me: Option<Spot>,
}

impl RuleView<'_> {
    /// Members other than the VM itself.
    pub(crate) fn total(&self) -> u32 {
        let all = self.members.map_or(0, |members| members.total);
        all.saturating_sub(u32::from(self.me.is_some()))
    }

    /// Other members in a region.
    pub(crate) fn in_region(&self, region: usize) -> u32 {
        let all = self.members.and_then(|members| members.regions.get(&region));
        self.others(all, self.me.and_then(|me| me.region) == Some(region))
    }

    /// Other members within the rule's scope around a host.
    fn near(&self, region: usize, zone: usize, host: usize) -> u32 {
        let Some(members) = self.members else { return 0 };
        let me = self.me.unwrap_or_default();
        match self.rule.scope {
            Scope::Host => self.others(members.hosts.get(&host), me.host == Some(host)),
            Scope::Zone => self.others(members.zones.get(&zone), me.zone == Some(zone)),
            Scope::Region => self.in_region(region),
        }
    }

    fn others(&self, all: Option<&u32>, me: bool) -> u32 {
        all.copied().unwrap_or(0).saturating_sub(u32::from(me && self.me.is_some()))
    }

    /// Whether the rule holds for a VM on this host.
    pub(crate) fn holds(&self, region: usize, zone: usize, host: usize) -> bool {
        let near = self.near(region, zone, host);
        match self.rule.mode {
            AffinityMode::Together => near == self.total(),
            AffinityMode::Apart => near == 0,
        }
    }

    /// Whether the rule holds everywhere in a region where no member is.
    pub(crate) fn holds_untouched(&self) -> bool {
        match self.rule.mode {
            AffinityMode::Together => self.total() == 0,
            AffinityMode::Apart => true,
        }
    }
}
