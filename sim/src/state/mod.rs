//! A deterministic world for the state plane: the real replicas of `core/state`, a seed, faults,
//! and oracles that know nothing of how replicas work.

pub mod oracle;
