//! A federation on loopback: an authority, regions with certificates, and meshes between them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dwcp_types::{RegionId, Timestamp};
use tempfile::TempDir;

use super::super::greet::{self, Greeted};
use super::super::pair::{Own, Pair};
use super::super::quic::QuicPort;
use super::super::{
    ClusterId, Dictionary, Limits, LinkError, MeshConfig, MeshEvent, MeshEvents,
    MeshHandle, MeshPeer, PeerStats, SendRefused, Transport, bind, tcp,
};
use crate::clock::{Clock, SystemClock};
use crate::tls::{
    ClientTls, Credentials, DevelopmentCa, ExpectedServer, Identity, NODE_LIFETIME,
    ServerTls,
};

/// The federation of the tests.
pub(super) const CLUSTER: ClusterId = ClusterId([7; 16]);
/// How often a condition is looked at that nothing announces.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(super) fn now() -> Timestamp {
    SystemClock::new().now()
}

pub(super) fn region(name: &str) -> RegionId {
    RegionId::new(name).unwrap()
}

/// An address that no other test has: in a network of this process, since tests of other
/// processes run at the same time.
pub(super) fn address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let port = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from(([127, 64 | high, middle, low], port))
}

/// Limits that a busy machine keeps.
pub(super) fn limits() -> Limits {
    Limits {
        idle_time_max: Duration::from_secs(20),
        ping_every: Duration::from_millis(100),
        connect_time_max: Duration::from_secs(20),
        quic_time_max: Duration::from_secs(20),
        refused_pause: Duration::from_millis(100),
        ..Limits::default()
    }
}

/// Limits by which a dead peer is noticed soon.
pub(super) fn impatient() -> Limits {
    Limits {
        idle_time_max: Duration::from_secs(4),
        ping_every: Duration::from_millis(100),
        pause_max: Duration::from_millis(200),
        ..limits()
    }
}

