//! How long a server that fails still has requests (F89), beside haproxy with the same probes: one
//! that is killed, and one that takes connections and answers nobody.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use rustix::process::Signal;
use tokio::time::Instant;

use super::ours::{self, What};
use super::peers::Process;
use super::{HOST, Measurement, Peer, Scratch};

/// Clients that ask all the time.
const CLIENTS: usize = 16;
/// A client's pause between an answer and its next request.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a client waits for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
const BEFORE: Duration = Duration::from_secs(3);
/// Twice what is promised.
const AFTER: Duration = Duration::from_secs(7);
const ROUNDS: u32 = 3;
const ROUNDS_QUICK: u32 = 1;

/// What befalls one of two servers.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Hangs,
}

/// What clients saw after it.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// From the fault until the last request began that was not answered.
    until: Duration,
    failed: usize,
    all: usize,
}

impl Seen {
    fn with(self, other: Self) -> Self {
        Self {
            until: self.until.max(other.until),
            failed: self.failed + other.failed,
            all: self.all + other.all,
        }
    }
}

/// Measures.
pub(super) fn measure(
    scratch: &Scratch,
    quick: bool,
) -> anyhow::Result<Vec<Measurement>> {
    let rounds = if quick { ROUNDS_QUICK } else { ROUNDS };
    let mut all = Vec::new();
    for (name, fault) in [("killed", Fault::Killed), ("hangs", Fault::Hangs)] {
        let (mut own, mut peer) = (Seen::default(), Seen::default());
        for _ in 0..rounds {
            own = own.with(round(scratch, fault, |at, strike| {
                Ok(ours::before(at, What::Requests, strike)?.0)
            })?);
            peer = peer.with(round(scratch, fault, |at, strike| {
                let peer = Process::haproxy_before(scratch.path(), at)?;
                strike(peer.at)
            })?);
        }
        let told = |seen: Seen| format!("{} of {} unanswered", seen.failed, seen.all);
        all.push(Measurement {
            name: format!("proxy.server_{name}"),
            value: seen_ms(own),
            unit: "ms",
            method: format!(
                "from the fault of one of two servers until the last request began that had no answer within {} s, at most of {rounds}; {CLIENTS} clients, probes each s; {}",
                ANSWER_TIME_MAX.as_secs(),
                told(own)
            ),
            peer: Some(Peer {
                name: format!("haproxy, {}", told(peer)),
                value: seen_ms(peer),
            }),
        });
    }
    Ok(all)
}

fn seen_ms(seen: Seen) -> f64 {
    seen.until.as_secs_f64() * 1e3
}

/// Whoever strikes, given where to ask.
type Strike<'s> = &'s dyn Fn(SocketAddr) -> anyhow::Result<Seen>;

fn round(
    scratch: &Scratch,
    fault: Fault,
    proxied: impl FnOnce(&[SocketAddr], Strike<'_>) -> anyhow::Result<Seen>,
) -> anyhow::Result<Seen> {
    let servers = [
        Process::server(scratch.path(), "one")?,
        Process::server(scratch.path(), "two")?,
    ];
    let at = [servers[0].at, servers[1].at];
    proxied(&at, &|proxy| {
        let asked = struck(proxy, || match fault {
            Fault::Killed => servers[0].signal(Signal::KILL),
            Fault::Hangs => servers[0].signal(Signal::STOP),
        });
        // Who hangs would not end otherwise before its requests have.
        servers[0].signal(Signal::KILL)?;
        asked
    })
}

/// Asks all the time, before and after a fault.
fn struck(
    proxy: SocketAddr,
    fault: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Seen> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = &over;
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(move || asks(proxy, over))).collect();
        std::thread::sleep(BEFORE);
        let at = Instant::now();
        let done = fault();
        std::thread::sleep(AFTER);
        over.store(true, Ordering::Relaxed);
        let mut seen = Seen::default();
        for client in clients {
            let asked = client.join().map_err(|_| anyhow!("a client panicked"))?;
            for (began, answered) in asked.into_iter().filter(|(began, _)| *began >= at) {
                let until = if answered { Duration::ZERO } else { began - at };
                seen = seen.with(Seen { until, failed: usize::from(!answered), all: 1 });
            }
        }
        done.map(|()| seen)
    })
}

/// When each request of a client began, and whether it was answered.
fn asks(proxy: SocketAddr, over: &AtomicBool) -> Vec<(Instant, bool)> {
    let mut all = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        all.push((began, ask(proxy).unwrap_or(false)));
        std::thread::sleep(PAUSE);
    }
    all
}

fn ask(proxy: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&proxy, ANSWER_TIME_MAX)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
