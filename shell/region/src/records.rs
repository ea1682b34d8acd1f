//! The region's own record in the strong engine.

use dwcp_types::Region;
use serde::{Deserialize, Serialize};

/// Where every region's record lies.
pub const REGIONS_PREFIX: &str = "/regions/";

/// A region as the federation agrees on it. Its daemon writes it from its configuration file
/// at start; whether it is enabled is the operator's, and outlives restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionRecord {
    /// The configuration.
    pub region: Region,
    /// Where its daemon answers, `host:port`.
    pub endpoint: String,
}
