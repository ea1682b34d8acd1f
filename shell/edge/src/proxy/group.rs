//! The servers of one service in this region: who of them has requests, and the one task that
//! owns what is known of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dwcp_router::session::keep;
use dwcp_router::{Evidence, UPSTREAMS_MAX, Upstreams, pick};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::info;

use super::flows;
use super::pool::{Destination, Pool};

/// How often servers are probed (F89).
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take. One that is late is asked for again at once, so that a server that
/// hangs is out after a second and three times this, 3.4 s, at most.
const PROBE_TIME: Duration = Duration::from_millis(800);
/// Evidence that waits for the task: what is more is lost, and more will come.
const EVIDENCE_MAX: usize = 1_024;
/// How long a host may take to say that nobody is at a port.
const KNOCK_TIME: Duration = Duration::from_millis(500);
/// As much as a status line needs.
const STATUS_LEN: usize = 12;

/// How it is seen whether a server is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It takes a connection.
    Connection,
    /// It answers a request for this path with 2xx or 3xx.
    Request(Arc<str>),
    /// Its host does not say that nobody is there (ICMP) when it is sent an empty datagram.
    Datagram,
}

/// The servers of a service. Requests read it and wait for nobody.
#[derive(Debug)]
pub struct Group {
    pools: Vec<Arc<Pool>>,
    usable: AtomicU64,
    suspects: AtomicU64,
    evidence: mpsc::Sender<(usize, Evidence)>,
}

/// Owns what is known of a group's servers.
#[derive(Debug)]
pub struct Ward {
    group: Arc<Group>,
    known: Upstreams,
    heard: mpsc::Receiver<(usize, Evidence)>,
    probe: Probe,
    start: Instant,
}

impl Group {
    /// Servers (`host:port`, 64 at most), and whoever looks after them.
    #[must_use]
    pub fn new(servers: &[Arc<str>], probe: Probe) -> (Arc<Self>, Ward) {
        let (evidence, heard) = mpsc::channel(EVIDENCE_MAX);
        let pool =
            |at: &Arc<str>| Pool::new(Destination { at: at.clone(), region: None });
        let pools: Vec<_> = servers.iter().take(UPSTREAMS_MAX).map(pool).collect();
        let known = Upstreams::new(pools.len());
        let group = Arc::new(Self {
            usable: AtomicU64::new(known.usable(Duration::ZERO)),
            suspects: AtomicU64::new(0),
            pools,
            evidence,
        });
        let ward =
            Ward { group: group.clone(), known, heard, probe, start: Instant::now() };
        (group, ward)
    }

    /// Who has requests, a bit for each.
    pub(super) fn usable(&self) -> u64 {
        self.usable.load(Ordering::Relaxed)
    }

    /// Picks a server but these.
    pub(super) fn pick(&self, but: u64, draw: u64) -> Option<(usize, &Arc<Pool>)> {
        let busy = |at: usize| self.pools.get(at).map_or(0, |pool| pool.busy());
        let at = pick(self.usable() & !but, draw, busy)?;
        self.pools.get(at).map(|pool| (at, pool))
    }

    /// The server but these that a client keeps: the one of this number, else its own by address.
    pub(super) fn keep(
        &self,
        but: u64,
        wanted: Option<u32>,
        client: u64,
    ) -> Option<(usize, &Arc<Pool>)> {
        let usable = self.usable() & !but;
        let number = |at: usize| self.pools.get(at).map_or(0, |pool| pool.number);
        let known = (0..self.pools.len())
            .find(|at| usable >> at & 1 == 1 && wanted == Some(number(*at)));
        let at = known.or_else(|| keep(usable, client, number))?;
        self.pools.get(at).map(|pool| (at, pool))
    }

    /// Says what became of a request; that one was answered is news only of who was amiss.
    pub(super) fn tell(&self, at: usize, evidence: Evidence) {
        let suspect = self.suspects.load(Ordering::Relaxed) >> at & 1 == 1;
        if evidence != Evidence::Answered || suspect {
            self.evidence.try_send((at, evidence)).unwrap_or_default();
        }
    }
}

impl Ward {
    /// Probes and listens, for ever.
    pub async fn run(mut self) {
        let (tell, mut probed) = mpsc::channel(UPSTREAMS_MAX);
        // They end with this.
        let mut probers = JoinSet::new();
        for (at, pool) in self.group.pools.iter().enumerate() {
            let prober = prober(pool.clone(), self.probe.clone(), (at, tell.clone()));
            probers.spawn(prober);
        }
        loop {
            let back = self.known.next_return(self.start.elapsed());
            let back = back.map(|at| self.start + at);
            tokio::select! {
                Some((at, answered)) = probed.recv() => {
                    let changed = self.known.probed(at, answered);
                    self.say(changed, at, "probes");
                }
                Some((at, evidence)) = self.heard.recv() => {
                    let ejected = self.known.served(at, evidence, self.start.elapsed());
                    self.say(ejected, at, "requests");
                }
                () = until(back), if back.is_some() => {}
            }
            self.show();
        }
    }

    fn show(&self) {
        let usable = self.known.usable(self.start.elapsed());
        self.group.usable.store(usable, Ordering::Relaxed);
        self.group.suspects.store(self.known.suspects(), Ordering::Relaxed);
    }

    fn say(&self, changed: bool, at: usize, by: &'static str) {
        if let (true, Some(pool)) = (changed, self.group.pools.get(at)) {
            let has = self.known.usable(self.start.elapsed()) >> at & 1 == 1;
            info!(server = %pool.to.at, by, has_requests = has, "a server was judged anew");
        }
    }
}

/// Probes one server for ever, whatever becomes of the others.
async fn prober(
    pool: Arc<Pool>,
    probe: Probe,
    (at, tell): (usize, mpsc::Sender<(usize, bool)>),
) {
    loop {
        let next = Instant::now() + PROBE_EVERY;
        pool.tidy();
        let answered = timeout(PROBE_TIME, answers(&pool.to.at, &probe)).await;
        if tell.send((at, matches!(answered, Ok(Ok(true))))).await.is_err() {
            return;
        }
        if answered.is_ok() {
            sleep_until(next).await;
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Whether a server is there.
async fn answers(server: &str, probe: &Probe) -> std::io::Result<bool> {
    let path = match probe {
        Probe::Connection => return TcpStream::connect(server).await.map(|_| true),
        Probe::Datagram => return flows::knock(server, KNOCK_TIME).await,
        Probe::Request(path) => path,
    };
    let mut stream = TcpStream::connect(server).await?;
    let asked =
        format!("GET {path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n");
    stream.write_all(asked.as_bytes()).await?;
    let mut status = [0; STATUS_LEN];
    stream.read_exact(&mut status).await?;
    Ok(matches!(
        status,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', b'2' | b'3', _, _]
    ))
}
