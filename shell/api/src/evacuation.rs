//! Emptying a region that lives (C16, F1): begin, see how far it is, call it off.
//!
//! Any region's daemon answers. That a region is to be emptied is kept with its record; its own
//! daemon asks for the moves.

use std::collections::BTreeSet;

use dwcp_controller::evacuation::{Evacuation, Plan};
use dwcp_types::RegionId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::public::RegionParams;
use crate::{NoParams, operations};

operations! {
    /// C16, C22.
    PostEvacuation = Post "/v1/evacuations" "start_evacuation"
        "Close a region for new VMs and move all of its VMs to other regions.",
        NoParams, StartEvacuation => EvacuationItem;
    /// C16.
    ListEvacuations = Get "/v1/evacuations" "list_evacuations"
        "The regions that are being emptied, and how far each is.",
        NoParams, () => EvacuationList;
    /// VMs whose move is committed go on to their new region.
    CancelEvacuation = Delete "/v1/evacuations/{region}" "cancel_evacuation"
        "Leave in a region what is still there, and call off the moves that wait.",
        RegionParams, () => EvacuationItem;
}

/// A region to be emptied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartEvacuation {
    /// The region.
    pub region: RegionId,
    /// The only regions that its VMs may go to; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_regions: Option<BTreeSet<RegionId>>,
    /// Why; kept with the region's record.
    pub reason: String,
    /// Only say who would go where.
    #[serde(default)]
    pub dry_run: bool,
}

/// How far a region is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvacuationItem {
    /// What is wanted; absent when nothing is: in a dry run, or when it was called off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evacuation: Option<Evacuation>,
    /// Who leaves, who is on the way, who stays.
    pub plan: Plan,
}

/// Regions that are being emptied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvacuationList {
    /// By the region's name.
    pub items: Vec<EvacuationItem>,
}
