//! What this daemon measures, by the source's names (O18, O19, O21 to O26).
//!
//! Where those names break the customs of Prometheus (`_ms` instead of seconds, F66), they are
//! kept, because dashboards refer to them. Counts live here and rise; what is a level at a
//! moment is taken from a replica's report at each scrape.

pub(crate) mod regions;
pub(crate) mod replicas;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dwcp_api::controller::Decisions;
use dwcp_api::routing::AnycastItem;
use dwcp_api::state::ReplicaReport;
use dwcp_api::trace::TracingReply;
use dwcp_controller::failover::Outcome;
use dwcp_edge::{dns, proxy};
use dwcp_monitor::digest::Sketch;
use dwcp_monitor::incident::Incident;
use dwcp_types::{RegionId, Strategy};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::incidents::SlaLevel;

/// Buckets of a replication's time, in milliseconds (DETAILS 2.2: 10 to 5,000; finer below, for
/// regions that are near).
const SYNC_MS: [f64; 11] =
    [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 5_000.0];
/// Buckets of a placement's time, in milliseconds.
const PLACEMENT_MS: [f64; 10] =
    [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 2_000.0];

/// Buckets of a routing decision's time, in milliseconds: those of the source (DETAILS 2.3) and
/// finer ones below, where decisions are.
const ROUTING_MS: [f64; 11] =
    [0.000_1, 0.000_3, 0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 50.0, 100.0];
