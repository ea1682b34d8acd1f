//! What is asked for: services, traffic classes and the quality that each must have (R9, R10).

use std::collections::BTreeSet;

use dwcp_types::{ComplianceZone, Mbps, Micros, RegionId, ServiceId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::weights::{Algorithm, Weights};

/// How many classes there are.
pub(crate) const CLASSES: usize = 3;

/// What kind of traffic a request is (R10).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Very short ways, sensitive to jitter.
    Realtime,
    /// Short ways, some bandwidth.
    #[default]
    Interactive,
    /// Much bandwidth, in no hurry.
    Bulk,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; CLASSES] = [Self::Realtime, Self::Interactive, Self::Bulk];

    /// The quality that it must have unless the service says otherwise: the profiles
    /// `ultra_low_latency`, `standard` and `best_effort` (DETAILS 2.3).
    #[must_use]
    pub const fn profile(self) -> Requirement {
        let (millis, mbps, loss_ppm) = match self {
            Self::Realtime => (10, 100, 100),
            Self::Interactive => (100, 10, 10_000),
            Self::Bulk => (1_000, 1, 50_000),
        };
        Requirement {
            latency_max: Some(Micros::from_millis(millis)),
            bandwidth_min: Some(Mbps::new(mbps)),
            loss_ppm_max: Some(loss_ppm),
            encryption: false,
        }
    }

    /// Its word in files and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        }
    }
}

/// The quality that a way must have at the moment (R9). That it "currently meets" this is no
/// promise for later: nothing is reserved (F61).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields, default)]
pub struct Requirement {
    /// Longest round trip.
    pub latency_max: Option<Micros>,
    /// Least bandwidth that is left.
    pub bandwidth_min: Option<Mbps>,
    /// Most packets lost, in millionths.
    pub loss_ppm_max: Option<u32>,
    /// Whether the way must be encrypted.
    pub encryption: bool,
}

/// By what a service is reached (R8).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// QUIC.
    Quic,
}

/// A set of protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocols(u8);

impl Protocols {
    /// All of them.
    pub const ALL: Self = Self(0b111);
    /// None.
    pub const NONE: Self = Self(0);

    /// This and one more.
    #[must_use]
    pub const fn with(self, protocol: Protocol) -> Self {
        Self(self.0 | 1 << protocol as u8)
    }

    /// Whether it has one.
    #[must_use]
    pub const fn has(self, protocol: Protocol) -> bool {
        self.0 & 1 << protocol as u8 != 0
    }
}

/// What becomes of requests when no region keeps every limit.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FailMode {
    /// They go where the least important limits are broken, and the answer says which (F86):
    /// quality first, then capacity, then drained regions, then regions in bad health.
    #[default]
    Open,
    /// They go where they went when it was last known.
    Static,
    /// They are refused.
    Closed,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub id: ServiceId,
    /// The regions that have it; all when empty.
    pub regions: BTreeSet<RegionId>,
    /// Countries and continents that its data may go to; anywhere when empty.
    pub residency: BTreeSet<String>,
    /// Laws that a region must stand under, all of them.
    pub laws: BTreeSet<ComplianceZone>,
    /// How it is reached.
    pub protocol: Protocol,
    /// How regions are ranked.
    pub algorithm: Algorithm,
    /// Weights of its own; those of the algorithm when absent.
    pub weights: Option<Weights>,
    /// What each class must have, in the order of [`Class::ALL`].
    pub requirements: [Requirement; CLASSES],
    /// When nothing keeps every limit.
    pub fail: FailMode,
    /// Whether a client keeps its region while that is a good one (R12).
    pub sticky: bool,
    /// How long an answer may be kept, in seconds.
    pub ttl_s: u8,
    /// What one request sends back, in kilobytes of 1,000.
    pub kb_per_request: u32,
    /// CPU time of one request, in microseconds.
    pub cpu_us_per_request: u32,
}

/// How long answers are kept when the service does not say: half of the source's 60 s, which
/// F56 calls too long.
const TTL_S: u8 = 30;
/// A page of a web interface, for comparing prices when nothing is known.
const KB_PER_REQUEST: u32 = 50;
/// The same of CPU time.
const CPU_US_PER_REQUEST: u32 = 2_000;

impl Service {
    /// A service of every region, with the usual quality.
    #[must_use]
    pub fn new(id: ServiceId, algorithm: Algorithm) -> Self {
        Self {
            id,
            regions: BTreeSet::new(),
            residency: BTreeSet::new(),
            laws: BTreeSet::new(),
            protocol: Protocol::Tcp,
            algorithm,
            weights: None,
            requirements: Class::ALL.map(Class::profile),
            fail: FailMode::Open,
            sticky: false,
            ttl_s: TTL_S,
            kb_per_request: KB_PER_REQUEST,
            cpu_us_per_request: CPU_US_PER_REQUEST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_are_the_guide_s() {
        let of = |class: Class| {
            let profile = class.profile();
            (
                profile.latency_max.map(Micros::get),
                profile.bandwidth_min.map(Mbps::get),
                profile.loss_ppm_max,
            )
        };
        assert_eq!(of(Class::Realtime), (Some(10_000), Some(100), Some(100)));
        assert_eq!(of(Class::Interactive), (Some(100_000), Some(10), Some(10_000)));
        assert_eq!(of(Class::Bulk), (Some(1_000_000), Some(1), Some(50_000)));
    }

    #[test]
    fn a_set_of_protocols_has_what_was_put_in() {
        let some = Protocols::NONE.with(Protocol::Quic);
        assert!(some.has(Protocol::Quic) && !some.has(Protocol::Tcp));
        assert!(Protocols::ALL.has(Protocol::Udp));
    }
}
