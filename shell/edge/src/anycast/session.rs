//! One session with a router, made anew whenever it ends.
//!
//! ```text
//!   connect ─▶ open, opened ─▶ established: keepalives, and the difference between what is wanted
//!      ▲                            │        and what was announced
//!      └──── pause that grows ◀─────┘ closed, silent, refused
//! ```
//!
//! An address that is to go is first announced as leaving (RFC 8326), so that routers that have
//! another way turn to it while this one still works.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::bfd::{Bfd, Watched, failed};
use super::message::{
    HEADER_LEN, Message, Open, Path, Wrong, announce, header, keepalive, notification,
    read, withdraw,
};

/// Time to connect, and for the other side to open.
const OPEN_TIME_MAX: Duration = Duration::from_secs(5);
/// Pauses between sessions.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A session that lasted for less is as bad as none: no flood of announcements that come and go.
const LASTED: Duration = Duration::from_secs(30);
/// How long an address is announced as leaving: time for the routers around to choose again.
const LEAVES_FOR: Duration = Duration::from_millis(500);
/// Messages of the other side that wait to be looked at.
const HEARD_MAX: usize = 64;
/// What a session is ended with that is not wanted any more: administrative shutdown.
const SHUTDOWN: (u8, u8) = (6, 2);
/// And when the other side was silent for too long.
const SILENT: (u8, u8) = (4, 0);
/// And when the way to it failed (RFC 9384).
const BFD_DOWN: (u8, u8) = (6, 10);

/// The router next to a region, and who one is to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its AS number.
    pub asn: u32,
    /// One's own.
    pub own_asn: u32,
    /// What one is known by; the address of the session when absent.
    pub router_id: Option<Ipv4Addr>,
    /// Where packets for announced addresses of version 4 are to be sent, and those of version 6;
    /// to the address of the session when absent, if that is of the same version.
    pub next_hop: (Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// Silence after which the session is over: 3 s at least, in whole seconds.
    pub hold: Duration,
    /// How the way to it is watched besides, if it is.
    pub bfd: Option<Bfd>,
}

/// How the session stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spoken {
    /// What the router was told, and not told back.
    pub announced: BTreeSet<IpAddr>,
    /// Why there is no session, or what the router does not take.
    pub reason: Option<String>,
}

