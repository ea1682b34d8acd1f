//! How many routing decisions one core makes in a second, how long the slowest take, what a
//! table costs to make, and whether readers stall while tables are swapped.
//!
//! The world is thirteen metros, a grid of 5-degree cells, 64 services in three classes: a table
//! of 497,664 answers. Clients are random, which is the worst case for caches: each looks its
//! cell up in an index of all 16.7 million IPv4 /24s first, as a plane would. The index here is
//! filled at random; a real one has neighbours in the same cell and is kinder.
//!
//! Rates are of the thread's CPU time. Single decisions are timed by the wall clock, because
//! reading CPU time takes longer than deciding; the clock's own time is part of each sample and
//! is told.
//!
//! The peer is the source's own `RoutingTable` (P6): text keys in a map behind a lock. It knows
//! no clients, classes, limits or fallbacks.

pub(super) mod world;

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::anyhow;
use dwcp_router::{Class, Inputs, Key, Standing, Table, decide, decide_for, explain};
use rustix::time::ClockId;
use tokio::sync::watch;

use self::world::{CELLS, Chance, METROS, SERVICES, world};
use super::nanos::{at, float, now};
use super::{Measurement, Options, Peer};

/// Decisions of one round; several rounds, of which the best and the middle are told.
const ROUND: usize = 5_000_000;
const ROUND_QUICK: usize = 500_000;
const ROUNDS: usize = 5;
/// Decisions that are timed one by one.
const TIMED: usize = 2_000_000;
const TIMED_QUICK: usize = 200_000;
/// Tables that are made.
const BUILDS: usize = 7;
/// Tables that are swapped in within a second.
const SWAPS_PER_S: u32 = 1_000;
/// Requests with limits of their own, and explanations.
const OWN: usize = 200_000;
const EXPLAINED: usize = 2_000;
/// IPv4 prefixes of 24 bits.
const PREFIXES: usize = 1 << 24;

/// Measures.
pub(super) fn measure(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    let mut chance = Chance::new(1);
    let first = table(world(0), 1, None)?;
    let (second, builds) = rebuild(&first)?;
    let bench = Bench {
        tables: [Arc::new(first), Arc::new(second)],
        prefixes: (0..PREFIXES).map(|_| chance.below(CELLS)).collect(),
        round: if options.quick { ROUND_QUICK } else { ROUND },
        timed: if options.quick { TIMED_QUICK } else { TIMED },
    };
    let mut found = bench.decisions(&mut chance);
    found.push(bench.swapped(&mut chance)?);
    found.extend(bench.rest(&mut chance));
    found.push(Measurement {
        name: "routing.rebuild".to_owned(),
        value: builds[0],
        unit: "ms",
        method: format!(
            "a whole table of {} answers from the one before, {} regions, thread CPU time, best of {BUILDS} (middle {:.1} ms)",
            bench.tables[1].len(),
            METROS.len(),
            builds[builds.len() / 2]
        ),
        peer: None,
    });
    Ok(found)
}

fn table(
    inputs: Inputs,
    generation: u64,
    before: Option<&Table>,
) -> anyhow::Result<Table> {
    Table::build(inputs, generation, before).map_err(|problems| anyhow!("{problems:?}"))
}

/// A later table, and the milliseconds that each took to make, sorted.
fn rebuild(first: &Table) -> anyhow::Result<(Table, Vec<f64>)> {
    let mut took = Vec::new();
    let mut last = None;
    for _ in 0..BUILDS {
        let inputs = world(1);
        let start = now(ClockId::ThreadCPUTime);
        let made = table(inputs, 2, Some(first))?;
        took.push(float(now(ClockId::ThreadCPUTime) - start) / 1e6);
        last = Some(made);
    }
    took.sort_unstable_by(f64::total_cmp);
    Ok((last.ok_or_else(|| anyhow!("no table was made"))?, took))
}

struct Bench {
    tables: [Arc<Table>; 2],
    /// The cell of each IPv4 /24.
    prefixes: Vec<u32>,
    round: usize,
    timed: usize,
}

impl Bench {
    /// A random client asks for something.
    fn key(&self, chance: &mut Chance) -> Key {
        let (address, drawn) = (chance.index(PREFIXES), chance.next());
        let class = usize::try_from(drawn >> 62).unwrap_or(0) % Class::ALL.len();
        Key {
            cell: self.prefixes[address],
            service: u16::try_from(drawn % u64::from(SERVICES)).unwrap_or(0),
            class: Class::ALL[class],
            client: address as u64,
            request: drawn,
        }
    }

