//! The one task that owns this region's replica, and the handle to it.
//!
//! ```text
//!   API --Ask--> +------+ --Persist--> writer --LocalStore--> disk
//!   mesh <-----> | task | <--Persisted---'
//!   engine -View-> +------+ --Reply--> API
//! ```
//!
//! A turn takes in whatever is at hand, up to a bound, and ends with one batch for the disk: so
//! many small writes of many callers share an `fsync` without waiting for each other. The writer
//! is a task of its own that keeps the order of batches and joins those that came while the disk
//! was busy.
//!
//! A frame that the mesh does not take (its queue is full, the peer is gone) is dropped here: the
//! replica's cursors send again what is missing, and the log, not the queue, is what must not
//! lose anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dwcp_runtime::clock::Clock;
use dwcp_runtime::mesh::{MeshEvent, MeshEvents, MeshHandle};
use dwcp_state::{
    Actor, BatchId, Command, Frame, Frontier, Input, Key, Membership, Notice, Now,
    Outcome, Replica, ReplicaId, Request, RequestId, RowChange, STEP_TAKEN_AFTER,
    Settled, Stats, SteadyWall,
};
use dwcp_types::RegionId;
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use super::feed::Feed;
use super::start::Start;
use super::writer::{Batch, Persisted};
use crate::metrics::Metrics;

/// Questions that wait for the task: beyond it callers wait.
const ASKS_MAX: usize = 4_096;
/// Inputs of one turn: some milliseconds of work.
const TURN_MAX: usize = 512;
/// Prefix of the rows that hold values.
const VALUES: &str = "s/";

/// What the task is asked.
#[derive(Debug)]
pub(super) enum Ask {
    /// A client's request, without its id.
    Client {
        /// The request; its id is given here.
        request: Request,
        /// Where the outcome goes.
        reply: oneshot::Sender<Outcome>,
    },
    /// How the replica is.
    Report(oneshot::Sender<Report>),
    /// What was received, by replica.
    Frontier(oneshot::Sender<Frontier>),
    /// Reconcile with every peer now.
    Reconcile,
}

/// How the replica is.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) actor: Actor,
    pub(crate) digest: u64,
    pub(crate) stats: Stats,
}

/// The way to the replica; cheap to share.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    asks: mpsc::Sender<Ask>,
    /// What changed.
    pub(crate) feed: Arc<Feed>,
    /// The membership that the replica was last shown.
    pub(crate) view: watch::Receiver<Option<Arc<Membership>>>,
    /// Who the replica is in this life.
    pub(crate) actor: watch::Receiver<Actor>,
}

/// The replica's task is gone: the daemon is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the replica is stopping; ask another region")]
pub(crate) struct Stopping;

impl Handle {
    /// Asks the replica.
    ///
    /// # Errors
    ///
    /// [`Stopping`]; refusals are part of the outcome.
    pub(crate) async fn ask(&self, request: Request) -> Result<Outcome, Stopping> {
        let (reply, outcome) = oneshot::channel();
        self.asks.send(Ask::Client { request, reply }).await.map_err(|_| Stopping)?;
        outcome.await.map_err(|_| Stopping)
    }

    /// How the replica is.
    ///
    /// # Errors
    ///
    /// [`Stopping`].
    pub(crate) async fn report(&self) -> Result<Report, Stopping> {
        let (reply, report) = oneshot::channel();
        self.asks.send(Ask::Report(reply)).await.map_err(|_| Stopping)?;
        report.await.map_err(|_| Stopping)
    }

    /// What was received, by replica.
    ///
    /// # Errors
    ///
    /// [`Stopping`].
    pub(crate) async fn frontier(&self) -> Result<Frontier, Stopping> {
        let (reply, frontier) = oneshot::channel();
        self.asks.send(Ask::Frontier(reply)).await.map_err(|_| Stopping)?;
        frontier.await.map_err(|_| Stopping)
    }

    /// Reconciles with every peer now.
    ///
    /// # Errors
    ///
    /// [`Stopping`].
    pub(crate) async fn reconcile(&self) -> Result<(), Stopping> {
        self.asks.send(Ask::Reconcile).await.map_err(|_| Stopping)
    }
}

/// What the task needs.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) start: Start,
    pub(super) replica: Option<Replica>,
    pub(super) mesh: MeshHandle,
    pub(super) events: MeshEvents,
    pub(super) batches: mpsc::Sender<Batch>,
    pub(super) persisted: mpsc::Receiver<Persisted>,
    pub(super) view: watch::Receiver<Option<Arc<Membership>>>,
    pub(super) settled: watch::Sender<Settled>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) life: u64,
}

/// Makes the handle and the task behind it.
pub(super) fn new(mut parts: Parts) -> (Waiting, Handle) {
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let feed = Arc::new(Feed::new(parts.life));
    let replica = parts.replica.take();
    let nobody = Actor::new(ReplicaId::new(0), 0);
    let actor = replica.as_ref().map_or(nobody, Replica::actor);
    let (actor, known_actor) = watch::channel(actor);
    let view = parts.view.clone();
    let handle = Handle { asks, feed: Arc::clone(&feed), view, actor: known_actor };
    (Waiting { parts, replica, asked, feed, actor }, handle)
}

