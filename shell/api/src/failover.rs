//! The operator's API, version 1, of liveness and failover: which region lives, who says so, and
//! why none is failed over.

use std::collections::BTreeSet;

use dwcp_controller::failover::{Log, Plan};
use dwcp_controller::liveness::{Blocked, Verdict};
use dwcp_types::RegionId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Only say who would go where.
    #[serde(default)]
    pub dry_run: bool,
}

/// Who goes where, and the log when it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverReply {
    /// Who goes where, and who stays down.
    pub plan: Plan,
    /// The log; absent in a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
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
