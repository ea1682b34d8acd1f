//! The agent's clock: wall-clock time at the start, moved on by the monotonic clock.
//!
//! So a correction of the system's time never moves a deadline, and tests that pause tokio's
//! time pause this too. The price: events are stamped with the drift since the start.

use std::time::{SystemTime, UNIX_EPOCH};

use dwcp_types::Timestamp;
use tokio::time::Instant;

/// Tells the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Timestamp,
    started: Instant,
}

impl Clock {
    /// Starts from the system's time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the agent's Clock port")]
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Self { base: Timestamp::from_millis(millis), started: Instant::now() }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.base.plus(self.started.elapsed())
    }

    /// The instant to sleep until.
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> Instant {
        self.started + at.since(self.base)
    }
}
