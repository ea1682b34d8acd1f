//! The parts that place VMs, put together.

use std::sync::Arc;

use super::Core;
use crate::capacity::CapacityPlanner;
use crate::claims::Claims;
use crate::place::Placer;
use crate::preempt::Preemptor;

impl Core {
    pub(super) fn claims(&self) -> Arc<Claims> {
        Arc::new(Claims {
            region: self.region.clone(),
            own: self.reservations.clone(),
            peers: self.peers.clone(),
        })
    }

    pub(super) fn placer(&self) -> Placer {
        let claims = self.claims();
        Placer {
            fleet: self.fleet.clone(),
            policy: self.policy,
            engine: self.engine.clone(),
            mirror: self.mirror.clone(),
            claims: claims.clone(),
            preemptor: Preemptor {
                lifecycle: self.lifecycle(),
                fleet: self.fleet.clone(),
                policy: self.policy,
                mirror: self.mirror.clone(),
                claims,
            },
            capacity: self.capacity(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        }
    }

    pub(super) fn capacity(&self) -> CapacityPlanner {
        CapacityPlanner {
            fleet: self.fleet.clone(),
            mirror: self.mirror.clone(),
            policy: self.policy,
        }
    }
}
