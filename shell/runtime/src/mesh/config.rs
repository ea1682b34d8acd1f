//! What a mesh is told: who it is, who its peers are, and how much it takes on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dwcp_types::RegionId;

use super::{ClusterId, Dictionary};
use crate::clock::Clock;
use crate::http::BindError;
use crate::tls::{Credentials, Identity, TlsError};

/// Most peers: a federation has tens of regions; each peer costs two tasks and its queues.
pub const PEERS_MAX: usize = 256;

/// Everything that a mesh is told.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// The own region; the certificate must say the same.
    pub me: RegionId,
    /// The federation; peers of another one are refused.
    pub cluster: ClusterId,
    /// Where to listen, by UDP for QUIC and by TCP, each if a peer may use it. Port zero takes
    /// one that is free for both.
    pub listen: SocketAddr,
    /// Certificate, key and trusted authority. Changed files are taken up.
    pub credentials: Credentials,
    /// The other regions.
    pub peers: Vec<MeshPeer>,
    /// The compression dictionary.
    pub dictionary: Dictionary,
    /// How much it takes on.
    pub limits: Limits,
    /// Tells when certificates of peers expire.
    pub clock: Arc<dyn Clock>,
}

/// Another region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshPeer {
    /// Which; its certificate must say the same.
    pub region: RegionId,
    /// Its `host:port`. A peer without one, such as an edge behind an address translator, is
    /// waited for.
    pub endpoint: Option<String>,
    /// By what it is reached.
    pub transport: Transport,
}

/// By what a peer may be reached, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Only QUIC.
    Quic,
    /// Only TLS over TCP.
    Tcp,
    /// QUIC, and TCP where UDP does not get through.
    #[default]
    Auto,
}

impl Transport {
    /// Whether a connection by this carrier is wanted.
    #[must_use]
    pub const fn allows(self, carrier: Carrier) -> bool {
        match self {
            Self::Auto => true,
            Self::Quic => matches!(carrier, Carrier::Quic),
            Self::Tcp => matches!(carrier, Carrier::Tcp),
        }
    }
}

/// What a connection runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carrier {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP.
    Tcp,
}

impl std::fmt::Display for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Quic => "QUIC",
            Self::Tcp => "TCP",
        })
    }
}

/// How much a mesh takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that wait for one peer, each frame with a little more for its place in the queue.
    /// While at most half of it is used, any frame is taken.
    pub queue_len_max: usize,
    /// Bytes under way to or from a peer that it has not taken yet: the product of bandwidth
    /// and delay that one connection can use.
    pub window_len: u32,
    /// A peer that was silent for this long is gone.
    pub idle_time_max: Duration,
    /// How often a quiet connection says that it lives. Well below `idle_time_max`.
    pub ping_every: Duration,
    /// Time to connect, from the first packet to the confirmation.
    pub connect_time_max: Duration,
    /// The same for QUIC when TCP may be tried after it.
    pub quic_time_max: Duration,
    /// Pause before the second attempt to connect; doubles with each.
    pub pause_min: Duration,
    /// Longest pause: how late a healed network may be noticed.
    pub pause_max: Duration,
    /// Pause after a refusal, which ends only when somebody changes something.
    pub refused_pause: Duration,
    /// Connections from others that are being made at once.
    pub handshakes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_len_max: 8 << 20,
            // 100 Mbit/s over 320 ms, the longest round trip of the example federations.
            window_len: 4 << 20,
            idle_time_max: Duration::from_secs(3),
            // Three may be lost.
            ping_every: Duration::from_millis(750),
            // Three round trips of 320 ms with one loss in each.
            connect_time_max: Duration::from_secs(4),
            quic_time_max: Duration::from_secs(2),
            pause_min: Duration::from_millis(100),
            // A way that is healed is noticed in less than an attempt takes; an attempt at a peer
            // that is not there is a packet or two.
            pause_max: Duration::from_millis(500),
            refused_pause: Duration::from_secs(10),
            handshakes_max: 64,
        }
    }
}

/// Why a mesh cannot start.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// It cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificate names someone else.
    #[error(
        "the certificate of the mesh names {found}, and this is region {me}; issue one for this region"
    )]
    Identity {
        /// Who is configured.
        me: RegionId,
        /// Who the certificate names.
        found: Identity,
    },
    /// The configured peers make no sense.
    #[error("the peers of region {me} cannot be used: {reason}")]
    Peers {
        /// The own region.
        me: RegionId,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Compression or randomness is not to be had.
    #[error("the mesh cannot start: {reason}")]
    Machine {
        /// What failed.
        reason: String,
    },
}
