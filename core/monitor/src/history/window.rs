//! What was measured in a time, and every figure that follows from it.

use crate::digest::{Digest, Sketch};
use crate::metric::Metric;
use crate::varint::{put, take};

/// Milliseconds of a second.
const SECOND_MS: u64 = 1_000;
/// A share of all in thousandths of a per cent.
const WHOLE_MILLI_PERCENT: u64 = 100_000;
/// Parts per million of a thousandth of a per cent.
const PPM_PER_MILLI_PERCENT: u64 = 10;

/// A gauge over some digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// All values together.
    pub sum: u64,
    /// The least.
    pub min: u32,
    /// The greatest.
    pub max: u32,
}

impl Spread {
    fn of(value: u32) -> Self {
        Self { sum: u64::from(value), min: value, max: value }
    }

    fn merge(&mut self, other: &Self) {
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    fn write(self, bytes: &mut Vec<u8>) {
        put(bytes, self.sum);
        put(bytes, u64::from(self.min));
        put(bytes, u64::from(self.max));
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self { sum: take(bytes)?, min: small(bytes)?, max: small(bytes)? })
    }
}

/// Everything but the sketch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    digests: u32,
    heard: u32,
    looks: u32,
    covered_ms: u64,
    requests: u64,
    errors: u64,
    vms: Spread,
    hosts_answering: Spread,
    cpu_reserved: Spread,
    memory_reserved: Spread,
}

impl Figures {
    pub(super) fn of(digest: &Digest) -> Self {
        let gauges = digest.gauges;
        Self {
            digests: 1,
            heard: 0,
            looks: 0,
            covered_ms: digest.every_ms,
            requests: digest.requests,
            errors: digest.errors,
            vms: Spread::of(gauges.vms),
            hosts_answering: Spread::of(gauges.hosts_answering),
            cpu_reserved: Spread::of(gauges.cpu_reserved_ppm),
            memory_reserved: Spread::of(gauges.memory_reserved_ppm),
        }
    }

    pub(super) fn of_look(heard: bool) -> Self {
        Self { looks: 1, heard: u32::from(heard), ..Self::default() }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.looks = self.looks.saturating_add(other.looks);
        self.heard = self.heard.saturating_add(other.heard);
        if other.digests == 0 {
            return;
        }
        if self.digests == 0 {
            *self = Self { looks: self.looks, heard: self.heard, ..*other };
            return;
        }
        self.digests = self.digests.saturating_add(other.digests);
        self.covered_ms = self.covered_ms.saturating_add(other.covered_ms);
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.vms.merge(&other.vms);
        self.hosts_answering.merge(&other.hosts_answering);
        self.cpu_reserved.merge(&other.cpu_reserved);
        self.memory_reserved.merge(&other.memory_reserved);
    }

    /// Writes them behind what is there.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        let Self { digests, heard, looks, covered_ms, requests, errors, .. } = *self;
        for count in [digests, heard, looks] {
            put(bytes, u64::from(count));
        }
        for count in [covered_ms, requests, errors] {
            put(bytes, count);
        }
        for gauge in
            [self.vms, self.hosts_answering, self.cpu_reserved, self.memory_reserved]
        {
            gauge.write(bytes);
        }
    }

    /// Reads them from the front; nothing when they are not there.
    pub(super) fn read(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self {
            digests: small(bytes)?,
            heard: small(bytes)?,
            looks: small(bytes)?,
            covered_ms: take(bytes)?,
            requests: take(bytes)?,
            errors: take(bytes)?,
            vms: Spread::read(bytes)?,
            hosts_answering: Spread::read(bytes)?,
            cpu_reserved: Spread::read(bytes)?,
            memory_reserved: Spread::read(bytes)?,
        })
    }
}

fn small(bytes: &mut &[u8]) -> Option<u32> {
    u32::try_from(take(bytes)?).ok()
}

/// What was measured in a time, of one region or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub(super) figures: Figures,
    pub(super) latency: Sketch,
}

impl Window {
    /// Adds what was measured elsewhere or at another time. Rates of several regions are those
    /// of one of them on the mean; [`Self::requests`] adds up.
    pub fn merge(&mut self, other: &Self) {
        self.figures.merge(&other.figures);
        self.latency.merge(&other.latency);
    }

    /// Digests in it.
    #[must_use]
    pub const fn digests(&self) -> u32 {
        self.figures.digests
    }

    /// Requests in it.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.figures.requests
    }

    /// The value of a metric, in thousandths of its unit; nothing when nothing was measured.
    #[must_use]
    pub fn value_milli(&self, metric: Metric) -> Option<u64> {
        let Figures { digests, requests, errors, covered_ms, .. } = self.figures;
        match metric {
            // A microsecond is a thousandth of a millisecond.
            Metric::P50Latency => self.latency.percentile(500_000),
            Metric::P95Latency => self.latency.percentile(950_000),
            Metric::P99Latency => self.latency.percentile(990_000),
            Metric::Availability => {
                let Figures { heard, looks, .. } = self.figures;
                share(u64::from(heard), WHOLE_MILLI_PERCENT, u64::from(looks))
            }
            Metric::ErrorRate => share(errors, WHOLE_MILLI_PERCENT, requests),
            Metric::Throughput => share(requests, SECOND_MS * 1_000, covered_ms),
            Metric::Vms | Metric::HostsAnswering => {
                share(self.gauge(metric)?.sum, 1_000, u64::from(digests))
            }
            Metric::CpuReserved | Metric::MemoryReserved => {
                let of = u64::from(digests) * PPM_PER_MILLI_PERCENT;
                share(self.gauge(metric)?.sum, 1, of)
            }
        }
    }

    /// The least and the greatest value of a gauge.
    #[must_use]
    pub fn spread_milli(&self, metric: Metric) -> Option<(u64, u64)> {
        let spread = self.gauge(metric).filter(|_| self.figures.digests > 0)?;
        let milli = |value: u32| match metric.unit() {
            "%" => u64::from(value) / PPM_PER_MILLI_PERCENT,
            _ => u64::from(value) * 1_000,
        };
        Some((milli(spread.min), milli(spread.max)))
    }

    const fn gauge(&self, metric: Metric) -> Option<Spread> {
        match metric {
            Metric::Vms => Some(self.figures.vms),
            Metric::HostsAnswering => Some(self.figures.hosts_answering),
            Metric::CpuReserved => Some(self.figures.cpu_reserved),
            Metric::MemoryReserved => Some(self.figures.memory_reserved),
            Metric::P50Latency
            | Metric::P95Latency
            | Metric::P99Latency
            | Metric::Availability
            | Metric::ErrorRate
            | Metric::Throughput => None,
        }
    }
}

/// A part of a whole, so many times; nothing of nothing.
fn share(part: u64, times: u64, whole: u64) -> Option<u64> {
    let share = (u128::from(part) * u128::from(times)).checked_div(u128::from(whole))?;
    Some(u64::try_from(share).unwrap_or(u64::MAX))
}
