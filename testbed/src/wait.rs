//! Waiting for what must come true.
//!
//! The bound only keeps a broken test from hanging; it asserts nothing about speed. What was
//! seen last is part of the failure.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

/// How long a condition may take before a test gives up: several times the longest wait that
/// the system has by design (a hold lapses after 30 s), on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until `look` gives `Ok`, and gives that. `Err` is what was seen instead.
///
/// # Panics
///
/// After [`PATIENCE`], with what was seen last.
pub async fn until<T, E: Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if Instant::now() > give_up => {
                panic!("waited {PATIENCE:?} until {what}; saw last: {seen:?}")
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
