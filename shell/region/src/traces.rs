//! Traces of the whole federation (M10, O6): every daemon makes spans, brings each to the home of
//! its trace, and is itself the home of some, which it judges and keeps on its disk.
//!
//! ```text
//!   own requests ─┐
//!   own hosts ────┴▶ ship ─▶ home by hash of the trace ─▶ Tail (core/monitor) ─▶ Shelf
//!                                                                                  ▲
//!   list, show: every region's shelf is asked, and what comes is put together ─────┘
//! ```
//!
//! No region is special: a home that does not answer is replaced by whoever wanted to send to it,
//! and readers put together what lies in two places. Spans carry names that records have too, and
//! nothing of users (F31).

mod door;
mod export;
mod home;
mod index;
mod saga;
mod settings;
mod shelf;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_api::trace::{Tracing, TracingReply};
use dwcp_api::{Client, Routes};
use dwcp_monitor::trace::{
    Dropped, Kind, Lane, SPANS_MAX, Span, Tail, Taken, TraceId, Why,
};
use dwcp_runtime::clock::Clock;
use dwcp_runtime::strong::StrongEngine;
use dwcp_runtime::trace::Tracer;
use dwcp_types::RegionId;
use tokio::sync::mpsc;

use self::export::Export;
pub(crate) use self::saga::{Saga, Whole};
use self::settings::Settings;
use self::shelf::{Lost, Order, Shelf, ToKeep};
use self::store::BYTES_MAX;
use crate::config::OtlpSpec;
use crate::metrics::Metrics;
use crate::world::World;

/// The folder of the store, in the daemon's data.
const FOLDER: &str = "traces";
/// What a region's daemon is called in spans.
const PROCESS: &str = "dwcpd";
/// Operations with a series of their own.
const OPERATIONS_MAX: usize = 100;
/// How often traces that are over are decided.
const JUDGE_EVERY: Duration = Duration::from_millis(500);
/// Traces that are held until the shelf is read: as many as may wait to be decided.
const HELD_MAX: usize = 10_000;
/// In every so many of these rounds what is too old is thrown away: each minute.
const SWEEP_ROUNDS: u64 = 120;

/// See the module.
#[derive(Debug)]
pub(crate) struct Traces {
    region: RegionId,
    tracer: Tracer,
    tail: Mutex<Tail>,
    /// What came after its trace was decided, until it is written.
    late: Mutex<BTreeMap<TraceId, Vec<Span>>>,
    shelf: Shelf,
    settings: Settings,
    export: Option<Export>,
    counts: Arc<Mutex<Counts>>,
    peers: BTreeMap<RegionId, Client>,
    world: Arc<World>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Operations that have a name in metrics.
    operations: BTreeSet<String>,
    decided: BTreeMap<&'static str, u64>,
    dropped: BTreeMap<&'static str, u64>,
}

/// What traces are made with, before the rest of the daemon is there.
pub(crate) struct Beginnings {
    pub(crate) tracer: Tracer,
    ended: mpsc::Receiver<Span>,
    shelf: Shelf,
    counts: Arc<Mutex<Counts>>,
}

impl Beginnings {
    /// A daemon's tracer, and its shelf, which begins to read what it has.
    ///
    /// # Errors
    ///
    /// When there is no thread for it.
    pub(crate) fn new(
        region: &RegionId,
        data: &Path,
        clock: &Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let lane = Lane { region: region.clone(), process: PROCESS.to_owned() };
        let (tracer, ended) = Tracer::new(lane, clock.clone());
        let counts: Arc<Mutex<Counts>> = Arc::default();
        let shared = Arc::clone(&counts);
        let lost: Lost = Arc::new(move |why, spans| dropped(&shared, why, spans));
        let shelf = Shelf::start(&data.join(FOLDER), lost)?;
        Ok(Self { tracer, ended, shelf, counts })
    }
}

