//! A guest whose disk is copied to another region while it runs: when it may run, and what is
//! to be done about the copy (D2, F2).
//!
//! ```text
//!   order                       the guest                    the copy
//!   none yet                    goes on, is not started       left as it is
//!   not relied on, no place     runs                          ended
//!   not relied on, a place      runs                          begun
//!   relied on                   runs while the copy follows   begun
//! ```
//!
//! The region's record says whether anybody would start the VM from the copy. While it does
//! (the copy is *relied on*), no write may be acknowledged that the copy does not have: the
//! hypervisor holds a write until both disks have it, and a guest without its copy is halted
//! until the record has taken it back and an order says so. So a guest whose process died is
//! started only after that.
//!
//! A copy that follows later is made in rounds, and holds nobody back. Each takes the disk as it
//! is at one moment, beside the guest, and then sends what it took:
//!
//! ```text
//!   order            seen                     the round
//!   a place          nothing yet              begun: the disk is taken
//!                    taken                    sent
//!                    sent                     waits until the region has it in its record
//!   the next round   anything                 ended, and forgotten but for what that adds to
//! ```

use dwcp_types::{CopyId, Round, Timestamp};
use serde::{Deserialize, Serialize};

use crate::migration::Mirror;
use crate::{Monitor, Process, RunState};

/// Where a copy is written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyPlace {
    /// The address at which its host waits.
    pub address: String,
    /// The port.
    pub port: u16,
    /// The name that the host's certificate must bear.
    pub name: String,
}

/// What the region says about the copy of a VM's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOrder {
    /// Which copy.
    pub copy: CopyId,
    /// The VM would be started from it: no write without it.
    pub relied_on: bool,
    /// Where it is written to; nowhere for now when absent.
    pub to: Option<CopyPlace>,
    /// It follows later, in this round; each write goes there before it is acknowledged when
    /// absent.
    pub round: Option<Round>,
}

impl CopyOrder {
    /// The round of which must be known what changed since.
    #[must_use]
    pub fn base(&self) -> Option<CopyId> {
        self.round.and_then(|round| round.base)
    }

    /// Whether this order may replace one that is in force. Copies never go back, and one that
    /// is relied on stays so: it is taken back by going on to the next one.
    #[must_use]
    pub fn replaces(&self, old: &Self) -> bool {
        let withdrawn = old.relied_on && !self.relied_on;
        self.copy > old.copy || (self.copy == old.copy && !withdrawn)
    }
}

/// What is seen of a copy at its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopySeen {
    /// Which one.
    pub copy: CopyId,
    /// How far it is; of a round *ready* says that all of it is there.
    pub mirror: Mirror,
    /// How far its round is; nothing of a copy that has each write.
    pub round: Option<RoundSeen>,
}

/// What is seen of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundSeen {
    /// The moment that it is the disk of, by the host's clock.
    pub as_of: Timestamp,
    /// The disk is taken, and nothing is being sent.
    pub waits: bool,
}

/// All that is seen of a VM's copies at their source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopySight {
    /// The copy that is written.
    pub written: Option<CopySeen>,
    /// The last earlier round of which is known what changed since.
    pub since: Option<CopyId>,
}

/// What to do about a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyAction {
    /// Nothing.
    Nothing,
    /// Begin to write it.
    Begin,
    /// Send what its round took.
    Send,
    /// End the one that is there; writes that wait for it wait no longer.
    End,
}

/// What is decided about a guest and its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyDecision {
    /// About the copy.
    pub action: CopyAction,
    /// The guest's CPUs must not run.
    pub hold: bool,
}

