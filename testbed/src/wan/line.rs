//! One direction between two regions: when a packet leaves it, or why it never does.
//!
//! A packet waits until those before it have been sent at the line's rate, then takes the
//! line's delay. Kept: packets leave in the order in which they came; the rate is never
//! exceeded; a cut loses what comes and what is under way; the same seed and the same packets
//! give the same losses, whatever the other lines carry.

use std::num::NonZeroU64;
use std::time::Duration;

use dwcp_sim::Rng;
use serde::{Deserialize, Serialize};

use super::shape::Shape;

const MILLION: u64 = 1_000_000;
/// Bytes under way on one line: 340 ms of 5 Gbit/s, more than TUN devices carry here. Keeps a
/// sender that never listens from filling the memory.
const FLIGHT_BYTES_MAX: u64 = 256 << 20;

/// Why a packet is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The line is cut, or was while the packet was under way.
    Cut,
    /// By chance, as the line's loss says.
    Chance,
    /// The queue before the line was full.
    Full,
}

/// What a line has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineReport {
    /// Packets that came.
    pub packets: u64,
    /// Bytes that came.
    pub bytes: u64,
    /// Packets lost to a cut.
    pub cut: u64,
    /// Packets lost by chance.
    pub chance: u64,
    /// Packets lost because the queue was full.
    pub full: u64,
}

/// One direction between two regions.
#[derive(Debug)]
pub(crate) struct Line {
    shape: Shape,
    is_cut: bool,
    /// How often it was cut: what entered before the last cut is lost.
    cuts: u64,
    /// When all that came has been sent at the line's rate.
    free_at: Duration,
    last_due: Duration,
    flight_bytes: u64,
    // Two streams of chance, so that switching jitter on does not change which packets are lost.
    losses: Rng,
    sway: Rng,
    report: LineReport,
}

/// A packet's place on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passage {
    /// When it leaves the line.
    pub(crate) due: Duration,
    pub(crate) bytes: u64,
    cuts: u64,
}

impl Line {
    pub(crate) const fn new(shape: Shape, seed: u64) -> Self {
        let mut seeds = Rng::new(seed);
        let (losses, sway) = (Rng::new(seeds.next()), Rng::new(seeds.next()));
        Self {
            shape,
            is_cut: false,
            cuts: 0,
            free_at: Duration::ZERO,
            last_due: Duration::ZERO,
            flight_bytes: 0,
            losses,
            sway,
            report: LineReport { packets: 0, bytes: 0, cut: 0, chance: 0, full: 0 },
        }
    }

    /// What comes from now on passes a line of this shape.
    pub(crate) const fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    /// Loses all that is under way and all that comes, until [`Self::heal`].
    pub(crate) const fn cut(&mut self) {
        self.is_cut = true;
        self.cuts += 1;
        // What waited is lost with the rest: after the cut the queue is empty.
        self.free_at = Duration::ZERO;
    }

    pub(crate) const fn heal(&mut self) {
        self.is_cut = false;
    }

    pub(crate) const fn report(&self) -> LineReport {
        self.report
    }

    /// A packet comes: when it will leave.
    pub(crate) fn enter(&mut self, now: Duration, bytes: u64) -> Result<Passage, Lost> {
        self.report.packets += 1;
        self.report.bytes += bytes;
        // Drawn for every packet, so that no fault changes which later packets are lost.
        let hit = self.losses.next() % MILLION < u64::from(self.shape.loss_ppm);
        let sway = self.sway.next();
        let sent = match self.send(now, bytes, hit) {
            Ok(sent) => sent,
            Err(lost) => return Err(self.lose(lost)),
        };
        let due = (sent + self.travel(sway)).max(self.last_due);
        self.last_due = due;
        self.flight_bytes += bytes;
        Ok(Passage { due, bytes, cuts: self.cuts })
    }

    /// A packet has reached the end: whether it arrives.
    pub(crate) fn leave(&mut self, passage: Passage) -> Result<(), Lost> {
        self.flight_bytes = self.flight_bytes.saturating_sub(passage.bytes);
        if passage.cuts == self.cuts { Ok(()) } else { Err(self.lose(Lost::Cut)) }
    }

    /// When the last bit of a packet is on the line.
    fn send(&mut self, now: Duration, bytes: u64, hit: bool) -> Result<Duration, Lost> {
        if self.is_cut {
            return Err(Lost::Cut);
        }
        if hit {
            return Err(Lost::Chance);
        }
        if self.flight_bytes + bytes > FLIGHT_BYTES_MAX {
            return Err(Lost::Full);
        }
        let Some(rate) = self.shape.rate_bps else { return Ok(now) };
        let waiting = bytes_in(self.free_at.saturating_sub(now), rate);
        if waiting > 0 && waiting + bytes > self.shape.queue_bytes {
            return Err(Lost::Full);
        }
        self.free_at = self.free_at.max(now) + time_of(bytes, rate);
        Ok(self.free_at)
    }

    /// The delay with its jitter.
    const fn travel(&self, sway: u64) -> Duration {
        let Shape { delay_us, jitter_us, .. } = self.shape;
        let delay = delay_us.saturating_mul(1_000);
        let jitter = jitter_us.saturating_mul(1_000);
        let sway = sway % jitter.saturating_mul(2).saturating_add(1);
        Duration::from_nanos(delay.saturating_add(sway).saturating_sub(jitter))
    }

    const fn lose(&mut self, lost: Lost) -> Lost {
        match lost {
            Lost::Cut => self.report.cut += 1,
            Lost::Chance => self.report.chance += 1,
            Lost::Full => self.report.full += 1,
        }
        lost
    }
}

/// How long so many bytes take; rounded up, so that rounding never exceeds the rate.
fn time_of(bytes: u64, rate: NonZeroU64) -> Duration {
    let nanos = (u128::from(bytes) * 8_000_000_000).div_ceil(u128::from(rate.get()));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How many bytes are sent in that time.
fn bytes_in(time: Duration, rate: NonZeroU64) -> u64 {
    let bits = time.as_nanos() * u128::from(rate.get()) / 1_000_000_000;
    u64::try_from(bits / 8).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
