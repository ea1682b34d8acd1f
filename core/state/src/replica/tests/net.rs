//! A few replicas, their disks and the network between them, in virtual time.
//!
//! Frames travel as bytes. Disks lose what was not reported durable when their replica
//! crashes. Everything is decided by a seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dwcp_types::{RegionId, Timestamp};

use crate::bytes::Bytes;
use crate::clock::ReplicaId;
use crate::crdt::{Kind, Reading, Update};
use crate::frame::Frame;
use crate::level::Level;
use crate::membership::{ClusterId, Member, Membership, Phase};
use crate::policy::{Policies, Policy};
use crate::replica::{
    Answer, BatchId, Command, Input, Key, Notice, Now, Op, OpId, Outcome, Read, Replica,
    ReplicaConfig, Request, RequestId, Row, RowChange, Token, Written,
};
use crate::shard::{Jurisdiction, ShardMap, mix};

/// The step of virtual time.
const STEP: Duration = Duration::from_millis(10);

pub(super) type Changes = Arc<Vec<RowChange>>;

/// A replica's machine.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) config: ReplicaConfig,
    pub(super) replica: Option<Replica>,
    pub(super) disk: BTreeMap<String, Vec<u8>>,
    pub(super) writes: VecDeque<(BatchId, Changes)>,
    /// By how many milliseconds its wall clock is ahead.
    pub(super) skew_ms: u64,
    /// Whether its disk does nothing at present.
    pub(super) stalled: bool,
}

/// A frame on its way.
#[derive(Clone, Debug)]
struct Flight {
    at: Duration,
    order: u64,
    from: ReplicaId,
    to: ReplicaId,
    bytes: Vec<u8>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) nodes: BTreeMap<ReplicaId, Node>,
    pub(super) view: Arc<Membership>,
    pub(super) now: Duration,
    pub(super) outcomes: BTreeMap<RequestId, Outcome>,
    pub(super) notices: Vec<(ReplicaId, Notice)>,
    /// Everything that was ever sent: from, to, bytes.
    pub(super) sent: Vec<(ReplicaId, ReplicaId, Vec<u8>)>,
    pub(super) record: bool,
    pub(super) cuts: BTreeSet<(ReplicaId, ReplicaId)>,
    /// In ten thousandths.
    pub(super) loss: u64,
    pub(super) doubles: u64,
    pub(super) delay_ms: u64,
    flights: Vec<Flight>,
    requests: u64,
    rolls: u64,
    seed: u64,
}

pub(super) fn id(number: u16) -> ReplicaId {
    ReplicaId::new(number)
}

pub(super) fn region(name: &str) -> RegionId {
    RegionId::new(name).unwrap()
}

pub(super) fn key(text: &str) -> Key {
    Key::from(text)
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::from(text)
}

/// The usual policies: a prefix for each kind.
pub(super) fn policies() -> Vec<(Arc<str>, Policy)> {
    let of = |prefix: &str, kind, floor| {
        (Arc::from(prefix), Policy::of(kind, floor, "global".into()))
    };
    vec![
        of("lww/", Kind::Lww, Level::Eventual),
        of("count/", Kind::GCounter, Level::Eventual),
        of("reg/", Kind::Register, Level::Quorum),
        of("quorum/", Kind::Lww, Level::Quorum),
        of("engine/", Kind::Lww, Level::Strong),
    ]
}

/// Replicas 1, 2, ... in these regions, all active in epoch 1.
pub(super) fn membership(regions: &[&str]) -> Membership {
    let members = (1..).zip(regions).map(|(number, name)| {
        let member = Member { region: region(name), admission: 1, phase: Phase::Active };
        (id(number), member)
    });
    let distinct: BTreeSet<RegionId> = regions.iter().map(|name| region(name)).collect();
    Membership {
        cluster: ClusterId::new(7),
        epoch: 1,
        members: members.collect(),
        evicted: BTreeMap::new(),
        policies: Policies::new(policies()),
        shards: ShardMap {
            jurisdictions: BTreeMap::from([(
                "global".into(),
                Jurisdiction::everywhere(distinct),
            )]),
        },
    }
}

impl Net {
    pub(super) fn new(seed: u64, view: Membership) -> Self {
        let view = Arc::new(view);
        let mut net = Self {
            nodes: BTreeMap::new(),
            now: Duration::from_secs(1_000),
            outcomes: BTreeMap::new(),
            notices: Vec::new(),
            sent: Vec::new(),
            record: false,
            cuts: BTreeSet::new(),
            loss: 0,
            doubles: 0,
            delay_ms: 20,
            flights: Vec::new(),
            requests: 0,
            rolls: 0,
            seed,
            view,
        };
        let members: Vec<ReplicaId> = net.view.members.keys().copied().collect();
        for member in members {
            net.add(member);
        }
        net
    }

