//! Connections over QUIC: one UDP socket for all peers, one stream for each connection.
//!
//! One stream, because frames are in order anyway. Keep-alive, loss detection and the round trip
//! time come from the stack. What a connection needs no more is switched off: further streams,
//! datagrams, session resumption and with it data before the handshake (0-RTT), which could be
//! replayed.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, Incoming, ServerConfig,
    TransportConfig, VarInt,
};
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls_pki_types::CertificateDer;

use super::drivers::Drivers;
use super::link::{Line, Link};
use super::{ALPN, Limits, LinkError, Reason};
use crate::tls::{ClientTls, Peer, ServerTls};

/// Certificates decide who answers; this only fills the place of a name.
const SERVER_NAME: &str = "mesh.dwcp";
/// Connections whose first packet waits to be looked at; a refused one tries again.
const INCOMING_MAX: usize = 256;
/// Bytes that one of them may send before.
const INCOMING_LEN_MAX: u64 = 16 << 10;

/// The socket, for both directions.
#[derive(Clone)]
pub(super) struct QuicPort {
    endpoint: Endpoint,
    transport: Arc<TransportConfig>,
    limits: Limits,
    server: ServerTls,
    /// The configuration made of the server's certificate, made again when that changes.
    current: Arc<Mutex<Option<Current>>>,
}

struct Current {
    tls: Arc<rustls::ServerConfig>,
    quic: Arc<ServerConfig>,
}

impl QuicPort {
    /// Takes a bound socket into use, until the [`Drivers`] are ended. Needs a tokio runtime.
    pub(super) fn new(
        socket: UdpSocket,
        server: ServerTls,
        limits: Limits,
    ) -> io::Result<(Self, Drivers)> {
        let drivers = Drivers::default();
        let runtime = Arc::new(drivers.clone());
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, runtime)?;
        let transport = Arc::new(transport(&limits)?);
        let current = Arc::default();
        let port = Self { endpoint, transport, limits, server, current };
        let config = port.server_config().map_err(io::Error::other)?;
        port.endpoint.set_server_config(Some((*config).clone()));
        Ok((port, drivers))
    }

    pub(super) async fn incoming(&self) -> Option<Incoming> {
        self.endpoint.accept().await
    }

    /// Makes a connection, as far as TLS.
    pub(super) async fn dial(
        &self,
        tls: &ClientTls,
        address: SocketAddr,
    ) -> Result<Link, LinkError> {
        let mut config = (*tls.current().0).clone();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let suite = TLS13_AES_128_GCM_SHA256.tls13().and_then(|suite| suite.quic_suite());
        let suite = suite.ok_or_else(|| unusable(&"no cipher for the first packet"))?;
        let config = QuicClientConfig::with_initial(Arc::new(config), suite)
            .map_err(|error| unusable(&error))?;
        let mut config = ClientConfig::new(Arc::new(config));
        config.transport_config(Arc::clone(&self.transport));
        let connecting = self
            .endpoint
            .connect_with(config, address, SERVER_NAME)
            .map_err(|error| unusable(&error))?;
        let connection = connecting.await.map_err(|error| self.explain(&error))?;
        let stream = connection.open_bi().await;
        self.link(connection, stream)
    }

    /// Takes a connection, as far as TLS.
    pub(super) async fn accept(&self, incoming: Incoming) -> Result<Link, LinkError> {
        let config = self.server_config().map_err(|error| unusable(&error))?;
        let connecting =
            incoming.accept_with(config).map_err(|error| self.explain(&error))?;
        let connection = connecting.await.map_err(|error| self.explain(&error))?;
        let stream = connection.accept_bi().await;
        self.link(connection, stream)
    }

    fn link(
        &self,
        connection: Connection,
        stream: Result<(quinn::SendStream, quinn::RecvStream), quinn::ConnectionError>,
    ) -> Result<Link, LinkError> {
        let (send, receive) = stream.map_err(|error| self.explain(&error))?;
        let identity = connection.peer_identity();
        let chain =
            identity.and_then(|any| any.downcast::<Vec<CertificateDer<'_>>>().ok());
        let peer = chain.as_ref().and_then(|chain| chain.first());
        let peer = peer.and_then(|first| Peer::from_der(first).ok());
        let Some(peer) = peer else {
            return Err(LinkError::here(Reason::BadCertificate, "it names nobody"));
        };
        let line = Line::Quic(connection, self.limits.idle_time_max);
        Ok(Link::new(receive, send, line, peer))
    }

    fn explain(&self, error: &quinn::ConnectionError) -> LinkError {
        LinkError::of_quic(error, self.limits.idle_time_max)
    }

    fn server_config(&self) -> Result<Arc<ServerConfig>, String> {
        let tls = self.server.current();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = &*current
            && Arc::ptr_eq(&current.tls, &tls)
        {
            return Ok(Arc::clone(&current.quic));
        }
        let quic = Arc::new(self.server_config_of(&tls)?);
        *current = Some(Current { tls, quic: Arc::clone(&quic) });
        Ok(quic)
    }

    fn server_config_of(
        &self,
        tls: &Arc<rustls::ServerConfig>,
    ) -> Result<ServerConfig, String> {
        let mut config = (**tls).clone();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let suite = TLS13_AES_128_GCM_SHA256.tls13().and_then(|suite| suite.quic_suite());
        let suite = suite.ok_or("no cipher for the first packet")?;
        let config = QuicServerConfig::with_initial(Arc::new(config), suite)
            .map_err(|error| error.to_string())?;
        let mut config = ServerConfig::with_crypto(Arc::new(config));
        config
            .transport_config(Arc::clone(&self.transport))
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_LEN_MAX);
        Ok(config)
    }
}

impl std::fmt::Debug for QuicPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicPort")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// What a round trip is taken for before the first: a third of what the standard says, so that a
/// first packet that was lost is sent again after 0.3 and 0.9 s and not after 1 and 3. Over the
/// longest ways some are sent twice.
const INITIAL_RTT: Duration = Duration::from_millis(100);

fn transport(limits: &Limits) -> io::Result<TransportConfig> {
    let idle = limits.idle_time_max.try_into().map_err(io::Error::other)?;
    let window = VarInt::from_u32(limits.window_len);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(window)
        .receive_window(window)
        .send_window(limits.window_len.into())
        .initial_rtt(INITIAL_RTT)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(limits.ping_every));
    Ok(transport)
}

fn unusable(error: &dyn std::fmt::Display) -> LinkError {
    LinkError::Unreachable { reason: error.to_string() }
}
