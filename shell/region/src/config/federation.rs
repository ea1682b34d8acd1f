//! What a `federation.yaml` says, as values that are known to be right.
//!
//! Everything that refers to something refers to something that is there, every name is given
//! once, every limit holds: whoever is handed a [`Federation`] need not check again.

use std::sync::Arc;
use std::time::Duration;

use dwcp_controller::lease::Terms;
use dwcp_controller::placement::Admission;
use dwcp_state::shard::ShardBy;
use dwcp_state::{Kind, Level};
use dwcp_types::{
    Capacity, HostId, Location, Region, RegionId, Strategy, UserZoneView, ZoneId,
};
use serde::Serialize;

use super::endpoint::Endpoint;
use super::front::RoutingConfig;
use super::monitoring::MonitoringConfig;

/// A whole federation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Federation {
    /// Its regions in the order of the file, at least one.
    pub regions: Vec<RegionSpec>,
    /// Where its users are.
    pub user_zones: Vec<UserZoneSpec>,
    /// How it places.
    pub controller: ControllerConfig,
    /// How it survives the loss of a region.
    pub failover: FailoverConfig,
    /// Where its strong records are.
    pub engine: EngineConfig,
    /// How its state is replicated.
    pub state: StateConfig,
    /// How requests find their region.
    pub routing: RoutingConfig,
    /// How it is watched, and who is told of incidents.
    pub monitoring: MonitoringConfig,
}

impl Federation {
    /// A region by its name.
    #[must_use]
    pub fn region(&self, id: &RegionId) -> Option<&RegionSpec> {
        self.regions.iter().find(|spec| spec.region.id == *id)
    }

    /// The longest round trip between two regions that vote in etcd, as far as stated.
    #[must_use]
    pub fn voters_rtt_max(&self) -> Duration {
        let voters = self.engine.etcd().map_or(&[][..], |etcd| &etcd.voters);
        let votes = |id: &RegionId| voters.iter().any(|voter| voter.region == *id);
        let regions = self.regions.iter().filter(|spec| votes(&spec.region.id));
        let round_trips = regions.flat_map(|spec| {
            let stated = spec.region.network_latency.iter();
            stated.filter(|(id, _)| votes(id)).map(|(_, rtt)| rtt.get())
        });
        Duration::from_micros(round_trips.max().unwrap_or_default().into())
    }
}

/// A region with its daemon and its hosts (O2, DETAILS 2.1).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RegionSpec {
    /// What it is.
    pub region: Arc<Region>,
    /// All it may hand out, CPUs after overcommitment (F34).
    pub capacity: Capacity,
    /// Where its `dwcpd` listens. A region without one is only described: nothing can be placed
    /// there.
    pub endpoint: Option<Endpoint>,
    /// Where its replica listens, by UDP and TCP. A region without one has no replica.
    pub state_endpoint: Option<Endpoint>,
    /// Where its name server listens, by UDP and TCP. A region without one has no name server.
    pub dns_endpoint: Option<Endpoint>,
    /// Where its proxy listens, for clients and other regions. A region without one has none.
    pub proxy_endpoint: Option<Endpoint>,
    /// Its hosts; together never more than `capacity`.
    pub hosts: Vec<HostSpec>,
}

/// A host and its agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostSpec {
    /// Its name, given once in the federation.
    pub id: HostId,
    /// One of its region's zones.
    pub zone: ZoneId,
    /// Where its `dwcp-agent` listens.
    pub agent: Endpoint,
    /// All it may hand out, CPUs after overcommitment.
    pub capacity: Capacity,
}

/// A place that users come from (F25).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UserZoneSpec {
    /// Its name and round trips.
    pub view: UserZoneView,
    /// Where it is, for maps.
    pub location: Option<Location>,
}

/// How VMs are placed (C15, O35 and the block `placement` of DETAILS 2.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ControllerConfig {
    /// The weights of a request that names none (C14).
    pub strategy: Strategy,
    /// Whether a VM may displace one of strictly lower priority (F32).
    pub preemption_enabled: bool,
    /// Migrations under way at once (F16).
    pub max_concurrent_migrations: u32,
    /// How often the slow inputs of a score are read again (F20, F29). Decisions are never
    /// cached.
    pub input_refresh_interval: Duration,
    /// How often a region's health score is computed (F5). Says nothing about liveness.
    pub health_check_interval: Duration,
    /// What to do with a protected VM whose placement would leave protected VMs without a
    /// place were a region to die (F12).
    pub n_minus_1: Admission,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            strategy: Strategy::Hybrid,
            preemption_enabled: true,
            // C15; O35's 20 is a tuning.
            max_concurrent_migrations: 10,
            // P1.2, M2.1
            input_refresh_interval: Duration::from_secs(10),
            health_check_interval: Duration::from_secs(10),
            n_minus_1: Admission::Warn,
        }
    }
}

