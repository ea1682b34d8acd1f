//! Datagrams.

use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;
use tokio::time::Instant;
use tracing::warn;

use crate::dns::answer::{Asker, Outcome, Transport, answer, invite};
use crate::dns::counters::Counters;
use crate::dns::limit::{RateLimit, Verdict};
use crate::dns::query::may_be_question;
use crate::dns::view::View;
use crate::newest::Newest;

/// Longest question: whoever asks one name needs less. What is longer is cut, and is then no
/// question.
const QUESTION_BYTES_MAX: usize = 4_096;
/// Datagrams that are taken in one go, before others of the daemon have their turn.
const BATCH: usize = 64;

/// Answers datagrams.
#[derive(Debug)]
pub(super) struct Worker<'s> {
    socket: &'s UdpSocket,
    views: Newest<View>,
    limit: Option<RateLimit>,
    start: Instant,
    out: Vec<u8>,
}

impl<'s> Worker<'s> {
    pub(super) fn new(
        socket: &'s UdpSocket,
        views: Newest<View>,
        limit: Option<RateLimit>,
    ) -> Self {
        let out = Vec::with_capacity(crate::dns::UDP_BYTES_MAX.into());
        Self { socket, views, limit, start: Instant::now(), out }
    }

    pub(super) async fn run(mut self, counters: &Counters) {
        let mut packet = vec![0; QUESTION_BYTES_MAX];
        loop {
            if let Err(error) = self.socket.readable().await {
                warn!(%error, "the name server cannot wait for datagrams");
                tokio::task::yield_now().await;
            }
            for _ in 0..BATCH {
                match self.socket.try_recv_from(&mut packet) {
                    Ok((len, from)) => {
                        let packet = packet.get(..len).unwrap_or_default();
                        self.take(packet, from, counters);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // Of one datagram, such as that an answer before it found no one.
                    Err(error) => warn!(%error, "a datagram could not be received"),
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn take(&mut self, packet: &[u8], from: SocketAddr, counters: &Counters) {
        let verdict = self.verdict(packet, from);
        let (view, request) = self.views.next();
        let outcome = match verdict {
            Verdict::Answer => {
                let transport = Transport::Udp;
                let asker = Asker { source: from.ip(), transport, request };
                answer(view, packet, &asker, &mut self.out)
            }
            Verdict::Invite => {
                counters.invited();
                invite(view, packet, &mut self.out)
            }
            Verdict::Drop => return counters.dropped(),
        };
        counters.answered(Transport::Udp, outcome);
        if outcome != Outcome::Ignored
            && self.socket.try_send_to(&self.out, from).is_err()
        {
            counters.not_sent();
        }
    }

    fn verdict(&self, packet: &[u8], from: SocketAddr) -> Verdict {
        match &self.limit {
            // What is not answered anyway takes nothing of the share.
            Some(limit) if may_be_question(packet) => {
                let now = u64::try_from(self.start.elapsed().as_nanos());
                limit.admit(from.ip(), now.unwrap_or(u64::MAX))
            }
            Some(_) | None => Verdict::Answer,
        }
    }
}
