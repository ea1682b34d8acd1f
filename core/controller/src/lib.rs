//! Decides where VMs run. Performs nothing.

mod host_fit;
pub mod ledger;
pub mod migration;
pub mod ownership;
pub mod placement;

pub use host_fit::{HostRefusal, Resource, host_refusal};