/// How the loss of a region is noticed and answered (C15, C19, F5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailoverConfig {
    /// Whether regions are failed over at all.
    pub enabled: bool,
    /// Whether that needs no operator. Never with fewer than three enabled regions, which
    /// cannot have a majority that survives one of them (F80).
    pub auto_failover: bool,
    /// Health score under which draining is advised (F7); it never triggers a failover (F6).
    pub failover_threshold: u8,
    /// Within what time users are answered again.
    pub max_failover_time: Duration,
    /// The parts of that time.
    pub timing: FailoverTiming,
    /// Fewest live regions that a failover may leave.
    pub min_healthy_regions: u32,
    /// Where VMs go first.
    pub primary_regions: Vec<RegionId>,
    /// Where they go next.
    pub secondary_regions: Vec<RegionId>,
    /// Whether a person must agree first (F17).
    pub require_manual_approval: bool,
    /// Whether a second one must, to what a person wants.
    pub approval: ApprovalConfig,
    /// Who is told, by HTTPS.
    pub notification_webhooks: Vec<String>,
}

/// Who must agree to an operator's failover (F17: an approval is a record of two persons that
/// expires).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ApprovalConfig {
    /// Whether another operator must.
    pub two_persons: bool,
    /// How long a request waits for that one.
    pub time: Duration,
}

/// The terms of the time that a failover takes (F5; defaults of the design's time budget).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FailoverTiming {
    /// How often a region says that it lives.
    pub heartbeat_interval: Duration,
    /// After how many missed ones it is suspected.
    pub heartbeat_misses: u32,
    /// How long a region owns its VMs after it last renewed.
    pub lease_ttl: Duration,
    /// How far two monotonic clocks may drift apart in one lease: the holder stops this much
    /// before its end, a taker starts this much after it.
    pub lease_drift_bound: Duration,
    /// To choose targets.
    pub decision_budget: Duration,
    /// To start the guests.
    pub start_budget: Duration,
    /// To shift traffic until the first client is answered.
    pub traffic_budget: Duration,
}

impl Default for FailoverTiming {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(500),
            heartbeat_misses: 4,
            lease_ttl: Duration::from_secs(8),
            lease_drift_bound: Duration::from_secs(1),
            decision_budget: Duration::from_secs(1),
            start_budget: Duration::from_secs(10),
            traffic_budget: Duration::from_secs(5),
        }
    }
}

impl FailoverTiming {
    /// Until a dead region is suspected.
    #[must_use]
    pub fn detection(&self) -> Duration {
        self.heartbeat_interval.saturating_mul(self.heartbeat_misses)
    }

    /// The worst sum of all terms. Detection and the lease run at the same time in practice;
    /// they are added (F5), so that the sum also holds when a lease is renewed by the last
    /// breath of a region whose heartbeats are lost.
    #[must_use]
    pub fn total(&self) -> Duration {
        [
            self.lease_ttl,
            self.lease_drift_bound,
            self.decision_budget,
            self.start_budget,
            self.traffic_budget,
        ]
        .into_iter()
        .fold(self.detection(), Duration::saturating_add)
    }

    /// How long a lease lasts, for each side; nothing where that is refused.
    #[must_use]
    pub fn terms(&self) -> Option<Terms> {
        Terms::new(self.lease_ttl, self.lease_drift_bound)
    }
}

/// The kinds of strong engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// In the daemon of one region.
    Embedded,
    /// An etcd cluster with members in several regions.
    Etcd,
}

impl EngineKind {
    /// Its word in files and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Etcd => "etcd",
        }
    }
}

/// Where the strong records are. When etcd is chosen its voters are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineConfig {
    kind: EngineKind,
    host: RegionId,
    etcd: Option<EtcdConfig>,
}

/// The engine that is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice<'a> {
    /// In the daemon of one region; the others reach it over mutual TLS.
    Embedded {
        /// That region.
        host: &'a RegionId,
    },
    /// On etcd.
    Etcd(&'a EtcdConfig),
}

/// An etcd cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EtcdConfig {
    /// What every key of this federation begins with.
    pub namespace: String,
    /// The region where the leader belongs; one of the voters is there.
    pub home: RegionId,
    /// Three or five members.
    pub voters: Vec<VoterSpec>,
}

/// A member that votes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VoterSpec {
    /// Its name, given once: its region's, and a number from the second on.
    pub name: String,
    /// Where it is.
    pub region: RegionId,
    /// Where daemons reach it.
    pub client: Endpoint,
    /// Where the other members reach it.
    pub peer: Endpoint,
}

