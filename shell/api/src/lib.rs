//! The HTTP API: operations, wire types, the OpenAPI document and the typed client.
//!
//! Three doors, one style: the operator's API (`public`, `controller`, `failover`, `evacuation`, `measured`, `monitoring`, `overview`, `routing`, `sla`, `state`, `trace`), what daemons ask of each other
//! (`peer`, `engine`), and what a region's daemon asks of a host's agent (`host`).

mod client;
pub mod controller;
pub mod engine;
mod error;
pub mod evacuation;
pub mod failover;
pub mod host;
pub mod measured;
pub mod migration;
pub mod monitoring;
mod openapi;
mod operation;
pub mod otlp;
pub mod overview;
mod params;
pub mod patch;
pub mod peer;
pub mod public;
pub mod routing;
mod server;
pub mod shards;
pub mod silence;
pub mod sla;
pub mod sse;
pub mod state;
pub mod trace;

pub use client::{AddressError, CallError, Client, Events};
pub use error::{ApiError, ErrorCode};
pub use openapi::{Described, document};
pub use operation::{Method, NoParams, Operation};
pub use server::{Caller, Feed, Routes, Watcher, failure, feed, waits};
