//! The strong engine across machines: one daemon hosts it, the regions reach it over mutual
//! TLS.
//!
//! [`engine_routes`] serves any engine, [`RemoteEngine`] is the same port over a [`Client`](crate::Client),
//! so nobody above the port knows where the engine runs. Only regions may use it (threat
//! model: agents and people have no business in the strong records).
//!
//! Watches are long polls: each names the revision it continues from, so a reply that gets
//! lost is simply asked for again. A stream over one connection was rejected: it needs the
//! same resume logic and keeps a connection besides.

mod remote;
mod routes;
mod wire;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NoParams, operations};

pub use remote::RemoteEngine;
pub use routes::engine_routes;
pub use wire::{
    WireBytes, WireCompare, WireCurrent, WireError, WireEvent, WireEvents, WireOp,
    WireOutcome, WirePage, WireRecord, WireTxn,
};

operations! {
    /// A transaction.
    EngineTxn = Post "/engine/v1/txn" "engine_txn"
        "Compares, and when every comparison holds, applies all operations as one.",
        NoParams, WireTxn => WireOutcome;
    /// A record.
    EngineGet = Get "/engine/v1/record" "engine_get"
        "The record of one key.",
        KeyParams, () => Option<WireRecord>;
    /// A page of records.
    EngineRange = Get "/engine/v1/range" "engine_range"
        "The records of a prefix, a page at a time.",
        RangeParams, () => WirePage;
    /// A long poll.
    EngineWatch = Get "/engine/v1/watch" "engine_watch"
        "Waits for events of a prefix and returns them.",
        WatchParams, () => WireEvents;
    /// A new lease.
    EngineLeaseGrant = Post "/engine/v1/leases" "engine_lease_grant"
        "Makes a lease.",
        NoParams, LeaseGrant => LeaseGranted;
    /// A keep-alive.
    EngineLeaseKeepAlive = Post "/engine/v1/leases/{lease}/keep-alive"
        "engine_lease_keep_alive"
        "Lets a lease live for its whole TTL again.",
        LeaseParams, () => LeaseKept;
    /// The end of a lease.
    EngineLeaseRevoke = Delete "/engine/v1/leases/{lease}" "engine_lease_revoke"
        "Ends a lease and deletes its keys.",
        LeaseParams, () => ();
}

/// Which key.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct KeyParams {
    /// The key.
    pub key: String,
}

/// Which records.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RangeParams {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Only keys after this one.
    pub after: Option<String>,
    /// At most this many.
    pub limit: u32,
}

/// Which events.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WatchParams {
    /// Only keys that begin with this.
    pub prefix: String,
    /// From this revision on; zero means from now on.
    pub from_revision: u64,
    /// How many milliseconds to wait when there is none yet; 20,000 at most.
    pub wait_ms: u32,
}

/// Which lease.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LeaseParams {
    /// The lease.
    pub lease: u64,
}

/// Asks for a lease.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseGrant {
    /// Milliseconds it lives after its last keep-alive.
    pub ttl_ms: u64,
}

/// A new lease.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LeaseGranted {
    /// The lease.
    pub lease: u64,
}

/// A lease that lives on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LeaseKept {
    /// Milliseconds it lives from now on.
    pub ttl_ms: u64,
}
