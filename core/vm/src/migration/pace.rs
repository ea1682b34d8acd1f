//! How often the same is tried, and how often it is looked: for both sides of a move.

use std::time::Duration;

use dwcp_types::Timestamp;

use super::{MoveAction, MoveDecision};

/// How often progress is looked at, beside QEMU's own word: what is seen between is what the
/// region tells its user.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What was done shows within this time, or is tried again then.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The action that was decided last, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(Option<(MoveAction, Timestamp)>);

impl Pace {
    /// The decision, or a wait in place of an action that was just tried: never the same in a
    /// hot loop.
    pub(super) fn keep(
        &mut self,
        now: Timestamp,
        decision: MoveDecision,
    ) -> MoveDecision {
        let action = decision.action;
        if action == MoveAction::Nothing {
            return decision;
        }
        if let Some((last, at)) = self.0
            && last == action
            && now.since(at) < TRY_AGAIN_AFTER
        {
            let deadline = Some(at.plus(TRY_AGAIN_AFTER));
            return MoveDecision { action: MoveAction::Nothing, deadline, ..decision };
        }
        self.0 = Some((action, now));
        decision
    }
}

/// Nothing is to be done until it is looked again.
pub(super) fn wait(now: Timestamp) -> MoveDecision {
    let deadline = Some(now.plus(LOOK_EVERY));
    MoveDecision { deadline, ..MoveDecision::act(MoveAction::Nothing) }
}
