//! The parts that keep this region's lease and fail others over, put together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::Core;
use crate::config::{ApprovalConfig, Federation};
use crate::rescue::{Requests, Rescuer, Takers};
use crate::warden::{Seen, Tenure, Warden};
use crate::wardship::Wardship;

/// What these parts share.
#[derive(Debug)]
pub(super) struct Guard {
    /// Leases and liveness, where the configuration has failover.
    pub(super) wardship: Option<Wardship>,
    /// What the warden sees.
    pub(super) seen: watch::Sender<Arc<Seen>>,
    /// A guest waits for its grant.
    wanted: Arc<Notify>,
    /// A failover's log was written.
    written: Arc<Notify>,
    start_budget: Duration,
    approval: ApprovalConfig,
}

impl Guard {
    pub(super) fn of(federation: &Federation) -> Self {
        Self {
            wardship: Wardship::of(federation),
            seen: watch::channel(Arc::default()).0,
            wanted: Arc::default(),
            written: Arc::default(),
            start_budget: federation.failover.timing.start_budget,
            approval: federation.failover.approval,
        }
    }

    /// Says that a guest waits for its grant; nothing where no leases are kept.
    pub(super) fn lease(&self) -> Option<Arc<Notify>> {
        self.wardship.is_some().then(|| self.wanted.clone())
    }
}

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
            wanted: self.guard.wanted.clone(),
            written: self.guard.written.clone(),
            shown: self.guard.seen.clone(),
        }
    }

    /// Who fails regions over, where leases are kept; made anew for each that needs it, because
    /// it has no state.
    pub(super) fn rescuer(&self) -> Option<Arc<Rescuer>> {
        let wardship = self.guard.wardship.as_ref()?;
        Some(Arc::new(Rescuer {
            region: self.region.clone(),
            terms: wardship.terms,
            policy: self.policy,
            start_budget: self.guard.start_budget,
            engine: self.engine.clone(),
            mirror: self.mirror.clone(),
            fleet: self.fleet.clone(),
            world: self.world.clone(),
            seen: self.guard.seen.subscribe(),
            written: self.guard.written.clone(),
            takers: Takers {
                region: self.region.clone(),
                own: self.reservations.clone(),
                peers: self.peers.clone(),
            },
            approval: self.guard.approval,
            requests: Requests { engine: self.engine.clone(), clock: self.clock.clone() },
            events: self.events.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            saga: self.traces.saga("failover"),
        }))
    }
}
