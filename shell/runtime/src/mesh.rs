//! Frames between the daemons of regions: one connection for each pair, over QUIC or, where UDP
//! does not get through, over TCP (docs/adr/0010).
//!
//! ```text
//! MeshHandle --send--> outbox --> writer ==blocks==> reader --> inbox --> MeshEvents
//! ```
//!
//! Frames of one connection arrive in order and at most once. When it ends, what was under way
//! may be lost; the next connection begins with nothing. So whoever uses this keeps a log and
//! a cursor for each peer, and begins from the cursor at [`MeshEvent::Up`].
//!
//! Peers do not wait for each other: each has its tasks, its queue and its own flow control.
//! Every queue is bounded. A full one refuses ([`SendRefused::Full`]) or stops reading from
//! the connection, whose flow control then stops the sender; nothing is dropped.
//!
//! Who is at the other end stands in its certificate and must be the region that is expected;
//! which federation it means stands in its hello. Refusals have a [`Reason`] that both ends
//! count and log once.

mod assembly;
mod block;
mod config;
mod dial;
mod dictionary;
mod drivers;
mod error;
mod events;
mod gauges;
mod greet;
mod hello;
mod inbox;
mod link;
mod listen;
mod outbox;
mod pack;
mod pair;
mod ports;
mod quic;
mod reason;
mod session;
mod tcp;
#[cfg(test)]
mod tests;
mod upkeep;
mod varint;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use dwcp_types::RegionId;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use gauges::Strangers;
use listen::Door;
use pair::{Own, Pair};
use ports::Ports;
use upkeep::Upkeep;

pub use block::BlockError;
pub use config::{
    Carrier, Limits, MeshConfig, MeshError, MeshPeer, PEERS_MAX, Transport,
};
pub use dictionary::Dictionary;
pub use error::{End, LinkError};
pub use events::{MeshEvent, MeshEvents};
pub use gauges::{PeerStats, Traffic};
pub use hello::ClusterId;
pub use outbox::SendRefused;
pub use pack::wire_len;
pub use reason::Reason;

use crate::tls::{ClientTls, ExpectedServer, Identity, ServerTls};

/// Longest frame in bytes: the largest state of one key that replicas exchange, 16 MiB, and what
/// is around it.
pub const FRAME_LEN_MAX: usize = 17 << 20;
/// The protocol, and its version: what is on a connection after TLS.
const ALPN: &[u8] = b"dwcp-state/1";

/// The way to send, and to see how the peers are. Cloning shares it.
#[derive(Clone, Debug)]
pub struct MeshHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pairs: BTreeMap<RegionId, Arc<Pair>>,
    strangers: Arc<Strangers>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    /// Whether everything has stopped.
    stopped: watch::Receiver<bool>,
}

/// Starts a mesh: it listens, and connects to its peers for as long as it lives. Needs a tokio
/// runtime.
///
/// # Errors
///
/// When it cannot listen, its certificate cannot be used or names another region, or the peers
/// make no sense.
pub async fn bind(config: MeshConfig) -> Result<(MeshHandle, MeshEvents), MeshError> {
    check(&config)?;
    let server = ServerTls::load(config.credentials.clone())?;
    let ports = Ports::bind(&config, &server).await?;
    let own = Arc::new(Own {
        me: config.me.clone(),
        cluster: config.cluster,
        instance: instance()?,
        dictionary: config.dictionary.clone(),
        limits: config.limits,
    });
    let (stop, stopping) = watch::channel(false);
    let strangers = Arc::<Strangers>::default();
    let mut pairs = BTreeMap::new();
    let mut offers = BTreeMap::new();
    let mut inboxes = Vec::new();
    let mut upkeeps = JoinSet::new();
    for peer in config.peers {
        let region = peer.region.clone();
        let expected = ExpectedServer::Identity(Identity::Region(region.clone()));
        let tls = ClientTls::load(config.credentials.clone(), expected)?;
        let pair = Arc::new(Pair::new(Arc::clone(&own), peer, tls));
        let (offer, accepted) = mpsc::channel(1);
        let (inbox, told) = inbox::new();
        let upkeep = Upkeep {
            pair: Arc::clone(&pair),
            quic: ports.quic.clone(),
            accepted,
            inbox,
            stop: stopping.clone(),
            clock: Arc::clone(&config.clock),
            last: 0,
        };
        upkeeps.spawn(upkeep.run());
        inboxes.push((region.clone(), told));
        offers.insert(region.clone(), (Arc::clone(&pair), offer));
        pairs.insert(region, pair);
    }
    let address = ports.address;
    let door = Door { own, pairs: offers, strangers: Arc::clone(&strangers), server };
    let (done, stopped) = watch::channel(false);
    tokio::spawn(async move {
        run(door, ports, upkeeps, stopping).await;
        done.send_replace(true);
    });
    let events = MeshEvents::new(inboxes, stop.clone());
    let shared = Shared { pairs, strangers, address, stop, stopped };
    Ok((MeshHandle { shared: Arc::new(shared) }, events))
}

