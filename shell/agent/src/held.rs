//! Why a guest that is bound to its region's lease does not run as its owner wants, and how that
//! is told: it is neither dead nor failed, and nothing is wrong with it.

use dwcp_types::VmPhase;
use dwcp_vm::Leave;

/// What holds it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// The end of the lease is near: its CPUs are halted.
    Halted,
    /// The lease is over, or was never granted here: it has no process.
    Ended,
    /// No watchdog would end it if the agent could not: it is not started.
    Unwatched,
}

impl Held {
    /// What it is held back by where it may not run; nothing where it may.
    pub(crate) const fn by(leave: Leave) -> Option<Self> {
        match leave {
            Leave::Run => None,
            Leave::Halt => Some(Self::Halted),
            Leave::End => Some(Self::Ended),
        }
    }

    /// What is noted when it begins.
    pub(crate) const fn note(self) -> &'static str {
        match self {
            Self::Halted => "halted: its region's lease is not renewed",
            Self::Ended => "fenced: its region does not hold its lease here",
            Self::Unwatched => "fenced: the watchdog of its host does not run",
        }
    }

    /// What is told for as long as it lasts.
    pub(crate) const fn error(self) -> &'static str {
        match self {
            Self::Halted | Self::Ended => {
                "its region does not hold its lease here, so it must not run; it goes on when \
                 the region is connected again"
            }
            Self::Unwatched => {
                "the watchdog of its host does not run, and a guest that is bound to its \
                 region's lease is not started without; see the log of the host's agent for why"
            }
        }
    }

    /// What is seen of it; one that is held back is never told as running.
    pub(crate) const fn phase(self) -> VmPhase {
        match self {
            Self::Halted => VmPhase::Paused,
            Self::Ended | Self::Unwatched => VmPhase::Fenced,
        }
    }
}
