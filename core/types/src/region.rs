//! What a region is: where, whose, how big, how dear, and which law it stands under (O2).

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Gib, Mbps, Mib, MicroUsd, Micros, RegionId, VmShape, ZoneId};

/// A point on the earth and the jurisdictions it lies in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// Degrees north, -90 to 90.
    pub latitude: f64,
    /// Degrees east, -180 to 180.
    pub longitude: f64,
    /// ISO 3166 alpha-2 country code.
    pub country: String,
    /// Continent, as the source spells it: `North America`.
    pub continent: String,
}

/// What kind of place a region is (A12). Edge is a kind, not a provider (F24).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RegionKind {
    /// A cloud provider's region.
    #[default]
    Cloud,
    /// A small place near users.
    Edge,
    /// An own data centre, or one joined with a cloud.
    Hybrid,
}

/// A body of law that a region stands under, such as `GDPR` or `HIPAA` (C8.4). Compared
/// without case.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ComplianceZone(String);

impl ComplianceZone {
    /// From its name, in any case.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.trim().to_ascii_uppercase())
    }

    /// Its name in capitals.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for ComplianceZone {
    fn from(name: String) -> Self {
        Self::new(&name)
    }
}

impl From<ComplianceZone> for String {
    fn from(zone: ComplianceZone) -> Self {
        zone.0
    }
}

impl fmt::Display for ComplianceZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ComplianceZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An amount of every resource that is accounted: of a host, of a region, or free of either.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// CPUs, after overcommitment.
    pub cpu: u64,
    /// Memory.
    pub memory: Mib,
    /// Storage.
    pub storage: Gib,
    /// Network bandwidth.
    #[serde(default)]
    pub bandwidth: Mbps,
    /// GPUs.
    #[serde(default)]
    pub gpus: u64,
    /// VM slots; each VM takes one.
    #[serde(default)]
    pub vms: u64,
}

impl Capacity {
    /// What one VM of this shape takes.
    #[must_use]
    pub fn of(shape: &VmShape) -> Self {
        Self {
            cpu: u64::from(shape.cpu),
            memory: shape.memory,
            storage: shape.storage,
            bandwidth: shape.bandwidth,
            gpus: u64::from(shape.gpus),
            vms: 1,
        }
    }

    /// Whether `part` fits in this, in every resource.
    #[must_use]
    pub fn fits(&self, part: &Self) -> bool {
        self.checked_sub(part).is_some()
    }

    /// This without `part`, or nothing when some resource would not reach.
    #[must_use]
    pub fn checked_sub(&self, part: &Self) -> Option<Self> {
        Some(Self {
            cpu: self.cpu.checked_sub(part.cpu)?,
            memory: self.memory.checked_sub(part.memory)?,
            storage: self.storage.checked_sub(part.storage)?,
            bandwidth: self.bandwidth.checked_sub(part.bandwidth)?,
            gpus: self.gpus.checked_sub(part.gpus)?,
            vms: self.vms.checked_sub(part.vms)?,
        })
    }

    /// This without `part`; each resource stops at zero.
    #[must_use]
    pub fn saturating_sub(&self, part: &Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(part.cpu),
            memory: self.memory.saturating_sub(part.memory),
            storage: self.storage.saturating_sub(part.storage),
            bandwidth: self.bandwidth.saturating_sub(part.bandwidth),
            gpus: self.gpus.saturating_sub(part.gpus),
            vms: self.vms.saturating_sub(part.vms),
        }
    }

    /// The sum; each resource stops at its largest value.
    #[must_use]
    pub fn plus(&self, part: &Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(part.cpu),
            memory: self.memory.saturating_add(part.memory),
            storage: self.storage.saturating_add(part.storage),
            bandwidth: self.bandwidth.saturating_add(part.bandwidth),
            gpus: self.gpus.saturating_add(part.gpus),
            vms: self.vms.saturating_add(part.vms),
        }
    }
}

