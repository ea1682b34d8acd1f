//! The newest of values that never change, without a lock as long as it is the same.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tokio::sync::watch;

/// One reader's.
#[derive(Clone, Debug)]
pub(crate) struct Newest<V> {
    newest: watch::Receiver<Arc<V>>,
    now: Arc<V>,
    request: u64,
}

impl<V> Newest<V> {
    pub(crate) fn new(mut newest: watch::Receiver<Arc<V>>) -> Self {
        let now = newest.borrow_and_update().clone();
        // Any number to begin with: shares are drawn from what follows.
        let request = RandomState::new().hash_one(0_u8);
        Self { newest, now, request }
    }

    /// The value, and a number that differs from the last.
    pub(crate) fn next(&mut self) -> (&Arc<V>, u64) {
        // When no more come, the last one counts.
        if self.newest.has_changed().unwrap_or(false) {
            self.now = self.newest.borrow_and_update().clone();
        }
        self.request = self.request.wrapping_add(1);
        (&self.now, self.request)
    }
}
