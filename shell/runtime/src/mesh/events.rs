//! What a mesh tells its one reader: connections that come and go, and frames.
//!
//! Each peer has a short queue of blocks of its own ([`super::inbox`]) and the reader takes them
//! in turn, so a peer that sends much delays the others by one block at most.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use dwcp_types::RegionId;
use tokio::sync::{mpsc, watch};

use super::inbox::{Batch, Told};
use super::{Carrier, LinkError};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeshEvent {
    /// A peer is connected. Nothing that was sent before is on the way any more.
    Up {
        /// Which.
        peer: RegionId,
        /// By what.
        carrier: Carrier,
    },
    /// A peer is not connected any more. What was sent may have arrived up to any point.
    Down {
        /// Which.
        peer: RegionId,
        /// Why.
        reason: LinkError,
    },
    /// A frame, in the order in which the peer sent it on this connection.
    Frame {
        /// From whom.
        peer: RegionId,
        /// Its bytes. They share memory with the other frames of their block, up to 1 MiB.
        bytes: Bytes,
    },
}

/// The events of a mesh. When it is dropped the mesh stops.
pub struct MeshEvents {
    peers: Vec<(RegionId, mpsc::Receiver<Told>)>,
    turn: usize,
    /// Frames of the block that is being handed out.
    block: Option<(RegionId, Batch)>,
    stop: watch::Sender<bool>,
}

impl MeshEvents {
    pub(super) const fn new(
        peers: Vec<(RegionId, mpsc::Receiver<Told>)>,
        stop: watch::Sender<bool>,
    ) -> Self {
        Self { peers, turn: 0, block: None, stop }
    }

    /// The next event; `None` once the mesh has stopped. Can be cancelled without loss.
    pub async fn next(&mut self) -> Option<MeshEvent> {
        loop {
            if let Some((peer, frames)) = &mut self.block {
                match frames.next() {
                    Some(bytes) => {
                        return Some(MeshEvent::Frame { peer: peer.clone(), bytes });
                    }
                    None => self.block = None,
                }
            }
            if self.peers.is_empty() {
                // Fails only when nobody could stop it any more.
                self.stop.subscribe().wait_for(|stop| *stop).await.ok();
                return None;
            }
            match poll_fn(|context| self.poll(context)).await? {
                (peer, Told::Up(carrier)) => {
                    return Some(MeshEvent::Up { peer, carrier });
                }
                (peer, Told::Down(reason)) => {
                    return Some(MeshEvent::Down { peer, reason });
                }
                (peer, Told::Frames(frames)) => {
                    self.block = Some((peer, frames));
                }
            }
        }
    }

    /// The next of any peer, beginning after the one that had its turn last.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<(RegionId, Told)>> {
        let count = self.peers.len();
        let mut ended = 0;
        for step in 0..count {
            let at = (self.turn + step) % count;
            let Some((peer, told)) = self.peers.get_mut(at) else { continue };
            match told.poll_recv(context) {
                Poll::Ready(Some(told)) => {
                    self.turn = at + 1;
                    return Poll::Ready(Some((peer.clone(), told)));
                }
                Poll::Ready(None) => ended += 1,
                Poll::Pending => {}
            }
        }
        if ended == count { Poll::Ready(None) } else { Poll::Pending }
    }
}

impl Drop for MeshEvents {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl fmt::Debug for MeshEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshEvents").field("turn", &self.turn).finish_non_exhaustive()
    }
}
