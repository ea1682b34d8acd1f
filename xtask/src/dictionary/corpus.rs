//! Frames between replicas, as replicas really make them, from a seed.
//!
//! Five replicas of the state plane run here in virtual time with disks that never wait. Clients
//! write what the state plane is for: status of VMs and hosts, usage counters, tags, sessions,
//! preferences. What the replicas send each other is the corpus. [`frames`] is the only thing
//! that others use.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use dwcp_state::shard::ShardMap;
use dwcp_state::{
    Bytes, ClusterId, Command, Frame, Input, Key, Kind, Level, Member, Membership, Now,
    Op, Phase, Policies, Policy, Replica, ReplicaConfig, ReplicaId, Request, RequestId,
    Update,
};
use dwcp_types::{RegionId, Timestamp};

/// Where the replicas are; keys begin with them.
const REGIONS: [&str; 5] =
    ["us-east-1", "eu-west-1", "eu-central-1", "ap-south-1", "sa-east-1"];
const PHASES: [&str; 6] =
    ["pending", "starting", "running", "stopping", "stopped", "failed"];
const TAGS: [&str; 6] = [
    "env=production",
    "env=staging",
    "tier=web",
    "tier=db",
    "compliance=gdpr",
    "backup=daily",
];
const SETTINGS: [&str; 4] = ["theme=dark", "lang=en", "lang=de", "tz=Europe/London"];
/// The wall clock at the beginning, in milliseconds.
const START_MS: u64 = 1_767_225_600_000;
/// Longer frames are whole states and sums of buckets: they need no dictionary.
const FRAME_LEN_MAX: usize = 4 << 10;

/// Some frames of a federation with this seed, at least `count`. Each replica's to one of its
/// peers follow each other, as they would on a connection.
pub(crate) fn frames(seed: u64, count: usize) -> Result<Vec<Vec<u8>>> {
    let mut world = World::new(seed)?;
    while world.sent.values().map(Vec::len).sum::<usize>() < count {
        world.step()?;
    }
    Ok(world.sent.into_values().flatten().collect())
}

/// SplitMix64: enough for a corpus, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn of(&mut self, all: &[&'static str]) -> &'static str {
        let len = u64::try_from(all.len()).unwrap_or(1);
        let at = usize::try_from(self.below(len)).unwrap_or(0);
        all.get(at).copied().unwrap_or("")
    }
}

struct World {
    random: Random,
    now: Duration,
    replicas: BTreeMap<ReplicaId, Replica>,
    flights: VecDeque<(ReplicaId, ReplicaId, Frame)>,
    requests: u64,
    /// What each replica has sent to the next one.
    sent: BTreeMap<ReplicaId, Vec<Vec<u8>>>,
}

impl World {
    fn new(seed: u64) -> Result<Self> {
        let mut world = Self {
            random: Random(seed),
            now: Duration::from_secs(1_000),
            replicas: BTreeMap::new(),
            flights: VecDeque::new(),
            requests: 0,
            sent: BTreeMap::new(),
        };
        // Stamps of another time, and not only in the low bytes.
        world.now += Duration::from_millis(world.random.below(365 * 86_400_000));
        let membership = Arc::new(membership(world.random.next())?);
        let ids: Vec<ReplicaId> = membership.members.keys().copied().collect();
        for id in &ids {
            let config = ReplicaConfig::new(*id, membership.cluster);
            let replica =
                Replica::new(config, []).context("an empty disk is readable")?;
            world.replicas.insert(*id, replica);
        }
        for id in &ids {
            world.give(*id, Input::View(Arc::clone(&membership)));
            for other in ids.iter().filter(|other| *other != id) {
                world.give(*id, Input::PeerUp(*other));
            }
        }
        Ok(world)
    }

    /// A little time passes and somebody writes something.
    fn step(&mut self) -> Result<()> {
        self.now += Duration::from_millis(1 + self.random.below(60));
        let ids: Vec<ReplicaId> = self.replicas.keys().copied().collect();
        let len = u64::try_from(ids.len())?;
        let writer = ids.get(usize::try_from(self.random.below(len))?).copied();
        let writer = writer.context("there are replicas")?;
        let writes =
            if self.random.below(10) < 7 { 1 } else { 2 + self.random.below(12) };
        for _ in 0..writes {
            let (key, update) = self.write();
            self.requests += 1;
            let request = Request {
                id: RequestId(self.requests),
                op: Op::Update { key, update, op_id: None },
                level: None,
                session: None,
                within: Duration::from_secs(1),
            };
            self.give(writer, Input::Client(request));
        }
        for id in &ids {
            let due = self.replicas.get(id).and_then(Replica::next_deadline);
            if due.is_some_and(|due| due <= self.now) {
                self.give(*id, Input::Tick);
            }
            self.end_turn(*id);
        }
        while let Some((from, to, frame)) = self.flights.pop_front() {
            self.give(to, Input::Frame { from, frame });
            self.end_turn(to);
        }
        Ok(())
    }

