//! The operator's API, version 1: regions, placement, VMs, status, events.
//!
//! Any region's daemon answers any of these for the whole federation. What a daemon knows of
//! other regions is as old as the `age_ms` beside it says.

use std::collections::BTreeMap;

use dwcp_types::{
    Bps, Capacity, Constraints, Epoch, Generation, Health, HostId, MicroUsd, Micros,
    OnRegionLoss, Origin, PlacementRequest, Power, Region, RegionId, RegionKind,
    Strategy, TenantId, Tier, Timestamp, VmId, VmPhase, VmShape, VmType, ZoneId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dwcp_controller::evacuation::Evacuation;
use dwcp_controller::ownership::{ClientToken, Recovered, Replica};

use crate::NoParams;
use crate::host::InstanceReport;
use crate::measured::Together;
use crate::operations;

/// Most VMs in one page of a list.
pub const PAGE_MAX: u32 = 1_000;

/// Names one region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionParams {
    /// The region.
    pub region: RegionId,
}

/// Names one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmParams {
    /// The VM.
    pub vm: VmId,
}

/// A region as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RegionItem {
    /// Its configuration.
    pub region: Region,
    /// Where its daemon answers, `host:port`.
    pub endpoint: String,
    /// It is to be emptied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evacuation: Option<Evacuation>,
    /// Its health as this daemon sees it.
    pub health: Health,
    /// How old that knowledge is, in milliseconds; nothing when it was never heard from.
    pub age_ms: Option<u64>,
    /// Its hosts.
    pub hosts: Vec<HostItem>,
    /// All it has.
    pub total: Capacity,
    /// What is neither reserved nor used.
    pub free: Capacity,
    /// VMs that it owns.
    pub vms: u64,
}

/// A host as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostItem {
    /// The host.
    pub id: HostId,
    /// Its zone.
    pub zone: ZoneId,
    /// Which hypervisor it drives: `qemu` or `simulated`.
    pub driver: String,
    /// What speeds its guests up: `kvm`, `tcg`, or `none` when simulated.
    pub accel: String,
    /// Whether its agent answers.
    pub answers: bool,
    /// Whether it takes new VMs.
    pub schedulable: bool,
    /// All it has.
    pub total: Capacity,
    /// What is free of it.
    pub free: Capacity,
}

/// All regions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RegionList {
    /// By id.
    pub items: Vec<RegionItem>,
}

/// A region to add (O7). It is listed at once and takes VMs when its daemon is up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddRegion {
    /// Its configuration; everything that scoring needs (F82).
    pub region: Region,
    /// Where its daemon answers, `host:port`.
    pub endpoint: String,
}

/// Whether new VMs may be placed in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetEnabled {
    /// Yes or no.
    pub enabled: bool,
}

/// What a region can still take (O17, F12).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RegionCapacityReply {
    /// The region.
    pub region: RegionId,
    /// All it has.
    pub total: Capacity,
    /// What is reserved or used.
    pub reserved: Capacity,
    /// What is free, summed over hosts; a single VM may not get it all.
    pub free: Capacity,
    /// How many more VMs of each named flavour fit, one by one, on its hosts as they are.
    pub flavours: Vec<FlavourFit>,
    /// Were this region to die now.
    pub n_minus_1: NMinusOne,
}

/// How often a flavour fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlavourFit {
    /// Its name.
    pub name: String,
    /// Its size.
    pub shape: VmShape,
    /// How many more fit.
    pub fits: u64,
}

/// Whether the protected VMs of a region would find a place elsewhere if it died (F12).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NMinusOne {
    /// Protected VMs that this region owns.
    pub protected: u64,
    /// How many of them fit elsewhere, lawfully and all at once.
    pub fit_elsewhere: u64,
    /// Those that do not, at most 100 of them.
    pub stranded: Vec<VmId>,
    /// What would still be free elsewhere afterwards.
    pub slack: Capacity,
}

/// A request to place a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceVm {
    /// What is asked for.
    pub request: PlacementRequest,
    /// Makes asking again safe: the same token with the same request gives the same answer,
    /// with another request 409. Without one, asking again finds the name taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<ClientToken>,
    /// The guest image; the host's own default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Only say where it would go and why; book nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Stop VMs of strictly lower priority when nothing else makes room (F32). Needs
    /// `preemption_enabled` in the federation's configuration.
    #[serde(default)]
    pub preempt: bool,
}

/// Where a VM was placed, or would be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlaceReply {
    /// The VM; absent in a dry run.
    pub vm: Option<VmItem>,
    /// Whether this answer was already given to the same token before.
    pub repeated: bool,
    /// The decision with its reasons.
    pub explanation: dwcp_controller::placement::Explanation,
    /// VMs that were stopped, or in a dry run would be, to make room.
    pub victims: Vec<VmId>,
    /// Regions whose loss would newly leave protected VMs without a legal place, which the
    /// operator's policy allows (F12). Only for a protected VM, as of the first choice.
    pub n_minus_1: Vec<dwcp_controller::placement::RegionLoss>,
    /// Time spent to decide, in microseconds (F35: apart from the time to commit).
    pub decide_us: u64,
    /// Time spent to reserve and commit, in microseconds; 0 in a dry run.
    pub commit_us: u64,
}

