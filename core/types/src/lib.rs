//! The nouns every component shares: identifiers, units, time, epochs, what a VM asks for,
//! what a region is, and the snapshot that decisions are taken on.
//!
//! A type lives here only when two components must agree on it. All of them are plain values
//! with `serde` and JSON schemas, because the same nouns travel in configuration files, in
//! the API and in stored records: one vocabulary, one spelling (`docs/adr/0001`).
//! Invalid values cannot be made: identifiers and bounded numbers are checked on the way in,
//! also when they are deserialised.

mod copy;
mod epoch;
mod fleet;
mod id;
mod region;
mod request;
mod time;
mod unit;
mod vm;

pub use copy::{CopyId, Round};
pub use epoch::{Epoch, Generation};
pub use fleet::{
    FleetView, Health, HealthState, HostView, PlacedVm, RegionView, UserZoneView,
};
pub use id::{
    GroupId, HostId, IdError, MigrationId, RegionId, ReservationId, ServiceId, TenantId,
    UserZoneId, VmId, ZoneId,
};
pub use region::{
    Capacity, ComplianceZone, CostProfile, Location, Overcommit, Region, RegionKind,
};
pub use request::{
    Affinity, AffinityMode, Constraints, Hardness, OnRegionLoss, Origin,
    PlacementRequest, ReplicaAge, Scope, Strategy, Tier,
};
pub use time::{Timestamp, millis};
pub use unit::{Bps, Gib, Mbps, Mib, MicroUsd, Micros, UnitError};
pub use vm::{Power, VmPhase, VmShape, VmType};
