//! Where the decision plugs in: the placement core on the coordinator's late view, or a test's
//! own, to show that the region decides for itself whatever it is proposed.

use std::collections::BTreeSet;

use dwcp_controller::ledger::Proposal;
use dwcp_controller::placement::{Fleet, Policy, decide, plan_preemption};
use dwcp_types::{FleetView, HostId, PlacementRequest, RegionId, VmId, ZoneId};

/// A region to try, with the place in it that the decision had in mind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The region.
    pub region: RegionId,
    /// The place.
    pub proposal: Proposal,
    /// Who makes room there.
    pub victims: BTreeSet<VmId>,
}

impl Proposed {
    /// A place that is free.
    #[must_use]
    pub const fn at(region: RegionId, zone: ZoneId, host: HostId) -> Self {
        let proposal = Proposal { zone: Some(zone), host: Some(host) };
        Self { region, proposal, victims: BTreeSet::new() }
    }
}

/// Decides, on a late view, which regions to try and in which order.
pub trait Choose {
    /// The regions to try, the best first; none when nothing fits.
    fn choose(&self, view: &FleetView, request: &PlacementRequest) -> Vec<Proposed>;

    /// Where less urgent VMs would make room; nothing when nobody may be stopped.
    fn displace(&self, view: &FleetView, request: &PlacementRequest) -> Option<Proposed>;
}

/// The placement core.
#[derive(Clone, Copy, Debug)]
pub struct Placement(pub Policy);

impl Default for Placement {
    /// With everything that it can do.
    fn default() -> Self {
        Self(Policy { preemption: true, ..Policy::default() })
    }
}

impl Choose for Placement {
    fn choose(&self, view: &FleetView, request: &PlacementRequest) -> Vec<Proposed> {
        let decision = decide(&Fleet::new(view), request, &self.0);
        let chosen = decision.chosen.into_iter();
        let chosen = chosen.map(|it| Proposed::at(it.region, it.zone, it.host));
        let others = decision.alternatives.into_iter();
        let others = others.map(|it| Proposed::at(it.region, it.zone, it.host));
        chosen.chain(others).collect()
    }

    fn displace(&self, view: &FleetView, request: &PlacementRequest) -> Option<Proposed> {
        let plan = plan_preemption(&Fleet::new(view), request, &self.0)?;
        let victims = plan.victims.into_iter().map(|victim| victim.vm).collect();
        Some(Proposed { victims, ..Proposed::at(plan.region, plan.zone, plan.host) })
    }
}
