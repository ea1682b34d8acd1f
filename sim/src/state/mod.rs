//! A deterministic world for the state plane: the real replicas of `core/state`, a seed, faults,
//! and oracles that know nothing of how replicas work.

mod client;
mod clock;
mod disk;
mod faults;
mod history;
mod invariants;
mod judge;
mod keys;
mod latency;
mod network;
mod node;
mod options;
pub mod oracle;
mod planted;
mod run;
mod serve;
mod strike;
mod strong;
mod trace;
mod world;

pub use invariants::TABLE;
pub use options::Options;
pub use planted::hunt;
pub use run::{Outcome, run};
