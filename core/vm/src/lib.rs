//! Decides what a host does about its VMs; speaks QMP as values.
//!
//! [`Instance`] is the protocol node of one VM: it is handed the instruction, the time and
//! what was observed, and answers with the single next action. Everything else here turns
//! that action into bytes without performing it: QEMU's command line, QMP lines, the first
//! clusters of a disk image, names derived from the VM's id.

mod copy;
mod fence;
mod instance;
mod instruction;
pub mod launch;
pub mod migration;
mod name;
mod observation;
mod policy;
pub mod qcow2;
pub mod qmp;
mod scale;

pub use copy::{
    CopyAction, CopyDecision, CopyOrder, CopyPlace, CopySeen, CopySight, RoundSeen,
    decide_copy,
};
pub use fence::{Grant, Guard, Leave};
pub use instance::{Action, Decision, Instance, Note};
pub use instruction::{Accepted, GuestSpec, Instruction, Record, Refused};
pub use launch::{Accelerator, Launch, Link};
pub use name::GuestName;
pub use observation::{Monitor, Observation, Process, RunState, Storage};
pub use policy::Policy;
pub use scale::{Given, Scale};
