//! One task for each peer, which keeps it connected.
//!
//! ```text
//! down --dialled or accepted, and confirmed--> up --ended--> down
//!                                              up --a newer one is confirmed--> up
//! ```
//!
//! It owns the pair: it alone decides which connection counts ([`super::pair`]), tells the
//! reader of the mesh, and opens and shuts the queue. No task of another pair waits for it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, timeout};

use super::block::encode_confirm;
use super::dial::{Backoff, until_greeted};
use super::greet::Greeted;
use super::inbox::{Inbox, Told};
use super::link::{FAREWELL_TIME_MAX, Line};
use super::pair::Pair;
use super::quic::QuicPort;
use super::session::Session;
use super::{LinkError, Reason};
use crate::clock::Clock;

/// How often the round trip is looked at on QUIC.
const RTT_EVERY: Duration = Duration::from_millis(500);

/// Keeps one pair connected.
#[derive(Debug)]
pub(super) struct Upkeep {
    pub(super) pair: Arc<Pair>,
    pub(super) quic: Option<QuicPort>,
    /// Connections that the peer has dialled.
    pub(super) accepted: mpsc::Receiver<Greeted>,
    pub(super) inbox: Inbox,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) clock: Arc<dyn Clock>,
    /// The last confirmation that was given.
    pub(super) last: u64,
}

/// A connection that is confirmed, with the life of the peer that it belongs to.
#[derive(Debug)]
struct Confirmed {
    greeted: Greeted,
    number: u64,
}

/// How being connected ends.
enum Ended {
    Down(LinkError),
    Replaced(Box<Confirmed>),
    Stopped,
}

impl Upkeep {
    /// Runs until the mesh stops.
    pub(super) async fn run(mut self) {
        let limits = self.pair.own.limits;
        let fresh = Backoff::new(self.pair.decides(), limits);
        let mut backoff = fresh;
        let mut next = None;
        loop {
            let confirmed = match next.take() {
                Some(confirmed) => confirmed,
                None => match self.connect(backoff).await {
                    Some(confirmed) => confirmed,
                    None => return,
                },
            };
            let since = Instant::now();
            match self.live(confirmed).await {
                Ended::Stopped => return,
                Ended::Replaced(confirmed) => next = Some(*confirmed),
                // One that does not last is as bad as none: no storm of connections.
                Ended::Down(error) if since.elapsed() < limits.pause_max => {
                    backoff.after(&error);
                }
                Ended::Down(_) => backoff = fresh,
            }
        }
    }

    /// Waits until a connection is confirmed; `None` when the mesh stops.
    async fn connect(&mut self, backoff: Backoff) -> Option<Confirmed> {
        let pair = Arc::clone(&self.pair);
        let quic = self.quic.clone();
        loop {
            let dialled = until_greeted(&pair, quic.as_ref(), backoff);
            let greeted = tokio::select! {
                greeted = dialled => greeted,
                greeted = self.accepted.recv() => greeted?,
                () = stopped(&mut self.stop) => return None,
            };
            if let Some(confirmed) = self.confirm(greeted).await {
                return Some(confirmed);
            }
        }
    }

    /// Makes a connection count, at both ends.
    async fn confirm(&mut self, mut greeted: Greeted) -> Option<Confirmed> {
        let number = match greeted.number {
            Some(number) => {
                self.pair.confirmed(number);
                number
            }
            None => {
                let writer = &mut greeted.link.writer;
                encode_confirm(self.last + 1, &mut writer.out);
                // The first bytes on a new connection need no room from the other end.
                let sent = timeout(FAREWELL_TIME_MAX, writer.flush()).await;
                let sent =
                    sent.unwrap_or(Err(LinkError::Silent { after: FAREWELL_TIME_MAX }));
                if let Err(error) = sent {
                    self.pair.failed(&error);
                    return None;
                }
                self.last += 1;
                self.last
            }
        };
        Some(Confirmed { greeted, number })
    }

    /// Whether the peer dialled before it knew of the current connection.
    fn is_duplicate(&self, greeted: &Greeted, current: &Current) -> bool {
        self.pair.decides()
            && greeted.hello.instance == current.instance
            && greeted.hello.seen < current.number
    }

    /// Up, until it ends.
    async fn live(&mut self, confirmed: Confirmed) -> Ended {
        let current = Current::of(&confirmed);
        let left = confirmed.greeted.link.peer.not_after.since(self.clock.now());
        let expiry = self.clock.sleep_until(self.clock.monotonic().saturating_add(left));
        let carrier = confirmed.greeted.link.line.carrier();
        let session = Session::start(confirmed.greeted, &self.pair);
        let mut session = match session {
            Ok(session) => session,
            Err(error) => return Ended::Down(LinkError::broken(&error)),
        };
        self.pair.up(carrier);
        let (error, next) = if self.tell(Told::Up(carrier)).await {
            session.listen(self.inbox.clone());
            self.watch(&mut session, &current, expiry).await
        } else {
            (LinkError::here(Reason::Stopping, ""), None)
        };
        self.pair.down(&error);
        session.close(&error).await;
        if !self.tell(Told::Down(error.clone())).await {
            return Ended::Stopped;
        }
        next.map_or(Ended::Down(error), |next| Ended::Replaced(Box::new(next)))
    }

    /// Why the connection ended, and the one that takes its place.
    async fn watch(
        &mut self,
        session: &mut Session,
        current: &Current,
        mut expiry: BoxFuture<'static, ()>,
    ) -> (LinkError, Option<Confirmed>) {
        let mut ticks = interval(RTT_EVERY);
        let here = |reason| (LinkError::here(reason, ""), None);
        loop {
            tokio::select! {
                error = session.ended() => return (error, None),
                Some(greeted) = self.accepted.recv() => {
                    if self.is_duplicate(&greeted, current) {
                        // Bounded in time, and nobody waits for it.
                        tokio::spawn(greeted.link.close(Reason::Duplicate, ""));
                    } else if let Some(confirmed) = self.confirm(greeted).await {
                        return (LinkError::here(Reason::Replaced, ""), Some(confirmed));
                    }
                }
                () = &mut expiry => return here(Reason::Expired),
                _ = ticks.tick() => {
                    if let Line::Quic(connection, _) = session.line() {
                        self.pair.gauges.rtt(connection.rtt());
                    }
                }
                () = stopped(&mut self.stop) => return here(Reason::Stopping),
            }
        }
    }

    /// Tells the reader of the mesh; whether it is still there.
    async fn tell(&mut self, told: Told) -> bool {
        tokio::select! {
            told = self.inbox.tell(told) => told,
            () = stopped(&mut self.stop) => false,
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Fails only when nobody could stop it any more.
    stop.wait_for(|stop| *stop).await.ok();
}

/// What must be known of the connection that counts.
#[derive(Clone, Copy, Debug)]
struct Current {
    instance: u64,
    number: u64,
}

impl Current {
    const fn of(confirmed: &Confirmed) -> Self {
        let instance = confirmed.greeted.hello.instance;
        Self { instance, number: confirmed.number }
    }
}
