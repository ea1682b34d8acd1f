//! Streams of questions, each with its length before it (RFC 7766).
//!
//! So many connections, and of them so many of one network; each has so long for the next whole
//! question, and so many of them. Who opens more, or is slower, is closed.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dwcp_router::client_number;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use super::Views;
use crate::dns::answer::{Asker, Outcome, Transport, answer};
use crate::dns::counters::Counters;
use crate::dns::view::View;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 256;
/// Those of one network of clients.
const PER_NETWORK_MAX: usize = 32;
/// How long the next question may take, and an answer to be taken ("a few seconds", RFC 7766
/// 6.2.3).
const IDLE_MAX: Duration = Duration::from_secs(5);
/// Questions of one connection.
const QUESTIONS_MAX: usize = 10_000;
/// Longest question.
const QUESTION_BYTES_MAX: usize = 4_096;
/// After the system could not accept, most often for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes connections.
#[derive(Debug)]
pub(super) struct Door<'s> {
    listener: &'s TcpListener,
    views: watch::Receiver<Arc<View>>,
    free: Arc<Semaphore>,
    networks: Networks,
}

/// Connections by network.
#[derive(Clone, Debug, Default)]
struct Networks(Arc<Mutex<HashMap<u64, usize>>>);

/// One connection's place among those of its network.
#[derive(Debug)]
struct Place {
    networks: Networks,
    network: u64,
}

impl Networks {
    fn enter(&self, source: IpAddr) -> Option<Place> {
        let network = client_number(source);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(network).or_default();
        if *count >= PER_NETWORK_MAX {
            return None;
        }
        *count += 1;
        Some(Place { networks: self.clone(), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.networks.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

impl<'s> Door<'s> {
    pub(super) fn new(
        listener: &'s TcpListener,
        views: watch::Receiver<Arc<View>>,
    ) -> Self {
        let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { listener, views, free, networks: Networks::default() }
    }

    pub(super) async fn run(self, counters: &Arc<Counters>) {
        let mut open = JoinSet::new();
        loop {
            while open.try_join_next().is_some() {}
            match self.listener.accept().await {
                Ok((stream, from)) => self.take(stream, from, counters, &mut open),
                Err(error) => {
                    warn!(%error, "the name server cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn take(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        counters: &Arc<Counters>,
        open: &mut JoinSet<()>,
    ) {
        let free = self.free.clone().try_acquire_owned();
        let (Ok(permit), Some(place)) = (free, self.networks.enter(from.ip())) else {
            counters.connection_refused();
            return;
        };
        let views = Views::new(self.views.clone());
        let counters = counters.clone();
        open.spawn(async move {
            // Ended by the other side in whatever way: that is its business.
            drop(converse(stream, from.ip(), views, &counters).await);
            drop((permit, place));
        });
    }
}

async fn converse(
    mut stream: TcpStream,
    source: IpAddr,
    mut views: Views,
    counters: &Counters,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut packet, mut out, mut framed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..QUESTIONS_MAX {
        timeout(IDLE_MAX, receive(&mut stream, &mut packet)).await??;
        let (view, request) = views.next();
        let asker = Asker { source, transport: Transport::Tcp, request };
        let outcome = answer(view, &packet, &asker, &mut out);
        counters.answered(Transport::Tcp, outcome);
        if outcome == Outcome::Ignored {
            break;
        }
        framed.clear();
        framed.extend(u16::try_from(out.len()).unwrap_or_default().to_be_bytes());
        framed.extend_from_slice(&out);
        timeout(IDLE_MAX, stream.write_all(&framed)).await??;
    }
    Ok(())
}

async fn receive(stream: &mut TcpStream, packet: &mut Vec<u8>) -> io::Result<()> {
    let len = usize::from(stream.read_u16().await?);
    if len > QUESTION_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    packet.resize(len, 0);
    stream.read_exact(packet).await.map(|_| ())
}