    /// What a client may write.
    fn write(&mut self) -> (Key, Update) {
        let region = self.random.of(&REGIONS);
        let vm = self.random.below(30_000);
        let host = self.random.below(200);
        let tenant = self.random.below(400);
        let set = |text: String| Update::Set(Bytes::from(text.as_str()));
        let (key, update) = match self.random.below(100) {
            0..40 => {
                let phase = self.random.of(&PHASES);
                (
                    format!("vm/{region}/vm-web-{vm:05}/status"),
                    set(format!("{phase} host-{host:03}")),
                )
            }
            40..60 => {
                let seconds = 1 + self.random.below(600);
                let key = format!("usage/{region}/customer-{tenant:03}/cpu-seconds");
                (key, Update::Increment(seconds))
            }
            60..75 => {
                let (cpu, memory) = (self.random.below(100), self.random.below(262_144));
                (
                    format!("host/{region}/host-{host:03}/load"),
                    set(format!("cpu {cpu} memory {memory}")),
                )
            }
            75..85 => {
                let tag = Bytes::from(self.random.of(&TAGS));
                (format!("tags/vm-web-{vm:05}"), Update::Insert(tag))
            }
            85..95 => {
                let id = (self.random.next(), self.random.next());
                let setting = self.random.of(&SETTINGS).to_owned();
                (format!("session/{:016x}{:016x}", id.0, id.1), set(setting))
            }
            _ => {
                let setting = self.random.of(&SETTINGS);
                let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
                let update = Box::new(Update::Set(Bytes::from(value)));
                let name = Bytes::from(name);
                let field = Update::Field { name, kind: Kind::Lww, update };
                (format!("preferences/customer-{tenant:03}"), field)
            }
        };
        (Key::from(key), update)
    }

    /// The replica whose frames from this one are kept.
    fn after(&self, id: ReplicaId) -> ReplicaId {
        let mut later = self.replicas.range((Bound::Excluded(id), Bound::Unbounded));
        let next = later.next().or_else(|| self.replicas.first_key_value());
        next.map_or(id, |(next, _)| *next)
    }

    fn now(&self) -> Now {
        let millis = u64::try_from(self.now.as_millis()).unwrap_or(0);
        Now { wall: Timestamp::from_millis(START_MS + millis), mono: self.now }
    }

    fn give(&mut self, to: ReplicaId, input: Input) {
        let now = self.now();
        let mut out = Vec::new();
        if let Some(replica) = self.replicas.get_mut(&to) {
            replica.handle(now, input, &mut out);
        }
        self.carry_out(to, out);
    }

    fn end_turn(&mut self, of: ReplicaId) {
        let now = self.now();
        let mut out = Vec::new();
        if let Some(replica) = self.replicas.get_mut(&of) {
            replica.turn_end(now, &mut out);
        }
        self.carry_out(of, out);
    }

    fn carry_out(&mut self, of: ReplicaId, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Persist { batch, .. } => {
                    self.give(of, Input::Persisted { batch });
                }
                Command::Send { to, frame } => {
                    let bytes = frame.encode();
                    if to == self.after(of) && bytes.len() <= FRAME_LEN_MAX {
                        self.sent.entry(of).or_default().push(bytes);
                    }
                    self.flights.push_back((of, to, frame));
                }
                Command::Reply { .. } | Command::Notice(_) => {}
            }
        }
    }
}

fn membership(cluster: u64) -> Result<Membership> {
    let regions: Vec<RegionId> =
        REGIONS.iter().map(|name| RegionId::new(name)).collect::<Result<_, _>>()?;
    let of = |prefix: &str, kind| {
        (Arc::from(prefix), Policy::of(kind, Level::Eventual, "global".into()))
    };
    let policies = Policies::new([
        of("vm/", Kind::Lww),
        of("usage/", Kind::GCounter),
        of("host/", Kind::Lww),
        of("tags/", Kind::OrSet),
        of("session/", Kind::Lww),
        of("preferences/", Kind::OrMap),
    ]);
    let members = (1..).zip(&regions).map(|(number, region)| {
        let region = region.clone();
        (ReplicaId::new(number), Member { region, admission: 1, phase: Phase::Active })
    });
    Ok(Membership {
        cluster: ClusterId::new(cluster),
        epoch: 1,
        members: members.collect(),
        evicted: BTreeMap::new(),
        policies,
        shards: ShardMap::single("global".into(), regions.iter().cloned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_frames_and_another_makes_others() {
        let of = |seed| frames(seed, 300).unwrap();
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn most_frames_are_pushes_that_a_replica_reads() {
        let frames = frames(1, 2_000).unwrap();
        let bodies = frames.iter().map(|bytes| Frame::decode(bytes).unwrap().body);
        let filled = bodies
            .filter(|body| matches!(body, dwcp_state::frame::Body::Push(push) if !push.entries.is_empty()))
            .count();
        assert!(filled > 500, "{filled} of 2000");
    }
}