/// Why each region would or would not take a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The request to explain.
    pub request: PlacementRequest,
}

/// Which VMs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListVms {
    /// Only of this tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Only in this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// Only with this label, `key=value` (O38).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Only after this VM, by name: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<VmId>,
    /// At most so many, up to 1,000; 1,000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of VMs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VmList {
    /// By name.
    pub items: Vec<VmItem>,
    /// Where the next page begins, if there is one.
    pub next: Option<VmId>,
    /// How old the list of VMs is, in milliseconds: time since the strong engine was last
    /// heard from.
    pub age_ms: u64,
}

/// A VM in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VmItem {
    /// The VM.
    pub id: VmId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The region that owns it.
    pub region: RegionId,
    /// Its zone.
    pub zone: ZoneId,
    /// Its host.
    pub host: HostId,
    /// Under which epoch it is owned (F4).
    pub epoch: Epoch,
    /// What is wanted of it.
    pub power: Power,
    /// What is seen of it.
    pub phase: VmPhase,
    /// The size asked for; all accounting uses it.
    pub shape: VmShape,
    /// How urgent, 1 to 10.
    pub priority: u8,
    /// How well guarded.
    pub tier: Tier,
    /// The region that it goes back to, when it was driven out of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<RegionId>,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it was placed.
    pub created_at: Timestamp,
}

/// A VM in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VmDetail {
    /// In short.
    #[serde(flatten)]
    pub item: VmItem,
    /// What is wanted, counted within the epoch.
    pub generation: Generation,
    /// What it is for.
    pub vm_type: VmType,
    /// What becomes of it when its region is lost.
    #[serde(default)]
    pub on_region_loss: OnRegionLoss,
    /// The copy of its disk in another region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<Replica>,
    /// How old the replica of a VM may become, in seconds, when it follows later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_max_age_s: Option<u32>,
    /// How old it is by this daemon's clock, in milliseconds: since the moment that it is the
    /// disk of. Absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_age_ms: Option<u64>,
    /// How it came from a lost region, when that was the last that happened to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Recovered>,
    /// The limits that it was placed under.
    pub constraints: Constraints,
    /// Where its users are.
    pub origins: Vec<Origin>,
    /// The strategy that placed it.
    pub strategy: Strategy,
    /// The score of its place when it was chosen.
    pub score: Bps,
    /// What an hour costs there.
    pub hourly_cost: MicroUsd,
    /// The latency that its users were expected to have.
    pub expected_latency: Option<Micros>,
    /// What its host reports; nothing when the host was not heard from.
    pub observed: Option<InstanceReport>,
    /// How old that report is, in milliseconds.
    pub observed_age_ms: Option<u64>,
}

/// What is wanted of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPower {
    /// Running, paused or stopped; deleting has an operation of its own.
    pub power: Power,
}

/// Which part of the serial console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsoleParams {
    /// The VM.
    pub vm: VmId,
    /// From this byte on; from the oldest that is kept when absent or older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// A part of the serial console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsoleReply {
    /// Where this part begins.
    pub offset: u64,
    /// Where the next part begins.
    pub next: u64,
    /// The guest's output; bytes that are no UTF-8 are replaced.
    pub text: String,
}

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventParams {
    /// Only of this VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmId>,
    /// Only of this region; of all regions that answer when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// At most so many of the newest, up to 1,000; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Something that happened.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct Event {
    /// When, by the clock of the region that saw it.
    pub at: Timestamp,
    /// Which region saw it.
    pub region: RegionId,
    /// Which VM it is about, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmId>,
    /// What, in one sentence.
    pub what: String,
}

/// Events, oldest first, and the regions that did not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventList {
    /// Oldest first.
    pub items: Vec<Event>,
    /// Regions whose events are missing because they did not answer.
    pub missing: Vec<RegionId>,
}

/// The federation at a glance (O10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusReply {
    /// Which daemon answers.
    pub answered_by: RegionId,
    /// The software's version.
    pub version: String,
    /// Which strong engine runs and whether it can be reached.
    pub engine: EngineStatus,
    /// Regions in all.
    pub total_regions: u64,
    /// Regions that score 80 and over.
    pub healthy: u64,
    /// Regions that score 60 to under 80.
    pub degraded: u64,
    /// Regions that score under 60.
    pub unhealthy: u64,
    /// Regions that nothing was heard from, and regions in maintenance.
    pub unknown: u64,
    /// VMs in all, whatever their state.
    pub total_vms: u64,
    /// VMs that are seen running.
    pub running_vms: u64,
    /// Mean latency of requests to the regions' own APIs, weighted by requests, in
    /// microseconds; nothing before the first request.
    pub latency_avg_us: Option<u64>,
    /// Requests a second to the regions' own APIs over the last minute, in thousandths.
    pub throughput_milli_rps: u64,
    /// Share of those requests that failed through our fault; nothing before the first.
    pub error_rate: Option<Bps>,
    /// Share of what service levels measured that kept its target; where none is defined, of the
    /// last hour's checks in which every region was heard from in time.
    pub sla_compliance: Option<Bps>,
    /// Percentiles of the latency over all regions, merged and so weighted by requests (F68).
    #[serde(default)]
    pub latency: Together,
    /// Each region.
    pub regions: Vec<RegionStatus>,
}

