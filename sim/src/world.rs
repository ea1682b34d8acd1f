//! The world: every node, the clock, the queue of what happens next, and the faults.
//!
//! A daemon's step is taken apart here: store, then send, with a possible crash before,
//! between and after. That is where the order that the ledger asks for is proved to matter.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use dwcp_controller::ledger::HostReport;
use dwcp_types::{
    Capacity, CostProfile, FleetView, Gib, Health, HealthState, HostId, Location, Mib,
    Overcommit, Region as RegionConfig, RegionId, RegionKind, RegionView, Timestamp,
    ZoneId,
};
use dwcp_vm::Guard;

use crate::agent::Agent;
use crate::chooser::Choose;
use crate::client::Client;
use crate::coordinator::Coordinator;
use crate::engine::Engine;
use crate::message::{Answer, Body, Node, Wish};
use crate::network::deliveries;
use crate::options::{Breakage, Options, Regions};
use crate::region::{Region, Step};
use crate::rng::Rng;
use crate::strikes::{Cut, Strike};

/// Every node's timer, the heartbeat of the design (500 ms).
const TICK_MS: u64 = 500;
/// A node that crashed is down for so long, in milliseconds.
const DOWN_MS: (u64, u64) = (200, 8_000);
/// Where the clocks of regions begin, so that one that runs slow never goes below zero.
const CLOCK_START_MS: u64 = 1_000_000;

#[derive(Debug)]
pub(crate) enum Event {
    Deliver {
        from: Node,
        to: Node,
        body: Body,
    },
    Tick {
        node: Node,
        boot: u64,
    },
    Restart(Node),
    /// Something befalls a region.
    Strike,
    /// This does.
    Struck(Strike),
    /// A host's lease nears its end, or is over.
    Fence(usize),
    /// A host's watchdog looks.
    Bite(usize),
}

/// What a client was told, for the invariants.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) op: u64,
    pub(crate) to: Node,
    pub(crate) answer: Answer,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) now: u64,
    pub(crate) engine: Engine,
    pub(crate) regions: Vec<Region>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) clients: Vec<Client>,
    pub(crate) told: Vec<Told>,
    /// Every placement that was wished, by client and wish.
    pub(crate) wishes: BTreeMap<(Node, u64), Wish>,
    pub(crate) crashes: u64,
    pub(crate) trace: Trace,
    coordinators: Vec<Option<Coordinator>>,
    chooser: Arc<dyn Choose>,
    boots: BTreeMap<Node, u64>,
    down: BTreeMap<Node, u64>,
    /// Until when a process is stopped.
    pub(crate) frozen: BTreeMap<Node, u64>,
    /// Which links of a region are cut, and until when.
    pub(crate) cuts: BTreeMap<usize, (Cut, u64)>,
    /// The region that a drill took, and when.
    pub(crate) lost: Option<(usize, u64)>,
    drift: Vec<i64>,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub(crate) faults: bool,
    pub(crate) rng: Rng,
}

/// A hash of everything that happened, and the lines when they are wanted.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) hash: u64,
    pub(crate) lines: Option<Vec<String>>,
}

impl Trace {
    /// FNV-1a, which is the same everywhere.
    pub(crate) fn line(&mut self, line: &impl Display) {
        let text = line.to_string();
        for byte in text.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(text);
        }
    }
}

impl World {
    /// A world in which nothing has happened yet.
    pub(crate) fn new(
        options: &Options,
        chooser: Arc<dyn Choose>,
        keep_trace: bool,
    ) -> Result<Self, String> {
        let mut rng = Rng::new(options.seed);
        let span = i64::try_from(options.drift).unwrap_or(0);
        let drift = |rng: &mut Rng| {
            let up = i64::try_from(rng.between(0, 2 * options.drift)).unwrap_or(0);
            up - span
        };
        let drift = (0..options.regions).map(|_| drift(&mut rng)).collect();
        let lines = keep_trace.then(Vec::new);
        let mut world = Self {
            options: options.clone(),
            now: 0,
            engine: Engine::default(),
            regions: Vec::new(),
            agents: Vec::new(),
            clients: Vec::new(),
            told: Vec::new(),
            wishes: BTreeMap::new(),
            crashes: 0,
            trace: Trace { hash: 0xcbf2_9ce4_8422_2325, lines },
            coordinators: Vec::new(),
            chooser,
            boots: BTreeMap::new(),
            down: BTreeMap::new(),
            frozen: BTreeMap::new(),
            cuts: BTreeMap::new(),
            lost: None,
            drift,
            queue: BTreeMap::new(),
            sequence: 0,
            faults: true,
            rng,
        };
        world.populate().map_err(|error| error.to_string())?;
        Ok(world)
    }

