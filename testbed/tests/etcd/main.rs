//! The etcd adapter against real etcd processes: the contract of the strong engine, and what
//! happens when members die, freeze and come back.
//!
//! One binary, so that it links once. Everything is skipped, with the reason, where etcd is not
//! installed.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

mod contract;
mod doors;
mod faults;
