//! The planes that face clients: how they are told, or brought to, the region that answers them.
//!
//! A plane is handed everything that it answers from as one value that never changes, and swaps
//! it for the next whole. It knows no region's daemon, no engine and no disk: when all of them
//! are gone it answers as before, by the last value that it had (static stability).

pub mod anycast;
mod clients;
pub mod dns;
mod newest;
pub mod proxy;
mod seats;
mod steering;

pub use clients::{Clients, InOrder, Network, OutOfOrder};
pub use steering::Steering;
