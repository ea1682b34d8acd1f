//! The operator's API, version 1, of liveness and failover: which region lives, who says so, and
//! why none is failed over.

use std::collections::BTreeSet;

use dwcp_controller::failover::{Log, Plan, Request};
use dwcp_controller::liveness::{Blocked, Verdict};
use dwcp_types::{HostId, RegionId, ReservationId, VmId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::TrialReport;
use crate::public::VmParams;
use crate::{NoParams, operations};

operations! {
    /// O9.
    GetFailover = Get "/v1/failover" "get_failover"
        "What is true of every region, and what keeps each from being failed over.",
        NoParams, () => FailoverStatus;
    /// O9. Refused while the region holds its lease, unless that is said to be wanted.
    PostFailover = Post "/v1/failover" "start_failover"
        "Start the protected VMs of a lost region elsewhere.",
        NoParams, StartFailover => FailoverReply;
    /// C19.
    ListFailovers = Get "/v1/failovers" "list_failovers"
        "The logs of failovers, the newest first.",
        NoParams, () => FailoverList;
    /// F17. Those that expired are shown until the next one is asked for.
    ListFailoverRequests = Get "/v1/failover/requests" "list_failover_requests"
        "Failovers that were asked for and wait for a second person, the oldest first.",
        NoParams, () => FailoverRequestList;
    /// F17. Refused when whoever approves is the one who asked, when it has expired, and when it
    /// could not begin now without an approval.
    ApproveFailover = Post "/v1/failover/requests/{request}/approve" "approve_failover"
        "Begin a failover that another operator asked for.",
        FailoverRequestParams, () => FailoverReply;
    /// F17.
    DenyFailover = Post "/v1/failover/requests/{request}/deny" "deny_failover"
        "Remove the request for a failover, so that nobody can approve it.",
        FailoverRequestParams, FailoverDenial => FailoverRequestItem;
    /// D2. Refused when the VM has no whole copy, when its host has no room for it, and when a
    /// trial of it is under way.
    StartVmTrial = Post "/v1/vms/{vm}/trial" "start_vm_trial"
        "Start a VM from a fork of its copy, connected to nothing, to see that a failover would.",
        VmParams, StartTrial => TrialItem;
    /// 404 when there is none.
    GetVmTrial = Get "/v1/vms/{vm}/trial" "get_vm_trial"
        "How far the trial of a VM's failover is.", VmParams, () => TrialItem;
    /// Answers when nothing of it is left.
    EndVmTrial = Delete "/v1/vms/{vm}/trial" "end_vm_trial"
        "End the trial of a VM's failover.", VmTrialParams, () => ();
}

/// Which trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmTrialParams {
    /// The VM.
    pub vm: VmId,
    /// The trial; whichever there is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ReservationId>,
}

/// How a VM's failover is tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartTrial {
    /// What the guest is to print on its console; it is only seen to run when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// After so many seconds, 1 to 300, all of it is gone; 120 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
}

/// The trial of a VM's failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrialItem {
    /// The VM, which runs on.
    pub vm: VmId,
    /// The region where it is tried: that of its copy.
    pub region: RegionId,
    /// The host.
    pub host: HostId,
    /// How far it is.
    #[serde(flatten)]
    pub report: TrialReport,
}

/// Names one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverRequestParams {
    /// The request.
    pub request: String,
}

/// Requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverRequestList {
    /// The oldest first.
    pub items: Vec<FailoverRequestItem>,
}

/// A failover that waits for a second person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverRequestItem {
    /// What was asked for.
    pub request: Request,
    /// Whether it can no longer be approved, by the clock of the daemon that answers.
    pub expired: bool,
}

/// Why a failover is not to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailoverDenial {
    /// In words; kept with what happened in the region whose daemon is asked.
    pub reason: String,
}

/// Logs of failovers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverList {
    /// The newest first; one that is under way has no end yet.
    pub items: Vec<Log>,
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartFailover {
    /// The lost region.
    pub from_region: RegionId,
    /// The only regions that its VMs may go to; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_regions: Option<BTreeSet<RegionId>>,
    /// Why; kept with the log.
    pub reason: String,
    /// Also when the region lives: its lease is taken away, its protected VMs end there when
    /// that has lapsed, and are started anew elsewhere.
    #[serde(default)]
    pub even_if_alive: bool,
    /// Start VMs also from a replica that lacks what they wrote last; else these stay down.
    #[serde(default)]
    pub accept_data_loss: bool,
    /// How it is known that all hosts of the region are off. An operator's word in place of its
    /// lease: nothing is waited for, the region may hold its lease, and guests that run there after
    /// all run twice. It always needs a second person, and is kept in the record of every VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts_off: Option<String>,
    /// Only say who would go where.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether it waits for a second person: as `failover.two_persons` says when absent. `false`
    /// is refused where that is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_approval: Option<bool>,
}

/// Who goes where, and the log when it began, or the request when it waits for a second person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverReply {
    /// Who goes where, and who stays down.
    pub plan: Plan,
    /// The log; absent in a dry run, and when another operator must approve it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// Whether it begins only when another operator approves it.
    #[serde(default)]
    pub two_persons: bool,
    /// What that one is to approve; absent in a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
}

impl FailoverReply {
    /// Who would go where; nothing began.
    #[must_use]
    pub const fn planned(plan: Plan, two_persons: bool) -> Self {
        Self { plan, log: None, two_persons, request: None }
    }
}

/// Liveness as one region's daemon sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverStatus {
    /// Whether leases are kept at all (`failover.enabled`).
    pub enabled: bool,
    /// Every region, by name.
    pub regions: Vec<RegionLiveness>,
    /// The failover under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Log>,
}

/// What is true of a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionLiveness {
    /// What, and who says so.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Every condition that its failover waits for; none when nothing speaks against it.
    pub not_failed_over_because: Vec<WhyNot>,
}

/// A condition that a failover waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhyNot {
    /// Which.
    #[serde(flatten)]
    pub condition: Blocked,
    /// In words.
    pub text: String,
}
