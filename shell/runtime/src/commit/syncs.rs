//! Whether a sync of a database has failed.
//!
//! A database syncs its file in many places: when it commits, but also when the file grows while
//! changes are staged, when it is opened, and when it is closed. An error that comes up does not
//! say whether a sync or a write has failed, and only after the latter may the process go on. So
//! every sync is watched where it is made, and whoever sees an error asks here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Fault;

/// Remembers, for all who share it, that a sync has failed.
#[derive(Clone, Debug, Default)]
pub struct Syncs {
    failed: Arc<AtomicBool>,
}

impl Syncs {
    /// Notes that a sync has failed. There is no way back.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// Whether one has.
    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// What a failure means, given what became of the syncs so far.
    pub(crate) fn sort(&self, fault: Fault) -> Fault {
        if self.failed() { Fault::Unsynced(fault.to_string()) } else { fault }
    }
}