/// The strong engine as this daemon sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EngineStatus {
    /// `embedded` or `etcd`.
    pub kind: String,
    /// The region whose daemon hosts it; of etcd, the region where its leader belongs.
    pub host: RegionId,
    /// Whether it answered the last request.
    pub reachable: bool,
    /// The newest revision that this daemon has seen.
    pub revision: u64,
    /// The region of the member that leads; nothing when none is known to, and of the embedded
    /// engine.
    pub leader: Option<RegionId>,
    /// Whether the leader is where it belongs; nothing without one.
    pub leader_at_home: Option<bool>,
    /// The members of etcd, the nearest to this daemon first.
    pub members: Vec<EngineMember>,
}

/// A member of the strong engine as this daemon sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EngineMember {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub region: RegionId,
    /// Where it is asked.
    pub endpoint: String,
    /// Whether it answered the last time it was asked.
    pub answers: bool,
    /// Whether it leads, by its own word.
    pub leads: bool,
    /// Its version, when it answers.
    pub version: Option<String>,
    /// Why it does not answer.
    pub problem: Option<String>,
}

/// A region at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionStatus {
    /// The region.
    pub id: RegionId,
    /// What kind of place.
    pub kind: RegionKind,
    /// Whose.
    pub provider: String,
    /// Whether it takes new VMs.
    pub enabled: bool,
    /// Its health as this daemon sees it.
    pub health: Health,
    /// How old that knowledge is, in milliseconds.
    pub age_ms: Option<u64>,
    /// Hosts whose agent answers, of all hosts.
    pub hosts_up: u64,
    /// All its hosts.
    pub hosts: u64,
    /// VMs that it owns.
    pub vms: u64,
    /// VMs seen running there.
    pub running: u64,
    /// Which hypervisors its hosts drive, for example `qemu/tcg`.
    pub drivers: Vec<String>,
    /// What to know about it, such as `simulated driver: no real VMs run here`.
    pub notes: Vec<String>,
}

operations! {
    /// O10.
    GetStatus = Get "/v1/status" "get_status" "The federation at a glance.",
        NoParams, () => StatusReply;
    /// O7.
    ListRegions = Get "/v1/regions" "list_regions" "All regions with health and capacity.",
        NoParams, () => RegionList;
    /// O7.
    CreateRegion = Post "/v1/regions" "add_region" "Add a region.",
        NoParams, AddRegion => RegionItem;
    /// DETAILS 2.5.
    GetRegion = Get "/v1/regions/{region}" "describe_region" "One region.",
        RegionParams, () => RegionItem;
    /// DETAILS 2.5.
    EnableRegion = Put "/v1/regions/{region}/enabled" "set_region_enabled"
        "Allow or stop the placing of new VMs in a region.",
        RegionParams, SetEnabled => RegionItem;
    /// O17.
    GetRegionCapacity = Get "/v1/regions/{region}/capacity" "region_capacity"
        "What a region can still take, and what were lost with it.",
        RegionParams, () => RegionCapacityReply;
    /// C9.
    CreateVm = Post "/v1/vms" "place_vm" "Place a VM and start it, or say where it would go.",
        NoParams, PlaceVm => PlaceReply;
    /// F35.
    ExplainPlacement = Post "/v1/placements/explain" "explain_placement"
        "Every region with its verdict for a request.",
        NoParams, ExplainRequest => dwcp_controller::placement::Explanation;
    /// F92.
    GetVms = Get "/v1/vms" "list_vms" "A page of VMs.", ListVms, () => VmList;
    /// F92.
    GetVm = Get "/v1/vms/{vm}" "describe_vm" "One VM in full.", VmParams, () => VmDetail;
    /// F92.
    PutVmPower = Put "/v1/vms/{vm}/power" "set_vm_power" "Start, pause or stop a VM.",
        VmParams, SetPower => VmItem;
    /// F92.
    DeleteVm = Delete "/v1/vms/{vm}" "delete_vm" "Delete a VM and its disk.",
        VmParams, () => VmItem;
    /// F92.
    GetConsole = Get "/v1/vms/{vm}/console" "vm_console" "The guest's serial output.",
        ConsoleParams, () => ConsoleReply;
    /// DETAILS 2.4.
    GetEvents = Get "/v1/events" "list_events" "What happened, newest last.",
        EventParams, () => EventList;
}
