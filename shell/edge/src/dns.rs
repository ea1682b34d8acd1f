//! An authoritative name server that answers from the routing table (R8; TTL: R12, F55).
//!
//! [`answer()`] is a pure function of a [`View`], a packet and who sent it; [`Server`] only moves
//! bytes. A view never changes and is swapped whole, so no question waits for a table.
//!
//! * **Who asks** is the client's network of RFC 7871 when the resolver tells it, else the
//!   resolver. The scope of the answer is the shortest prefix whose addresses are all told the
//!   same: never more, or a cache would tell others what was meant for this one.
//! * **One region, one address** unless configured otherwise: resolvers and clients shuffle
//!   several, which would undo shares, drains and homes. The next regions are told when the
//!   first is down, within the TTL of the decision.
//! * **A and AAAA tell the same regions**: a region without IPv6 has no AAAA, instead of the
//!   AAAA of a region farther away, which clients would prefer.
//! * **Bounded by construction**: 1,232 bytes by UDP, so many answers a second to each network
//!   (with every second refusal an invitation to TCP), so many connections.
//!
//! Rejected: a server framework (one more runtime in a daemon that has one), transfers of the
//! zone (there is no zone to transfer: what is told depends on who asks), recursion.

mod answer;
mod compose;
mod counters;
mod limit;
mod name;
mod query;
mod server;
#[cfg(test)]
mod tests;
mod view;
mod zone;

pub use answer::{Asker, Outcome, Transport, answer};
pub use counters::{Counted, Counters, RCODES};
pub use limit::{RateLimit, Verdict};
pub use name::{Name, NameError};
pub use server::{Listening, Server};
pub use view::{AddressBook, Addresses, View};
pub use zone::{ANSWERS_MAX, NAME_SERVERS_MAX, NameServer, Zone, ZoneError, ZoneSpec};

/// Most bytes of an answer by UDP, and what clients are told to send at most: what passes every
/// path without fragments (DNS flag day 2020).
pub const UDP_BYTES_MAX: u16 = 1_232;
