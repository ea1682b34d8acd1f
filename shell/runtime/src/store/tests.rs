//! The store's tests: what every backend must do, and what it must survive.
//!
//! One suite for all backends. `conformance` asks what a map would answer. `faults` runs a
//! child process on a disk that fails (`disk.c`) and compares what is left with an oracle
//! (`model`). `flips` turns single bits of a closed store. `upgrade` opens files of earlier
//! layouts.
//!
//! Every test runs a sample that takes seconds. With `DWCP_STORE_FAULTS=all` every operation
//! is tried in every way, and many more flips: half an hour, which an upgrade of a backend must
//! pass.

mod child;
mod conformance;
mod disk;
mod faults;
mod flips;
mod model;
mod turning;
mod upgrade;

use super::{Journaled, Redb};

/// What is shipped.
type Shipped = Journaled<Redb>;

/// Whether everything is to be tried.
fn all() -> bool {
    std::env::var("DWCP_STORE_FAULTS").is_ok_and(|wanted| wanted == "all")
}
