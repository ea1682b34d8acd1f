//! What daemons of different regions ask of each other. Only for a region's certificate.

use dwcp_controller::liveness::View;
use dwcp_controller::ownership::{ClientToken, DecisionSummary, Recovered, VmRecord};
use dwcp_monitor::digest::Digest;
use dwcp_types::{
    Epoch, HostId, Mib, Micros, PlacementRequest, RegionId, ReservationId, Timestamp,
    VmId, ZoneId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::{
    Acknowledged, CopyPlace, InstanceReport, MachineReport, MoveOrder, MoveReport,
    MoveStage, StandbyBody, TrialBody, TrialReport,
};
use crate::public::{ConsoleParams, ConsoleReply, EventList, EventParams, HostItem};
use crate::routing::AnycastReply;
use crate::{NoParams, operations};

/// Longest that a report may be waited for.
pub const REPORT_WAIT_MAX_MS: u64 = 10_000;

/// Asks for what changed since the last report.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
pub struct ReportParams {
    /// The writer's incarnation that the reader knows; 0 at first.
    pub incarnation: u64,
    /// The `begun` of the last report; 0 at first.
    pub begun: u64,
    /// The `seq` of the last report; 0 at first.
    pub after: u64,
    /// How long to wait for news, in milliseconds.
    pub wait_ms: u64,
    /// The life of the newest digest that the reader has; 0 at first.
    #[serde(default)]
    pub digest_life: u64,
    /// Its number; 0 at first.
    #[serde(default)]
    pub digest_seq: u64,
}

/// A digest on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DigestReport {
    /// How long ago it was made, in milliseconds, by a clock that nobody sets.
    pub age_ms: u64,
    /// It.
    pub digest: Digest,
}

/// What a region says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RegionReport {
    /// Which life of the daemon this is.
    pub incarnation: u64,
    /// From when on the reader hears of every removal; ask with it the next time.
    pub begun: u64,
    /// Ask for what came after this the next time.
    pub seq: u64,
    /// Forget all VMs known of this region before applying.
    pub reset: bool,
    /// More is there already; ask again at once.
    pub more: bool,
    /// Its hosts, all of them.
    pub hosts: Vec<HostItem>,
    /// Requests to its API, counted since it started.
    pub meter: MeterReading,
    /// How long it takes to its peers and back, where lines to them measure that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trips: Vec<PeerTrip>,
    /// What the region says of itself every 10 s, as far as the reader has not heard it; the
    /// oldest first.
    #[serde(default)]
    pub digests: Vec<DigestReport>,
    /// VMs whose observation changed.
    pub changed: Vec<InstanceReport>,
    /// VMs that are not observed any more.
    pub removed: Vec<VmId>,
}

/// A round trip from the region that says it to another, as the line between them measures it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerTrip {
    /// To there.
    pub to: RegionId,
    /// 95 of 100 in the last two minutes were no longer.
    pub rtt: Micros,
    /// Whether the line is there. When it is not, `rtt` is what it was.
    pub up: bool,
    /// How long ago that was so, in milliseconds.
    pub age_ms: u64,
}

/// Asks a region to take over a VM of one that is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TakeOverBody {
    /// The VM as the lost region owns it.
    pub record: VmRecord,
    /// By which failover and on what proof.
    pub recovered: Recovered,
}

/// That a region's daemon lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeartbeatReply {
    /// Which regions it hears.
    pub view: View,
}

/// Counts of requests since the daemon started.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
pub struct MeterReading {
    /// Requests answered.
    pub requests: u64,
    /// Those that failed through our fault.
    pub errors: u64,
    /// Time spent on all of them, in microseconds.
    pub busy_us: u64,
    /// How many were answered in the last whole minute.
    pub requests_last_minute: u64,
    /// How many of those failed through our fault.
    pub errors_last_minute: u64,
}

/// Asks a region to hold capacity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReserveBody {
    /// Names the attempt; asking again with the same is safe.
    pub id: ReservationId,
    /// The request.
    pub request: PlacementRequest,
    /// The zone that the chooser prefers.
    pub zone: ZoneId,
    /// The host that the chooser prefers.
    pub host: HostId,
    /// The VMs of that host that are to make room where the VM does not fit without (F32).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub victims: Vec<VmId>,
}

/// Capacity that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldReply {
    /// The attempt.
    pub id: ReservationId,
    /// The zone.
    pub zone: ZoneId,
    /// The host that the region chose.
    pub host: HostId,
    /// When it lapses if it is not committed, by the region's clock.
    pub expires_at: Timestamp,
    /// The VMs that have to stop before it can be committed; nobody else gets their room
    /// meanwhile. Asking again says who is left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<VmId>,
}

/// Names a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReservationParams {
    /// Which.
    pub reservation: ReservationId,
}

/// Asks a region to own the VM that it holds capacity for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommitBody {
    /// The request, as it was reserved for.
    pub request: PlacementRequest,
    /// The client's token.
    pub token: ClientToken,
    /// The image of its disk.
    pub image: String,
    /// Why it is there.
    pub decision: DecisionSummary,
}

/// What came of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommitReply {
    /// The VM as it is owned now.
    pub record: VmRecord,
    /// Whether the same token had made it before; this reservation was released then.
    pub repeated: bool,
}

