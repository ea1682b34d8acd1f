//! The world: every node, the clock, the queue of what happens next.
//!
//! A node's step is taken apart: an input is handled, its commands are carried out one by one, a
//! batch becomes durable later, and what may only follow that comes with it. A crash can strike
//! between any two of these.

use std::collections::BTreeMap;

use dwcp_state::frame::Body;
use dwcp_state::{
    BatchId, Command, Frame, Input, Membership, Notice, Outcome, RequestId,
};

use super::client::Client;
use super::clock::Clocks;
use super::faults::{Planned, plan, regions_of};
use super::history::{History, Moment, Reach};
use super::keys::{CANARY, KeySpec, first_membership, is_inside, keys_of, node_of};
use super::network::{End, Network};
use super::node::Node;
use super::options::Options;
use super::oracle::Number;
use super::strong::Strong;
use super::trace::Trace;
use crate::rng::Rng;

/// How long a write to a disk takes, in microseconds, when nothing is wrong and when it is slow.
const SYNC_US: (u64, u64) = (200, 3_000);
const SLOW_SYNC_US: (u64, u64) = (20_000, 800_000);
/// How often the strong plane looks whether it can make its next change.
const ADVANCE_EVERY_US: u64 = 200_000;
/// How long a node may take to hear of a membership.
const VIEW_US_MAX: u64 = 2_500_000;

/// What happens.
#[derive(Debug)]
pub(super) enum Event {
    /// A frame arrives.
    Deliver { from: usize, to: usize, frame: Box<Frame>, reach: Reach },
    /// A node's deadline.
    Wake { node: usize, boot: u64, at: u64 },
    /// A node's turn ends.
    TurnEnd { node: usize, boot: u64 },
    /// A batch is durable, or its write has failed.
    Synced { node: usize, boot: u64, batch: BatchId },
    /// A node's process starts.
    Start { node: usize },
    /// A client's timer.
    Client { client: usize, timer: u64 },
    /// A node hears of a membership.
    View { node: usize, membership: std::sync::Arc<Membership> },
    /// The strong plane looks whether it can go on.
    Advance,
    /// A fault of the plan strikes, or ends.
    Fault { place: usize, strikes: bool, cut: u64 },
    /// Two nodes notice whether they are connected.
    Link { of: usize, with: usize },
}

/// Something for the invariants to look at.
#[derive(Debug)]
pub(super) enum Seen {
    /// An operation was handed to a replica.
    Asked { number: Number },
    /// A client was told something; the operation and which of its attempts.
    Answered { number: Number, node: usize, outcome: Outcome, heard: bool },
    /// A frame to a region outside the fence has the canary.
    Leaked { from: usize, to: usize, body: String },
    /// A frame could not be read as it was written.
    Garbled(String),
    /// A replica says something to people.
    Noticed { node: usize, notice: Notice },
    /// A node's deadline did not move on when it was served.
    Spins { node: usize },
    /// What a node stored cannot be loaded.
    Unloadable { node: usize, reason: String },
    /// A node has changed.
    Touched { node: usize },
}

/// Everything there is.
#[derive(Debug)]
pub(super) struct World {
    pub(super) options: Options,
    pub(super) keys: Vec<KeySpec>,
    pub(super) nodes: Vec<Node>,
    pub(super) clients: Vec<Client>,
    pub(super) network: Network,
    pub(super) strong: Strong,
    pub(super) history: History,
    pub(super) trace: Trace,
    pub(super) rng: Rng,
    pub(super) now: Moment,
    pub(super) plan: Vec<Planned>,
    pub(super) faults: bool,
    /// What happened in this step, for the invariants.
    pub(super) seen: Vec<Seen>,
    /// By how much any clock of the day was ever wrong, in microseconds.
    pub(super) clock_error_us: u64,
    pub(super) counts: Counts,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    requests: u64,
}

/// What happened how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) crashes: u64,
    pub(super) frames: u64,
    pub(super) done: u64,
    pub(super) refused: u64,
    pub(super) unknown: u64,
    pub(super) epochs: u64,
}

