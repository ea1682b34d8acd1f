//! Connections that change from HTTP to WebSocket and are then passed on as they are.
//!
//! A tunnel belongs to the connection that it came by: that one counts as open until its tunnels
//! have ended, and they end with it when it is given up.

use std::mem;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::pool::Lease;
use super::server::{Phase, begun};
use super::sides::{Counted, silence};
use super::tally::Tally;

/// How long one may be silent: what connections that are passed on have when nobody says.
const IDLE_TIME_MAX: Duration = Duration::from_mins(10);

/// The tunnels of one connection.
#[derive(Clone, Debug)]
pub(super) struct Tunnels {
    open: Arc<Mutex<JoinSet<()>>>,
    phase: watch::Receiver<Phase>,
}

impl Tunnels {
    pub(super) fn new(phase: watch::Receiver<Phase>) -> Self {
        Self { open: Arc::default(), phase }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what both sides say once both have changed over.
    pub(super) fn open(
        &self,
        (near, far): (OnUpgrade, OnUpgrade),
        lease: Lease,
        mut tally: Tally,
    ) {
        let phase = self.phase.clone();
        self.all().spawn(async move {
            // A side that is gone before it has changed over ends both.
            let (Ok(near), Ok(far)) = tokio::join!(near, far) else { return };
            let stirred = AtomicU64::new(0);
            let mut near = Counted::new(TokioIo::new(near), &stirred);
            let mut far = Counted::new(TokioIo::new(far), &stirred);
            tokio::select! {
                // How it ended is the business of those who spoke.
                ended = copy_bidirectional(&mut near, &mut far) => drop(ended),
                () = silence(&stirred, IDLE_TIME_MAX) => {}
                () = begun(phase, Phase::Over) => {}
            }
            tally.sent(usize::try_from(far.came).unwrap_or(usize::MAX));
            drop(lease);
        });
    }

    /// Waits until all have ended.
    pub(super) async fn ended(&self) {
        loop {
            let mut open = mem::take(&mut *self.all());
            if open.is_empty() {
                return;
            }
            while open.join_next().await.is_some() {}
        }
    }
}