/// Keeps a session up, and what is wanted announced, until nobody wants anything any more: then
/// all of it is taken back in order. `watched` is how the way to the router stands: a session over a
/// way that failed is ended.
pub async fn speak(
    neighbor: Neighbor,
    mut wanted: watch::Receiver<Arc<BTreeSet<IpAddr>>>,
    told: watch::Sender<Spoken>,
    watched: watch::Receiver<Watched>,
) {
    let mut pause = PAUSE_MIN;
    loop {
        let opened = tokio::select! {
            opened = Session::open(&neighbor) => opened,
            () = unwanted(&mut wanted) => return,
        };
        let reason = match opened {
            Ok(mut session) => {
                info!(neighbor = %neighbor.address, "a router listens to announcements");
                let begun = Instant::now();
                let served = session.serve(&mut wanted, &told, &watched).await;
                if begun.elapsed() >= LASTED {
                    pause = PAUSE_MIN;
                }
                match served {
                    Ok(()) => {
                        told.send_replace(Spoken::default());
                        return;
                    }
                    Err(reason) => reason,
                }
            }
            Err(reason) => reason,
        };
        let changed = told.send_if_modified(|spoken| {
            let now = Spoken { reason: Some(reason.clone()), ..Spoken::default() };
            std::mem::replace(spoken, now.clone()) != now
        });
        if changed {
            warn!(neighbor = %neighbor.address, %reason, "no router listens to announcements");
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = unwanted(&mut wanted) => return,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Waits until nobody wants anything any more.
async fn unwanted(wanted: &mut watch::Receiver<Arc<BTreeSet<IpAddr>>>) {
    while wanted.changed().await.is_ok() {}
}

struct Session {
    write: OwnedWriteHalf,
    heard: mpsc::Receiver<Result<Message, Wrong>>,
    /// Ends the reading with the session.
    _reading: JoinSet<()>,
    path: Path,
    hold: Duration,
    families: (bool, bool),
    announced: BTreeSet<IpAddr>,
}

impl Session {
    async fn open(neighbor: &Neighbor) -> Result<Self, String> {
        let late = |_| format!("no answer within {OPEN_TIME_MAX:?}");
        let stream = timeout(OPEN_TIME_MAX, TcpStream::connect(neighbor.address)).await;
        let stream = stream.map_err(late)?.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let own = stream.local_addr().map_err(|error| error.to_string())?.ip();
        let router_id = neighbor.router_id.or(match own {
            IpAddr::V4(own) => Some(own),
            IpAddr::V6(_) => None,
        });
        let open = Open {
            asn: neighbor.own_asn,
            hold_s: u16::try_from(neighbor.hold.as_secs()).unwrap_or(u16::MAX),
            router_id: router_id.ok_or("a session of IPv6 needs a router_id")?,
            families: (true, true),
        };
        let by_session = match own {
            IpAddr::V4(own) => (Some(own), None),
            IpAddr::V6(own) => (None, Some(own)),
        };
        let (read, write) = stream.into_split();
        let (tell, heard) = mpsc::channel(HEARD_MAX);
        let mut reading = JoinSet::new();
        reading.spawn(listen(read, tell));
        let mut session = Self {
            write,
            heard,
            _reading: reading,
            path: Path {
                through: (neighbor.own_asn != neighbor.asn).then_some(neighbor.own_asn),
                next_hop: (
                    neighbor.next_hop.0.or(by_session.0),
                    neighbor.next_hop.1.or(by_session.1),
                ),
                leaves: false,
            },
            hold: neighbor.hold,
            families: (false, false),
            announced: BTreeSet::new(),
        };
        session.say(open.encode()).await?;
        let agreed = timeout(OPEN_TIME_MAX, session.agree(neighbor)).await;
        agreed.map_err(late)??;
        Ok(session)
    }

    /// Hears who the other side is, and that it takes who one is.
    async fn agree(&mut self, neighbor: &Neighbor) -> Result<(), String> {
        let Message::Open(open) = self.hear().await? else {
            return Err(self.refuse("it does not open", (5, 1)).await);
        };
        if open.asn != neighbor.asn {
            let reason = format!("it is AS {}, not {}", open.asn, neighbor.asn);
            return Err(self.refuse(&reason, (2, 2)).await);
        }
        self.families = open.families;
        self.hold = neighbor.hold.min(Duration::from_secs(open.hold_s.into()));
        self.say(keepalive()).await?;
        match self.hear().await? {
            Message::Keepalive => Ok(()),
            Message::Open(_) | Message::Notification { .. } | Message::Other => {
                Err(self.refuse("it does not agree", (5, 2)).await)
            }
        }
    }

    /// Announces what is wanted until the session ends; `Ok` when nobody wants anything any more.
    async fn serve(
        &mut self,
        wanted: &mut watch::Receiver<Arc<BTreeSet<IpAddr>>>,
        told: &watch::Sender<Spoken>,
        watched: &watch::Receiver<Watched>,
    ) -> Result<(), String> {
        let mut way_failed = pin!(failed(watched.clone()));
        // Three keepalives in the time that is agreed on (RFC 4271, 4.4).
        let mut beat = interval(self.hold / 3);
        let mut heard_at = Instant::now();
        loop {
            let now = wanted.borrow_and_update().clone();
            self.become_so(&now, told).await?;
            let silent_at = heard_at + self.hold;
            tokio::select! {
                // What was said while this side was busy counts before the silence.
                biased;
                message = self.hear() => {
                    match message? {
                        Message::Keepalive | Message::Other => heard_at = Instant::now(),
                        Message::Open(_) | Message::Notification { .. } => {
                            return Err(self.refuse("it opens twice", (5, 3)).await);
                        }
                    }
                }
                changed = wanted.changed() => if changed.is_err() {
                    self.become_so(&BTreeSet::new(), told).await?;
                    drop(self.say(notification(SHUTDOWN)).await);
                    return Ok(());
                },
                () = &mut way_failed => {
                    return Err(self.refuse("the way to it failed", BFD_DOWN).await);
                }
                _ = beat.tick() => self.say(keepalive()).await?,
                () = sleep_until(silent_at) => {
                    return Err(self.refuse("it was silent for too long", SILENT).await);
                }
            }
        }
    }

    /// Says the difference between what was announced and what is wanted.
    async fn become_so(
        &mut self,
        wanted: &BTreeSet<IpAddr>,
        told: &watch::Sender<Spoken>,
    ) -> Result<(), String> {
        let takes = |address: &IpAddr| match address {
            IpAddr::V4(_) => self.families.0,
            IpAddr::V6(_) => self.families.1,
        };
        let (new, refused): (Vec<IpAddr>, Vec<IpAddr>) =
            wanted.difference(&self.announced).partition(|address| takes(address));
        for address in new {
            // The reader of the file has refused an address without a way to it.
            if let Some(message) = announce(address, &self.path) {
                self.say(message).await?;
                self.announced.insert(address);
            }
        }
        let gone: Vec<IpAddr> = self.announced.difference(wanted).copied().collect();
        if !gone.is_empty() {
            let leaves = Path { leaves: true, ..self.path };
            for message in gone.iter().filter_map(|address| announce(*address, &leaves)) {
                self.say(message).await?;
            }
            sleep(LEAVES_FOR).await;
            for address in gone {
                self.say(withdraw(address)).await?;
                self.announced.remove(&address);
            }
        }
        let announced = self.announced.clone();
        let reason = refused.first().map(|address| {
            format!(
                "the router takes no addresses such as {address}: give it that family"
            )
        });
        let now = Spoken { announced, reason };
        told.send_if_modified(|spoken| std::mem::replace(spoken, now.clone()) != now);
        Ok(())
    }

    async fn say(&mut self, message: Bytes) -> Result<(), String> {
        let said = timeout(OPEN_TIME_MAX, self.write.write_all(&message)).await;
        let said = said.map_err(|_| "it does not read what is said".to_owned())?;
        said.map_err(|error| error.to_string())
    }

    async fn hear(&mut self) -> Result<Message, String> {
        match self.heard.recv().await {
            Some(Ok(Message::Notification { code, subcode, text })) => {
                Err(format!("it ended the session: {}", ended(code, subcode, &text)))
            }
            Some(Ok(message)) => Ok(message),
            Some(Err(wrong)) => Err(self.refuse(&wrong.reason, wrong.code).await),
            None => Err("it closed the connection".to_owned()),
        }
    }

    /// Tells the other side why the session ends; gives the reason.
    async fn refuse(&mut self, reason: &str, code: (u8, u8)) -> String {
        drop(self.say(notification(code)).await);
        reason.to_owned()
    }
}

/// Reads messages until the connection ends.
async fn listen(mut from: OwnedReadHalf, to: mpsc::Sender<Result<Message, Wrong>>) {
    while let Some(message) = next(&mut from).await {
        let is_last = message.is_err();
        if to.send(message).await.is_err() || is_last {
            return;
        }
    }
}

async fn next(from: &mut OwnedReadHalf) -> Option<Result<Message, Wrong>> {
    let mut head = [0; HEADER_LEN];
    from.read_exact(&mut head).await.ok()?;
    let (len, kind) = match header(head) {
        Ok(right) => right,
        Err(wrong) => return Some(Err(wrong)),
    };
    let mut body = vec![0; len - HEADER_LEN];
    from.read_exact(&mut body).await.ok()?;
    Some(read(kind, body.into()))
}

/// A notification's code in words, for the codes that operators meet.
fn ended(code: u8, subcode: u8, text: &str) -> String {
    let what = match (code, subcode) {
        (2, 2) => "it does not expect this AS number",
        (2, _) => "it does not take who this is",
        (4, _) => "it heard nothing for too long",
        (6, 2) => "it was shut down",
        (6, 3) => "it is configured no more",
        (6, 5) => "it refuses the connection",
        (6, 7) => "it has another connection already",
        (6, 10) => "the way to here failed",
        (6, _) => "it ceases",
        _ => "an error",
    };
    let text = if text.is_empty() { String::new() } else { format!(": {text}") };
    format!("{what} (code {code}, {subcode}){text}")
}