/// Decides. `process` is the guest's; nothing can be begun or ended without it. `begun` is the
/// last copy that was begun: each is begun once, because the second time its disk would not be
/// new.
#[must_use]
pub fn decide_copy(
    order: Option<&CopyOrder>,
    process: Process,
    seen: Option<&CopySeen>,
    begun: Option<CopyId>,
) -> CopyDecision {
    let runs = process == Process::Alive(Monitor::Says(RunState::Running));
    let Some(order) = order else {
        // After a restart of the agent: what ran may run on, nothing is started.
        return CopyDecision { action: CopyAction::Nothing, hold: !runs };
    };
    let follows = seen
        .is_some_and(|it| it.copy == order.copy && it.mirror.ready && it.mirror.sound);
    let hold = order.relied_on && !follows;
    let attached = matches!(process, Process::Alive(Monitor::Says(_)));
    let action = match (seen, &order.to) {
        _ if !attached => CopyAction::Nothing,
        (Some(seen), _) if seen.copy != order.copy => CopyAction::End,
        // It is not to be written any more, or cannot be: it is begun anew from the start, and
        // only when nobody relies on what it has.
        (Some(_), None) if !order.relied_on => CopyAction::End,
        (Some(seen), Some(_)) if !seen.mirror.sound && !order.relied_on => {
            CopyAction::End
        }
        (Some(CopySeen { round: Some(round), .. }), Some(_)) if round.waits => {
            CopyAction::Send
        }
        (None, Some(_)) if !order.relied_on && begun != Some(order.copy) => {
            CopyAction::Begin
        }
        (Some(_) | None, _) => CopyAction::Nothing,
    };
    CopyDecision { action, hold }
}

#[cfg(test)]
mod tests {
    use dwcp_types::Epoch;
    use proptest::prelude::*;

    use super::*;

    const RUNNING: Process = Process::Alive(Monitor::Says(RunState::Running));
    const LOADED: Process = Process::Alive(Monitor::Says(RunState::Prelaunch));

    fn copy(number: u32) -> CopyId {
        CopyId { epoch: Epoch::FIRST, number }
    }

    fn order(number: u32, relied_on: bool, placed: bool) -> CopyOrder {
        let place =
            CopyPlace { address: "192.0.2.1".into(), port: 9, name: "h.hv".into() };
        let to = placed.then_some(place);
        CopyOrder { copy: copy(number), relied_on, to, round: None }
    }

    fn seen(number: u32, ready: bool, sound: bool) -> CopySeen {
        let mirror = Mirror { ready, sound, copied: 1, total: 1 };
        CopySeen { copy: copy(number), mirror, round: None }
    }

    /// A round whose disk is taken.
    fn taken(number: u32, waits: bool, sent: bool) -> CopySeen {
        let as_of = Timestamp::from_millis(1);
        CopySeen { round: Some(RoundSeen { as_of, waits }), ..seen(number, sent, true) }
    }

    fn decided(
        order: Option<&CopyOrder>,
        process: Process,
        seen: Option<CopySeen>,
    ) -> (CopyAction, bool) {
        let CopyDecision { action, hold } =
            decide_copy(order, process, seen.as_ref(), None);
        (action, hold)
    }

    #[test]
    fn a_guest_starts_without_its_copy_as_long_as_nobody_relies_on_one() {
        let waits = order(1, false, false);
        assert_eq!(decided(Some(&waits), LOADED, None), (CopyAction::Nothing, false));
        let begins = order(1, false, true);
        assert_eq!(decided(Some(&begins), RUNNING, None), (CopyAction::Begin, false));
    }

    #[test]
    fn without_an_order_what_runs_goes_on_and_nothing_is_started() {
        assert_eq!(decided(None, RUNNING, None), (CopyAction::Nothing, false));
        assert_eq!(decided(None, LOADED, None), (CopyAction::Nothing, true));
        assert_eq!(decided(None, Process::Gone, None), (CopyAction::Nothing, true));
    }

    #[test]
    fn a_guest_whose_process_died_waits_until_its_copy_is_not_relied_on() {
        let relied = order(1, true, true);
        let follows = Some(seen(1, true, true));
        assert_eq!(
            decided(Some(&relied), RUNNING, follows),
            (CopyAction::Nothing, false)
        );
        // Begun again it would be written over what is relied on.
        assert_eq!(decided(Some(&relied), LOADED, None), (CopyAction::Nothing, true));
        assert_eq!(
            decided(Some(&relied), Process::Gone, None),
            (CopyAction::Nothing, true)
        );
        let next = order(2, false, true);
        assert_eq!(decided(Some(&next), LOADED, None), (CopyAction::Begin, false));
    }

    #[test]
    fn a_copy_is_begun_once() {
        let order = order(1, false, true);
        let decided = |begun| decide_copy(Some(&order), RUNNING, None, begun).action;
        assert_eq!(decided(None), CopyAction::Begin);
        assert_eq!(decided(Some(copy(1))), CopyAction::Nothing);
    }

