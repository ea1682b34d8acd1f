//! The host agent: owns the VMs of one host and makes what is seen equal what is wanted.
//!
//! `task` owns all instances and decides with `dwcp_vm`; a [`hypervisor::Hypervisor`]
//! acts; `store` keeps the instructions; [`AgentHandle`] is the only way in, and [`api`] puts
//! it behind the operations of `dwcp_api::host`. Guests are processes of their own and live
//! on when the agent dies; the next one finds and adopts them.

mod address;
mod agent;
pub mod api;
mod clock;
pub mod config;
pub mod copier;
mod entry;
mod handle;
mod held;
pub mod hypervisor;
mod lease;
pub mod mover;
mod news;
pub mod qemu;
pub mod serve;
pub mod simulated;
mod standby;
mod store;
mod task;
mod traced;
mod trial;
pub mod watchdog;

pub use agent::{Agent, OpenError, open_hypervisor};
pub use clock::Clock;
pub use config::Config;
pub use handle::{
    AgentHandle, ConsoleError, CopyRefused, GrantError, PutError, Stopping, Taken,
};
pub use news::Cursor;
pub use standby::{StandbyError, Standbys};
pub use store::{Store, StoreError, Stored};
pub use trial::{TrialRefused, Trials};
