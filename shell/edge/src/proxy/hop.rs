//! Where a request or a connection is sent, best first.

use dwcp_router::{Decision, Path, Table};
use dwcp_types::RegionId;

/// Attempts at a request or a connection: a decision and its fallbacks.
pub(super) const ATTEMPTS_MAX: usize = 4;
/// This region's servers that are tried before another region is.
pub(super) const OWN_MAX: usize = 3;
/// Proxies that are passed after the first: a relay, and the region that is meant.
const HOPS_MAX: u8 = 2;

/// Where it is sent next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// To a server of this region.
    Own,
    /// To a region, by its own proxy or a relay's.
    Region { meant: RegionId, by: RegionId },
}

impl Hop {
    /// To a region, straight.
    pub(super) fn to(region: &RegionId, own: &RegionId) -> Self {
        if region == own {
            Self::Own
        } else {
            Self::Region { meant: region.clone(), by: region.clone() }
        }
    }
}

/// By a decision: the best region, by the relay where there is one, then the others.
pub(super) fn decided(decision: &Decision, table: &Table, own: &RegionId) -> Vec<Hop> {
    let mut hops = Vec::with_capacity(ATTEMPTS_MAX + 1);
    let Some(best) = decision.region_id(table) else { return hops };
    if let Path::Via(relay) = decision.path
        && table.region(relay) != own
        && best != own
    {
        hops.push(Hop::Region { meant: best.clone(), by: table.region(relay).clone() });
    }
    let rest = decision.fallbacks.iter().map(|region| table.region(region));
    hops.extend([best].into_iter().chain(rest).map(|region| Hop::to(region, own)));
    hops
}

/// By another region's order, who has decided; nothing after too many proxies.
pub(super) fn ordered(meant: &RegionId, own: &RegionId, passed: u8) -> Option<Vec<Hop>> {
    if meant == own {
        return Some(vec![Hop::Own]);
    }
    (passed < HOPS_MAX).then(|| vec![Hop::to(meant, own)])
}
