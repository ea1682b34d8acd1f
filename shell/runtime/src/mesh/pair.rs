//! This region and one peer: what is fixed about them, and what both directions share.
//!
//! Either end may dial, since one of them may be behind an address translator; but there is one
//! connection. The region whose name sorts first **decides**: a connection counts once it has
//! confirmed it, with a number that rises. In its hello the other end says which number it saw
//! last. So the decider knows whether a new connection was begun because the other lost the
//! current one (it takes its place) or before the other knew of the current one (both dialled
//! at once; it is closed as a duplicate).
//!
//! Rejected: only one end dials. It needs every region reachable by every other, and a
//! restarted region waits until its peers notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dwcp_types::RegionId;

use super::gauges::Gauges;
use super::hello::Hello;
use super::outbox::Outbox;
use super::{
    Carrier, ClusterId, Dictionary, End, Limits, LinkError, MeshPeer, PeerStats,
};
use crate::tls::ClientTls;

/// What all pairs of a mesh have in common.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) me: RegionId,
    pub(super) cluster: ClusterId,
    pub(super) instance: u64,
    pub(super) dictionary: Dictionary,
    pub(super) limits: Limits,
}

/// One pair.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) own: Arc<Own>,
    pub(super) peer: MeshPeer,
    /// Expects the peer's certificate.
    pub(super) tls: ClientTls,
    pub(super) outbox: Outbox,
    pub(super) gauges: Gauges,
    /// The last confirmation that the deciding peer gave.
    seen: AtomicU64,
}

impl Pair {
    pub(super) fn new(own: Arc<Own>, peer: MeshPeer, tls: ClientTls) -> Self {
        let outbox = Outbox::new(own.limits.queue_len_max);
        let gauges = Gauges::default();
        Self { own, peer, tls, outbox, gauges, seen: AtomicU64::new(0) }
    }

    pub(super) const fn region(&self) -> &RegionId {
        &self.peer.region
    }

    /// Whether this end decides which connection counts.
    pub(super) fn decides(&self) -> bool {
        self.own.me < self.peer.region
    }

    pub(super) fn hello(&self) -> Hello {
        Hello {
            cluster: self.own.cluster,
            instance: self.own.instance,
            seen: self.seen.load(Ordering::Acquire),
            dictionary: self.own.dictionary.id(),
        }
    }

    /// The peer has confirmed a connection.
    pub(super) fn confirmed(&self, number: u64) {
        self.seen.store(number, Ordering::Release);
    }

    /// The dictionary that both ends have, or none.
    pub(super) fn dictionary(&self, hello: &Hello) -> Dictionary {
        if hello.dictionary == self.own.dictionary.id() {
            self.own.dictionary.clone()
        } else {
            Dictionary::none()
        }
    }

    /// Counts a failure, and says it once until there is a connection again.
    pub(super) fn failed(&self, error: &LinkError) {
        let news = self.gauges.failed(error);
        let (me, peer) = (&self.own.me, self.region());
        if let LinkError::Closed { by: End::Here, reason, .. } = error
            && !reason.is_refusal()
        {
            tracing::info!(%me, %peer, %reason, "a connection with a peer is closed");
        } else if news {
            tracing::warn!(%me, %peer, %error, "no connection with a peer");
        } else {
            tracing::debug!(%me, %peer, %error, "still no connection with a peer");
        }
    }

    /// Connected: opens the queue.
    pub(super) fn up(&self, carrier: Carrier) {
        self.outbox.open();
        self.gauges.up(carrier);
        tracing::info!(me = %self.own.me, peer = %self.region(), %carrier, "a peer is connected");
    }

    /// No longer connected: forgets what waits.
    pub(super) fn down(&self, error: &LinkError) {
        self.outbox.shut();
        self.gauges.down();
        self.failed(error);
    }

    pub(super) fn stats(&self) -> PeerStats {
        self.gauges.read(self.peer.region.clone(), self.outbox.waiting())
    }
}
