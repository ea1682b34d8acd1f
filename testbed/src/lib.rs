//! Whole federations of real processes on this machine, for end-to-end tests.
//!
//! Each test has its own federation: own loopback address, own certificate authority, own
//! folder. Its daemons and agents are started one by one, without a supervisor, so that a test
//! can kill, freeze and restart each. Everything ends when the [`Federation`] is dropped, also
//! while a test panics, and only by the process ids that it started.
//!
//! This is test equipment: whatever goes wrong here panics with what to do about it.

mod address;
mod ask;
mod disk;
mod doors;
pub mod drill;
mod etcd;
mod federation;
mod ground;
mod layout;
mod mailbox;
pub mod nemesis;
mod plan;
pub mod pops;
mod process;
mod prometheus;
mod receiver;
pub mod stand_in;
mod state_door;
pub mod stepped;
mod wait;
pub mod wan;
mod wire;

pub use ask::{Ask, wish};
pub use disk::SmallDisk;
pub use doors::{Door, refusal};
pub use etcd::{EtcdCluster, etcd_program};
pub use federation::Federation;
pub use layout::{guest_image, program, workspace};
pub use mailbox::{Mail, Mailbox};
pub use plan::{HostPlan, Plan, RegionPlan};
pub use process::{Ended, Process, arguments_of};
pub use prometheus::{Alertmanager, Prometheus, Promtool};
pub use receiver::{Answers, Received, Receiver};
pub use state_door::{add, content, elements, increment, remove, report_of, set};
pub use wait::{PATIENCE, until};
pub use wire::{Knock, knock_without_certificate};
