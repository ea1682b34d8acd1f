//! `--constraints "max-latency:50,min-health:80"` (DETAILS 2.1), with every limit of C8.
//!
//! Lists of names are separated by `|`, because the comma separates constraints.

use std::collections::BTreeSet;
use std::str::FromStr;

use dwcp_types::{ComplianceZone, Constraints, Mbps, MicroUsd, RegionId};

use super::list::{ListError, Part, parts};
use super::scalar::{dollars, health_score, milliseconds};
use super::{Quantity, Unit};

const KEYS: &[&str] = &[
    "max-latency",
    "min-health",
    "cost-limit",
    "allowed-regions",
    "forbidden-regions",
    "require-edge",
    "compliance",
    "data-locality",
    "min-bandwidth",
    "preferred-provider",
];

/// The limits that were said; the others are for a file or another flag to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConstraintPatch {
    /// C8.6, in milliseconds.
    pub(crate) max_latency_ms: Option<u32>,
    /// C8.7.
    pub(crate) min_health_score: Option<u8>,
    /// C8.9.
    pub(crate) cost_limit: Option<MicroUsd>,
    /// C8.1.
    pub(crate) allowed_regions: Option<BTreeSet<RegionId>>,
    /// C8.2.
    pub(crate) forbidden_regions: Option<BTreeSet<RegionId>>,
    /// C8.3.
    pub(crate) require_edge: Option<bool>,
    /// C8.4.
    pub(crate) compliance: Option<BTreeSet<ComplianceZone>>,
    /// C8.5.
    pub(crate) data_locality: Option<String>,
    /// C8.8.
    pub(crate) min_bandwidth: Option<Mbps>,
    /// C8.10.
    pub(crate) preferred_provider: Option<String>,
}

impl FromStr for ConstraintPatch {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let mut patch = Self::default();
        for part in parts(text, KEYS)? {
            patch.set(&part)?;
        }
        Ok(patch)
    }
}

impl ConstraintPatch {
    fn set(&mut self, part: &Part<'_>) -> Result<(), ListError> {
        match part.key {
            "max-latency" => self.max_latency_ms = Some(part.read(milliseconds)?),
            "min-health" => self.min_health_score = Some(part.read(health_score)?),
            "cost-limit" => self.cost_limit = Some(part.read(dollars)?),
            "allowed-regions" => self.allowed_regions = Some(part.read(region_set)?),
            "forbidden-regions" => self.forbidden_regions = Some(part.read(region_set)?),
            "require-edge" => self.require_edge = Some(truth(part)?),
            "compliance" => self.compliance = Some(part.read(compliance_set)?),
            "data-locality" => self.data_locality = Some(part.value()?.to_owned()),
            "min-bandwidth" => self.min_bandwidth = Some(part.read(bandwidth)?),
            _ => self.preferred_provider = Some(part.value()?.to_owned()),
        }
        Ok(())
    }

    /// Puts what was said over what is there.
    pub(crate) fn apply(self, limits: &mut Constraints) {
        fn put<T>(slot: &mut T, said: Option<T>) {
            if let Some(said) = said {
                *slot = said;
            }
        }
        put(&mut limits.allowed_regions, self.allowed_regions);
        put(&mut limits.forbidden_regions, self.forbidden_regions);
        put(&mut limits.require_edge, self.require_edge);
        put(&mut limits.required_compliance, self.compliance);
        limits.max_latency_ms = self.max_latency_ms.or(limits.max_latency_ms);
        limits.min_health_score = self.min_health_score.or(limits.min_health_score);
        limits.cost_limit = self.cost_limit.or(limits.cost_limit);
        limits.min_bandwidth_mbps = self.min_bandwidth.or(limits.min_bandwidth_mbps);
        limits.data_locality = self.data_locality.or_else(|| limits.data_locality.take());
        limits.preferred_provider =
            self.preferred_provider.or_else(|| limits.preferred_provider.take());
    }
}

fn truth(part: &Part<'_>) -> Result<bool, ListError> {
    match part.value {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => {
            Err(part.refuse(format!("{other:?} is neither true nor false; write one")))
        }
    }
}

fn bandwidth(text: &str) -> Result<Mbps, String> {
    Quantity::parse(text, Unit::Mbps).map(|quantity| Mbps::new(quantity.amount))
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('|').map(str::trim)
}

