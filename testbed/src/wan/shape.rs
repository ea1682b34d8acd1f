//! What a way between two regions is like: how long, how wide, how lossy.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bytes that wait before a narrow way, when nobody says otherwise: the 4 MB of a router's
/// port, 32 ms at 1 Gbit/s.
const QUEUE_BYTES: u64 = 4_000_000;

/// A way in one direction. The default is a wire: no delay, no loss, no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    /// Time that every packet takes, in microseconds.
    pub delay_us: u64,
    /// A packet takes up to this much longer or shorter, in microseconds, evenly spread. Never
    /// more than `delay_us` shorter, and no packet overtakes another.
    pub jitter_us: u64,
    /// Packets lost of a million, each by itself. A packet is what the sender's kernel hands
    /// out: up to 64 KiB at once, unless the bed was made packet by packet.
    pub loss_ppm: u32,
    /// Bits a second; none: no limit.
    pub rate_bps: Option<NonZeroU64>,
    /// Bytes that wait before the way when `rate_bps` is reached; what comes then is lost. One
    /// packet always fits an empty queue.
    pub queue_bytes: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            delay_us: 0,
            jitter_us: 0,
            loss_ppm: 0,
            rate_bps: None,
            queue_bytes: QUEUE_BYTES,
        }
    }
}

impl Shape {
    /// A way that takes so long.
    ///
    /// # Panics
    ///
    /// Never for delays below centuries.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self { delay_us: micros(delay), ..Self::default() }
    }

    /// With so much jitter, both ways.
    #[must_use]
    pub fn jitter(self, jitter: Duration) -> Self {
        Self { jitter_us: micros(jitter), ..self }
    }

    /// Losing so many packets of a million.
    #[must_use]
    pub const fn loss_ppm(self, loss_ppm: u32) -> Self {
        Self { loss_ppm, ..self }
    }

    /// No wider than so many megabits a second.
    #[must_use]
    pub const fn rate_mbps(self, mbps: u32) -> Self {
        Self { rate_bps: NonZeroU64::new(mbps as u64 * 1_000_000), ..self }
    }

    /// With so many bytes of queue before a way that has a rate.
    #[must_use]
    pub const fn queue_bytes(self, queue_bytes: u64) -> Self {
        Self { queue_bytes, ..self }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("a delay of less than centuries")
}