    fn populate(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let mut numbers = BTreeMap::new();
        if self.options.regions_fail != Regions::Apart {
            for index in 0..self.options.regions {
                numbers.insert(RegionId::new(&format!("r{index}"))?, index);
            }
        }
        for index in 0..self.options.regions {
            let mut agents = BTreeMap::new();
            for host in 0..self.options.hosts {
                let id = HostId::new(&format!("h{index}-{host}"))?;
                agents.insert(id.clone(), self.agents.len());
                let zone = ZoneId::new(&format!("r{index}{}", ["a", "b"][host % 2]))?;
                let cpu = self.options.host_cpus;
                let memory = Mib::new(cpu * 1024);
                let storage = Gib::new(1_000);
                let total = Capacity {
                    cpu,
                    memory,
                    storage,
                    vms: cpu.max(8),
                    ..Capacity::default()
                };
                self.agents.push(Agent {
                    region: index,
                    report: HostReport { id, zone, total, ready: true },
                    held: BTreeMap::new(),
                    guests: BTreeMap::new(),
                    forgets_order: self.options.breakage == Breakage::AgentForgetsOrder,
                    guard: Guard::default(),
                    fenced: 0,
                });
            }
            self.regions.push(Region {
                id: RegionId::new(&format!("r{index}"))?,
                disk: BTreeMap::new(),
                daemon: None,
                unsynced: Vec::new(),
                breakage: self.options.breakage,
                agents,
                coordinators: self.options.coordinators,
                regions: numbers.clone(),
            });
        }
        for index in 0..self.options.clients {
            let rng = Rng::new(self.rng.next());
            let mut client = Client::new(index, self.options.coordinators, rng);
            client.guarded = self.options.regions_fail != Regions::Apart;
            self.clients.push(client);
        }
        self.coordinators.resize_with(self.options.coordinators, || None);
        let regions = (0..self.regions.len()).map(Node::Region);
        let agents = (0..self.agents.len()).map(Node::Agent);
        let coordinators = (0..self.coordinators.len()).map(Node::Coordinator);
        let clients = (0..self.clients.len()).map(Node::Client);
        let nodes: Vec<_> =
            regions.chain(agents).chain(coordinators).chain(clients).collect();
        for node in nodes {
            self.start(node)?;
        }
        self.prepare_strikes();
        Ok(())
    }

    /// Faults stop, and what is down comes back.
    pub(crate) fn heal(&mut self) {
        self.faults = false;
    }

    /// Whether new wishes are made.
    pub(crate) const fn is_faulty(&self) -> bool {
        self.faults
    }

    /// The next event; says who was touched by it.
    pub(crate) fn step(&mut self) -> Result<Option<Node>, String> {
        let Some(((at, _), event)) = self.queue.pop_first() else { return Ok(None) };
        self.now = at;
        let node = match &event {
            Event::Deliver { to, .. } => Some(*to),
            Event::Tick { node, .. } => Some(*node),
            Event::Restart(_)
            | Event::Strike
            | Event::Struck(_)
            | Event::Fence(_)
            | Event::Bite(_) => None,
        };
        if let Some(thaws_at) = node.and_then(|node| self.thaws_at(node)) {
            // It finds in its sockets, in order, what came while it was stopped.
            self.after(thaws_at - at, event);
            return Ok(node);
        }
        match event {
            Event::Deliver { from, to, body } => {
                if self.down.contains_key(&to) {
                    return Ok(Some(to));
                }
                self.trace.line(&format_args!("{at} {from:?} {to:?} {body}"));
                self.deliver(from, to, body)?;
                Ok(Some(to))
            }
            Event::Tick { node, boot } => {
                if self.boots.get(&node) == Some(&boot) && !self.down.contains_key(&node)
                {
                    self.tick(node)?;
                    self.after(TICK_MS, Event::Tick { node, boot });
                }
                Ok(Some(node))
            }
            Event::Restart(node) => {
                if self.down.get(&node).is_some_and(|until| *until <= at) {
                    self.start(node)?;
                }
                Ok(Some(node))
            }
            Event::Strike => {
                self.next_strike();
                Ok(Some(Node::Client(0)))
            }
            Event::Struck(strike) => {
                self.strike(strike);
                Ok(Some(Node::Client(0)))
            }
            Event::Fence(index) => {
                self.fence(index);
                Ok(Some(Node::Agent(index)))
            }
            Event::Bite(index) => {
                self.bite(index);
                Ok(Some(Node::Agent(index)))
            }
        }
    }

