//! Streams of questions, each with its length before it (RFC 7766).
//!
//! So many connections, and of them so many of one network; each has so long for the next whole
//! question, and so many of them. Who opens more, or is slower, is closed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use crate::dns::answer::{Asker, Outcome, Transport, answer};
use crate::dns::counters::Counters;
use crate::dns::view::View;
use crate::newest::Newest;
use crate::seats::Seats;

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
    seats: Seats,
}

impl<'s> Door<'s> {
    pub(super) fn new(
        listener: &'s TcpListener,
        views: watch::Receiver<Arc<View>>,
    ) -> Self {
        let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { listener, views, free, seats: Seats::new(PER_NETWORK_MAX) }
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
        let (Ok(permit), Some(seat)) = (free, self.seats.enter(from.ip())) else {
            counters.connection_refused();
            return;
        };
        let views = Newest::new(self.views.clone());
        let counters = counters.clone();
        open.spawn(async move {
            // Ended by the other side in whatever way: that is its business.
            drop(converse(stream, from.ip(), views, &counters).await);
            drop((permit, seat));
        });
    }
}

async fn converse(
    mut stream: TcpStream,
    source: IpAddr,
    mut views: Newest<View>,
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
