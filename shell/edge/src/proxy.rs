//! A reverse proxy that brings each request to the region that the routing table says (R8, F55).
//!
//! [`View`] is everything that a request is decided by, and swapped whole. A request's way: its
//! host names the service, its client's address the cell, [`dwcp_router::decide()`] the region.
//! In this region one of the service's servers answers it; another region's proxy is asked for
//! what is decided to be there, and does not decide again.
//!
//! * **Nothing is done twice.** A request is sent again only while it cannot have arrived: no
//!   connection was made, it was given back unsent, or the other region's proxy says that no
//!   server had it. One that may have arrived is sent again only when its method is idempotent, and
//!   a budget bounds that.
//! * **No loops.** A request passes two proxies besides the first at most, a relay and the
//!   region that is meant, and what says so counts from a region's certificate only.
//! * **What comes out is written anew**: framing, hop-by-hop headers and who asked are this
//!   proxy's own words, so that no two readers can disagree about where a request ends.
//! * **A service with a port of its own** has its connections, or the datagrams of its clients, passed
//!   on as they are, decided in the same way when they come ([`Passing`]).
//! * **Everything is bounded**: connections, of each network too, headers, bodies, times, what is
//!   under way to each server, retries.
//!
//! Rejected: pingora (two to three times the CPU for a request, 200 crates), hyper-util's pooled
//! client (it does not say of a request whether it was sent).

mod bodies;
mod counters;
mod course;
mod flows;
mod group;
mod head;
mod hop;
mod log;
mod pool;
mod preface;
mod server;
mod session;
mod sides;
mod streams;
mod tally;
#[cfg(test)]
mod tests;
mod tunnel;
mod view;

pub use counters::{Bytes, Counters};
pub use group::{Group, Probe, Ward};
pub use log::{AccessLine, ConnectionRecord, End};
pub use pool::{Front, PEER_PROTOCOL, STREAM_PROTOCOL, Trust};
pub use preface::Announce;
pub use server::{Listening, Server};
pub use streams::{Carried, Passing};
pub use tally::AccessRecord;
pub use view::{Seal, ServiceSpec, Sites, View};

use std::time::Duration;

/// How much the proxy takes on, and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of clients at once.
    pub connections_max: usize,
    /// Those of one network of clients (/24, /56).
    pub per_network_max: usize,
    /// Time for a TLS handshake or PROXY header, for the headers of a request, and for which an
    /// idle HTTP/1 connection is kept.
    pub header_time_max: Duration,
    /// Time for a connection to a server or another region.
    pub connect_time_max: Duration,
    /// Time until a server begins to answer.
    pub response_time_max: Duration,
    /// Time in which a body, either way, may stand still.
    pub body_time_max: Duration,
    /// Longest body of a request, in bytes.
    pub body_len_max: u64,
    /// Time for what is under way when the proxy stops.
    pub drain_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            // An office or a carrier's gateway; a sixteenth of all.
            per_network_max: 256,
            header_time_max: Duration::from_secs(15),
            // Two tries of TCP's first second at most, and a fallback is there.
            connect_time_max: Duration::from_secs(2),
            response_time_max: Duration::from_secs(30),
            body_time_max: Duration::from_secs(30),
            body_len_max: 64 << 20,
            drain_time_max: Duration::from_secs(10),
        }
    }
}