    /// Puts up a machine with an empty disk.
    pub(super) fn add(&mut self, member: ReplicaId) {
        let node = Node {
            config: ReplicaConfig::new(member, self.view.cluster),
            replica: None,
            disk: BTreeMap::new(),
            writes: VecDeque::new(),
            skew_ms: 0,
            stalled: false,
        };
        self.nodes.insert(member, node);
        self.start(member);
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.rolls += 1;
        mix(self.seed ^ mix(self.rolls)) % below.max(1)
    }

    pub(super) fn clocks(&self, of: ReplicaId) -> Now {
        let skew = self.nodes.get(&of).map_or(0, |node| node.skew_ms);
        let millis = u64::try_from(self.now.as_millis()).unwrap() + skew;
        Now { wall: Timestamp::from_millis(1_700_000_000_000 + millis), mono: self.now }
    }

    /// Starts a process on what the disk has.
    pub(super) fn start(&mut self, member: ReplicaId) {
        let node = self.nodes.get_mut(&member).unwrap();
        let rows = node
            .disk
            .iter()
            .map(|(row, value)| Row { row: row.clone(), value: value.clone() });
        let replica = Replica::new(node.config.clone(), rows).unwrap();
        node.replica = Some(replica);
        let view = Arc::clone(&self.view);
        self.give(member, Input::View(view));
        let others: Vec<ReplicaId> = self.nodes.keys().copied().collect();
        for other in others {
            if other != member && self.nodes[&other].replica.is_some() {
                self.give(member, Input::PeerUp(other));
                self.give(other, Input::PeerDown(member));
                self.give(other, Input::PeerUp(member));
            }
        }
    }

    /// Stops a process; what its disk had not reported is lost.
    pub(super) fn crash(&mut self, member: ReplicaId) {
        let node = self.nodes.get_mut(&member).unwrap();
        node.replica = None;
        node.writes.clear();
        node.stalled = false;
        let others: Vec<ReplicaId> = self.nodes.keys().copied().collect();
        for other in others {
            self.give(other, Input::PeerDown(member));
        }
    }

    /// Shows every running replica another membership.
    pub(super) fn follow(&mut self, view: Membership) {
        self.view = Arc::new(view);
        let members: Vec<ReplicaId> = self.nodes.keys().copied().collect();
        for member in members {
            let view = Arc::clone(&self.view);
            self.give(member, Input::View(view));
        }
    }

    /// Cuts two off from each other, both ways.
    pub(super) fn cut(&mut self, one: ReplicaId, other: ReplicaId) {
        self.cuts.insert((one, other));
        self.cuts.insert((other, one));
    }

    pub(super) fn cut_off(&mut self, member: ReplicaId) {
        let others: Vec<ReplicaId> = self.nodes.keys().copied().collect();
        for other in others {
            self.cut(member, other);
        }
    }

    pub(super) fn heal(&mut self) {
        self.cuts.clear();
    }

    pub(super) fn give(&mut self, to: ReplicaId, input: Input) {
        let now = self.clocks(to);
        let mut out = Vec::new();
        if let Some(node) = self.nodes.get_mut(&to)
            && let Some(replica) = &mut node.replica
        {
            replica.handle(now, input, &mut out);
            self.carry_out(to, out);
        }
    }

    fn end_turn(&mut self, of: ReplicaId) {
        let now = self.clocks(of);
        let mut out = Vec::new();
        if let Some(replica) = self.nodes.get_mut(&of).unwrap().replica.as_mut() {
            replica.turn_end(now, &mut out);
            self.carry_out(of, out);
        }
    }

