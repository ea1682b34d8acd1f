//! How often small frames go out: at once when none went lately, else together a moment later.
//!
//! A frame costs both ends far more than a mutation in it does. One write is sent when it is
//! durable; of many that follow each other, all that come within a moment share a frame.

use std::time::Duration;

/// Between two frames of a kind to the same peers: what a write may wait at most for others. A
/// fraction of the shortest way between regions.
const MOMENT: Duration = Duration::from_millis(2);

/// When the next frame may go out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    next: Duration,
    waiting: bool,
}

impl Pace {
    /// Whether what there is may go now. If not, [`Self::deadline`] says when.
    pub(crate) fn may_go(&mut self, now: Duration) -> bool {
        self.waiting = now < self.next;
        if !self.waiting {
            self.next = now.saturating_add(MOMENT);
        }
        !self.waiting
    }

    /// When something waits: from when it may go.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.waiting.then_some(self.next)
    }

    /// Whether something waits that may go now.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.waiting && self.next <= now
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, MOMENT, Pace};

    #[test]
    fn the_first_goes_at_once_and_those_within_a_moment_go_together() {
        let mut pace = Pace::default();
        let start = Duration::from_secs(7);
        assert!(pace.may_go(start));
        assert_eq!(pace.deadline(), None);
        let soon = start + MOMENT / 2;
        assert!(!pace.may_go(soon) && !pace.may_go(soon) && !pace.is_due(soon));
        assert_eq!(pace.deadline(), Some(start + MOMENT));
        assert!(pace.is_due(start + MOMENT) && pace.may_go(start + MOMENT));
        assert_eq!(pace.deadline(), None);
        assert!(pace.may_go(start + 3 * MOMENT));
    }
}
