//! What waits to be sent to one peer: a queue with a bound in bytes, open while the peer is up.
//!
//! Nobody waits here: a full queue refuses, so that a peer that takes nothing delays no other.
//! When the connection goes, what waited goes with it; the sender's own log has it still.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::block::FRAMES_MAX;
use super::{FRAME_LEN_MAX, Reason};

/// What a frame costs besides its bytes, so that many empty ones fill a queue too.
const FRAME_COST: usize = 64;
/// A batch is full at this many bytes: repetitions enough to compress well, and no frame waits
/// long behind the others.
const BATCH_LEN: usize = 64 << 10;

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendRefused {
    /// Too much waits already; [`super::MeshHandle::room`] says when to try again.
    #[error("{queued_bytes} bytes wait for the peer already; wait for room")]
    Full {
        /// What waits.
        queued_bytes: usize,
    },
    /// There is no connection. An event says when there is.
    #[error("the peer is not connected")]
    Down,
    /// Larger than a frame may be.
    #[error("a frame has at most {FRAME_LEN_MAX} bytes, not {len}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The mesh has no such peer.
    #[error("the mesh has no such peer")]
    NoSuchPeer,
}

/// The queue of one peer.
#[derive(Debug)]
pub(super) struct Outbox {
    len_max: usize,
    state: Mutex<State>,
    work: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    frames: VecDeque<(Bytes, Instant)>,
    len: usize,
    pong: Option<u32>,
    farewell: Option<(Reason, String)>,
}

/// What is to be written next.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) frames: Vec<Bytes>,
    pub(super) pong: Option<u32>,
    /// The last words; nothing follows.
    pub(super) farewell: Option<(Reason, String)>,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) frames: usize,
    pub(super) len: usize,
    pub(super) age: Duration,
}

impl Outbox {
    pub(super) fn new(len_max: usize) -> Self {
        let state = Mutex::default();
        Self { len_max, state, work: Notify::new(), room: Notify::new() }
    }

    /// Begins with an empty queue.
    pub(super) fn open(&self) {
        *self.lock() = State { open: true, ..State::default() };
    }

    /// Takes no more and forgets what waits.
    pub(super) fn shut(&self) {
        let mut state = self.lock();
        state.open = false;
        state.frames = VecDeque::new();
        state.len = 0;
        drop(state);
        self.room.notify_waiters();
    }

    pub(super) fn push(&self, frame: Bytes) -> Result<(), SendRefused> {
        let len = frame.len();
        if len > FRAME_LEN_MAX {
            return Err(SendRefused::TooLong { len });
        }
        let now = Instant::now();
        let mut state = self.lock();
        if !state.open {
            return Err(SendRefused::Down);
        }
        // Where there is room any frame is taken, so that none is too large for ever.
        let full = state.len + len + FRAME_COST > self.len_max;
        if full && state.len > self.len_max / 2 {
            return Err(SendRefused::Full { queued_bytes: state.len });
        }
        state.len += len + FRAME_COST;
        state.frames.push_back((frame, now));
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Answers a ping with the next block. A newer ping replaces an older one.
    pub(super) fn pong(&self, number: u32) {
        self.lock().pong = Some(number);
        self.work.notify_one();
    }

    /// Says why before the connection ends; what waits is forgotten.
    pub(super) fn farewell(&self, reason: Reason, detail: &str) {
        self.shut();
        self.lock().farewell = Some((reason, detail.to_owned()));
        self.work.notify_one();
    }

    /// The next batch, as soon as there is anything. Can be cancelled without loss.
    pub(super) async fn next(&self) -> Work {
        loop {
            let work = self.take();
            if !work.frames.is_empty() || work.pong.is_some() || work.farewell.is_some() {
                return work;
            }
            self.work.notified().await;
        }
    }

    /// Completes when at most half of the queue is used, or the peer is down.
    pub(super) async fn room(&self) {
        loop {
            let notified = self.room.notified();
            tokio::pin!(notified);
            // From here on no notice is missed.
            notified.as_mut().enable();
            if self.has_room() {
                return;
            }
            notified.await;
        }
    }

    pub(super) fn waiting(&self) -> Waiting {
        let state = self.lock();
        let age = state.frames.front().map(|(_, since)| since.elapsed());
        let age = age.unwrap_or_default();
        Waiting { frames: state.frames.len(), len: state.len, age }
    }

    fn take(&self) -> Work {
        let mut state = self.lock();
        let pong = state.pong.take();
        let mut work = Work { pong, farewell: state.farewell.take(), frames: Vec::new() };
        let mut len = 0;
        while work.frames.len() < FRAMES_MAX {
            let Some((frame, _)) = state.frames.front() else { break };
            // A frame above the batch's size goes alone.
            if !work.frames.is_empty() && len + frame.len() > BATCH_LEN {
                break;
            }
            len += frame.len();
            let frame = state.frames.pop_front();
            work.frames.extend(frame.map(|(frame, _)| frame));
        }
        state.len = state.len.saturating_sub(len + work.frames.len() * FRAME_COST);
        drop(state);
        if !work.frames.is_empty() && self.has_room() {
            self.room.notify_waiters();
        }
        work
    }

    fn has_room(&self) -> bool {
        let state = self.lock();
        !state.open || state.len <= self.len_max / 2
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