/// etcd cannot be chosen without members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration names no voters of etcd; add `voters` to `engine`")]
pub struct NoVoters;

impl EngineConfig {
    pub(super) const fn new(
        kind: EngineKind,
        host: RegionId,
        etcd: Option<EtcdConfig>,
    ) -> Self {
        Self { kind, host, etcd }
    }

    pub(super) const fn embedded(host: RegionId) -> Self {
        Self::new(EngineKind::Embedded, host, None)
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> EngineKind {
        self.kind
    }

    /// The engine that is chosen.
    #[must_use]
    pub const fn choice(&self) -> EngineChoice<'_> {
        match (self.kind, &self.etcd) {
            (EngineKind::Etcd, Some(etcd)) => EngineChoice::Etcd(etcd),
            (EngineKind::Etcd | EngineKind::Embedded, _) => {
                EngineChoice::Embedded { host: &self.host }
            }
        }
    }

    /// The etcd cluster, chosen or not.
    #[must_use]
    pub const fn etcd(&self) -> Option<&EtcdConfig> {
        self.etcd.as_ref()
    }

    /// Chooses.
    ///
    /// # Errors
    ///
    /// When etcd is wanted and has no voters.
    pub const fn choose(&mut self, kind: EngineKind) -> Result<(), NoVoters> {
        if matches!(kind, EngineKind::Etcd) && self.etcd.is_none() {
            return Err(NoVoters);
        }
        self.kind = kind;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_timing_is_the_design_s_budget() {
        let timing = FailoverTiming::default();
        let seconds = Duration::from_secs;
        assert_eq!(timing.detection(), seconds(2));
        let terms = timing.terms().unwrap();
        assert_eq!(terms, Terms::default());
        assert_eq!(terms.renew_every(), seconds(1));
        assert_eq!(terms.pause_after(), seconds(6));
        assert_eq!(terms.kill_after(), seconds(7));
        assert_eq!(terms.lapsed_after(), seconds(9));
        assert_eq!(timing.total(), seconds(27));
    }
}

/// How state is replicated (O36, S8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateConfig {
    /// Names the federation's state: two federations that share a CA need two names.
    pub cluster: String,
    /// By what replicas reach each other.
    pub transport: StateTransport,
    /// The rules that replicated state begins with; later ones are set while it runs.
    pub rules: Vec<StateRule>,
}

/// By what replicas reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateTransport {
    /// QUIC, and TLS over TCP where UDP does not get through.
    Auto,
    /// Only QUIC.
    Quic,
    /// Only TLS over TCP.
    Tcp,
}

/// The rule of a key prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateRule {
    /// Keys that begin with this; the longest counts.
    pub prefix: String,
    /// What they hold; records of the strong engine have no kind.
    pub kind: Option<Kind>,
    /// The weakest level of a write.
    pub level: Level,
    /// Only these regions may hold them; all when empty (F45).
    pub regions: Vec<RegionId>,
    /// How long a value lives after its last write.
    pub ttl: Option<Duration>,
    /// In how many of its regions each key is (S17); in all when absent.
    pub copies: Option<usize>,
    /// What of a key decides which these are (S16).
    pub shard_by: ShardBy,
}

impl StateRule {
    /// A prefix that every region holds, with nothing special about it.
    #[must_use]
    pub fn of(prefix: &str, kind: Option<Kind>, level: Level) -> Self {
        Self {
            prefix: prefix.to_owned(),
            kind,
            level,
            regions: Vec::new(),
            ttl: None,
            copies: None,
            shard_by: ShardBy::Key,
        }
    }
}

impl Default for StateConfig {
    /// The classes of the source (S9 to S12) under the key names of the source (S18), with the
    /// kinds that its corrections ask for (F38, F39, F90).
    fn default() -> Self {
        let rule = StateRule::of;
        Self {
            cluster: "dwcp".to_owned(),
            transport: StateTransport::Auto,
            rules: vec![
                rule("", Some(Kind::Register), Level::Quorum),
                rule("billing:", None, Level::Strong),
                rule("cache:", Some(Kind::Lww), Level::Eventual),
                rule("counter:", Some(Kind::PnCounter), Level::Eventual),
                rule("metrics:", Some(Kind::GCounter), Level::Eventual),
                rule("preferences:", Some(Kind::OrMap), Level::Local),
                rule("quota:", Some(Kind::Bounded), Level::Local),
                rule("session:", Some(Kind::Lww), Level::Local),
                rule("tags:", Some(Kind::OrSet), Level::Eventual),
                rule("text:", Some(Kind::Mv), Level::Local),
                rule("vm:config:", Some(Kind::Register), Level::Quorum),
            ],
        }
    }
}
