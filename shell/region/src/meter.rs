//! Counts requests to this daemon's own API, for `status` (O10): how many, how many failed
//! through our fault, how long they took. Means are weighted by requests, never averaged over
//! regions (F68), so what travels between regions are sums.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::middleware::{Next, from_fn};
use dwcp_api::peer::MeterReading;
use dwcp_api::waits;
use dwcp_monitor::digest::{Recorder, Sketch};
use dwcp_runtime::clock::Clock;

/// Length of the window that the rate is read from.
const WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Counts {
    total: MeterReading,
    window: u64,
    in_window: (u64, u64),
    /// Requests and errors as of the last digest, and latencies since.
    told: (u64, u64),
    since: Recorder,
}

/// What was counted between two digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// Requests answered.
    pub requests: u64,
    /// Those that failed through our fault.
    pub errors: u64,
    /// How long they took.
    pub latency: Sketch,
}

/// The counts since this daemon started.
#[derive(Debug, Default)]
pub struct Meter {
    counts: Mutex<Counts>,
}

impl Meter {
    /// Counts one request that ended at `now` (monotonic) after `took`.
    pub fn count(&self, now: Duration, took: Duration, failed: bool) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.roll(now);
        counts.in_window.0 += 1;
        counts.in_window.1 += u64::from(failed);
        counts.total.requests += 1;
        counts.total.errors += u64::from(failed);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counts.total.busy_us = counts.total.busy_us.saturating_add(took);
        counts.since.record(took);
    }

    /// What was counted since this was asked last, for a digest.
    pub fn since(&self) -> Since {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (requests, errors) = (counts.total.requests, counts.total.errors);
        let (told_requests, told_errors) =
            std::mem::replace(&mut counts.told, (requests, errors));
        Since {
            requests: requests - told_requests,
            errors: errors - told_errors,
            latency: counts.since.take(),
        }
    }

    /// The counts as of `now`.
    pub fn read(&self, now: Duration) -> MeterReading {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.roll(now);
        counts.total
    }
}

impl Counts {
    /// Closes the window when its time is over. A window in which nothing was asked counts as
    /// zero.
    fn roll(&mut self, now: Duration) {
        let window = now.as_secs() / WINDOW.as_secs();
        if window == self.window {
            return;
        }
        let just_before = window == self.window + 1;
        let (requests, errors) = if just_before { self.in_window } else { (0, 0) };
        self.total.requests_last_minute = requests;
        self.total.errors_last_minute = errors;
        self.window = window;
        self.in_window = (0, 0);
    }
}

/// Counts what a router answers of the operator's API, but who waits for news on purpose.
pub fn metered(router: Router, meter: Arc<Meter>, clock: Arc<dyn Clock>) -> Router {
    let count = move |request: Request, next: Next| {
        let (meter, clock) = (meter.clone(), clock.clone());
        async move {
            let counted = is_counted(request.uri());
            let began = clock.monotonic();
            let response = next.run(request).await;
            if counted {
                let now = clock.monotonic();
                let failed = response.status().is_server_error();
                meter.count(now, now.saturating_sub(began), failed);
            }
            response
        }
    };
    router.layer(from_fn(count))
}

/// Whether how long it takes says something of this daemon.
fn is_counted(uri: &Uri) -> bool {
    uri.path().starts_with("/v1/") && !waits(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_rate_is_that_of_the_last_whole_minute() {
        let meter = Meter::default();
        for second in 0..10 {
            meter.count(at(second), Duration::from_millis(2), second == 3);
        }
        assert_eq!(meter.read(at(59)).requests_last_minute, 0);
        let reading = meter.read(at(60));
        assert_eq!(reading.requests_last_minute, 10);
        assert_eq!((reading.requests, reading.errors, reading.busy_us), (10, 1, 20_000));
        assert_eq!(meter.read(at(180)).requests_last_minute, 0);
    }

    #[test]
    fn who_waits_for_news_is_not_slow() {
        let counted = |uri: &'static str| is_counted(&Uri::from_static(uri));
        assert!(counted("/v1/status") && counted("/v1/vms?limit=5&wait_ms=0"));
        assert!(!counted("/v1/state/changes?prefix=a&wait_ms=5000"));
        assert!(!counted("/peer/v1/report?wait_ms=0"));
    }

    #[test]
    fn what_goes_into_one_digest_is_not_in_the_next() {
        let meter = Meter::default();
        let mut sum = (0, 0, Sketch::default());
        for round in 0..5 {
            for request in 0..round {
                meter.count(at(round), Duration::from_millis(request), request == 1);
            }
            let since = meter.since();
            assert_eq!((since.requests, since.latency.count()), (round, round));
            sum = (sum.0 + since.requests, sum.1 + since.errors, sum.2);
            sum.2.merge(&since.latency);
        }
        let all = meter.read(at(9));
        assert_eq!((sum.0, sum.1, sum.2.count()), (all.requests, all.errors, 10));
        assert_eq!(all.errors, 3);
    }
}