    fn carry_out(&mut self, of: ReplicaId, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Persist { batch, changes } => {
                    self.nodes.get_mut(&of).unwrap().writes.push_back((batch, changes));
                }
                Command::Send { to, frame } => self.send(of, to, &frame),
                Command::Reply { request, outcome } => {
                    let before = self.outcomes.insert(request, outcome);
                    assert!(before.is_none(), "{request:?} is answered twice");
                }
                Command::Notice(notice) => self.notices.push((of, notice)),
            }
        }
    }

    fn send(&mut self, from: ReplicaId, to: ReplicaId, frame: &Frame) {
        let bytes = frame.encode();
        if self.record {
            self.sent.push((from, to, bytes.clone()));
        }
        let copies = 1 + u64::from(self.roll(10_000) < self.doubles);
        for _ in 0..copies {
            if self.cuts.contains(&(from, to)) || self.roll(10_000) < self.loss {
                continue;
            }
            let delay = 1 + self.roll(self.delay_ms);
            let at = self.now + Duration::from_millis(delay);
            let order = self.rolls;
            self.flights.push(Flight { at, order, from, to, bytes: bytes.clone() });
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        let mut due: Vec<Flight> = Vec::new();
        self.flights.retain(|flight| {
            let keep = flight.at > now;
            if !keep {
                due.push(flight.clone());
            }
            keep
        });
        due.sort_by_key(|flight| (flight.at, flight.order));
        for flight in due {
            let frame = Frame::decode(&flight.bytes).unwrap();
            if self.cuts.contains(&(flight.from, flight.to)) {
                continue;
            }
            self.give(flight.to, Input::Frame { from: flight.from, frame });
        }
    }

    fn write_disks(&mut self) {
        let members: Vec<ReplicaId> = self.nodes.keys().copied().collect();
        for member in members {
            let node = self.nodes.get_mut(&member).unwrap();
            if node.stalled {
                continue;
            }
            let mut last = None;
            for (batch, changes) in std::mem::take(&mut node.writes) {
                for change in changes.iter() {
                    match change {
                        RowChange::Put { row, value } => {
                            node.disk.insert(row.clone(), value.clone());
                        }
                        RowChange::Delete { row } => {
                            node.disk.remove(row);
                        }
                    }
                }
                last = Some(batch);
            }
            if let Some(batch) = last {
                self.give(member, Input::Persisted { batch });
            }
        }
    }

    pub(super) fn step(&mut self) {
        self.now += STEP;
        self.deliver();
        self.write_disks();
        let members: Vec<ReplicaId> = self.nodes.keys().copied().collect();
        for member in members {
            let due =
                self.nodes[&member].replica.as_ref().and_then(Replica::next_deadline);
            if due.is_some_and(|due| due <= self.now) {
                self.give(member, Input::Tick);
            }
            self.end_turn(member);
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    pub(super) fn run_secs(&mut self, secs: u64) {
        self.run(Duration::from_secs(secs));
    }

    /// Asks, without waiting for the answer.
    pub(super) fn ask(
        &mut self,
        at: ReplicaId,
        op: Op,
        level: Option<Level>,
        session: Option<Token>,
    ) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        let within = Duration::from_secs(5);
        self.give(at, Input::Client(Request { id, op, level, session, within }));
        id
    }

    /// Waits for the answer.
    pub(super) fn wait(&mut self, request: RequestId) -> Outcome {
        self.run_until_answered(request);
        self.outcomes[&request].clone()
    }

    fn run_until_answered(&mut self, request: RequestId) {
        let end = self.now + Duration::from_secs(8);
        while !self.outcomes.contains_key(&request) {
            assert!(self.now < end, "{request:?} is not answered");
            self.step();
        }
    }

    pub(super) fn update(
        &mut self,
        at: ReplicaId,
        name: &str,
        update: Update,
        level: Option<Level>,
    ) -> Outcome {
        let op = Op::Update { key: key(name), update, op_id: None };
        let request = self.ask(at, op, level, None);
        self.wait(request)
    }

    pub(super) fn update_once(
        &mut self,
        at: ReplicaId,
        name: &str,
        update: Update,
        op_id: OpId,
    ) -> Outcome {
        let op = Op::Update { key: key(name), update, op_id: Some(op_id) };
        let request = self.ask(at, op, None, None);
        self.wait(request)
    }

    pub(super) fn set(&mut self, at: ReplicaId, name: &str, text: &str) -> Written {
        written(self.update(at, name, Update::Set(bytes(text)), None))
    }

    pub(super) fn get(
        &mut self,
        at: ReplicaId,
        name: &str,
        level: Option<Level>,
    ) -> Outcome {
        let op = Op::Get { key: key(name), max_staleness: None };
        let request = self.ask(at, op, level, None);
        self.wait(request)
    }

    /// What an eventual read shows.
    pub(super) fn see(&mut self, at: ReplicaId, name: &str) -> Option<Reading> {
        read(self.get(at, name, Some(Level::Eventual))).reading
    }

    pub(super) fn replica(&self, of: ReplicaId) -> &Replica {
        self.nodes[&of].replica.as_ref().unwrap()
    }

    /// Everything that a replica has, as text.
    pub(super) fn contents(&self, of: ReplicaId) -> BTreeMap<String, String> {
        let all = self.replica(of).store.iter();
        let shown = all.filter(|(_, entry)| !entry.value.is_bottom());
        shown
            .map(|(key, entry)| (key.to_string(), format!("{:?}", entry.value)))
            .collect()
    }

    /// All running replicas show the same.
    pub(super) fn assert_alike(&self) {
        let running: Vec<ReplicaId> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.replica.is_some())
            .map(|(id, _)| *id)
            .collect();
        for pair in running.windows(2) {
            assert_eq!(self.contents(pair[0]), self.contents(pair[1]), "{pair:?}");
        }
    }
}

pub(super) fn read(outcome: Outcome) -> Read {
    match outcome {
        Ok(Answer::Read(read)) => read,
        other => panic!("not a read: {other:?}"),
    }
}

pub(super) fn written(outcome: Outcome) -> Written {
    match outcome {
        Ok(Answer::Written(written)) => written,
        other => panic!("not written: {other:?}"),
    }
}

pub(super) fn latest(text: &str) -> Option<Reading> {
    Some(Reading::Latest(Some(bytes(text))))
}
