//! Time as a port, so that everything above it can be tested without waiting.
//!
//! Two clocks, never mixed: `now` is for people and for records that outlive the process,
//! `monotonic` is for leases and deadlines. The monotonic clock goes on while the machine is
//! suspended (`CLOCK_BOOTTIME`): a host that slept must not wake up believing that its lease
//! still holds. `std::time::Instant` was rejected because it stops during suspension.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dwcp_types::Timestamp;
use futures_util::future::BoxFuture;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// Reads time and waits for it.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The wall clock. May jump; never decides who was first.
    fn now(&self) -> Timestamp;

    /// The wall clock in microseconds since 1970, as finely as it goes: for spans of traces.
    fn now_micros(&self) -> u64 {
        self.now().as_millis().saturating_mul(1_000)
    }

    /// Time since this clock was made. Never goes back, counts suspension.
    fn monotonic(&self) -> Duration;

    /// Completes once [`Clock::monotonic`] has reached `moment`.
    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's clocks: the only place in the system that reads them.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Duration,
}

impl SystemClock {
    /// A clock whose monotonic time starts at zero now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: boot_time() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let millis = wall_time().as_millis();
        Timestamp::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    fn now_micros(&self) -> u64 {
        u64::try_from(wall_time().as_micros()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        boot_time().saturating_sub(self.start)
    }

    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()> {
        let clock = *self;
        // The timer of tokio stops during suspension, hence the look at the clock after it.
        Box::pin(async move {
            loop {
                let left = moment.saturating_sub(clock.monotonic());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left).await;
            }
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the adapter of the Clock port")]
fn wall_time() -> Duration {
    // A wall clock before 1970 is a broken clock; zero shows it plainly.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn boot_time() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    wall: Mutex<Timestamp>,
    elapsed: watch::Sender<Duration>,
}

impl ManualClock {
    /// A clock that shows `now`, with no monotonic time passed.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { wall: Mutex::new(now), elapsed: watch::Sender::new(Duration::ZERO) }
    }

    /// Moves both clocks forward and wakes whoever waited for that.
    ///
    /// # Panics
    ///
    /// When a thread panicked while it held the clock.
    pub fn advance(&self, span: Duration) {
        let mut wall = self.wall.lock().expect("the clock is not poisoned");
        *wall = wall.plus(span);
        self.elapsed.send_modify(|elapsed| *elapsed = elapsed.saturating_add(span));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.wall.lock().expect("the clock is not poisoned")
    }

    fn monotonic(&self) -> Duration {
        *self.elapsed.borrow()
    }

    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()> {
        let mut elapsed = self.elapsed.subscribe();
        Box::pin(async move {
            if elapsed.wait_for(|elapsed| *elapsed >= moment).await.is_err() {
                // The clock is gone, so that moment never comes.
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn the_system_clock_never_goes_back() {
        let clock = SystemClock::new();
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
        assert!(clock.now() > Timestamp::from_millis(1_600_000_000_000));
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers_exactly_when_their_moment_comes() {
        let clock = ManualClock::new(Timestamp::from_millis(5));
        let mut sleep = clock.sleep_until(Duration::from_secs(2));
        clock.advance(Duration::from_secs(1));
        assert!((&mut sleep).now_or_never().is_none());
        clock.advance(Duration::from_secs(1));
        sleep.await;
        assert_eq!(clock.now(), Timestamp::from_millis(2_005));
    }

    #[tokio::test]
    async fn a_moment_that_has_passed_is_not_waited_for() {
        SystemClock::new().sleep_until(Duration::ZERO).await;
    }
}
