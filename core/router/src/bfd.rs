//! Whether the way to a neighbour works in both directions, found out within a second: BFD in its
//! asynchronous mode (RFC 5880).
//!
//! Each side tells the other how often it can hear, and is silent for no longer. Who hears nothing for
//! a number of such intervals takes the way as gone, and says so in case it is gone in one direction
//! only. Routers do the same to a region: one that hangs is left after that time, and not after the
//! hold time of BGP, which is 3 s at least.
//!
//! Packets in, packets out, and when to look again: sockets, clock and chance are the caller's. There
//! is no echo, no demand of one's own, and no authentication: who is a single hop away proves it by a
//! TTL that no router has lowered (RFC 5881, 5), which the caller sees to.

mod packet;
mod session;

pub use packet::{Diagnostic, Discarded, PACKET_LEN, Packet, State};
pub use session::{IDLE, Session, Settings, View};

#[cfg(test)]
mod tests;