/// How many virtual CPUs are sold for each real one (F34: stated, never implied). Memory and
/// storage are not overcommitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Overcommit {
    /// Virtual CPUs for each real one, 1 to 16.
    pub cpu: u32,
}

impl Default for Overcommit {
    fn default() -> Self {
        Self { cpu: 1 }
    }
}

/// What a region charges (O2 `cost_profile`), in millionths of a US dollar.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct CostProfile {
    /// One virtual CPU for an hour.
    pub cpu_hour: MicroUsd,
    /// One GiB of memory for an hour.
    pub memory_gib_hour: MicroUsd,
    /// One GiB of storage for a MONTH of 730 hours (F34).
    pub storage_gib_month: MicroUsd,
    /// One GB out to the network.
    pub egress_gb: MicroUsd,
}

/// Hours in the month that storage prices are quoted for.
const HOURS_PER_MONTH: u64 = 730;

impl CostProfile {
    /// What one hour of a VM of this shape costs, without egress: CPU + memory + storage/730
    /// (F34). Rounded down to a millionth of a dollar; memory is charged by the MiB.
    #[must_use]
    pub fn hourly(&self, shape: &VmShape) -> MicroUsd {
        let cpu = self.cpu_hour.get().saturating_mul(u64::from(shape.cpu));
        let memory = self.memory_gib_hour.get().saturating_mul(shape.memory.get()) / 1024;
        let storage = self.storage_gib_month.get().saturating_mul(shape.storage.get())
            / HOURS_PER_MONTH;
        MicroUsd::new(cpu.saturating_add(memory).saturating_add(storage))
    }
}

/// A region as its operator configured it (O2 with the additions of DETAILS 2.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its name.
    pub id: RegionId,
    /// Its name for people: `US East (Virginia)`.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// What kind of place it is.
    #[serde(default)]
    pub kind: RegionKind,
    /// Whose it is: `aws`, `azure`, `gcp`, or any name of one's own.
    pub cloud_provider: String,
    /// Its zones, at least one.
    pub availability_zones: Vec<ZoneId>,
    /// The laws it stands under.
    #[serde(default)]
    pub compliance_zones: Vec<ComplianceZone>,
    /// CPUs sold for each real one.
    #[serde(default)]
    pub overcommit: Overcommit,
    /// What it charges.
    #[serde(default)]
    pub cost: CostProfile,
    /// Round trip to other regions.
    #[serde(default)]
    pub network_latency: BTreeMap<RegionId, Micros>,
    /// How much the operator prefers it, 1 to 100 (C7, F27).
    pub priority: u8,
    /// Whether new VMs may be placed there.
    #[serde(default = "enabled")]
    pub enabled: bool,
}

const fn enabled() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F34 works the example out: 0.28 + 0.0137 = 0.294 USD an hour.
    #[test]
    fn the_web_example_costs_what_the_correction_says() {
        let profile = CostProfile {
            cpu_hour: MicroUsd::new(50_000),
            memory_gib_hour: MicroUsd::new(10_000),
            storage_gib_month: MicroUsd::new(100_000),
            egress_gb: MicroUsd::new(50_000),
        };
        let shape = VmShape {
            cpu: 4,
            memory: Mib::new(8192),
            storage: Gib::new(100),
            ..VmShape::default()
        };
        assert_eq!(profile.hourly(&shape), MicroUsd::new(293_698));
    }

    #[test]
    fn compliance_is_compared_without_case() {
        assert_eq!(ComplianceZone::new("gdpr "), ComplianceZone::new("GDPR"));
    }

    #[test]
    fn one_missing_resource_is_enough_not_to_fit() {
        let host =
            Capacity { cpu: 4, memory: Mib::new(10), vms: 1, ..Capacity::default() };
        let fits = Capacity { cpu: 4, ..Capacity::default() };
        let too_many = Capacity { vms: 2, ..Capacity::default() };
        assert!(host.fits(&fits));
        assert!(!host.fits(&too_many));
    }
}
