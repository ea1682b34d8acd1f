//! The parts that keep this region's lease and fail others over, put together.

use std::sync::Arc;

use super::Core;
use crate::rescue::{Rescuer, Takers};
use crate::warden::{Tenure, Warden};
use crate::wardship::Wardship;

impl Core {
    pub(super) fn warden(&self, wardship: &Wardship) -> Warden {
        let tenure = Tenure::new(
            self.region.clone(),
            wardship.terms,
            (self.engine.clone(), self.mirror.clone()),
            self.hosts.clone(),
            self.clock.clone(),
        );
        Warden {
            region: self.region.clone(),
            regions: wardship.regions.clone(),
            timing: wardship.timing,
            tenure,
            policy: wardship.policy,
            reach: wardship.reach.clone(),
            peers: self.peers.clone(),
            clock: self.clock.clone(),
            wanted: self.wanted.clone(),
            written: self.written.clone(),
            shown: self.seen.clone(),
        }
    }

    /// Who fails regions over, where leases are kept; made anew for each that needs it, because
    /// it has no state.
    pub(super) fn rescuer(&self) -> Option<Arc<Rescuer>> {
        let wardship = self.wardship.as_ref()?;
        Some(Arc::new(Rescuer {
            region: self.region.clone(),
            terms: wardship.terms,
            policy: self.policy,
            start_budget: self.start_budget,
            engine: self.engine.clone(),
            mirror: self.mirror.clone(),
            fleet: self.fleet.clone(),
            world: self.world.clone(),
            seen: self.seen.subscribe(),
            written: self.written.clone(),
            takers: Takers {
                region: self.region.clone(),
                own: self.reservations.clone(),
                peers: self.peers.clone(),
            },
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        }))
    }
}