    #[test]
    fn a_copy_that_failed_halts_the_guest_until_it_is_not_relied_on() {
        let failed = Some(seen(1, true, false));
        assert!(decided(Some(&order(1, true, true)), RUNNING, failed).1);
        let next = order(2, false, false);
        assert_eq!(decided(Some(&next), RUNNING, failed), (CopyAction::End, false));
        let again = order(1, false, true);
        assert_eq!(decided(Some(&again), RUNNING, failed), (CopyAction::End, false));
    }

    #[test]
    fn a_round_is_taken_sent_once_and_ended_when_the_next_is_ordered() {
        let round = Some(Round { base: Some(copy(1)) });
        let order = |number, placed| CopyOrder { round, ..order(number, false, placed) };
        let after = |number, placed, seen: Option<CopySeen>, begun: Option<u32>| {
            let begun = begun.map(copy);
            let order = order(number, placed);
            let decision = decide_copy(Some(&order), RUNNING, seen.as_ref(), begun);
            assert!(!decision.hold, "no round holds a guest back");
            decision.action
        };
        assert_eq!(after(2, false, None, None), CopyAction::Nothing, "it is not due");
        assert_eq!(after(2, true, None, Some(1)), CopyAction::Begin);
        assert_eq!(after(2, true, None, Some(2)), CopyAction::Nothing, "it is lost");
        let being_taken = Some(taken(2, false, false));
        assert_eq!(after(2, true, being_taken, Some(2)), CopyAction::Nothing);
        let waits = Some(taken(2, true, false));
        assert_eq!(after(2, true, waits, Some(2)), CopyAction::Send);
        let sent = Some(taken(2, false, true));
        assert_eq!(after(2, true, sent, Some(2)), CopyAction::Nothing);
        assert_eq!(after(3, false, sent, Some(2)), CopyAction::End);
        assert_eq!(after(2, false, being_taken, Some(2)), CopyAction::End, "it rests");
        let failed =
            Some(CopySeen { mirror: Mirror::default(), ..taken(2, true, false) });
        assert_eq!(after(2, true, failed, Some(2)), CopyAction::End);
    }

    fn any_process() -> impl Strategy<Value = Process> {
        prop::sample::select(vec![
            Process::Gone,
            Process::Alive(Monitor::Detached),
            Process::Alive(Monitor::Silent),
            RUNNING,
            LOADED,
            Process::Alive(Monitor::Says(RunState::Paused)),
        ])
    }

    prop_compose! {
        fn any_order()(number in 1..4_u32, relied in any::<bool>(), placed in any::<bool>())
            -> CopyOrder { order(number, relied, placed) }
    }

    prop_compose! {
        fn any_seen()(number in 1..4_u32, ready in any::<bool>(), sound in any::<bool>())
            -> CopySeen { seen(number, ready, sound) }
    }

    proptest! {
        /// What the replica promises, said apart from the code: while a copy is relied on, a
        /// guest runs only beside that very copy, whole and sound; and nothing that is written
        /// anew takes the place of what is relied on.
        #[test]
        fn nothing_is_written_without_a_copy_that_is_relied_on(
            order in any_order(),
            process in any_process(),
            seen in prop::option::of(any_seen()),
        ) {
            let CopyDecision { action, hold } =
                decide_copy(Some(&order), process, seen.as_ref(), None);
            if order.relied_on {
                let beside = seen.is_some_and(|it| {
                    it.copy == order.copy && it.mirror.ready && it.mirror.sound
                });
                prop_assert_eq!(hold, !beside);
                prop_assert_ne!(action, CopyAction::Begin);
            } else {
                prop_assert!(!hold);
            }
        }

        /// Orders only go forward, and none is taken back under its own name.
        #[test]
        fn an_order_never_goes_back(old in any_order(), new in any_order()) {
            if new.replaces(&old) {
                prop_assert!(new.copy >= old.copy);
                prop_assert!(new.copy > old.copy || new.relied_on || !old.relied_on);
            } else {
                prop_assert!(
                    new.copy < old.copy
                        || (new.copy == old.copy && old.relied_on && !new.relied_on)
                );
            }
        }
    }
}
