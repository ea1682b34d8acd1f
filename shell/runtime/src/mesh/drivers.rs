//! The tasks that quinn starts, in a way that one can end them.
//!
//! After its last word a QUIC connection lingers for some round trips, in case it must be
//! repeated, and quinn's socket is free only when its last task has ended. A daemon that stops
//! gives them a moment, then ends them, and knows that the port is free.

use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::link::FAREWELL_TIME_MAX;

/// tokio as quinn's runtime, and the tasks that quinn started. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(super) struct Drivers {
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Drivers {
    /// Ends the tasks. Every handle of the endpoint must be gone.
    pub(super) async fn end(&self) {
        let mut tasks = std::mem::take(&mut *self.lock());
        let left = async { while tasks.join_next().await.is_some() {} };
        timeout(FAREWELL_TIME_MAX, left).await.ok();
        tasks.shutdown().await;
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runtime for Drivers {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let mut tasks = self.lock();
        // Forgets those that have ended.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}
