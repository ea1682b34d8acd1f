//! The region's own record in the strong engine.

use dwcp_controller::evacuation::Evacuation;
use dwcp_types::Region;
use serde::{Deserialize, Serialize};

/// Where every region's record lies.
pub const REGIONS_PREFIX: &str = "/regions/";

/// A region as the federation agrees on it. Its daemon writes it from its configuration file
/// at start; whether it is enabled or to be emptied is the operator's, and outlives restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionRecord {
    /// The configuration.
    pub region: Region,
    /// Where its daemon answers, `host:port`.
    pub endpoint: String,
    /// It is to be emptied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evacuation: Option<Evacuation>,
}