    fn start(&mut self, node: Node) -> Result<(), String> {
        self.down.remove(&node);
        let boot = self.boots.entry(node).or_insert(0);
        *boot += 1;
        let boot = *boot;
        self.trace.line(&format_args!("{} start {node:?} {boot}", self.now));
        match node {
            Node::Region(index) => {
                let mono = self.mono(node);
                self.regions[index].start(boot, mono)?;
            }
            Node::Coordinator(index) => {
                let (view, chooser) = (self.empty_view(), Arc::clone(&self.chooser));
                self.coordinators[index] =
                    Some(Coordinator::new(index, boot, view, chooser));
            }
            Node::Agent(index) => {
                let mono = self.mono(node);
                self.agents[index].align(mono);
            }
            Node::Engine | Node::Client(_) => {}
        }
        let first = self.rng.between(1, TICK_MS);
        self.after(first, Event::Tick { node, boot });
        Ok(())
    }

    fn crash(&mut self, node: Node) {
        let down = self.rng.between(DOWN_MS.0, DOWN_MS.1);
        self.fall(node, down);
    }

    pub(crate) fn is_down(&self, node: Node) -> bool {
        self.down.contains_key(&node)
    }

    /// A node goes down for a while; one that is down stays so for longer.
    pub(crate) fn fall(&mut self, node: Node, for_ms: u64) {
        self.crashes += 1;
        self.trace.line(&format_args!("{} crash {node:?}", self.now));
        match node {
            Node::Region(index) => {
                self.regions[index].daemon = None;
                self.regions[index].unsynced.clear();
            }
            Node::Coordinator(index) => self.coordinators[index] = None,
            Node::Engine | Node::Agent(_) | Node::Client(_) => {}
        }
        self.frozen.remove(&node);
        let until = self.down.entry(node).or_default();
        *until = (*until).max(self.now + for_ms);
        self.after(for_ms, Event::Restart(node));
    }

    /// Whether the node crashes at this point.
    fn crashes_here(&mut self, node: Node) -> bool {
        let rate = match node {
            Node::Engine => self.options.engine_crash,
            Node::Region(_) | Node::Agent(_) | Node::Coordinator(_) => self.options.crash,
            Node::Client(_) => 0,
        };
        let crashes = self.faults && self.rng.chance(rate);
        if crashes {
            self.crash(node);
        }
        crashes
    }

    fn deliver(&mut self, from: Node, to: Node, body: Body) -> Result<(), String> {
        match to {
            Node::Engine => {
                let Body::ToEngine { call, request } = body else { return Ok(()) };
                if self.crashes_here(to) {
                    return Ok(());
                }
                let reply = self.engine.answer(request);
                if !self.crashes_here(to) {
                    self.send(to, from, &Body::FromEngine { call, reply });
                }
            }
            Node::Region(index) => {
                let now = (self.region_clock(index), self.mono(to));
                let step = self.regions[index].handle(now, from, body);
                self.finish_region(index, step)?;
            }
            Node::Agent(index) => self.instruct(index, body),
            Node::Coordinator(index) => {
                let now = Timestamp::from_millis(self.now);
                let Some(coordinator) = &mut self.coordinators[index] else {
                    return Ok(());
                };
                let out = coordinator.handle(now, from, body);
                self.finish_coordinator(to, out);
            }
            Node::Client(index) => self.clients[index].handle(&body),
        }
        Ok(())
    }

    fn tick(&mut self, node: Node) -> Result<(), String> {
        let now = Timestamp::from_millis(self.now);
        match node {
            Node::Engine => {}
            Node::Region(index) => {
                let now = (self.region_clock(index), self.mono(node));
                let late = std::mem::take(&mut self.regions[index].unsynced);
                self.regions[index].store(late)?;
                let step = self.regions[index].tick(now);
                self.finish_region(index, step)?;
            }
            Node::Agent(index) => {
                let clock = self.mono(node);
                let agent = &mut self.agents[index];
                agent.align(clock);
                let report = Body::Report {
                    host: Box::new(agent.report.clone()),
                    vms: agent.seen(),
                    clock,
                };
                let region = Node::Region(agent.region);
                self.send(node, region, &report);
            }
            Node::Coordinator(index) => {
                if let Some(coordinator) = &mut self.coordinators[index] {
                    let out = coordinator.tick(now);
                    self.finish_coordinator(node, out);
                }
            }
            Node::Client(index) => {
                let busy = self.faults;
                if let Some((to, body)) = self.clients[index].tick(now, busy) {
                    if let Body::Ask { op, wish } = &body {
                        self.wishes.insert((node, *op), wish.as_ref().clone());
                    }
                    self.send(node, to, &body);
                }
            }
        }
        Ok(())
    }

