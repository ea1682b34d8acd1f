//! A guest that moves from one host to another while it runs: what each side does next, and
//! whether it can be done at all (C20, C21, F14, F15).
//!
//! ```text
//!   source (epoch E)                     region                     target
//!                                        reserve ─────────────────▶ Preparing: disk, process
//!   Mirroring ◀───────────────────────── move ◀──────────────────── Started: listens
//!     │ the disks are equal
//!   Sending ─────── memory, and the pages that change meanwhile ──▶
//!     │ halted, the disks are equal
//!   Promised ──────────────────────────▶ THE COMMIT POINT: owner := target, epoch E+1,
//!     │ mirror ended, the rest goes    │ one compare-and-set
//!     │                                └─────────────── E+1 ─────▶ committed
//!     ╰───────────────────────────────────────────────────────────▶ and whole: Arrived, the
//!   deleted under E+1 ◀───────────────── it has arrived             CPUs run
//! ```
//!
//! The invariant, checked over every order of events in `tests.rs`: at any moment at most one
//! side can let the guest run, and in the end exactly one does.
//!
//! * Before its promise the source may give up by itself: it runs on, the target is dropped.
//! * A promise is on disk before it is told. From then on the source stays halted until the
//!   region says which way it went; an instruction of its own epoch waits until then. The rest
//!   is sent while the region decides, and so nobody waits for both.
//! * The target's CPUs are never started by the stream's end but by its own agent, after it
//!   holds an instruction of the new epoch and has put on disk that the guest arrived. So "it
//!   never ran here" can be known, and only then does the region give the epoch back.
//! * Ownership that comes back is an instruction with an epoch above E at the source.
//! * A source that is surely gone for good takes the rest of the memory with it. The target that
//!   owns the VM by then has its whole disk, because a source promises only when both are equal:
//!   it is told that the source is lost, and starts the guest anew.
//!
//! Both sides are level-triggered like [`crate::Instance`]: they look at what the processes
//! say, so an agent that was killed goes on or undoes from what it sees and the little it
//! wrote. Rejected: QEMU's post-copy (the guest is lost when the source dies), and letting
//! QEMU start the target by itself (10 ms sooner, and nobody could say later whether it ran).

mod order;
mod pace;
mod predict;
mod source;
mod target;

pub use order::{Holding, MoveOrder, Moving, Refused, Taken, admit, take};
pub use predict::{
    Forecast, LINK_PERCENT, ROUNDS_MAX, Reason, SWITCH_MS, SWITCH_TRIPS, Wish, forecast,
};
pub use source::{Outgoing, STALL, Source, SourceStep};
pub use target::{Incoming, Machine, Target, TargetStep};

use dwcp_types::Timestamp;
use serde::{Deserialize, Serialize};

/// How far a stream of memory is, as QMP's `query-migrate` spells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamStatus {
    /// There was none.
    #[default]
    None,
    /// It is being made.
    Setup,
    /// Memory flows.
    Active,
    /// The source is halted, and has yet to send the last pages.
    PreSwitchover,
    /// The last state flows.
    Device,
    /// All was sent, or all was loaded.
    Completed,
    /// It broke.
    Failed,
    /// It is being cancelled.
    Cancelling,
    /// It was cancelled.
    Cancelled,
    /// Any other, never guessed.
    #[serde(other)]
    Other,
}

impl StreamStatus {
    /// Whether all of the guest is still on its way, or there: what must be so of one that is
    /// promised.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        matches!(
            self,
            Self::Active | Self::PreSwitchover | Self::Device | Self::Completed
        )
    }

    /// Whether it surely ended without the guest.
    #[must_use]
    pub const fn is_broken(self) -> bool {
        matches!(self, Self::Failed | Self::Cancelling | Self::Cancelled)
    }

    /// Whether there is something to cancel.
    #[must_use]
    pub const fn is_under_way(self) -> bool {
        matches!(
            self,
            Self::Setup
                | Self::Active
                | Self::PreSwitchover
                | Self::Device
                | Self::Cancelling
        )
    }
}

/// A stream of memory; sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// How far it is.
    pub status: StreamStatus,
    /// Sent so far.
    pub transferred: u64,
    /// Left to send, as far as is known now.
    pub remaining: u64,
    /// The guest's memory.
    pub total: u64,
    /// Why it broke.
    pub error: Option<String>,
}

/// The copy of a disk; sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// It was whole once, and each write has gone to both sides since.
    pub ready: bool,
    /// No write to the copy has failed.
    pub sound: bool,
    /// Copied.
    pub copied: u64,
    /// To copy in all; rises with what the guest writes.
    pub total: u64,
}

impl Mirror {
    /// Whether both disks hold the same at this moment.
    #[must_use]
    pub const fn is_equal(&self) -> bool {
        self.ready && self.sound && self.copied >= self.total
    }
}

/// Where a target waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// For the disk (NBD).
    pub disk: u16,
    /// For the memory.
    pub memory: u16,
}

/// What is seen of a move beside the guest's process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Its memory.
    pub stream: Stream,
    /// Its disk, at the source.
    pub mirror: Option<Mirror>,
    /// Where the target waits.
    pub ports: Option<Ports>,
}

impl Traffic {
    /// Of a monitor that did not answer: nothing is said of anything.
    #[must_use]
    pub fn unknown() -> Self {
        let stream = Stream { status: StreamStatus::Other, ..Stream::default() };
        Self { stream, ..Self::default() }
    }
}

/// The single next thing to do about a guest that moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveAction {
    /// Nothing until the deadline or a new observation.
    Nothing,
    /// Connect to the monitor of the process that is there.
    Adopt,
    /// Start the guest with halted CPUs, for a cold move.
    StartHalted,
    /// Copy the disk to the target, and from then on each write.
    Mirror,
    /// Send the memory; halt before the last pages.
    Send,
    /// End the mirror with both disks equal.
    EndMirror,
    /// Send the last pages.
    Continue,
    /// Cancel stream and mirror and forget the target.
    Undo,
    /// Make the disk that is to be filled.
    CreateDisk,
    /// Start the process that waits for the guest, with halted CPUs.
    StartWaiting,
    /// Open the doors for disk and memory.
    Listen,
    /// Close them.
    Settle,
    /// Let the CPUs run.
    Cont,
    /// Halt them.
    Pause,
    /// End the process.
    Kill,
    /// Have the process write what it holds of the disk, and end.
    Quit,
    /// Remove disk and folder.
    DeleteDisk,
}

/// What is to be done now about a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveDecision {
    /// The action.
    pub action: MoveAction,
    /// When to look again if nothing is observed before.
    pub deadline: Option<Timestamp>,
    /// The step changed: write it before the action.
    pub persist: bool,
    /// Nothing of the move is left on this host but, at a source that gave up, the reason: the
    /// guest is decided about as any other again.
    pub over: bool,
}

impl MoveDecision {
    const fn act(action: MoveAction) -> Self {
        Self { action, deadline: None, persist: false, over: false }
    }

    /// The move lets go of the guest.
    const fn over() -> Self {
        Self { over: true, ..Self::act(MoveAction::Nothing) }
    }

    const fn persisted(self) -> Self {
        Self { persist: true, ..self }
    }
}

#[cfg(test)]
mod tests;
