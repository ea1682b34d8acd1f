//! Moves bytes between sockets and [`super::answer()`], by UDP and TCP.
//!
//! One task each: an answer takes a microsecond, less than the system takes to hand over the
//! datagram, so that more tasks would wait for each other at the socket. Nothing is queued but
//! by the system: what cannot be sent at once is dropped and counted, and asked again.

mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use super::counters::Counters;
use super::limit::RateLimit;
use super::view::View;
use crate::newest::Newest;

/// Attempts to find a port that is free for UDP and TCP, when any will do.
const PORT_ATTEMPTS: usize = 16;

/// Where and how much a name server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The address and port, by UDP and TCP. Not "any" address: an answer comes from where the
    /// question went. Port 0 is any that is free.
    pub address: SocketAddr,
    /// Most answers by UDP a second to a network of clients; nothing is no limit.
    pub answers_per_second: Option<u32>,
}

/// A name server that is bound and does not answer yet.
#[derive(Debug)]
pub struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    answers_per_second: Option<u32>,
    counters: Arc<Counters>,
}

impl Server {
    /// Binds.
    ///
    /// # Errors
    ///
    /// What the system says, such as that the port is in use.
    pub async fn bind(listening: Listening) -> io::Result<Self> {
        let (udp, tcp) = sockets(listening.address).await?;
        let answers_per_second = listening.answers_per_second;
        Ok(Self { udp, tcp, answers_per_second, counters: Arc::default() })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// What it counts, also while it runs.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Answers by the newest view, for ever.
    pub async fn run(self, views: watch::Receiver<Arc<View>>) {
        let limit = self.answers_per_second.map(RateLimit::new);
        let udp = udp::Worker::new(&self.udp, Newest::new(views.clone()), limit);
        let tcp = tcp::Door::new(&self.tcp, views);
        tokio::join!(udp.run(&self.counters), tcp.run(&self.counters));
    }
}

async fn sockets(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let tcp = TcpListener::bind(address).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) if attempts == 0 => return Err(error),
            Err(_) => {}
        }
    }
}
