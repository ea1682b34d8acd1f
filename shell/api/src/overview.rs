//! The operator's API, version 1, of everything at one look (MONITORING 1.2, 1.4): what a landing
//! page and a terminal show, in one answer from any region's daemon, and its changes as they come.
//!
//! Everything is bounded, so that 50 regions are 20 KB: of lists the worst come first and the rest
//! is counted. What is late says how old it is, in steps, so that an age alone seldom makes
//! another version. No member is ever null, because changes are told as merge patches (RFC 7396),
//! in which null takes a member away.

use std::collections::BTreeMap;

use dwcp_controller::failover::Phase;
use dwcp_controller::migration::Step;
use dwcp_monitor::Deduction;
use dwcp_monitor::incident::{IncidentId, Severity, Status};
use dwcp_monitor::sla::Standing;
use dwcp_types::{Bps, Health, MigrationId, RegionId, Timestamp, VmId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Described, Method, NoParams, Operation};

/// Incidents, moves and service levels that are told one by one.
pub const SHOWN_MAX: usize = 8;
/// A round trip that was measured longer ago is stale: two of the intervals of 10 s in which
/// regions say what they measure (MONITORING 6.2).
pub const LINK_STALE_S: u32 = 20;
/// Longest text in an overview, in characters: what a row of a terminal holds.
pub const TEXT_LEN_MAX: usize = 80;

/// M1. The federation in one answer.
#[derive(Clone, Copy, Debug)]
pub struct GetOverview;

impl Operation for GetOverview {
    const ID: &'static str = "get_overview";
    const METHOD: Method = Method::Get;
    const PATH: &'static str = "/v1/overview";
    const SUMMARY: &'static str = "Everything that an operator looks at first.";
    type Params = NoParams;
    type Body = ();
    type Reply = Overview;
}

/// M1. Server-sent events: `overview` is the whole, `changed` a merge patch of it (RFC 7396). The id
/// of each is the version that it leads to; `Last-Event-ID` with the version of now skips the
/// whole.
#[derive(Clone, Copy, Debug)]
pub struct WatchOverview;

impl Operation for WatchOverview {
    const ID: &'static str = "watch_overview";
    const METHOD: Method = Method::Get;
    const PATH: &'static str = "/v1/overview/changes";
    const SUMMARY: &'static str = "The same, and then what changes of it, as it does.";
    const STREAMS: bool = true;
    type Params = NoParams;
    type Body = ();
    type Reply = Overview;
}

/// The event that carries the whole.
pub const WHOLE: &str = "overview";
/// The event that carries what changed.
pub const CHANGED: &str = "changed";

/// These operations, for the OpenAPI document.
#[must_use]
pub fn described() -> Vec<Described> {
    vec![Described::of::<GetOverview>(), Described::of::<WatchOverview>()]
}

/// The federation as one daemon sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Overview {
    /// Names this value: another life of the daemon, or another value, has another.
    pub version: String,
    /// Whose daemon answered; absent before it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<RegionId>,
    /// The strong engine, and who is on duty.
    pub engine: EngineGlance,
    /// Each region.
    pub regions: BTreeMap<RegionId, RegionGlance>,
    /// Round trips. The row of a region has one cell for each region that comes after it by name.
    pub links: BTreeMap<RegionId, LinkRow>,
    /// What is wrong.
    pub incidents: IncidentsGlance,
    /// Moves between regions.
    pub moves: MovesGlance,
    /// The failover under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverGlance>,
    /// Service levels.
    pub levels: LevelsGlance,
    /// What the regions' APIs were asked.
    pub traffic: TrafficGlance,
}

/// The strong engine as the daemon sees it, and who is on duty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EngineGlance {
    /// `embedded` or `etcd`.
    pub kind: String,
    /// Whether it answered the last request.
    pub reachable: bool,
    /// How old the records are that it holds, in seconds, in steps; absent before they were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
    /// The region of the member that leads; absent when none is known to, and of the embedded
    /// engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<RegionId>,
    /// Members of etcd that answer.
    #[serde(default)]
    pub answering: u64,
    /// Members of etcd.
    #[serde(default)]
    pub members: u64,
    /// Whose daemon evaluates and tells incidents; absent when none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_duty: Option<RegionId>,
}

/// One region at a look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionGlance {
    /// State and score.
    #[serde(flatten)]
    pub health: Health,
    /// What was taken off the score, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deductions: Vec<Deduction>,
    /// How old what is known of it is, in seconds, in steps of which the first is under 10 s;
    /// absent when it was never heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
    /// It takes no new VMs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// It is being emptied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emptied: bool,
    /// Hosts that answer.
    pub up: u64,
    /// Hosts.
    pub hosts: u64,
    /// VMs that it owns.
    pub vms: u64,
    /// VMs that are seen running there.
    pub running: u64,
    /// The share of its CPUs that is reserved; absent when it has none, or none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Bps>,
    /// The share of its memory that is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bps>,
}