    /// An agent stores, then acts; a crash between the two is made good when it starts.
    fn instruct(&mut self, index: usize, body: Body) {
        let node = Node::Agent(index);
        if let Body::Grant(grant) = body {
            return self.granted(index, *grant);
        }
        let Body::Instruct(mut instruction) = body else { return };
        instruction.lease_bound &= self.options.breakage != Breakage::IgnoresLease;
        if !self.agents[index].accepts(&instruction) || self.crashes_here(node) {
            return;
        }
        self.agents[index].held.insert(instruction.vm.clone(), *instruction);
        if self.crashes_here(node) {
            return;
        }
        let mono = self.mono(node);
        self.agents[index].align(mono);
        self.crashes_here(node);
    }

    fn finish_region(&mut self, index: usize, step: Step) -> Result<(), String> {
        let node = Node::Region(index);
        if step.changes.is_empty() && step.out.is_empty() {
            return Ok(());
        }
        if self.options.breakage == Breakage::AnswersBeforeStoring {
            self.send_all(node, step.out);
            self.regions[index].unsynced.extend(step.changes);
            self.crashes_here(node);
            return Ok(());
        }
        if self.crashes_here(node) {
            return Ok(());
        }
        self.regions[index].store(step.changes)?;
        if self.crashes_here(node) {
            return Ok(());
        }
        self.send_all(node, step.out);
        self.crashes_here(node);
        Ok(())
    }

    fn finish_coordinator(&mut self, node: Node, out: Vec<(Node, Body)>) {
        if out.is_empty() || self.crashes_here(node) {
            return;
        }
        for (to, body) in &out {
            if let Body::Answer { op, answer } = body {
                let (op, to, answer) = (*op, *to, answer.clone());
                self.told.push(Told { op, to, answer });
            }
        }
        self.send_all(node, out);
        self.crashes_here(node);
    }

    fn send_all(&mut self, from: Node, out: Vec<(Node, Body)>) {
        for (to, body) in out {
            self.send(from, to, &body);
        }
    }

    fn send(&mut self, from: Node, to: Node, body: &Body) {
        if self.is_cut(from, to) {
            return;
        }
        for delay in deliveries(&mut self.rng, &self.options, self.faults) {
            self.after(delay, Event::Deliver { from, to, body: body.clone() });
        }
    }

    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), event);
    }

    /// What the clock of a region shows.
    fn region_clock(&self, index: usize) -> Timestamp {
        let now = i64::try_from(self.now).unwrap_or(i64::MAX);
        let wrong = now / 1_000 * self.drift[index];
        let shown = u64::try_from(now + wrong).unwrap_or(0);
        Timestamp::from_millis(CLOCK_START_MS + shown)
    }

    fn empty_view(&self) -> FleetView {
        let region = |region: &Region| RegionView {
            region: Arc::new(configured(region.id.clone())),
            health: Health { state: HealthState::Healthy, score: 100 },
            observed_at: Timestamp::default(),
            hosts: Vec::new(),
        };
        let regions = self.regions.iter().map(region).collect();
        FleetView { regions, ..FleetView::default() }
    }
}

/// A region without anything that would steer a decision.
pub(crate) fn configured(id: RegionId) -> RegionConfig {
    let location = Location {
        latitude: 0.0,
        longitude: 0.0,
        country: "IE".to_owned(),
        continent: "Europe".to_owned(),
    };
    RegionConfig {
        name: id.to_string(),
        id,
        location,
        kind: RegionKind::Cloud,
        cloud_provider: "sim".to_owned(),
        availability_zones: Vec::new(),
        compliance_zones: Vec::new(),
        overcommit: Overcommit::default(),
        cost: CostProfile::default(),
        network_latency: BTreeMap::new(),
        priority: 50,
        enabled: true,
    }
}
