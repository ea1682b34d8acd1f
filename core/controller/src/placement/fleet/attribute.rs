//! For every attribute that a constraint can name: the set of regions that have it.

use std::collections::BTreeMap;

use dwcp_types::{ComplianceZone, Health, HealthState, RegionKind};

use super::RegionRow;
use crate::placement::bits::Bits;
use crate::placement::locality::jurisdictions;

/// Which regions have which attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// All of them.
    pub(crate) all: Bits,
    /// Where new VMs may be placed.
    pub(crate) enabled: Bits,
    /// Healthy or degraded: what is unknown is never healthy (F6).
    pub(crate) accepting: Bits,
    /// Where some host takes VMs.
    pub(crate) hosted: Bits,
    /// Of kind edge (F24).
    pub(crate) edge: Bits,
    pub(crate) compliance: BTreeMap<ComplianceZone, Bits>,
    /// By country, EU and continent (F31).
    pub(crate) jurisdiction: BTreeMap<String, Bits>,
}

/// Whether a region in this state takes new VMs.
pub(crate) const fn accepts(health: Health) -> bool {
    match health.state {
        HealthState::Healthy | HealthState::Degraded => true,
        HealthState::Unknown | HealthState::Unhealthy | HealthState::Maintenance => false,
    }
}

impl Attributes {
    /// Collects them.
    pub(crate) fn of(regions: &[RegionRow]) -> Self {
        let none = Bits::none(regions.len());
        let mut found = Self {
            all: Bits::all(regions.len()),
            enabled: none.clone(),
            accepting: none.clone(),
            hosted: none.clone(),
            edge: none.clone(),
            ..Self::default()
        };
        for (at, row) in regions.iter().enumerate() {
            found.enabled.set(at, row.region.enabled);
            found.accepting.set(at, accepts(row.health));
            found.hosted.set(at, row.schedulable > 0);
            found.edge.set(at, row.region.kind == RegionKind::Edge);
            for law in &row.region.compliance_zones {
                let set = found.compliance.entry(law.clone());
                set.or_insert_with(|| none.clone()).set(at, true);
            }
            for name in jurisdictions(&row.region.location) {
                let set = found.jurisdiction.entry(name);
                set.or_insert_with(|| none.clone()).set(at, true);
            }
        }
        found
    }
}