fn region_set(text: &str) -> Result<BTreeSet<RegionId>, String> {
    let regions = names(text).map(RegionId::new);
    regions.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

fn compliance_set(text: &str) -> Result<BTreeSet<ComplianceZone>, String> {
    let laws: BTreeSet<_> = names(text).map(ComplianceZone::new).collect();
    if laws.iter().any(|law| law.as_str().is_empty()) {
        return Err("a name is empty; write them like GDPR|HIPAA".to_owned());
    }
    Ok(laws)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn applied(text: &str) -> Constraints {
        let mut limits = Constraints::default();
        text.parse::<ConstraintPatch>().unwrap().apply(&mut limits);
        limits
    }

    #[test]
    fn the_constraints_of_the_source_are_read() {
        let limits = applied("max-latency:50,min-health:80");
        assert_eq!(
            (limits.max_latency_ms, limits.min_health_score),
            (Some(50), Some(80))
        );
        let limits = applied(
            "allowed-regions:eu-west-1|eu-central-1,compliance:gdpr,data-locality:EU,require-edge",
        );
        assert_eq!(limits.allowed_regions.len(), 2);
        assert!(limits.required_compliance.contains(&ComplianceZone::new("GDPR")));
        assert_eq!(limits.data_locality.as_deref(), Some("EU"));
        assert!(limits.require_edge);
    }

    #[test]
    fn what_is_not_said_stays() {
        let mut limits = applied("max-latency:50,data-locality:EU,require-edge:true");
        "cost-limit:0.50,require-edge:false"
            .parse::<ConstraintPatch>()
            .unwrap()
            .apply(&mut limits);
        assert_eq!(limits.max_latency_ms, Some(50));
        assert_eq!(limits.data_locality.as_deref(), Some("EU"));
        assert_eq!(limits.cost_limit, Some(MicroUsd::new(500_000)));
        assert!(!limits.require_edge);
    }

    #[test]
    fn each_mistake_is_told_with_its_place() {
        for (text, expected) in [
            ("min-health:101", "min-health (character 1): 101 is no health score"),
            (
                "min-health:80,max-latency:0",
                "max-latency (character 15): it must be more",
            ),
            ("require-edge:yes", "\"yes\" is neither true nor false"),
            ("allowed-regions:a|", "\"\" is not a region id"),
            ("compliance:GDPR||X", "a name is empty"),
            ("cost-limit:free", "free is no amount of dollars"),
            ("data-locality:", "it has no value"),
            ("min-bandwidth:-1", "negative"),
        ] {
            let error = text.parse::<ConstraintPatch>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    fn limits() -> impl Strategy<Value = Constraints> {
        let regions = prop::collection::btree_set("[a-z][a-z0-9-]{0,8}", 1..4);
        let laws = prop::collection::btree_set("[A-Z]{1,6}", 1..3);
        (
            prop::option::of(1_u32..1_000_000),
            prop::option::of(0_u8..=100),
            prop::option::of(0_u64..1 << 50),
            prop::option::of(regions),
            prop::option::of(laws),
            prop::option::of("[A-Z][A-Za-z ]{0,8}[a-z]"),
            any::<bool>(),
            prop::option::of(0_u64..1 << 40),
        )
            .prop_map(
                |(latency, health, cost, regions, laws, place, edge, bandwidth)| {
                    let regions = regions.into_iter().flatten();
                    let laws = laws.into_iter().flatten();
                    Constraints {
                        max_latency_ms: latency,
                        min_health_score: health,
                        cost_limit: cost.map(MicroUsd::new),
                        allowed_regions: regions
                            .map(|name| RegionId::new(&name).unwrap())
                            .collect(),
                        required_compliance: laws
                            .map(|name| ComplianceZone::new(&name))
                            .collect(),
                        data_locality: place,
                        require_edge: edge,
                        min_bandwidth_mbps: bandwidth.map(Mbps::new),
                        ..Constraints::default()
                    }
                },
            )
    }

    /// Writes constraints as a person would; the oracle of the round trip.
    fn written(limits: &Constraints) -> String {
        let mut parts = Vec::new();
        let bar = |names: Vec<String>| names.join("|");
        if let Some(ms) = limits.max_latency_ms {
            parts.push(format!("max-latency:{ms}"));
        }
        if let Some(score) = limits.min_health_score {
            parts.push(format!("min-health:{score}"));
        }
        if let Some(cost) = limits.cost_limit {
            let micros = cost.get();
            parts.push(format!(
                "cost-limit:{}.{:06}",
                micros / 1_000_000,
                micros % 1_000_000
            ));
        }
        if !limits.allowed_regions.is_empty() {
            let names = limits.allowed_regions.iter().map(ToString::to_string).collect();
            parts.push(format!("allowed-regions:{}", bar(names)));
        }
        if !limits.required_compliance.is_empty() {
            let names =
                limits.required_compliance.iter().map(ToString::to_string).collect();
            parts.push(format!("compliance:{}", bar(names)));
        }
        if let Some(place) = &limits.data_locality {
            parts.push(format!("data-locality:{place}"));
        }
        if let Some(bandwidth) = limits.min_bandwidth_mbps {
            parts.push(format!("min-bandwidth:{}", bandwidth.get()));
        }
        parts.push(format!("require-edge:{}", limits.require_edge));
        parts.join(",")
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(limits in limits()) {
            prop_assert_eq!(applied(&written(&limits)), limits);
        }

        #[test]
        fn no_text_makes_it_panic(
            text in "(max-latency|compliance|require-edge|[a-z:,|0-9.-]|.){0,12}"
        ) {
            drop(text.parse::<ConstraintPatch>());
        }
    }
}