impl World {
    /// A world in which nothing has happened yet.
    pub(super) fn new(options: &Options, keep_trace: bool) -> Self {
        let mut rng = Rng::new(options.seed);
        let regions = regions_of(options);
        let count = regions.len();
        let ahead = options.hour_ahead.then(|| rng.index(count));
        let nodes = (0..count).map(|index| {
            let span = 2 * options.drift_ppm;
            let rate = i64::try_from(rng.between(0, span)).unwrap_or(0)
                - i64::try_from(options.drift_ppm).unwrap_or(0);
            let offset = if ahead == Some(index) { 3_600_000_000 } else { 0 };
            let clocks = Clocks::new(rate, offset);
            Node::new(index, regions[index], count, clocks, options.sabotage)
        });
        let nodes: Vec<Node> = nodes.collect();
        let clients = (0..options.nodes.len())
            .flat_map(|region| (0..options.clients).map(move |_| Client::new(region)));
        let keys = keys_of(options);
        let mut world = Self {
            keys: keys.clone(),
            nodes,
            clients: clients.collect(),
            network: Network::default(),
            strong: Strong::new(first_membership(options), regions),
            history: History::new(keys.len()),
            trace: Trace::new(keep_trace),
            now: Moment::default(),
            // A stream of its own, so that the plan does not change with what happens.
            plan: plan(options, &mut Rng::new(options.seed ^ 0xFA17)),
            faults: true,
            seen: Vec::new(),
            clock_error_us: 0,
            counts: Counts::default(),
            queue: BTreeMap::new(),
            sequence: 0,
            requests: 0,
            options: options.clone(),
            rng,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for node in 0..self.nodes.len() {
            self.after(0, Event::Start { node });
        }
        for client in 0..self.clients.len() {
            let begins = self.rng.between(1_000_000, 2_000_000);
            self.after(begins, Event::Client { client, timer: 0 });
        }
        for place in 0..self.plan.len() {
            let at_us = self.plan[place].at_us;
            self.after(at_us, Event::Fault { place, strikes: true, cut: 0 });
        }
        self.after(ADVANCE_EVERY_US, Event::Advance);
    }

    /// Lets something happen after so many microseconds.
    pub(super) fn after(&mut self, delay_us: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now.us.saturating_add(delay_us), self.sequence), event);
    }

    /// The next thing happens. False when nothing is left.
    pub(super) fn step(&mut self) -> bool {
        let Some(((us, _), event)) = self.queue.pop_first() else { return false };
        self.now = Moment { step: self.now.step + 1, us };
        match event {
            Event::Deliver { from, to, frame, reach } => {
                self.deliver((from, to), *frame, &reach);
            }
            Event::Wake { node, boot, at } => {
                let due = &self.nodes[node];
                if due.boot == boot && due.wake_at == at {
                    self.nodes[node].wake_at = u64::MAX;
                    self.feed(node, Input::Tick);
                    self.check_deadline(node);
                }
            }
            Event::TurnEnd { node, boot } => {
                if self.nodes[node].boot == boot {
                    self.nodes[node].in_turn = false;
                    self.end_turn(node);
                }
            }
            Event::Synced { node, boot, batch } => self.sync(node, boot, batch),
            Event::Start { node } => self.start(node),
            Event::Client { client, timer } => self.client_timer(client, timer),
            Event::View { node, membership } => self.feed(node, Input::View(membership)),
            Event::Advance => self.advance(),
            Event::Fault { place, strikes, cut } => self.fault(place, strikes, cut),
            Event::Link { of, with } => self.notice_link(of, with),
        }
        true
    }

    fn deliver(&mut self, (from, to): (usize, usize), frame: Frame, reach: &Reach) {
        if self.nodes[to].replica.is_none() {
            return;
        }
        self.note([1, from as u64, to as u64], || {
            format!("{to} hears {from}: {}", said(&frame.body))
        });
        self.nodes[to].reached_by(reach);
        let from = self.nodes[from].id;
        self.feed(to, Input::Frame { from, frame });
    }

    fn start(&mut self, node: usize) {
        if self.nodes[node].replica.is_some() {
            return;
        }
        self.note([2, node as u64, 0], || format!("{node} starts"));
        if let Err(error) = self.nodes[node].start() {
            let reason = error.to_string();
            self.seen.push(Seen::Unloadable { node, reason });
            return;
        }
        let membership = std::sync::Arc::clone(self.strong.newest());
        let heard = match self.now.us {
            0 => 0,
            _ => self.rng.between(1_000, VIEW_US_MAX / 5),
        };
        self.after(heard, Event::View { node, membership });
        self.feed(node, Input::Tick);
        self.links_of(node);
    }

    /// Takes note of how wrong clocks are.
    pub(super) fn measure_clocks(&mut self) {
        let wrong = self.nodes.iter().map(|node| node.clocks.error_us(self.now.us)).max();
        self.clock_error_us = self.clock_error_us.max(wrong.unwrap_or(0));
    }

    fn advance(&mut self) {
        self.measure_clocks();
        if let Some(membership) = self.strong.advance() {
            self.counts.epochs += 1;
            self.note([3, membership.epoch, 0], || format!("epoch {}", membership.epoch));
            for node in 0..self.nodes.len() {
                let heard = self.rng.between(1_000, VIEW_US_MAX);
                let membership = std::sync::Arc::clone(&membership);
                self.after(heard, Event::View { node, membership });
            }
        }
        self.after(ADVANCE_EVERY_US, Event::Advance);
    }

    /// Hands an input to a node, and carries out what comes of it.
    pub(super) fn feed(&mut self, node: usize, input: Input) {
        let now = self.nodes[node].now(self.now.us);
        let Some(replica) = &mut self.nodes[node].replica else { return };
        let mut out = Vec::new();
        replica.handle(now, input, &mut out);
        self.carry_out(node, out);
        if self.options.turn_us == 0 {
            self.end_turn(node);
        } else if !self.nodes[node].in_turn {
            self.nodes[node].in_turn = true;
            let boot = self.nodes[node].boot;
            let lasts = self.rng.between(0, self.options.turn_us);
            self.after(lasts, Event::TurnEnd { node, boot });
        }
        self.wake_later(node);
        self.seen.push(Seen::Touched { node });
    }

    /// A deadline that a tick leaves in the past would have its process spin.
    fn check_deadline(&mut self, node: usize) {
        let now = self.nodes[node].now(self.now.us);
        let deadline =
            self.nodes[node].replica.as_ref().and_then(|it| it.next_deadline());
        if deadline.is_some_and(|deadline| deadline <= now.mono) {
            self.seen.push(Seen::Spins { node });
        }
    }

    fn end_turn(&mut self, node: usize) {
        let now = self.nodes[node].now(self.now.us);
        let Some(replica) = &mut self.nodes[node].replica else { return };
        let mut out = Vec::new();
        replica.turn_end(now, &mut out);
        self.carry_out(node, out);
        self.wake_later(node);
    }

    fn wake_later(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        let Some(deadline) = it.replica.as_ref().and_then(|it| it.next_deadline()) else {
            return;
        };
        let deadline = u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX);
        // Never in this same moment again, or a deadline that stays would stop the time.
        let at = it.clocks.world_us(deadline).max(self.now.us + 100);
        if at < it.wake_at {
            it.wake_at = at;
            let boot = it.boot;
            self.after(at - self.now.us, Event::Wake { node, boot, at });
        }
    }

    fn carry_out(&mut self, node: usize, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Persist { batch, changes } => {
                    self.nodes[node].disk.begin(batch, changes);
                    let it = &self.nodes[node];
                    let span = if it.slow_disk { SLOW_SYNC_US } else { SYNC_US };
                    let boot = it.boot;
                    let lasts = self.rng.between(span.0, span.1);
                    self.after(lasts, Event::Synced { node, boot, batch });
                }
                Command::Send { to, frame } => self.send(node, node_of(to), frame),
                Command::Reply { request, outcome } => {
                    self.answer(node, request, outcome);
                }
                Command::Notice(notice) => self.notice(node, notice),
            }
        }
    }

    fn sync(&mut self, node: usize, boot: u64, batch: BatchId) {
        if self.nodes[node].boot != boot || self.nodes[node].replica.is_none() {
            return;
        }
        if self.nodes[node].bad_disk {
            for batch in self.nodes[node].disk.fail(&mut self.rng) {
                self.note([4, node as u64, batch.0], || {
                    format!("{node} fails to store batch {}", batch.0)
                });
                let reason = "no space left on device".to_owned();
                self.feed(node, Input::PersistFailed { batch, reason });
            }
            return;
        }
        if self.nodes[node].disk.sync(batch) {
            self.note([5, node as u64, batch.0], || {
                format!("{node} has stored batch {}", batch.0)
            });
            self.feed(node, Input::Persisted { batch });
        }
    }

    fn send(&mut self, from: usize, to: usize, frame: Frame) {
        self.counts.frames += 1;
        let Some(frame) = self.on_the_wire(from, to, frame) else { return };
        let end = |node: usize| End { node, region: self.nodes[node].region };
        let (ends, faults) = ((end(from), end(to)), self.faults);
        let delays = self.network.deliveries(&mut self.rng, &self.options, ends, faults);
        for delay in delays {
            let reach = self.nodes[from].reach.clone();
            let frame = frame.clone();
            self.after(delay, Event::Deliver { from, to, frame, reach });
        }
    }

    /// The frame as its receiver reads it. Frames that can carry nothing of a fenced key to
    /// where it may not be are only encoded in some runs, because that takes as long as
    /// everything else.
    fn on_the_wire(
        &mut self,
        from: usize,
        to: usize,
        frame: Frame,
    ) -> Option<Box<Frame>> {
        let outside = !is_inside(self.nodes[to].region)
            && carries_values(&frame.body)
            && self.keys.iter().any(|key| key.fenced);
        if !outside && !self.options.encodes {
            return Some(Box::new(frame));
        }
        let bytes = frame.encode();
        let canary = CANARY.as_bytes();
        if outside && bytes.windows(canary.len()).any(|window| window == canary) {
            let body = said(&frame.body);
            self.seen.push(Seen::Leaked { from, to, body });
        }
        if !self.options.encodes {
            return Some(Box::new(frame));
        }
        match Frame::decode(&bytes) {
            Ok(read) if read == frame => Some(Box::new(read)),
            Ok(read) => {
                let text = format!("{} became {}", said(&frame.body), said(&read.body));
                self.seen.push(Seen::Garbled(text));
                None
            }
            Err(error) => {
                self.seen.push(Seen::Garbled(error.to_string()));
                None
            }
        }
    }

    fn notice(&mut self, node: usize, notice: Notice) {
        self.note([6, node as u64, 0], || format!("{node} notices {notice:?}"));
        match &notice {
            Notice::Settled(settled) => self.strong.settled(node, *settled),
            Notice::LogLost { .. } => self.strong.renew(node),
            Notice::Skewed { peer, ahead } => {
                self.strong.skewed(node_of(*peer), *ahead);
            }
            // How long pushes take is for people.
            Notice::Acknowledged { .. } => return,
            Notice::Evicted { .. } | Notice::Unsent(_) | Notice::BadView { .. } => {}
        }
        self.seen.push(Seen::Noticed { node, notice });
    }

    /// A request's name, never used twice.
    pub(super) const fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// Notes what happened.
    pub(super) fn note(&mut self, numbers: [u64; 3], words: impl FnOnce() -> String) {
        self.trace.note(self.now, numbers, words);
    }
}

/// Whether a frame can carry something of a key.
const fn carries_values(body: &Body) -> bool {
    match body {
        Body::Push(_)
        | Body::Ask(_)
        | Body::Tell(_)
        | Body::Store(_)
        | Body::States(_) => true,
        Body::Beat(_)
        | Body::Ack(_)
        | Body::Gap(_)
        | Body::Stored(_)
        | Body::Compare(_)
        | Body::Differ(_)
        | Body::Want(_)
        | Body::Refuse(_) => false,
    }
}

/// What a frame says, in one line: of a comparison all but its sums.
fn said(body: &Body) -> String {
    let Body::Compare(compare) = body else { return format!("{body:?}") };
    format!("compare {} round {} full {}", compare.pull, compare.round, compare.full)
}
