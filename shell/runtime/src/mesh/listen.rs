//! Takes connections from others, and gives each to the task of the peer that its certificate
//! names.
//!
//! A bounded number of handshakes at once; beyond it QUIC is refused and TCP waits in the
//! kernel's queue. Nothing large is read before a peer is known, and whoever is none is told
//! why.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dwcp_types::RegionId;
use quinn::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::gauges::Strangers;
use super::greet::{self, Greeted};
use super::link::Link;
use super::pair::{Own, Pair};
use super::quic::QuicPort;
use super::{LinkError, Reason, tcp};
use crate::tls::{Identity, ServerTls};

/// Pause after `accept` failed (out of file descriptors): trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection needs to be greeted.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) own: Arc<Own>,
    pub(super) pairs: BTreeMap<RegionId, (Arc<Pair>, mpsc::Sender<Greeted>)>,
    pub(super) strangers: Arc<Strangers>,
    pub(super) server: ServerTls,
}

/// Takes connections until the mesh stops.
pub(super) async fn listen(
    door: Arc<Door>,
    quic: Option<QuicPort>,
    tcp: Option<TcpListener>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(door.own.limits.handshakes_max));
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            // Fails only when nobody could stop it any more.
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = handshakes.join_next(), if !handshakes.is_empty() => {}
            incoming = next_quic(quic.as_ref()) => {
                let (Some(incoming), Some(quic)) = (incoming, quic.clone()) else { break };
                match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) => {
                        handshakes.spawn(Arc::clone(&door).take_quic(quic, incoming, place));
                    }
                    Err(_) => incoming.refuse(),
                }
            }
            accepted = next_tcp(tcp.as_ref(), &places) => {
                if let Some((stream, place)) = accepted {
                    handshakes.spawn(Arc::clone(&door).take_tcp(stream, place));
                }
            }
        }
    }
    handshakes.shutdown().await;
}

/// `None` when the endpoint is closed.
async fn next_quic(quic: Option<&QuicPort>) -> Option<Incoming> {
    match quic {
        Some(quic) => quic.incoming().await,
        None => std::future::pending().await,
    }
}

/// A place first, then a connection to fill it.
async fn next_tcp(
    listener: Option<&TcpListener>,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let Some(listener) = listener else { return std::future::pending().await };
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "a connection of the mesh cannot be accepted");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

impl Door {
    async fn take_quic(
        self: Arc<Self>,
        quic: QuicPort,
        incoming: Incoming,
        place: OwnedSemaphorePermit,
    ) {
        let from = incoming.remote_address();
        self.take(quic.accept(incoming), Some(from)).await;
        drop(place);
    }

    async fn take_tcp(self: Arc<Self>, stream: TcpStream, place: OwnedSemaphorePermit) {
        let from = stream.peer_addr().ok();
        self.take(tcp::accept(&self.server, stream), from).await;
        drop(place);
    }

    /// Everything up to the hellos, within its time.
    async fn take(
        &self,
        tls: impl Future<Output = Result<Link, LinkError>>,
        from: Option<SocketAddr>,
    ) {
        let time_max = self.own.limits.connect_time_max;
        let taken = timeout(time_max, async {
            match tls.await {
                Ok(link) => self.greet(link, from).await,
                Err(error) => self.refused(&error, from),
            }
        });
        if taken.await.is_err() {
            tracing::debug!(?from, "a connection of the mesh was not made in time");
        }
    }

    async fn greet(&self, link: Link, from: Option<SocketAddr>) {
        let (pair, offers) = match self.pair_of(&link) {
            Ok(known) => known,
            Err(error) => {
                self.refused(&error, from);
                if let LinkError::Closed { reason, detail, .. } = error {
                    link.close(reason, &detail).await;
                }
                return;
            }
        };
        match greet::accepted(link, pair).await {
            Ok(greeted) => {
                // One waits at most: its peer does not dial twice at a time.
                if let Err(mpsc::error::TrySendError::Full(greeted)) =
                    offers.try_send(greeted)
                {
                    greeted.link.close(Reason::Busy, "").await;
                }
            }
            Err(error) if error.refusal().is_some() => pair.failed(&error),
            Err(error) => {
                tracing::debug!(peer = %pair.region(), %error, "a connection ended early");
            }
        }
    }

    /// Who the certificate names, if that is a peer that may come this way.
    fn pair_of(
        &self,
        link: &Link,
    ) -> Result<&(Arc<Pair>, mpsc::Sender<Greeted>), LinkError> {
        let me = &self.own.me;
        let named = &link.peer.identity;
        let known = match named {
            Identity::Region(region) => self.pairs.get(region),
            Identity::Host { .. }
            | Identity::Admin(_)
            | Identity::Engine(_)
            | Identity::Monitor(_) => None,
        };
        let Some(known) = known else {
            let detail = format!("{named} is no peer of {me}");
            return Err(LinkError::here(Reason::NotAPeer, detail));
        };
        let carrier = link.line.carrier();
        if known.0.peer.transport.allows(carrier) {
            Ok(known)
        } else {
            let detail =
                format!("{me} does not want {carrier} with {}", known.0.region());
            Err(LinkError::here(Reason::OtherTransport, detail))
        }
    }

    /// A refusal before the peer is known.
    fn refused(&self, error: &LinkError, from: Option<SocketAddr>) {
        match error.refusal() {
            Some(reason) if self.strangers.count(reason) => {
                tracing::warn!(me = %self.own.me, ?from, %error, "a connection of the mesh was refused");
            }
            _ => {
                tracing::debug!(me = %self.own.me, ?from, %error, "a connection of the mesh was not made");
            }
        }
    }
}