/// Names a VM on a host of the region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostVmParams {
    /// The host.
    pub host: HostId,
    /// The VM.
    pub vm: VmId,
}

/// Which VM on which host, and what is known of its move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerMoveParams {
    /// The host.
    pub host: HostId,
    /// The VM.
    pub vm: VmId,
    /// The stage that is known; the answer is held back while it is that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<MoveStage>,
    /// How long to hold the answer back, at most 10,000 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// Which VM on which host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerMachineParams {
    /// The host.
    pub host: HostId,
    /// The VM.
    pub vm: VmId,
    /// Virtual CPUs that were asked for.
    pub cpu: u32,
    /// Memory that was asked for.
    pub memory: Mib,
    /// Also measure how fast the memory of the running guest changes.
    #[serde(default)]
    pub measure: bool,
    /// The image that must be there; the host's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// Which trial on a host of the region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerTrialParams {
    /// The host.
    pub host: HostId,
    /// The VM.
    pub vm: VmId,
    /// The trial; whichever there is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ReservationId>,
}

/// What a host is to let go of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LetGoBody {
    /// The epoch from which on the VM is another's.
    pub epoch: Epoch,
    /// What held its capacity here.
    pub reservation: ReservationId,
}

/// Whether nothing is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LetGoReply {
    /// Nothing of the VM is on the host any more, and its capacity is free.
    pub gone: bool,
}

operations! {
    /// F92.
    GetRegionReport = Get "/peer/v1/report" "region_report"
        "What changed in a region since the last report.", ReportParams, () => RegionReport;
    /// F5, F19.
    Heartbeat = Get "/peer/v1/heartbeat" "heartbeat"
        "Whether a region's daemon lives, and which regions it hears.",
        NoParams, () => HeartbeatReply;
    /// F21.
    Reserve = Post "/peer/v1/reservations" "reserve"
        "Hold capacity for a VM until it is committed or lapses.",
        NoParams, ReserveBody => HeldReply;
    /// F4.
    Commit = Post "/peer/v1/reservations/{reservation}/commit" "commit_reservation"
        "Own the VM that capacity is held for.",
        ReservationParams, CommitBody => CommitReply;
    /// F1, F4.
    TakeOver = Post "/peer/v1/recoveries" "take_over"
        "Own a VM of a region that is lost, and start it.",
        NoParams, TakeOverBody => CommitReply;
    /// F21.
    Release = Delete "/peer/v1/reservations/{reservation}" "release_reservation"
        "Give back held capacity.", ReservationParams, () => ();
    /// F92.
    GetPeerConsole = Get "/peer/v1/vms/{vm}/console" "peer_console"
        "The serial output of a guest that this region owns.",
        ConsoleParams, () => ConsoleReply;
    /// C20.
    PutPeerMove = Put "/peer/v1/hosts/{host}/vms/{vm}/move" "peer_put_move"
        "Says to a host of this region what is to be done about a VM that moves.",
        HostVmParams, MoveOrder => Acknowledged;
    /// C20.
    GetPeerMove = Get "/peer/v1/hosts/{host}/vms/{vm}/move" "peer_get_move"
        "How far the move of a VM is on a host of this region.",
        PeerMoveParams, () => MoveReport;
    /// F14.
    GetPeerMachine = Get "/peer/v1/hosts/{host}/vms/{vm}/machine" "peer_get_machine"
        "What a VM runs on there, and how fast its memory changes.",
        PeerMachineParams, () => MachineReport;
    /// F4: refused while the host still owns the VM.
    LetGo = Post "/peer/v1/hosts/{host}/vms/{vm}/let-go" "peer_let_go"
        "Removes what a host still has of a VM that has another owner, with its reservation.",
        HostVmParams, LetGoBody => LetGoReply;
    /// D2.
    PutPeerStandby = Put "/peer/v1/hosts/{host}/standbys/{vm}" "peer_put_standby"
        "Has a host of this region keep a copy of a VM that runs elsewhere.",
        HostVmParams, StandbyBody => CopyPlace;
    /// D2.
    PutPeerTrial = Put "/peer/v1/hosts/{host}/trials/{vm}" "peer_put_trial"
        "Holds capacity for the trial of a VM's failover, and has a host of this region begin it.",
        HostVmParams, TrialBody => TrialReport;
    /// D2.
    GetPeerTrial = Get "/peer/v1/hosts/{host}/trials/{vm}" "peer_get_trial"
        "How far a trial on a host of this region is.", HostVmParams, () => TrialReport;
    /// D2.
    DropPeerTrial = Delete "/peer/v1/hosts/{host}/trials/{vm}" "peer_drop_trial"
        "Ends a trial on a host of this region, and gives back what it held.",
        PeerTrialParams, () => ();
    /// D2.
    KeepReplica = Post "/peer/v1/reservations/{reservation}/replica" "keep_replica"
        "Make held capacity the storage of a replica, whose VM runs elsewhere.",
        ReservationParams, () => ();
    /// DETAILS 2.4.
    GetPeerEvents = Get "/peer/v1/events" "peer_events" "Events that this region saw.",
        EventParams, () => EventList;
    /// R11.
    GetPeerAnycast = Get "/peer/v1/routing/anycast" "peer_anycast"
        "How the addresses that this region shares stand here.",
        NoParams, () => AnycastReply;
}