/// The owner of a replica that may have to be admitted first.
#[derive(Debug)]
pub(super) struct Waiting {
    parts: Parts,
    replica: Option<Replica>,
    asked: mpsc::Receiver<Ask>,
    feed: Arc<Feed>,
    actor: watch::Sender<Actor>,
}

impl Waiting {
    /// Waits until there is a replica, and runs it until nobody can ask any more.
    pub(super) async fn run(self) {
        let Self { mut parts, replica, asked, feed, actor } = self;
        let replica = match replica {
            Some(replica) => replica,
            None => match parts.start.first().await {
                Some(replica) => replica,
                None => return,
            },
        };
        let steady = SteadyWall::new(parts.clock.now(), parts.clock.monotonic());
        let task = Task {
            replica,
            steady,
            parts,
            asked,
            feed,
            actor,
            next_request: 0,
            waiting: BTreeMap::new(),
            changed: BTreeMap::new(),
            regions: BTreeMap::new(),
            connected: BTreeSet::new(),
            out: Vec::new(),
        };
        task.run().await;
    }
}

/// The owner of the replica.
#[derive(Debug)]
struct Task {
    replica: Replica,
    steady: SteadyWall,
    parts: Parts,
    asked: mpsc::Receiver<Ask>,
    feed: Arc<Feed>,
    actor: watch::Sender<Actor>,
    next_request: u64,
    waiting: BTreeMap<RequestId, oneshot::Sender<Outcome>>,
    /// The keys of batches that are not durable yet.
    changed: BTreeMap<BatchId, Vec<Key>>,
    /// Members by region: a daemon is one replica.
    regions: BTreeMap<RegionId, ReplicaId>,
    connected: BTreeSet<RegionId>,
    out: Vec<Command>,
}

/// What woke the task.
enum Woken {
    Asked(Ask),
    Mesh(MeshEvent),
    Persisted(Persisted),
    View,
    Due,
    /// Everybody who could ask is gone.
    Closed,
}

impl Task {
    async fn run(mut self) {
        self.follow_view();
        loop {
            let woken = self.woken().await;
            if matches!(woken, Woken::Closed) {
                return;
            }
            self.take(woken);
            for _ in 0..TURN_MAX {
                let Some(woken) = self.at_hand() else { break };
                self.take(woken);
            }
            let now = self.now();
            self.replica.turn_end(now, &mut self.out);
            let actor = self.replica.actor();
            self.actor.send_if_modified(|known| std::mem::replace(known, actor) != actor);
            if !self.carry_out().await {
                return;
            }
        }
    }

