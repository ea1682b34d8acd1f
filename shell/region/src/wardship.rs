//! What a configuration says of leases and liveness, in the terms of the cores.

use std::collections::{BTreeMap, BTreeSet};

use dwcp_controller::lease::Terms;
use dwcp_controller::liveness::{EngineReach, Policy, Timing};
use dwcp_types::RegionId;

use crate::config::{EngineChoice, Federation};
use crate::warden::engine_reach;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Wardship {
    pub(crate) terms: Terms,
    pub(crate) timing: Timing,
    pub(crate) policy: Policy,
    /// Every region that is enabled.
    pub(crate) regions: BTreeSet<RegionId>,
    pub(crate) reach: BTreeMap<RegionId, EngineReach>,
}

impl Wardship {
    /// Nothing where failover is off: then no lease is kept, and no guest is bound to one.
    pub(crate) fn of(federation: &Federation) -> Option<Self> {
        let failover = &federation.failover;
        let timing = &failover.timing;
        // The configuration was checked for this when it was read.
        let terms = timing.terms()?;
        let specs = federation.regions.iter();
        let regions: BTreeSet<_> = specs
            .filter(|spec| spec.region.enabled)
            .map(|it| it.region.id.clone())
            .collect();
        let members = match federation.engine.choice() {
            EngineChoice::Embedded { host } => vec![host.clone()],
            EngineChoice::Etcd(etcd) => {
                etcd.voters.iter().map(|voter| voter.region.clone()).collect()
            }
        };
        let homes: BTreeSet<_> = members.iter().collect();
        let etcd = matches!(federation.engine.choice(), EngineChoice::Etcd(_));
        failover.enabled.then(|| Self {
            terms,
            timing: Timing {
                interval: timing.heartbeat_interval,
                misses: timing.heartbeat_misses,
            },
            policy: Policy {
                enabled: failover.enabled,
                automatic: failover.auto_failover,
                spread: etcd && homes.len() * 2 > regions.len(),
                needs_approval: failover.require_manual_approval,
                min_healthy: failover.min_healthy_regions,
            },
            reach: engine_reach(&regions, &members),
            regions,
        })
    }
}