    /// The CPU nanoseconds of each of several rounds, one decision, sorted.
    fn rounds(&self, mut one: impl FnMut()) -> Vec<f64> {
        let mut rounds: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let start = now(ClockId::ThreadCPUTime);
                (0..self.round).for_each(|_| one());
                float(now(ClockId::ThreadCPUTime) - start) / float(self.round as u64)
            })
            .collect();
        rounds.sort_unstable_by(f64::total_cmp);
        rounds
    }

    fn decisions(&self, chance: &mut Chance) -> Vec<Measurement> {
        let table = &self.tables[0];
        let drawing = self.rounds(|| {
            black_box(self.key(chance));
        });
        let whole = self.rounds(|| {
            let key = self.key(chance);
            black_box(decide(table, Standing::ALL, &key));
        });
        let peer = self.source(chance);
        let mut samples: Vec<u64> = (0..self.timed)
            .map(|_| {
                let drawn = chance.next();
                let start = now(ClockId::Monotonic);
                let mut seeded = Chance::new(drawn);
                black_box(decide(table, Standing::ALL, &self.key(&mut seeded)));
                now(ClockId::Monotonic) - start
            })
            .collect();
        samples.sort_unstable();
        let empty = self.clock();
        let method = format!(
            "one thread, {} regions, {} answers, random clients by an index of 16.7 M prefixes",
            METROS.len(),
            table.len()
        );
        let measured = |name: &str, value: f64, unit, method: String, peer| Measurement {
            name: format!("routing.{name}"),
            value,
            unit,
            method,
            peer,
        };
        let rate = |nanos: f64| 1e9 / nanos;
        vec![
            measured(
                "decisions",
                rate(whole[0]),
                "1/s",
                format!(
                    "{method}, CPU time with drawing and looking the client up ({:.1} ns of {:.1}), best of {ROUNDS} rounds of {} (middle {:.0}/s)",
                    drawing[0],
                    whole[0],
                    self.round,
                    rate(whole[ROUNDS / 2])
                ),
                Some(Peer {
                    name: "the source's RoutingTable (P6): RwLock<HashMap<String, String>>, no clients"
                        .to_owned(),
                    value: rate(peer),
                }),
            ),
            measured(
                "decision_p50",
                at(&samples, 0.50),
                "ns",
                format!("{method}, {} decisions, wall time with {empty:.0} ns of the clock", self.timed),
                None,
            ),
            measured(
                "decision_p99",
                at(&samples, 0.99),
                "ns",
                format!("{method}, {} decisions, wall time with {empty:.0} ns of the clock", self.timed),
                None,
            ),
        ]
    }

    /// What reading the clock twice takes, in the middle.
    fn clock(&self) -> f64 {
        let mut samples: Vec<u64> = (0..self.timed)
            .map(|_| {
                let start = now(ClockId::Monotonic);
                now(ClockId::Monotonic) - start
            })
            .collect();
        samples.sort_unstable();
        at(&samples, 0.50)
    }

    /// The nanoseconds of a look-up in the source's table, in the best round.
    fn source(&self, chance: &mut Chance) -> f64 {
        let pairs = METROS.iter().flat_map(|(name, ..)| {
            (0..SERVICES)
                .map(move |service| (format!("{name}:s{service}"), (*name).to_owned()))
        });
        let routes: RwLock<HashMap<String, String>> = RwLock::new(pairs.collect());
        let names: Vec<String> =
            (0..SERVICES).map(|service| format!("s{service}")).collect();
        let rounds = self.rounds(|| {
            let (source, ..) = METROS[chance.index(METROS.len())];
            let service = &names[chance.index(names.len())];
            let key = format!("{source}:{service}");
            let routes = routes.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            black_box(routes.get(&key).cloned());
        });
        rounds[0]
    }

    /// The same decisions while another thread swaps tables.
    fn swapped(&self, chance: &mut Chance) -> anyhow::Result<Measurement> {
        let (sender, mut receiver) = watch::channel(self.tables[0].clone());
        let stop = AtomicBool::new(false);
        let (rounds, seen, swaps) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut swaps = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_secs(1) / SWAPS_PER_S);
                    swaps += 1;
                    let next = self.tables[usize::from(swaps % 2 == 1)].clone();
                    sender.send_replace(next);
                }
                swaps
            });
            let mut table = self.tables[0].clone();
            let mut seen = 0_u64;
            let rounds = self.rounds(|| {
                // One atomic read; the lock is taken only when there is another table.
                if receiver.has_changed().unwrap_or(false) {
                    table = receiver.borrow_and_update().clone();
                    seen += 1;
                }
                let key = self.key(chance);
                black_box(decide(&table, Standing::ALL, &key));
            });
            stop.store(true, Ordering::Relaxed);
            let swaps = writer.join().map_err(|_| anyhow!("the writer failed"))?;
            anyhow::Ok((rounds, seen, swaps))
        })?;
        Ok(Measurement {
            name: "routing.decisions_swapping".to_owned(),
            value: 1e9 / rounds[0],
            unit: "1/s",
            method: format!(
                "the same while tables are swapped about {SWAPS_PER_S} times a second ({swaps} swaps, {seen} seen by the reader), best of {ROUNDS} rounds (middle {:.0}/s)",
                1e9 / rounds[ROUNDS / 2]
            ),
            peer: None,
        })
    }

    /// Requests with limits of their own, and explanations.
    fn rest(&self, chance: &mut Chance) -> Vec<Measurement> {
        let table = &self.tables[0];
        let wanted = Class::Interactive.profile();
        let mut spent = |count: usize, one: &mut dyn FnMut(&Key)| {
            let start = now(ClockId::ThreadCPUTime);
            for _ in 0..count {
                let key = self.key(chance);
                one(&key);
            }
            float(now(ClockId::ThreadCPUTime) - start) / float(count as u64)
        };
        let own = spent(OWN, &mut |key| {
            black_box(decide_for(table, Standing::ALL, key, wanted));
        });
        let told = spent(EXPLAINED, &mut |key| {
            black_box(explain(table, Standing::ALL, key, None));
        });
        let measured = |name: &str, value, method: &str| Measurement {
            name: format!("routing.{name}"),
            value,
            unit: "ns",
            method: format!("{method}, mean, CPU time, {} regions", METROS.len()),
            peer: None,
        };
        vec![
            measured(
                "decision_own_limits",
                own,
                "a request that brings limits of its own",
            ),
            measured("explain", told, "one explanation of all regions"),
        ]
    }
}