/// Listens until the mesh stops, then lets the last words leave.
async fn run(
    door: Door,
    ports: Ports,
    mut upkeeps: JoinSet<()>,
    stopping: watch::Receiver<bool>,
) {
    listen::listen(Arc::new(door), ports.quic, ports.tcp, stopping).await;
    while upkeeps.join_next().await.is_some() {}
    if let Some(drivers) = ports.drivers {
        drivers.end().await;
    }
}

fn check(config: &MeshConfig) -> Result<(), MeshError> {
    let me = &config.me;
    let own = config.credentials.peer()?.identity;
    if own != Identity::Region(me.clone()) {
        return Err(MeshError::Identity { me: me.clone(), found: own });
    }
    let wrong = |reason| Err(MeshError::Peers { me: me.clone(), reason });
    if config.peers.len() > PEERS_MAX {
        return wrong(format!(
            "there are {}, and {PEERS_MAX} are allowed; remove some",
            config.peers.len()
        ));
    }
    let mut seen = BTreeMap::new();
    for peer in &config.peers {
        if peer.region == *me {
            return wrong("the region itself is among them; remove it".to_owned());
        }
        if seen.insert(&peer.region, ()).is_some() {
            return wrong(format!("{} is there twice; remove one", peer.region));
        }
    }
    Ok(())
}

/// Differs in each life of the process.
fn instance() -> Result<u64, MeshError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| MeshError::Machine {
        reason: "the system has no random numbers".to_owned(),
    })?;
    Ok(u64::from_be_bytes(bytes))
}

impl MeshHandle {
    /// Gives a frame to a peer's queue. Never waits.
    ///
    /// # Errors
    ///
    /// [`SendRefused`] says why it was not taken; then it was not sent.
    pub fn send(&self, peer: &RegionId, frame: Bytes) -> Result<(), SendRefused> {
        self.shared.pairs.get(peer).ok_or(SendRefused::NoSuchPeer)?.outbox.push(frame)
    }

    /// Completes when at most half of the peer's queue is used, or the peer is down or none.
    pub async fn room(&self, peer: &RegionId) {
        if let Some(pair) = self.shared.pairs.get(peer) {
            pair.outbox.room().await;
        }
    }

    /// How each peer is, in the order of their names.
    #[must_use]
    pub fn stats(&self) -> Vec<PeerStats> {
        self.shared.pairs.values().map(|pair| pair.stats()).collect()
    }

    /// How one peer is.
    #[must_use]
    pub fn peer_stats(&self, peer: &RegionId) -> Option<PeerStats> {
        self.shared.pairs.get(peer).map(|pair| pair.stats())
    }

    /// How often those were refused who are no peers, or did not get as far as to say who they
    /// are.
    #[must_use]
    pub fn strangers(&self) -> BTreeMap<Reason, u64> {
        self.shared.strangers.read()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Ends every connection, tells the peers so within a second, and completes when the port is
    /// free again.
    pub async fn stop(&self) {
        self.shared.stop.send_replace(true);
        // Fails only when the mesh's runtime is gone, and the mesh with it.
        self.shared.stopped.clone().wait_for(|stopped| *stopped).await.ok();
    }
}