/// What traces need of the rest of the daemon.
pub(crate) struct Around {
    pub(crate) region: RegionId,
    pub(crate) file: Tracing,
    pub(crate) otlp: Option<OtlpSpec>,
    pub(crate) engine: Arc<dyn StrongEngine>,
    pub(crate) peers: BTreeMap<RegionId, Client>,
    pub(crate) world: Arc<World>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Traces {
    /// Traces, and the spans that its task is to bring home.
    pub(crate) fn new(
        beginnings: Beginnings,
        around: Around,
    ) -> (Arc<Self>, mpsc::Receiver<Span>) {
        let Beginnings { tracer, ended, shelf, counts } = beginnings;
        let Around { region, file, otlp, engine, peers, world, metrics, clock } = around;
        let traces = Self {
            region,
            settings: Settings::new(file, engine, tracer.clone()),
            tracer,
            tail: Mutex::default(),
            late: Mutex::default(),
            shelf,
            export: otlp.map(Export::new),
            counts,
            peers,
            world,
            metrics,
            clock,
        };
        (Arc::new(traces), ended)
    }

    /// The doors of operators and of peers.
    pub(crate) fn routes(self: &Arc<Self>) -> Routes {
        door::routes(self)
    }

    /// What this daemon makes spans with.
    pub(crate) const fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// What tells the traces of `move` or `failover`.
    pub(crate) fn saga(&self, kind: &'static str) -> Saga {
        Saga::new(self.tracer.clone(), self.region.clone(), kind)
    }

    /// Brings spans to their homes, decides what is over and follows what operators choose, for
    /// ever.
    pub(crate) async fn run(self: Arc<Self>, ended: mpsc::Receiver<Span>) {
        let export = async {
            if let Some(export) = &self.export {
                export.run(|spans| self.dropped("otlp", spans)).await;
            }
        };
        tokio::join!(self.ship(ended), self.judge(), self.settings.follow(), export);
    }

    /// Takes spans that are at home here.
    fn take(&self, spans: Vec<Span>) {
        let now = self.clock.monotonic();
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        for span in spans {
            match tail.take(span, now) {
                Taken::Pending | Taken::Unwanted => {}
                Taken::Late(span) => {
                    let mut late =
                        self.late.lock().unwrap_or_else(PoisonError::into_inner);
                    let of = late.entry(span.trace).or_default();
                    if of.len() < SPANS_MAX {
                        of.push(*span);
                    } else {
                        self.dropped("too_many", 1);
                    }
                }
                Taken::Dropped(Dropped::Refused) => self.dropped("refused", 1),
                Taken::Dropped(Dropped::TooMany) => self.dropped("too_many", 1),
            }
        }
    }

    /// Spans of a trace that is not decided, or not written.
    fn waiting(&self, trace: TraceId) -> Vec<Span> {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spans = tail.waiting(trace).to_vec();
        drop(tail);
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        spans.extend(late.get(&trace).into_iter().flatten().cloned());
        spans
    }

    /// Decides and writes what waits, because the daemon stops.
    pub(crate) fn finish(&self) {
        let to_keep = self.decided(Duration::MAX);
        self.shelf.finish(self.order(to_keep));
    }

    fn order(&self, to_keep: Vec<ToKeep>) -> Order {
        let (now, retention) = (self.clock.now(), self.settings.retention());
        Order { to_keep, now, retention }
    }

    async fn judge(&self) {
        let mut tick = tokio::time::interval(JUDGE_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut to_keep = Vec::new();
        for round in 0_u64.. {
            tick.tick().await;
            to_keep.extend(self.decided(self.clock.monotonic()));
            if self.shelf.is_reading() {
                self.hold(&mut to_keep);
            } else if !to_keep.is_empty() || round % SWEEP_ROUNDS == 0 {
                self.shelf.order(self.order(std::mem::take(&mut to_keep)));
            }
        }
    }

    /// Holds what is decided until the shelf is read, within a bound.
    fn hold(&self, to_keep: &mut Vec<ToKeep>) {
        let surplus = to_keep.len().saturating_sub(HELD_MAX);
        let lost = to_keep.drain(..surplus).map(|(_, _, spans)| spans.len()).sum();
        if surplus > 0 {
            self.dropped("disk_busy", lost);
        }
    }

    /// What is to be written at `now`.
    fn decided(&self, now: Duration) -> Vec<ToKeep> {
        let rules = self.settings.rules();
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let judged = tail.judge(&rules, now);
        drop(tail);
        let mut to_keep = Vec::new();
        for it in judged {
            self.measure(&it.spans);
            self.count(it.why.map_or("unsampled", Why::as_str));
            if let Some(why) = it.why {
                to_keep.push((it.trace, Some(why), it.spans));
            }
        }
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let late = std::mem::take(&mut *late);
        to_keep.extend(late.into_iter().map(|(trace, spans)| (trace, None, spans)));
        for (_, _, spans) in &to_keep {
            self.hand_on(spans);
        }
        to_keep
    }

    /// To whoever speaks OTLP, where there is one.
    fn hand_on(&self, spans: &[Span]) {
        if self.export.as_ref().is_some_and(|export| !export.hand_on(spans)) {
            self.dropped("otlp", spans.len());
        }
    }

    /// Calls from region to region, kept or not (DETAILS, `trace_latency_ms`).
    fn measure(&self, spans: &[Span]) {
        let callers: BTreeMap<_, &Span> = spans
            .iter()
            .filter(|span| span.kind == Kind::Client)
            .map(|span| (span.id, span))
            .collect();
        for span in spans.iter().filter(|span| span.kind == Kind::Server) {
            let caller = span.parent.and_then(|parent| callers.get(&parent));
            if let Some(caller) = caller.filter(|caller| caller.region != span.region) {
                let took = Duration::from_micros(caller.took_us);
                let pair = (&caller.region, &span.region);
                self.metrics.traced(pair, self.metric_name(&span.name), took);
            }
        }
    }

    /// An operation's name in metrics: the first so many have their own, so that nobody makes
    /// series without end.
    fn metric_name<'a>(&self, operation: &'a str) -> &'a str {
        let operations = &mut self.counts().operations;
        if operations.contains(operation) {
            return operation;
        }
        if operations.len() >= OPERATIONS_MAX {
            return "other";
        }
        operations.insert(operation.to_owned());
        operation
    }

    fn count(&self, why: &'static str) {
        *self.counts().decided.entry(why).or_default() += 1;
    }

    fn dropped(&self, why: &'static str, spans: usize) {
        dropped(&self.counts, why, spans);
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How tracing stands in this region.
    pub(crate) fn standing(&self) -> TracingReply {
        let (tracing, by_operator) = self.settings.now();
        let named = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect()
        };
        let (decided, mut dropped): (_, BTreeMap<String, u64>) = {
            let counts = self.counts();
            (named(&counts.decided), named(&counts.dropped))
        };
        let queue = self.tracer.dropped();
        if queue > 0 {
            dropped.insert("queue".to_owned(), queue);
        }
        let (traces, disk_bytes) = self.shelf.size();
        TracingReply {
            answered_by: self.region.clone(),
            tracing,
            by_operator,
            traces: u64::try_from(traces).unwrap_or(u64::MAX),
            disk_bytes,
            disk_bytes_max: BYTES_MAX,
            decided,
            dropped,
        }
    }
}

fn dropped(counts: &Mutex<Counts>, why: &'static str, spans: usize) {
    let spans = u64::try_from(spans).unwrap_or(u64::MAX);
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    *counts.dropped.entry(why).or_default() += spans;
}
