//! Where the decision plugs in.

use dwcp_controller::host_refusal;
use dwcp_controller::ledger::Proposal;
use dwcp_types::{Capacity, FleetView, PlacementRequest, RegionId};

/// A region to try, with the place in it that the decision had in mind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The region.
    pub region: RegionId,
    /// The place.
    pub proposal: Proposal,
}

/// Decides, on a late view, which regions to try and in which order.
pub trait Choose {
    /// The regions to try, the best first; none when nothing fits.
    fn choose(&self, view: &FleetView, request: &PlacementRequest) -> Vec<Proposed>;
}

/// The tightest host first, one a region. Stands in for the placement decision: it piles VMs
/// up, so that regions run full and refuse.
#[derive(Clone, Copy, Debug, Default)]
pub struct BestFit;

impl Choose for BestFit {
    fn choose(&self, view: &FleetView, request: &PlacementRequest) -> Vec<Proposed> {
        let need = Capacity::of(&request.shape);
        let mut fitting: Vec<_> = view
            .regions
            .iter()
            .filter_map(|region| {
                let open = region.hosts.iter().filter(|host| {
                    host_refusal(host.schedulable, &host.free, &need).is_none()
                });
                let host = open.min_by_key(|host| (host.free.cpu, host.id.clone()))?;
                Some((host.free.cpu, region.region.id.clone(), host))
            })
            .collect();
        fitting.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let proposed =
            |(_, region, host): (u64, RegionId, &dwcp_types::HostView)| Proposed {
                region,
                proposal: Proposal {
                    zone: Some(host.zone.clone()),
                    host: Some(host.id.clone()),
                },
            };
        fitting.into_iter().map(proposed).collect()
    }
}
