//! The tool as its users meet it: whole command lines against a federation made of fixed
//! replies, over real TLS, compared with files.
//!
//! `DWCP_BLESS=1 cargo test -p dwcp-cli` writes the files anew; the change is then reviewed.

#![expect(
    clippy::unwrap_used,
    reason = "the whole crate is a test; clippy's setting knows only functions marked as such"
)]

mod certificates;
mod controller;
mod dashboards;
mod evacuation;
mod failover;
mod fixtures;
mod help;
mod levels;
mod monitoring;
mod moves;
mod overview;
mod refusals;
mod routing;
mod silences;
mod snapshot;
mod stage;
mod state;
mod state_fixtures;
mod tables;
mod traces;
mod trials;
mod wire;