/// A frame that does not compress, and differs with the seed.
pub(super) fn noise(seed: u32, len: usize) -> Bytes {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

/// An authority, and a place for certificates.
pub(super) struct World {
    directory: TempDir,
    ca: DevelopmentCa,
}

impl World {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = DevelopmentCa::create(&directory.path().join("ca"), now()).unwrap();
        Self { directory, ca }
    }

    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A certificate that anybody here trusts.
    pub(super) fn issue(
        &self,
        identity: &Identity,
        at: Timestamp,
        folder: &str,
    ) -> Credentials {
        let issued = self.ca.issue(identity, &[], NODE_LIFETIME, at).unwrap();
        issued.write(&self.folder(folder), "node").unwrap()
    }

    /// The same with another lifetime, from now on.
    pub(super) fn issue_for(
        &self,
        identity: &Identity,
        lifetime: Duration,
        folder: &str,
    ) -> Credentials {
        let issued = self.ca.issue(identity, &[], lifetime, now()).unwrap();
        issued.write(&self.folder(folder), "node").unwrap()
    }

    pub(super) fn credentials(&self, name: &str) -> Credentials {
        self.issue(&Identity::Region(region(name)), now(), name)
    }

    /// A region without peers yet.
    pub(super) fn config(&self, name: &str) -> MeshConfig {
        MeshConfig {
            me: region(name),
            cluster: CLUSTER,
            listen: address(),
            credentials: self.credentials(name),
            peers: Vec::new(),
            dictionary: Dictionary::built_in(),
            limits: limits(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Regions that all know each other's addresses.
    pub(super) fn configs(
        &self,
        names: &[&str],
        transport: Transport,
    ) -> Vec<MeshConfig> {
        let mut configs: Vec<MeshConfig> =
            names.iter().map(|name| self.config(name)).collect();
        let all: Vec<MeshPeer> =
            configs.iter().map(|config| peer(config, transport)).collect();
        for config in &mut configs {
            let me = config.me.clone();
            config.peers = all.iter().filter(|peer| peer.region != me).cloned().collect();
        }
        configs
    }

    /// Two regions that are connected; the first decides.
    pub(super) async fn two(&self, transport: Transport) -> (Node, Node) {
        let [a, b] =
            <[MeshConfig; 2]>::try_from(self.configs(&["a", "b"], transport)).unwrap();
        let (mut a, mut b) = (Node::start(a).await, Node::start(b).await);
        a.up("b").await;
        b.up("a").await;
        (a, b)
    }
}

/// A config as its peers see it.
pub(super) fn peer(config: &MeshConfig, transport: Transport) -> MeshPeer {
    let endpoint = Some(config.listen.to_string());
    MeshPeer { region: config.me.clone(), endpoint, transport }
}

/// A running mesh.
pub(super) struct Node {
    pub(super) handle: MeshHandle,
    pub(super) events: MeshEvents,
}

impl Node {
    pub(super) async fn start(config: MeshConfig) -> Self {
        let (handle, events) = bind(config).await.unwrap();
        Self { handle, events }
    }

    pub(super) async fn next(&mut self) -> MeshEvent {
        self.events.next().await.expect("the mesh runs")
    }

    /// Reads until a peer is connected.
    pub(super) async fn up(&mut self, peer: &str) {
        while !matches!(self.next().await, MeshEvent::Up { peer: up, .. } if up == region(peer))
        {
        }
    }

    /// Reads until a peer is not connected; why.
    pub(super) async fn down(&mut self, peer: &str) -> LinkError {
        loop {
            if let MeshEvent::Down { peer: down, reason } = self.next().await
                && down == region(peer)
            {
                return reason;
            }
        }
    }

    /// The next frame from a peer, on the connection that there is.
    pub(super) async fn frame(&mut self, peer: &str) -> Bytes {
        let peer = region(peer);
        loop {
            let event = self.next().await;
            if let MeshEvent::Down { peer: down, reason } = &event {
                assert_ne!(*down, peer, "down while a frame is awaited: {reason}");
            }
            if let MeshEvent::Frame { peer: from, bytes } = event
                && from == peer
            {
                return bytes;
            }
        }
    }

    /// Sends, waiting for room.
    pub(super) async fn send(&self, peer: &str, frame: impl Into<Bytes>) {
        let (peer, frame) = (region(peer), frame.into());
        while let Err(refused) = self.handle.send(&peer, frame.clone()) {
            assert!(matches!(refused, SendRefused::Full { .. }), "{refused}");
            self.handle.room(&peer).await;
        }
    }

    /// Sends frames that do not compress until nothing leaves any more; what was taken. The
    /// others go on meanwhile, by `others`.
    pub(super) async fn fill(
        &self,
        peer: &str,
        mut others: impl AsyncFnMut(),
    ) -> Vec<Bytes> {
        let mut taken = Vec::new();
        for seed in 0.. {
            let frame = noise(seed, 32 << 10);
            match self.handle.send(&region(peer), frame.clone()) {
                Ok(()) => taken.push(frame),
                Err(SendRefused::Full { .. }) => {
                    let before = self.stats(peer).sent.frames;
                    others().await;
                    // Full because nothing leaves, and not only for the moment.
                    if self.stats(peer).sent.frames == before {
                        break;
                    }
                }
                Err(refused) => panic!("{refused}"),
            }
        }
        taken
    }

    pub(super) fn stats(&self, peer: &str) -> PeerStats {
        self.handle.peer_stats(&region(peer)).unwrap()
    }

    /// Waits until what is known of a peer is so.
    pub(super) async fn until(&self, peer: &str, condition: impl Fn(&PeerStats) -> bool) {
        while !condition(&self.stats(peer)) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until strangers were refused for a reason.
    pub(super) async fn refused_stranger(&self, reason: super::super::Reason) {
        while !self.handle.strangers().contains_key(&reason) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// A peer made by hand, that can say anything once TLS has let it through.
pub(super) struct Raw {
    pub(super) pair: Pair,
    /// Kept so that the connection lives.
    quic: Option<QuicPort>,
    transport: Transport,
    address: SocketAddr,
}

impl Raw {
    /// For a connection from `me`, with these credentials, to a region at an address.
    pub(super) fn new(
        (me, credentials): (&str, Credentials),
        (to, address): (&str, SocketAddr),
        transport: Transport,
    ) -> Self {
        let own = Own {
            me: region(me),
            cluster: CLUSTER,
            instance: 1,
            dictionary: Dictionary::built_in(),
            limits: limits(),
        };
        let expected = ExpectedServer::Identity(Identity::Region(region(to)));
        let tls = ClientTls::load(credentials.clone(), expected).unwrap();
        let peer = MeshPeer { region: region(to), endpoint: None, transport };
        let quic = (transport == Transport::Quic).then(|| {
            let socket = std::net::UdpSocket::bind(self::address()).unwrap();
            QuicPort::new(socket, ServerTls::load(credentials).unwrap(), own.limits)
                .unwrap()
                .0
        });
        Self { pair: Pair::new(Arc::new(own), peer, tls), quic, transport, address }
    }

    /// As far as TLS.
    pub(super) async fn dial(&self) -> Result<super::super::link::Link, LinkError> {
        match &self.quic {
            Some(quic) => quic.dial(&self.pair.tls, self.address).await,
            None => {
                assert_eq!(self.transport, Transport::Tcp);
                tcp::dial(&self.pair.tls, self.address).await
            }
        }
    }

    /// As far as a connection that counts.
    pub(super) async fn connect(&self) -> Result<Greeted, LinkError> {
        greet::dialled(self.dial().await?, &self.pair).await
    }
}
