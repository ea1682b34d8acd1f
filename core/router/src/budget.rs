//! How many requests that may have been served may be sent again: a fifth of those of the last ten
//! seconds, and a few more.
//!
//! When a tenth of all requests fails, retries hide it; when all fail, each client's retries
//! would multiply the load of servers that already cannot bear it. A share of what was asked
//! bounds that to a fifth more, and the floor lets a quiet service retry at all (Finagle's
//! `RetryBudget`: 20 % of 10 s and 10 a second).

use std::time::Duration;

/// The share of requests that may be sent again, in percent.
pub const RETRY_PERCENT: u64 = 20;
/// Retries that are always allowed within a window: one a second.
pub const RETRIES_MIN: u64 = 10;
/// How far back requests and retries count, in seconds.
pub const WINDOW_S: u64 = 10;

/// A second of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Second {
    /// Which, since the clock began.
    at: u64,
    requests: u64,
    retries: u64,
}

/// Counts requests and retries. `now` is any clock that does not step back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryBudget {
    seconds: [Second; 10],
}

impl RetryBudget {
    /// A request came.
    pub fn asked(&mut self, now: Duration) {
        self.second(now).requests += 1;
    }

    /// Whether one more may be sent again, which then counts.
    pub fn try_retry(&mut self, now: Duration) -> bool {
        let from = now.as_secs().saturating_sub(WINDOW_S - 1);
        let recent = self.seconds.iter().filter(|second| second.at >= from);
        let (requests, retries) =
            recent.fold((0_u64, 0_u64), |(requests, retries), s| {
                (requests.saturating_add(s.requests), retries.saturating_add(s.retries))
            });
        let most = (requests.saturating_mul(RETRY_PERCENT) / 100).max(RETRIES_MIN);
        let may = retries < most;
        if may {
            self.second(now).retries += 1;
        }
        may
    }

    fn second(&mut self, now: Duration) -> &mut Second {
        let at = now.as_secs();
        let slot = usize::try_from(at % WINDOW_S).unwrap_or_default();
        let second = &mut self.seconds[slot];
        if second.at != at {
            *second = Second { at, ..Second::default() };
        }
        second
    }
}
