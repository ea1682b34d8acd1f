//! What is measured of a region, by the names that service levels use (M3, M7, M8). Every value
//! is a whole number of thousandths of its unit.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is measured of a region.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The latency that half of the requests do not exceed.
    P50Latency,
    /// The latency that 95 of 100 requests do not exceed.
    P95Latency,
    /// The latency that 99 of 100 requests do not exceed.
    P99Latency,
    /// The share of looks in which a majority of the others heard the region.
    Availability,
    /// The share of requests that failed through the region's fault.
    ErrorRate,
    /// Requests a second.
    Throughput,
    /// VMs that its hosts report.
    Vms,
    /// Hosts that answer.
    HostsAnswering,
    /// The share of its processors that is reserved.
    CpuReserved,
    /// The share of its memory that is reserved.
    MemoryReserved,
}

impl Metric {
    /// All, in the order in which they are listed.
    pub const ALL: [Self; 10] = [
        Self::P50Latency,
        Self::P95Latency,
        Self::P99Latency,
        Self::Availability,
        Self::ErrorRate,
        Self::Throughput,
        Self::Vms,
        Self::HostsAnswering,
        Self::CpuReserved,
        Self::MemoryReserved,
    ];

    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::P50Latency => "p50_latency",
            Self::P95Latency => "p95_latency",
            Self::P99Latency => "p99_latency",
            Self::Availability => "availability",
            Self::ErrorRate => "error_rate",
            Self::Throughput => "throughput",
            Self::Vms => "vms",
            Self::HostsAnswering => "hosts_answering",
            Self::CpuReserved => "cpu_reserved",
            Self::MemoryReserved => "memory_reserved",
        }
    }

    /// Its unit, of which values are thousandths; empty for a plain count.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::P50Latency | Self::P95Latency | Self::P99Latency => "ms",
            Self::Availability
            | Self::ErrorRate
            | Self::CpuReserved
            | Self::MemoryReserved => "%",
            Self::Throughput => "req/s",
            Self::Vms | Self::HostsAnswering => "",
        }
    }

    /// Its kind for the dashboards' label `sla_type` (O28, M8).
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::P50Latency | Self::P95Latency | Self::P99Latency => "latency",
            Self::Availability => "availability",
            Self::ErrorRate => "error_rate",
            Self::Throughput => "throughput",
            Self::Vms
            | Self::HostsAnswering
            | Self::CpuReserved
            | Self::MemoryReserved => "capacity",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What is no metric.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no metric; there are {}", Metric::ALL.map(Metric::word).join(", "))]
pub struct UnknownMetric {
    given: String,
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(text: &str) -> Result<Self, UnknownMetric> {
        let known = Self::ALL.into_iter().find(|metric| metric.word() == text);
        known.ok_or_else(|| UnknownMetric { given: text.chars().take(40).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_read_as_it_is_written_and_others_are_refused_with_the_list() {
        for metric in Metric::ALL {
            assert_eq!(metric.word().parse(), Ok(metric));
            let wire = serde_json::to_value(metric).unwrap();
            assert_eq!(wire.as_str(), Some(metric.word()));
        }
        let refused = "p98_latency".parse::<Metric>().unwrap_err().to_string();
        assert!(refused.contains("p99_latency") && refused.contains("memory_reserved"));
    }
}
