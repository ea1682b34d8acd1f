//! Shared addresses, announced to the routers next to a region (R11 to R13, docs/adr/0021).
//!
//! The daemon speaks BGP itself, to a router of its operator: BIRD, FRR, or a switch. So what is
//! announced lives and dies with the daemon: one that is killed takes its session along, and one
//! that hangs is silent for longer than was agreed, which BFD beside the session finds out within a
//! second. It announces single addresses and hears nothing.

mod bfd;
mod message;
mod session;

pub use bfd::{Bfd, Watched, watch_over};
pub use session::{Neighbor, Spoken, speak};
