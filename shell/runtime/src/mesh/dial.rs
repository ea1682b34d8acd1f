//! Attempts to connect to one peer, until one succeeds: pauses that double up to a limit, with
//! jitter, so that regions that lost each other at one moment do not come back at one moment.
//!
//! Where QUIC is tried first and does not get through, TCP follows in the same attempt. The next
//! attempt begins with QUIC again. What was refused is not tried by the other transport: it
//! would be refused too.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};

use super::greet::{self, Greeted};
use super::pair::Pair;
use super::quic::QuicPort;
use super::{Carrier, Limits, LinkError, Reason, Transport, tcp};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// How long to wait before the next attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pause: Duration,
    limits: Limits,
}

impl Backoff {
    /// The deciding end dials at once; the other gives it a moment, to save a second connection.
    pub(super) const fn new(decides: bool, limits: Limits) -> Self {
        let pause = if decides { Duration::ZERO } else { limits.pause_min };
        Self { pause, limits }
    }

    /// After a failure, or a connection that did not last.
    pub(super) fn after(&mut self, error: &LinkError) {
        self.pause = match error.refusal() {
            Some(_) => self.limits.refused_pause,
            None => (self.pause * 2).clamp(self.limits.pause_min, self.limits.pause_max),
        };
    }

    async fn wait(self) {
        if !self.pause.is_zero() {
            sleep(self.pause.mul_f64(0.5 + 0.5 * random_share())).await;
        }
    }
}

/// Between zero and one.
fn random_share() -> f64 {
    let mut bytes = [0; 2];
    // Without randomness there is no jitter, which is no harm to one region.
    SystemRandom::new().fill(&mut bytes).ok();
    f64::from(u16::from_be_bytes(bytes)) / f64::from(u16::MAX)
}

/// Tries until a connection is greeted. Waits for ever where the peer has no address.
pub(super) async fn until_greeted(
    pair: &Pair,
    quic: Option<&QuicPort>,
    mut backoff: Backoff,
) -> Greeted {
    let Some(endpoint) = pair.peer.endpoint.as_deref() else {
        return std::future::pending().await;
    };
    loop {
        backoff.wait().await;
        match attempt(pair, quic, endpoint).await {
            Ok(greeted) => return greeted,
            Err(error) => {
                // The other connection is about to be there.
                if !matches!(error, LinkError::Closed { reason: Reason::Duplicate, .. }) {
                    pair.failed(&error);
                }
                backoff.after(&error);
            }
        }
    }
}

async fn attempt(
    pair: &Pair,
    quic: Option<&QuicPort>,
    endpoint: &str,
) -> Result<Greeted, LinkError> {
    let addresses = addresses(endpoint, pair.own.limits.connect_time_max).await?;
    let mut last =
        LinkError::Unreachable { reason: format!("{endpoint} has no address") };
    for address in addresses {
        match by_any(pair, quic, address).await {
            Ok(greeted) => return Ok(greeted),
            Err(error) if error.refusal().is_some() => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn addresses(
    endpoint: &str,
    time_max: Duration,
) -> Result<Vec<SocketAddr>, LinkError> {
    let unreachable = |error: io::Error| LinkError::Unreachable {
        reason: format!("the name of {endpoint} cannot be resolved: {error}"),
    };
    let late = |_| unreachable(io::ErrorKind::TimedOut.into());
    let found = timeout(time_max, lookup_host(endpoint)).await.map_err(late)?;
    Ok(found.map_err(unreachable)?.take(ADDRESSES_MAX).collect())
}

async fn by_any(
    pair: &Pair,
    quic: Option<&QuicPort>,
    address: SocketAddr,
) -> Result<Greeted, LinkError> {
    let limits = &pair.own.limits;
    let quic = quic.filter(|_| pair.peer.transport.allows(Carrier::Quic));
    let Some(quic) = quic else {
        return by_tcp(pair, address).await;
    };
    let alone = pair.peer.transport == Transport::Quic;
    let time_max = if alone { limits.connect_time_max } else { limits.quic_time_max };
    let connect =
        async { greet::dialled(quic.dial(&pair.tls, address).await?, pair).await };
    let error = match within(time_max, address, connect).await {
        Ok(greeted) => return Ok(greeted),
        Err(error) => named(pair, address, error),
    };
    let by_path = error.refusal().is_none_or(|why| why == Reason::OtherTransport);
    if alone || !by_path {
        return Err(error);
    }
    tracing::debug!(peer = %pair.region(), %error, "QUIC does not get through; trying TCP");
    by_tcp(pair, address).await
}

async fn by_tcp(pair: &Pair, address: SocketAddr) -> Result<Greeted, LinkError> {
    let connect =
        async { greet::dialled(tcp::dial(&pair.tls, address).await?, pair).await };
    within(pair.own.limits.connect_time_max, address, connect)
        .await
        .map_err(|error| named(pair, address, error))
}

async fn within(
    time_max: Duration,
    address: SocketAddr,
    connect: impl Future<Output = Result<Greeted, LinkError>>,
) -> Result<Greeted, LinkError> {
    let late = || LinkError::Unreachable {
        reason: format!("{address} did not answer within {time_max:?}"),
    };
    match timeout(time_max, connect).await {
        Ok(Err(LinkError::Silent { .. })) | Err(_) => Err(late()),
        Ok(connected) => connected,
    }
}

/// TLS does not say whom it expected and where.
fn named(pair: &Pair, address: SocketAddr, error: LinkError) -> LinkError {
    let LinkError::Closed { by, reason: Reason::WrongIdentity, detail } = error else {
        return error;
    };
    let detail = format!("dialled {address} for {}: {detail}", pair.region());
    LinkError::Closed { by, reason: Reason::WrongIdentity, detail }
}
