//! Where a request or a connection is sent, best first.

use std::iter::Peekable;
use std::sync::Arc;
use std::vec;

use dwcp_router::{Decision, Path, Table};
use dwcp_types::RegionId;

use super::pool::Pool;

/// Attempts at a request or a connection: a decision and its fallbacks.
pub(super) const ATTEMPTS_MAX: usize = 4;
/// This region's servers that are tried before another region is.
const OWN_MAX: usize = 3;
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

/// Who answers at a hop, and its place among this region's servers when it is one of those.
pub(super) type Who = (Arc<Pool>, Option<usize>);

/// Whom to try next, best first: at most [`OWN_MAX`] of this region's servers, none of them twice.
pub(super) struct Tries {
    hops: Peekable<vec::IntoIter<Hop>>,
    /// This region's servers that were tried, as bits.
    tried: u64,
    own: usize,
}

impl Tries {
    pub(super) fn of(hops: Vec<Hop>) -> Self {
        Self { hops: hops.into_iter().peekable(), tried: 0, own: 0 }
    }

    /// The next one, of those whom `who` finds at a hop beside the servers that were tried.
    pub(super) fn next(
        &mut self,
        who: impl Fn(&Hop, u64) -> Option<Who>,
    ) -> Option<(Hop, Who)> {
        loop {
            let found = who(self.hops.peek()?, self.tried);
            if let Some(at) = found.as_ref().and_then(|(_, at)| *at) {
                self.tried |= 1 << at;
                self.own += 1;
                if self.own < OWN_MAX {
                    return self.hops.peek().cloned().zip(found);
                }
            }
            let hop = self.hops.next()?;
            if let Some(found) = found {
                return Some((hop, found));
            }
        }
    }
}
