//! Whether a guest that is bound to its region's lease may run on this host now (F4, DESIGN 4).
//!
//! A grant says which guests may run, under which epochs, and names a moment of *this host's*
//! clock: the last one that the region knew before it asked for the renewal that the grant
//! rests on. The time is counted from that moment, never from when the grant arrived: a host
//! that was frozen finds old grants in its sockets when it wakes, and they are worth nothing.
//!
//! A guest that is not bound runs on whatever its region does (static stability).

use std::collections::BTreeMap;
use std::time::Duration;

use dwcp_types::{Epoch, VmId};
use serde::{Deserialize, Serialize};

/// What a region lets a host run, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The moment of the host's own clock that the time is counted from.
    pub from: Duration,
    /// How long after it guests are halted.
    pub pause_after: Duration,
    /// How long after it guests are ended.
    pub kill_after: Duration,
    /// The guests that may run, with the epochs of their owners.
    pub vms: BTreeMap<VmId, Epoch>,
}

/// What a guest may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leave {
    /// It may run.
    Run,
    /// It must be halted, and may go on when a new grant comes in time.
    Halt,
    /// It must have no process.
    End,
}

/// The grant that is in force on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    grant: Option<Grant>,
}

impl Guard {
    /// A grant came. An older one than the one in force, which was held up on its way, is
    /// passed over. Says whether it was taken.
    pub fn take(&mut self, grant: Grant) -> bool {
        let newer = self.grant.as_ref().is_none_or(|held| grant.from >= held.from);
        if newer {
            self.grant = Some(grant);
        }
        newer
    }

    /// The grant in force.
    #[must_use]
    pub const fn grant(&self) -> Option<&Grant> {
        self.grant.as_ref()
    }

    /// What a bound guest may do at a moment of the host's clock. Without any grant, and under
    /// another epoch than the granted one, it must not be.
    #[must_use]
    pub fn leave(&self, vm: &VmId, epoch: Epoch, now: Duration) -> Leave {
        let Some(grant) = &self.grant else { return Leave::End };
        if grant.vms.get(vm) != Some(&epoch) {
            return Leave::End;
        }
        let age = now.saturating_sub(grant.from);
        if age >= grant.kill_after {
            Leave::End
        } else if age >= grant.pause_after {
            Leave::Halt
        } else {
            Leave::Run
        }
    }

    /// Whether the time of the grant is over at a moment of the host's clock, whomever it names.
    #[must_use]
    pub fn is_over(&self, now: Duration) -> bool {
        let is_over = |it: &Grant| now.saturating_sub(it.from) >= it.kill_after;
        self.grant.as_ref().is_none_or(is_over)
    }

    /// When what bound guests may do changes next without a new grant.
    #[must_use]
    pub fn changes_at(&self, now: Duration) -> Option<Duration> {
        let grant = self.grant.as_ref()?;
        let moments = [grant.pause_after, grant.kill_after];
        let mut moments = moments.map(|after| grant.from.saturating_add(after));
        moments.sort_unstable();
        moments.into_iter().find(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vm() -> VmId {
        VmId::new("web").unwrap()
    }

    fn grant(from_ms: u64, epoch: u64) -> Grant {
        Grant {
            from: Duration::from_millis(from_ms),
            pause_after: Duration::from_secs(4),
            kill_after: Duration::from_secs(5),
            vms: BTreeMap::from([(vm(), Epoch::new(epoch))]),
        }
    }

    fn leave(guard: &Guard, epoch: u64, at_ms: u64) -> Leave {
        guard.leave(&vm(), Epoch::new(epoch), Duration::from_millis(at_ms))
    }

    #[test]
    fn a_guest_runs_halts_and_ends_by_the_clock_that_the_grant_names() {
        let mut guard = Guard::default();
        assert_eq!(leave(&guard, 1, 0), Leave::End, "never granted");
        assert!(guard.take(grant(1_000, 1)));
        assert_eq!(leave(&guard, 1, 4_999), Leave::Run);
        assert_eq!(leave(&guard, 1, 5_000), Leave::Halt);
        assert_eq!(leave(&guard, 1, 6_000), Leave::End);
        assert_eq!(leave(&guard, 2, 1_000), Leave::End, "another epoch");
    }

    /// The frozen agent: it wakes after a minute and reads a grant that was sent before.
    #[test]
    fn a_grant_that_is_read_late_is_worth_nothing() {
        let mut guard = Guard::default();
        guard.take(grant(1_000, 1));
        guard.take(grant(2_000, 1));
        assert_eq!(leave(&guard, 1, 62_000), Leave::End);
        assert!(!guard.take(grant(1_500, 1)), "older than the one in force");
    }

    proptest! {
        /// The oracle: the newest grant alone counts, and by its own numbers.
        #[test]
        fn the_newest_grant_counts(
            froms in prop::collection::vec((0..20_000_u64, 1..3_u64), 1..8),
            at in 0..40_000_u64,
        ) {
            let mut guard = Guard::default();
            for (from, epoch) in &froms {
                guard.take(grant(*from, *epoch));
            }
            let newest = froms.iter().map(|(from, _)| *from).max().unwrap();
            let epoch = froms.iter().rfind(|(from, _)| *from == newest).unwrap().1;
            let expected = match at.saturating_sub(newest) {
                0..4_000 => Leave::Run,
                4_000..5_000 => Leave::Halt,
                _ => Leave::End,
            };
            prop_assert_eq!(leave(&guard, epoch, at), expected);
            let now = Duration::from_millis(at);
            if let Some(next) = guard.changes_at(now) {
                let just_before = u64::try_from(next.as_millis()).unwrap() - 1;
                prop_assert_eq!(leave(&guard, epoch, just_before), expected);
                prop_assert_ne!(leave(&guard, epoch, just_before + 1), expected);
            } else {
                prop_assert_eq!(expected, Leave::End);
            }
        }
    }
}
