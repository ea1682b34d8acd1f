//! Lines of the access log.

use std::net::SocketAddr;
use std::sync::Arc;

use dwcp_types::{RegionId, ServiceId};
use serde::Serialize;

use super::tally::AccessRecord;

/// A line of the access log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum AccessLine {
    /// A request was answered.
    Request(AccessRecord),
    /// A connection ended that was passed on as it was.
    Connection(ConnectionRecord),
}

/// A connection that was passed on, when it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionRecord {
    /// Who connected.
    pub client: SocketAddr,
    /// To what.
    pub service: ServiceId,
    /// Which region's server had it; nothing when none did.
    pub region: Option<RegionId>,
    /// By which server or proxy.
    pub upstream: Option<Arc<str>>,
    /// How many were tried.
    pub attempts: usize,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// Until its end, in microseconds.
    pub took_us: u64,
    /// How it ended.
    pub end: End,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Both sides closed in order.
    Closed,
    /// One of the sides broke off, and the other was told so.
    Broken,
    /// No byte came for too long.
    Idle,
    /// The proxy stopped, and it was not over within the time for that.
    Cut,
    /// Nobody was there to have it.
    Unserved,
}

impl End {
    /// All of them, in order.
    pub(super) const ALL: [Self; 5] =
        [Self::Closed, Self::Broken, Self::Idle, Self::Cut, Self::Unserved];

    /// Its word in the log and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Idle => "idle",
            Self::Cut => "cut",
            Self::Unserved => "unserved",
        }
    }
}
