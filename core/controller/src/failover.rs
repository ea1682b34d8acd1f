//! What becomes of a dead region's VMs (C17, D6, F1: recover, never live-migrate from what is
//! dead), and the log by which any region's daemon goes on with it.
//!
//! ```text
//!   begin: log absent + lease as watched ─▶ log, lease fenced       (one transaction)
//!   waiting: only when a living lease was fenced by an operator: until it has surely lapsed
//!   recovering: per VM reserve at its target, own at a later epoch (compares the fence)
//!   verifying: until each runs, or its time is over
//!   done: the log moves to the history; the fence stays until the region takes its lease
//! ```
//!
//! The log says how far the whole is and who carries it out; how far each VM is stands in its
//! own record, so a step that was done twice is seen as done. Whoever sees a log stand still
//! for [`EXECUTOR_SILENT_AFTER`] takes it over.
//!
//! Where two persons must agree, an operator's failover is a request first, which another one
//! approves: see [`Request`].

mod approval;
mod log;
mod plan;

pub use approval::{
    Approval, Approver, NotWaived, REQUESTS_MAX, REQUESTS_PREFIX, REQUESTS_TURN_KEY,
    Request, judge_approval, needs_approval, request_key,
};
pub use log::{
    ACTIVE_KEY, EXECUTOR_SILENT_AFTER, Ended, HISTORY_PREFIX, Log, Outcome, Phase,
    Points, Trigger, history_key,
};
pub(crate) use plan::by_urgency;
pub use plan::{Leave, Move, Plan, StaysDown, Unrecovered, plan};

#[cfg(test)]
mod tests;