    async fn woken(&mut self) -> Woken {
        let due = self.replica.next_deadline();
        let clock = Arc::clone(&self.parts.clock);
        let due = async {
            match due {
                Some(due) => clock.sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(persisted) = self.parts.persisted.recv() => Woken::Persisted(persisted),
            Some(event) = self.parts.events.next() => Woken::Mesh(event),
            asked = self.asked.recv() => asked.map_or(Woken::Closed, Woken::Asked),
            Ok(()) = self.parts.view.changed() => Woken::View,
            () = due => Woken::Due,
        }
    }

    /// The next input that needs no waiting.
    fn at_hand(&mut self) -> Option<Woken> {
        let persisted = self.parts.persisted.try_recv().ok().map(Woken::Persisted);
        if persisted.is_some() {
            return persisted;
        }
        if let Some(Some(event)) = self.parts.events.next().now_or_never() {
            return Some(Woken::Mesh(event));
        }
        self.asked.try_recv().ok().map(Woken::Asked)
    }

    fn now(&mut self) -> Now {
        let (shown, mono) = (self.parts.clock.now(), self.parts.clock.monotonic());
        let was_stepped = self.steady.is_stepped();
        let wall = self.steady.read(shown, mono);
        if self.steady.is_stepped() && !was_stepped {
            warn!(
                shown_ms = shown.as_millis(),
                steady_ms = wall.as_millis(),
                "the wall clock has stepped; stamps follow it if it is there for {} s",
                STEP_TAKEN_AFTER.as_secs()
            );
        }
        Now { wall, mono }
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        self.replica.handle(now, input, &mut self.out);
    }

    fn take(&mut self, woken: Woken) {
        match woken {
            Woken::Asked(ask) => self.asked(ask),
            Woken::Mesh(event) => self.heard(event),
            Woken::Persisted(persisted) => self.persisted(persisted),
            Woken::View => self.follow_view(),
            Woken::Due => self.input(Input::Tick),
            Woken::Closed => {}
        }
    }

    fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Client { mut request, reply } => {
                self.next_request += 1;
                request.id = RequestId(self.next_request);
                self.waiting.insert(request.id, reply);
                self.input(Input::Client(request));
            }
            Ask::Report(reply) => {
                let report = Report {
                    actor: self.replica.actor(),
                    digest: self.replica.digest(),
                    stats: self.replica.stats(),
                };
                // Whoever asked may be gone.
                drop(reply.send(report));
            }
            Ask::Frontier(reply) => drop(reply.send(self.replica.frontier().clone())),
            Ask::Reconcile => self.input(Input::Reconcile),
        }
    }

    fn heard(&mut self, event: MeshEvent) {
        match event {
            MeshEvent::Up { peer, .. } => {
                self.connected.insert(peer.clone());
                if let Some(id) = self.regions.get(&peer) {
                    self.input(Input::PeerUp(*id));
                }
            }
            MeshEvent::Down { peer, .. } => {
                self.connected.remove(&peer);
                if let Some(id) = self.regions.get(&peer) {
                    self.input(Input::PeerDown(*id));
                }
            }
            MeshEvent::Frame { peer, bytes } => {
                let Some(from) = self.regions.get(&peer).copied() else { return };
                match Frame::decode(&bytes) {
                    Ok(frame) => self.input(Input::Frame { from, frame }),
                    Err(reason) => warn!(%peer, %reason, "a frame is refused"),
                }
            }
        }
    }

    fn persisted(&mut self, persisted: Persisted) {
        match persisted.result {
            Ok(()) => {
                let rest = self.changed.split_off(&BatchId(persisted.batch.0 + 1));
                let durable = std::mem::replace(&mut self.changed, rest);
                self.feed.note(durable.into_values().flatten());
                self.input(Input::Persisted { batch: persisted.batch });
            }
            Err(reason) => {
                error!(%reason, "replicated state cannot be stored");
                self.input(Input::PersistFailed { batch: persisted.batch, reason });
            }
        }
    }

    fn follow_view(&mut self) {
        let Some(view) = self.parts.view.borrow_and_update().clone() else { return };
        let members = view.members.iter();
        self.regions = members.map(|(id, member)| (member.region.clone(), *id)).collect();
        info!(epoch = view.epoch, members = view.members.len(), "following a membership");
        self.input(Input::View(view));
        let up: Vec<ReplicaId> = self
            .connected
            .iter()
            .filter_map(|region| self.regions.get(region))
            .copied()
            .collect();
        for peer in up {
            self.input(Input::PeerUp(peer));
        }
    }

    /// Carries the commands out in their order; false when the writer is gone.
    async fn carry_out(&mut self) -> bool {
        let commands = std::mem::take(&mut self.out);
        for command in commands {
            match command {
                Command::Persist { batch, changes } => {
                    self.changed.insert(batch, changed_keys(&changes));
                    if self.parts.batches.send(Batch { batch, changes }).await.is_err() {
                        return false;
                    }
                }
                Command::Send { to, frame } => self.send(to, &frame),
                Command::Reply { request, outcome } => {
                    if let Some(reply) = self.waiting.remove(&request) {
                        // Whoever asked may be gone.
                        drop(reply.send(outcome));
                    }
                }
                Command::Notice(notice) => self.notice(&notice),
            }
        }
        true
    }

    fn send(&self, to: ReplicaId, frame: &Frame) {
        let Some(member) = self.replica.membership().members.get(&to) else { return };
        let region = &member.region;
        if let Err(refused) = self.parts.mesh.send(region, frame.encode().into()) {
            tracing::debug!(%region, %refused, "a frame is not sent");
        }
    }

    fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Acknowledged { by, took } => {
                if let Some(member) = self.replica.membership().members.get(by) {
                    self.parts.metrics.synced(&member.region, *took);
                }
            }
            Notice::Settled(settled) => {
                self.parts.settled.send_replace(*settled);
            }
            Notice::Unsent(unsent) => warn!(
                writes = unsent.len(),
                "this replica was admitted again; what it had written and nobody had is kept \
                 apart in its rows"
            ),
            Notice::Evicted { epoch } => warn!(
                epoch,
                "this replica was evicted: it serves nothing until it is admitted again"
            ),
            Notice::LogLost { by, theirs, ours } => error!(
                %by, %theirs, %ours,
                "the disk of this replica went back in time; evict it and admit it again"
            ),
            Notice::Skewed { peer, ahead } => warn!(
                %peer, ?ahead,
                "a peer's clock is too far ahead, and nothing of it is taken until that ends"
            ),
            Notice::BadView { epoch, reason } => {
                error!(epoch, reason, "a membership is not followed");
            }
        }
    }
}

/// The keys whose values a batch changes.
fn changed_keys(changes: &[RowChange]) -> Vec<Key> {
    let row = |change: &RowChange| match change {
        RowChange::Put { row, .. } | RowChange::Delete { row } => {
            row.strip_prefix(VALUES).map(Key::from)
        }
    };
    changes.iter().filter_map(row).collect()
}