/// Round trips from one region to those after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkRow {
    /// In tenths of a millisecond, rounded up; null when there is no line.
    pub rtt: Vec<Option<u32>>,
    /// How old each is, in seconds, in steps; null when none ever was. Without a line: how old the
    /// knowledge of that is. One for all when they are equal, and empty when all of the row were
    /// measured under 10 s ago.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub age_s: Vec<Option<u32>>,
}

/// What is known of the line between two regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Measured lately, in tenths of a millisecond.
    Measured(u32),
    /// Measured so many seconds ago.
    Stale(u32, u32),
    /// There is no line; so it was said to be this many seconds ago.
    Cut(u32),
    /// Nothing was ever measured.
    Never,
}

impl LinkRow {
    /// What one cell says.
    #[must_use]
    pub fn link(&self, at: usize) -> Link {
        let rtt = self.rtt.get(at).copied().flatten();
        let age = match self.age_s.as_slice() {
            [] => self.rtt.get(at).map(|_| 0),
            [all] => self.rtt.get(at).and(*all),
            each => each.get(at).copied().flatten(),
        };
        match (rtt, age) {
            (Some(rtt), Some(age)) if age < LINK_STALE_S => Link::Measured(rtt),
            (Some(rtt), Some(age)) => Link::Stale(rtt, age),
            (None, Some(age)) => Link::Cut(age),
            (_, None) => Link::Never,
        }
    }
}

impl Overview {
    /// What is known of the line between two regions, in either order.
    #[must_use]
    pub fn link(&self, one: &RegionId, other: &RegionId) -> Link {
        let (first, second) = if one < other { (one, other) } else { (other, one) };
        let after = |id: &RegionId| self.regions.range::<RegionId, _>(id..).count();
        let at = after(first).checked_sub(after(second) + 1);
        let row = self.links.get(first);
        row.zip(at).map_or(Link::Never, |(row, at)| row.link(at))
    }
}

/// Incidents that stand, without those that are part of another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentsGlance {
    /// How many.
    pub open: u64,
    /// How old that is, in seconds, in steps; absent before they were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
    /// The most severe first, then the newest; [`SHOWN_MAX`] at most.
    pub shown: Vec<IncidentGlance>,
}

/// One incident at a look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentGlance {
    /// Its name.
    pub id: IncidentId,
    /// Which region it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands.
    pub status: Status,
    /// In a line.
    pub title: String,
    /// When it was first seen.
    pub since: Timestamp,
    /// How often it came back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub flaps: u32,
}

/// Moves that are not over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MovesGlance {
    /// Those that wait for their turn.
    pub waiting: u64,
    /// Those under way.
    pub running: u64,
    /// Those under way first, then the oldest; [`SHOWN_MAX`] at most.
    pub shown: Vec<MoveGlance>,
}

/// One move at a look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MoveGlance {
    /// Which.
    pub id: MigrationId,
    /// The VM.
    pub vm: VmId,
    /// Out of there.
    pub from: RegionId,
    /// To there.
    pub to: RegionId,
    /// How far it is.
    pub step: Step,
    /// When it was asked for.
    pub since: Timestamp,
}

/// The failover under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverGlance {
    /// Names it.
    pub id: String,
    /// The region that is lost.
    pub region: RegionId,
    /// How far it is.
    pub phase: Phase,
    /// VMs that have their new owner.
    pub owned: u32,
    /// VMs that run there.
    pub running: u32,
    /// VMs that stay down.
    pub down: u64,
    /// When it began.
    pub since: Timestamp,
}

/// Service levels over all regions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LevelsGlance {
    /// How many are promised.
    pub promised: u64,
    /// Good by measured of all of them together; absent when nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compliance: Option<Bps>,
    /// The one with the least budget left first; [`SHOWN_MAX`] at most.
    pub shown: Vec<LevelGlance>,
}

/// One service level at a look: its worst region speaks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LevelGlance {
    /// Its id.
    pub id: String,
    /// How it stands in the region where it stands worst.
    pub standing: Standing,
    /// That region.
    pub worst: RegionId,
    /// Good by measured there, in parts per million; absent when nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compliance_ppm: Option<u32>,
    /// What was promised, in parts per million.
    pub promised_ppm: u32,
    /// What is left of the budget there, in parts per million; zero when it is overdrawn.
    pub left_ppm: u64,
    /// Regions in which it is broken.
    #[serde(default, skip_serializing_if = "is_none_of")]
    pub broken: u64,
    /// Regions of which it is promised.
    pub regions: u64,
}

/// What the regions' APIs were asked, all together: percentiles from merged sketches (F68).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficGlance {
    /// Over the last so many seconds.
    pub over_s: u64,
    /// The latency that half of the requests do not exceed, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// The latency that 95 of 100 do not exceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_us: Option<u64>,
    /// The latency that 99 of 100 do not exceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
    /// Requests a second, in thousandths: the sum of the regions' means.
    pub milli_rps: u64,
    /// Failed requests, in thousandths of a per cent; absent without requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors_milli: Option<u64>,
    /// Regions that were measured in that time.
    pub measured: u64,
    /// Regions in all.
    pub regions: u64,
    /// The age of the oldest of the newest of each measured region, in seconds, in steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_none_of(number: &u64) -> bool {
    *number == 0
}