/// Buckets of a failover's time, in seconds (O20); 30 is the promise (C18).
const FAILOVER_S: [f64; 10] =
    [5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 45.0, 60.0, 90.0, 120.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
    level: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pair {
    source_region: String,
    target_region: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Placement {
    strategy: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failover {
    from_region: String,
    result: &'static str,
}

/// What is counted while it happens.
#[derive(Debug)]
pub(crate) struct Metrics {
    region: RegionId,
    operations: Family<Operation, Counter>,
    sync: Family<Pair, Histogram>,
    placements: Family<Placement, Counter>,
    placement: Histogram,
    failovers: Family<Failover, Histogram>,
    migrations: Family<[(&'static str, &'static str); 1], Counter>,
    routing: Family<[(&'static str, &'static str); 1], Histogram>,
    /// The same placements, for who asks this daemon (O12).
    decided: Mutex<(BTreeMap<&'static str, u64>, Sketch)>,
    incidents: Family<[(&'static str, String); 3], Counter>,
    notifications: Family<[(&'static str, &'static str); 1], Counter>,
    traced: Family<[(&'static str, String); 3], Histogram>,
    history: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Metrics {
    pub(crate) fn new(region: RegionId) -> Self {
        Self {
            region,
            operations: Family::default(),
            sync: Family::new_with_constructor(|| Histogram::new(SYNC_MS)),
            placements: Family::default(),
            placement: Histogram::new(PLACEMENT_MS),
            failovers: Family::new_with_constructor(|| Histogram::new(FAILOVER_S)),
            migrations: Family::default(),
            decided: Mutex::default(),
            routing: Family::new_with_constructor(|| Histogram::new(ROUTING_MS)),
            incidents: Family::default(),
            notifications: Family::default(),
            traced: Family::new_with_constructor(|| Histogram::new(SYNC_MS)),
            history: Family::default(),
        }
    }

    /// One operation on replicated state. `level` is what was reached.
    pub(crate) fn operation(
        &self,
        operation: &'static str,
        level: &'static str,
        status: &'static str,
    ) {
        self.operations.get_or_create(&Operation { operation, level, status }).inc();
    }

    /// A peer has what was written here, durably, so long after the first of it was written.
    pub(crate) fn synced(&self, to: &RegionId, took: Duration) {
        let pair = Pair {
            source_region: self.region.to_string(),
            target_region: to.to_string(),
        };
        self.sync.get_or_create(&pair).observe(took.as_secs_f64() * 1e3);
    }

    /// A VM was placed, or not, within this time.
    pub(crate) fn placed(
        &self,
        strategy: Strategy,
        result: &'static str,
        took: Duration,
    ) {
        let strategy = match strategy {
            Strategy::Hybrid => "hybrid",
            Strategy::Latency => "latency",
            Strategy::Cost => "cost",
            Strategy::LoadBalanced => "load-balanced",
        };
        self.placements.get_or_create(&Placement { strategy, result }).inc();
        self.placement.observe(took.as_secs_f64() * 1e3);
        let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        *decided.0.entry(result).or_default() += 1;
        decided.1.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// What was decided since the daemon was started.
    pub(crate) fn decided(&self) -> Decisions {
        let decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        let (by_result, took) = (&decided.0, &decided.1);
        Decisions {
            by_result: by_result.iter().map(|(of, n)| ((*of).to_owned(), *n)).collect(),
            p50_us: took.percentile(500_000),
            p95_us: took.percentile(950_000),
            p99_us: took.percentile(990_000),
        }
    }

    /// A region was failed over, or not wholly, within this time (O20).
    pub(crate) fn failed_over(&self, from: &RegionId, outcome: Outcome, took: Duration) {
        let result = match outcome {
            Outcome::Recovered => "recovered",
            Outcome::NotAllRunning => "not_all_running",
            Outcome::RegionReturned => "region_returned",
        };
        let labels = Failover { from_region: from.to_string(), result };
        self.failovers.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A move to this region ended: `moved`, `failed` or `cancelled`.
    pub(crate) fn migrated(&self, result: &'static str) {
        self.migrations.get_or_create(&[("result", result)]).inc();
    }

    /// It was decided where a request goes, within this time (O25).
    pub(crate) fn routed(&self, algorithm: &'static str, took: Duration) {
        let family = self.routing.get_or_create(&[("algorithm", algorithm)]);
        family.observe(took.as_secs_f64() * 1e3);
    }

    /// This daemon opened an incident (DETAILS 2.4). Of no region: `all`.
    pub(crate) fn incident(&self, incident: &Incident) {
        let region = incident.region.as_ref().map_or("all", |region| region.as_str());
        let labels = [
            ("region", region.to_owned()),
            ("severity", incident.severity.word().to_owned()),
            ("category", incident.category.word().to_owned()),
        ];
        self.incidents.get_or_create(&labels).inc();
    }

    /// This daemon tried to tell somebody of an incident: `told` or `failed`.
    pub(crate) fn notified(&self, result: &'static str) {
        self.notifications.get_or_create(&[("result", result)]).inc();
    }

    /// A call from one region to another, of a trace that is at home here (DETAILS 2.4).
    pub(crate) fn traced(
        &self,
        (from, to): (&RegionId, &RegionId),
        operation: &str,
        took: Duration,
    ) {
        let labels = [
            ("source_region", from.to_string()),
            ("target_region", to.to_string()),
            ("operation", operation.to_owned()),
        ];
        self.traced.get_or_create(&labels).observe(took.as_secs_f64() * 1e3);
    }

    /// What became of traces that are at home here, and of spans that are lost.
    pub(crate) fn show_traces(&self, all: &mut Registry, traces: &TracingReply) {
        let own = self.own(all);
        let decided = Family::<[(&'static str, String); 1], Counter>::default();
        for (why, count) in &traces.decided {
            decided.get_or_create(&[("why", why.clone())]).inc_by(*count);
        }
        own.register(
            "traces_decided",
            "Traces that were decided here, by why they are kept",
            decided,
        );
        let dropped = Family::<[(&'static str, String); 1], Counter>::default();
        for (why, count) in &traces.dropped {
            dropped.get_or_create(&[("why", why.clone())]).inc_by(*count);
        }
        own.register("spans_dropped", "Spans that were lost here", dropped);
        own.register_with_unit(
            "traces_disk",
            "What traces take on this region's disk",
            Unit::Bytes,
            ConstGauge::new(traces.disk_bytes),
        );
    }

    /// A segment of the history on disk is a gap, or was not written: `damaged`, `unreadable` or
    /// `unwritten`.
    pub(crate) fn history(&self, trouble: &'static str) {
        self.history.get_or_create(&[("trouble", trouble)]).inc();
    }

    /// Hands out what is counted.
    pub(crate) fn register(&self, all: &mut Registry) {
        let own = self.own(all);
        own.register(
            "state_operations",
            "Operations on replicated state at this daemon",
            self.operations.clone(),
        );
        own.register(
            "placement_decisions",
            "VMs that this daemon was asked to place, without dry runs",
            self.placements.clone(),
        );
        own.register(
            "placement_latency_ms",
            "Time to decide, reserve and commit a placement",
            self.placement.clone(),
        );
        own.register_with_unit(
            "failover_duration",
            "From the begin of a region's failover until its VMs run elsewhere",
            Unit::Seconds,
            self.failovers.clone(),
        );
        own.register(
            "migrations",
            "Moves of VMs to this region that ended (O21)",
            self.migrations.clone(),
        );
        own.register(
            "routing_decision_latency_ms",
            "Time to decide where a request goes, of decisions that operators asked for (O25)",
            self.routing.clone(),
        );
        own.register(
            "incident_notifications",
            "Attempts of this daemon to tell somebody of an incident",
            self.notifications.clone(),
        );
        own.register(
            "history_segments_in_trouble",
            "Segments of the history on disk that are damaged or unreadable, or were not written",
            self.history.clone(),
        );
        all.register(
            "incidents",
            "Incidents that this daemon opened, by the region that they are about (DETAILS 2.4)",
            self.incidents.clone(),
        );
        all.register(
            "trace_latency_ms",
            "What callers waited for another region, of traces that are at home here",
            self.traced.clone(),
        );
        all.register(
            "state_sync_latency_ms",
            "From a write here until it is durable there",
            self.sync.clone(),
        );
    }

    /// Where metrics go that carry this region's name.
    fn own<'r>(&self, all: &'r mut Registry) -> &'r mut Registry {
        all.sub_registry_with_label(("region".into(), self.region.to_string().into()))
    }

    /// Whether the strong engine answers this daemon.
    pub(crate) fn show_engine(&self, all: &mut Registry, reachable: bool) {
        self.own(all).register(
            "strong_engine_reachable",
            "Whether the strong engine answered this daemon the last time it was asked, 1 or 0",
            ConstGauge::new(u64::from(reachable)),
        );
    }

    /// What a replica says of itself at this moment.
    pub(crate) fn show(&self, all: &mut Registry, replica: &ReplicaReport) {
        let own = self.own(all);
        let mut gauge = |name: &str, help: &str, value: u64| {
            own.register(name, help, ConstGauge::new(value));
        };
        gauge("state_keys", "Keys of replicated state here", replica.keys);
        gauge(
            "state_siblings",
            "Most values side by side of one key",
            replica.siblings_max,
        );
        let blocked = Family::<[(&'static str, String); 1], Gauge>::default();
        for (by, keys) in &replica.collection_blocked_by {
            blocked.get_or_create(&[("by", by.to_string())]).set(signed(*keys));
        }
        own.register(
            "state_gc_blocked_keys",
            "Deleted keys that cannot be forgotten, because a member has not heard of it",
            blocked,
        );
        own.register_with_unit(
            "state_size",
            "Keys and values of replicated state in memory, about",
            Unit::Bytes,
            ConstGauge::new(replica.state_bytes),
        );
        own.register(
            "state_discarded_writes",
            "Writes that had lost against a later one before they came here",
            ConstCounter::new(replica.lww_discarded),
        );
        let resolutions = Family::<[(&'static str, String); 2], Counter>::default();
        for (what, count) in &replica.conflicts {
            let Some((kind, became)) = what.split_once('/') else { continue };
            let labels = [
                ("resolution_type", resolution(became).to_owned()),
                ("kind", kind.to_owned()),
            ];
            resolutions.get_or_create(&labels).inc_by(*count);
        }
        own.register(
            "conflict_resolutions",
            "Writes that met others they did not know of",
            resolutions,
        );
        self.show_peers(all, replica);
    }

    /// What the name server has counted until this moment.
    pub(crate) fn show_names(&self, all: &mut Registry, names: &dns::Counters) {
        let own = self.own(all);
        let answers = Family::<[(&'static str, &'static str); 2], Counter>::default();
        for counted in names.answers() {
            let labels = [("transport", counted.transport), ("rcode", counted.rcode)];
            answers.get_or_create(&labels).inc_by(counted.count);
        }
        own.register("dns_answers", "Answers of the name server", answers);
        let events = Family::<[(&'static str, &'static str); 1], Counter>::default();
        for (event, count) in names.events() {
            events.get_or_create(&[("event", event)]).inc_by(count);
        }
        own.register(
            "dns_events",
            "What befell packets and connections of the name server besides",
            events,
        );
    }

    /// What the proxy has counted until this moment.
    pub(crate) fn show_requests(&self, all: &mut Registry, requests: &proxy::Counters) {
        let own = self.own(all);
        let answers = Family::<[(&'static str, &'static str); 1], Counter>::default();
        for (class, count) in requests.answers() {
            answers.get_or_create(&[("status", class)]).inc_by(count);
        }
        own.register(
            "proxy_answers",
            "Answers of the proxy, its own and others'",
            answers,
        );
        let events = Family::<[(&'static str, &'static str); 1], Counter>::default();
        for (event, count) in requests.events() {
            events.get_or_create(&[("event", event)]).inc_by(count);
        }
        own.register(
            "proxy_events",
            "What befell requests and connections of the proxy besides",
            events,
        );
        let ends = Family::<[(&'static str, &'static str); 1], Counter>::default();
        for (end, count) in requests.connections() {
            ends.get_or_create(&[("end", end)]).inc_by(count);
        }
        own.register(
            "proxy_connections",
            "Connections that the proxy passed on as they are, by how they ended",
            ends,
        );
        let open = Gauge::<i64>::default();
        open.set(i64::try_from(requests.open()).unwrap_or(i64::MAX));
        own.register(
            "proxy_connections_open",
            "Connections that the proxy passes on at this moment",
            open,
        );
        let moved = Family::<Pair, Counter>::default();
        for (region, bytes) in requests.bytes() {
            let (source_region, target_region) =
                (self.region.to_string(), region.to_string());
            moved.get_or_create(&Pair { source_region, target_region }).inc_by(bytes);
        }
        all.register_with_unit(
            "routed_traffic",
            "Bodies of answers, and of connections, that the proxy brought from a region to clients",
            Unit::Bytes,
            moved,
        );
    }

    /// How addresses that are shared stand here, and the way to the router.
    pub(crate) fn show_announced(&self, all: &mut Registry, items: &[AnycastItem]) {
        let own = self.own(all);
        let announced = Family::<[(&'static str, String); 1], Gauge>::default();
        for item in items {
            let labels = [("group", item.group.clone())];
            announced.get_or_create(&labels).set(i64::from(item.announced));
        }
        own.register(
            "anycast_announced",
            "Whether the router next to the region was told of a shared address, 1 or 0",
            announced,
        );
        let Some(bfd) = items.first().and_then(|item| item.bfd.as_ref()) else { return };
        own.register(
            "bfd_up",
            "Whether BFD finds the way to the router next to the region to work, 1 or 0",
            ConstGauge::new(i64::from(bfd.state == "up")),
        );
        own.register(
            "bfd_failures",
            "How often BFD found that way to fail",
            ConstCounter::new(bfd.failures),
        );
        own.register(
            "bfd_discarded",
            "Packets of BFD that came and did not count",
            ConstCounter::new(bfd.discarded),
        );
    }

    fn show_peers(&self, all: &mut Registry, replica: &ReplicaReport) {
        let lag = Family::<Pair, Gauge<f64, AtomicU64>>::default();
        let queue = Family::<Pair, Gauge>::default();
        let sent = Family::<Pair, Counter>::default();
        let rtt = Family::<Pair, Gauge<f64, AtomicU64>>::default();
        let own = self.region.to_string();
        for peer in &replica.peers {
            let other = peer.region.to_string();
            let from = Pair { source_region: other.clone(), target_region: own.clone() };
            let to = Pair { source_region: own.clone(), target_region: other };
            if let Some(millis) = peer.lag_ms {
                lag.get_or_create(&from).set(Duration::from_millis(millis).as_secs_f64());
            }
            if let Some(micros) = peer.rtt_p50_us {
                let millis = Duration::from_micros(micros).as_secs_f64() * 1e3;
                rtt.get_or_create(&to).set(millis);
            }
            queue.get_or_create(&to).set(signed(peer.queue_bytes));
            sent.get_or_create(&to).inc_by(peer.sent_bytes);
        }
        all.register(
            "measured_latency_ms",
            "Round trip to another region, half of the last ones were no longer (DETAILS 2.3)",
            rtt,
        );
        all.register_with_unit(
            "replication_lag",
            "How old what is here of another region may be",
            Unit::Seconds,
            lag,
        );
        all.register_with_unit(
            "state_queue",
            "What is durable here and not there",
            Unit::Bytes,
            queue,
        );
        all.register_with_unit(
            "state_sent",
            "What was sent to another region's replica, as it was on the wire",
            Unit::Bytes,
            sent,
        );
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The source's name of what became of a conflict (O24, DETAILS 2.2).
fn resolution(became: &str) -> &str {
    match became {
        "last_writer_wins" => "last_write_wins_local",
        "siblings" => "vector_clock_concurrent",
        other => other,
    }
}

/// What is promised of each region and how much of it was kept, as this daemon observes it: a
/// region that is dead says nothing of itself (F64).
pub(crate) fn show_levels(all: &mut Registry, levels: &[SlaLevel]) {
    let compliance =
        Family::<[(&'static str, String); 3], Gauge<f64, AtomicU64>>::default();
    let promised =
        Family::<[(&'static str, String); 3], Gauge<f64, AtomicU64>>::default();
    for level in levels {
        let labels = [
            ("region", level.region.to_string()),
            ("sla_type", level.metric.kind().to_owned()),
            ("sla_id", level.id.clone()),
        ];
        let percent = |ppm: u32| f64::from(ppm) / 1e4;
        compliance.get_or_create(&labels).set(percent(level.compliance_ppm));
        promised.get_or_create(&labels).set(percent(level.promised_ppm));
    }
    let help = "Good by measured of a service level in its period (O28)";
    all.register("sla_compliance_percent", help, compliance);
    let help = "How much of it is promised to be good";
    all.register("sla_promised_percent", help, promised);
}
