//! What a mesh knows of each of its peers, in numbers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_types::RegionId;
use tokio::time::Instant;

use super::outbox::Waiting;
use super::{Carrier, LinkError, Reason};

/// Round trips that percentiles are taken of: two minutes at one each half second.
const RTT_SAMPLES: usize = 256;

/// What is known of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStats {
    /// Which.
    pub peer: RegionId,
    /// By what it is connected; `None` when it is down.
    pub carrier: Option<Carrier>,
    /// Median of the last round trips to it.
    pub rtt_p50: Option<Duration>,
    /// 95th percentile of the last round trips to it.
    pub rtt_p95: Option<Duration>,
    /// 99th percentile of the last round trips to it.
    pub rtt_p99: Option<Duration>,
    /// How long ago the newest of them was measured.
    pub rtt_age: Option<Duration>,
    /// What was sent.
    pub sent: Traffic,
    /// What was received.
    pub received: Traffic,
    /// Frames that wait to be sent.
    pub queued_frames: usize,
    /// Bytes that wait to be sent.
    pub queued_bytes: usize,
    /// For how long the oldest has waited.
    pub queue_age: Duration,
    /// How often it was connected.
    pub connections: u64,
    /// How often a connection was refused, at either end, by reason.
    pub refusals: BTreeMap<Reason, u64>,
    /// Why there was no connection, the last time there was none.
    pub last_error: Option<LinkError>,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub raw_bytes: u64,
    /// Bytes of the stream, after compression and with the blocks' headers, before encryption.
    pub wire_bytes: u64,
}

/// What went one way, counted by whoever moves it.
#[derive(Debug, Default)]
pub(super) struct Count {
    frames: AtomicU64,
    raw_bytes: AtomicU64,
    wire_bytes: AtomicU64,
}

impl Count {
    pub(super) fn frames(&self, frames: usize, raw_bytes: usize) {
        self.frames.fetch_add(whole(frames), Ordering::Relaxed);
        self.raw_bytes.fetch_add(whole(raw_bytes), Ordering::Relaxed);
    }

    pub(super) fn wire(&self, bytes: u64) {
        self.wire_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn read(&self) -> Traffic {
        Traffic {
            frames: self.frames.load(Ordering::Relaxed),
            raw_bytes: self.raw_bytes.load(Ordering::Relaxed),
            wire_bytes: self.wire_bytes.load(Ordering::Relaxed),
        }
    }
}

/// The gauges of one peer.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) sent: Count,
    pub(super) received: Count,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    carrier: Option<Carrier>,
    connections: u64,
    refusals: BTreeMap<Reason, u64>,
    last_error: Option<LinkError>,
    /// The failure that was last told since the last connection.
    told: Option<LinkError>,
    rtts: VecDeque<Duration>,
    /// When the newest of them was measured.
    sampled: Option<Instant>,
    /// The ping that was not answered yet.
    ping: Option<(u32, Instant)>,
    pings: u32,
}

impl Gauges {
    pub(super) fn up(&self, carrier: Carrier) {
        let mut state = self.lock();
        state.carrier = Some(carrier);
        state.connections += 1;
        state.ping = None;
        state.told = None;
    }

    /// Why there is no connection; says whether that is news since the last one.
    pub(super) fn failed(&self, error: &LinkError) -> bool {
        let mut state = self.lock();
        if let Some(reason) = error.refusal() {
            *state.refusals.entry(reason).or_default() += 1;
        }
        state.last_error = Some(error.clone());
        let before = state.told.replace(error.clone());
        !before.is_some_and(|before| same_kind(&before, error))
    }

    pub(super) fn down(&self) {
        self.lock().carrier = None;
    }

    /// The number of a ping that goes out now.
    pub(super) fn ping(&self) -> u32 {
        let mut state = self.lock();
        state.pings = state.pings.wrapping_add(1);
        let number = state.pings;
        state.ping = Some((number, Instant::now()));
        number
    }

    pub(super) fn pong(&self, number: u32) {
        let mut state = self.lock();
        if let Some((sent, since)) = state.ping
            && sent == number
        {
            state.ping = None;
            state.sample(since.elapsed());
        }
    }

    pub(super) fn rtt(&self, rtt: Duration) {
        self.lock().sample(rtt);
    }

    pub(super) fn read(&self, peer: RegionId, waiting: Waiting) -> PeerStats {
        let state = self.lock();
        let mut rtts: Vec<Duration> = state.rtts.iter().copied().collect();
        rtts.sort_unstable();
        PeerStats {
            peer,
            carrier: state.carrier,
            rtt_p50: percentile(&rtts, 50),
            rtt_p95: percentile(&rtts, 95),
            rtt_p99: percentile(&rtts, 99),
            rtt_age: state.sampled.map(|at| at.elapsed()),
            sent: self.sent.read(),
            received: self.received.read(),
            queued_frames: waiting.frames,
            queued_bytes: waiting.len,
            queue_age: waiting.age,
            connections: state.connections,
            refusals: state.refusals.clone(),
            last_error: state.last_error.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn sample(&mut self, rtt: Duration) {
        if self.rtts.len() == RTT_SAMPLES {
            self.rtts.pop_front();
        }
        self.rtts.push_back(rtt);
        self.sampled = Some(Instant::now());
    }
}

/// Refusals from those who are no peer, or do not get as far as to say who they are.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    refusals: Mutex<BTreeMap<Reason, u64>>,
}

impl Strangers {
    /// Counts one; says whether to log it: the first and then ever fewer of each reason, since
    /// anybody can cause them.
    pub(super) fn count(&self, reason: Reason) -> bool {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let count = refusals.entry(reason).or_default();
        *count += 1;
        count.is_power_of_two()
    }

    pub(super) fn read(&self) -> BTreeMap<Reason, u64> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The same failure in other words is no news.
fn same_kind(one: &LinkError, other: &LinkError) -> bool {
    match (one, other) {
        (
            LinkError::Closed { by: one, reason: first, .. },
            LinkError::Closed { by: other, reason: second, .. },
        ) => one == other && first == second,
        _ => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

/// Of sorted values.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let at = sorted.len().checked_sub(1)? * percent / 100;
    sorted.get(at).copied()
}

fn whole(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
