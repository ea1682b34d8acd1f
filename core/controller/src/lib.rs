//! Decides where VMs run. Performs nothing.

pub mod evacuation;
pub mod failover;
mod host_fit;
pub mod lease;
pub mod ledger;
pub mod liveness;
pub mod migration;
pub mod ownership;
pub mod placement;
pub mod replica;

pub use host_fit::{HostRefusal, Resource, host_refusal};
