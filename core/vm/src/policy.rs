//! The spans that decisions about a VM are taken with.

use std::time::Duration;

/// How patient a host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a guest may take to shut down after the power button before it is killed.
    pub grace: Duration,
    /// How often the button is pressed while waiting: a guest that is still booting misses
    /// the first one.
    pub press_again: Duration,
    /// The first wait before a guest that died, or an action that failed, is tried again;
    /// doubled each time.
    pub backoff_min: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
    /// A guest that ran this long is not counted as failing any more.
    pub stable_after: Duration,
    /// An action that succeeded and changed nothing visible is not repeated sooner.
    pub repeat_after: Duration,
}

impl Default for Policy {
    /// Grace: Linux with systemd stops within 30 s unless a service hangs. Press again: the
    /// rehearsal guest needs 2 s to load its button driver. Backoff: 1 s doubled to 1 min,
    /// so a guest that can never start costs at most one boot a minute (2 CPU-seconds under
    /// emulation). Stable: twice the longest backoff would hide a guest that dies each
    /// minute, so it is the same minute.
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
            press_again: Duration::from_secs(3),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_mins(1),
            stable_after: Duration::from_mins(1),
            repeat_after: Duration::from_secs(1),
        }
    }
}

impl Policy {
    /// The wait after this many failures in a row.
    #[must_use]
    pub fn backoff(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.backoff_min.saturating_mul(1 << doublings).min(self.backoff_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_and_stops_at_the_longest() {
        let policy = Policy::default();
        let waits: Vec<u64> =
            [1, 2, 3, 6, 7, u32::MAX].map(|n| policy.backoff(n).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 32, 60, 60]);
    }
}
