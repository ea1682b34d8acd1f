//! What a host is told about a move, and what it takes (F4).
//!
//! Orders are levels: giving one twice is giving it once. That a move is off is told by the
//! region; that the target owns the VM, and that ownership came back to the source, is told by an
//! ordinary [`Instruction`] of a later epoch.

use dwcp_types::{Epoch, MigrationId, Power};
use serde::{Deserialize, Serialize};

use super::{Incoming, Outgoing, Source, SourceStep, Target, TargetStep};
use crate::{Instruction, Record};

/// What a host is told about a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveOrder {
    /// Send the guest.
    Out(Box<Outgoing>),
    /// Receive it.
    In(Box<Incoming>),
    /// It is off: run on at the source, leave nothing at the target.
    Abandon(MigrationId),
    /// The source surely runs nothing any more and will send nothing: the target, which owns the
    /// VM, starts it anew from its disk.
    SourceLost(MigrationId),
}

/// A move as a host keeps it on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kept {
    /// The guest leaves.
    Out(Outgoing, SourceStep),
    /// The guest comes.
    In(Incoming, TargetStep),
}

/// A move on one host.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub enum Moving {
    /// The guest leaves.
    Out(Source),
    /// The guest comes.
    In(Target),
}

impl From<Kept> for Moving {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Out(order, step) => Self::Out(Source::restore(order, step)),
            Kept::In(order, step) => Self::In(Target::restore(order, step)),
        }
    }
}

impl From<Moving> for Kept {
    fn from(moving: Moving) -> Self {
        match moving {
            Moving::Out(source) => {
                Self::Out(source.order().clone(), source.step().clone())
            }
            Moving::In(target) => Self::In(target.order().clone(), target.step()),
        }
    }
}

/// What a move says of whether a guest's CPUs can run on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// They never ran here, and do not before the target has arrived.
    NotYet,
    /// They are halted, and what is left of the guest's memory is being sent, was sent, or has
    /// come back. Whose the guest is may have changed already, so that its
    /// region's grant does not name it: only the end of the whole lease ends it.
    Leaving,
}

impl Moving {
    /// Nothing when the move leaves the CPUs to the record.
    #[must_use]
    pub fn holding(&self) -> Option<Holding> {
        match self {
            Self::In(target) => {
                (target.step() != TargetStep::Arrived).then_some(Holding::NotYet)
            }
            Self::Out(source) => {
                let halted =
                    source.is_bound() || *source.step() == SourceStep::TakingBack;
                halted.then_some(Holding::Leaving)
            }
        }
    }
}

impl PartialEq for Moving {
    /// What is on disk decides.
    fn eq(&self, other: &Self) -> bool {
        Kept::from(self.clone()) == Kept::from(other.clone())
    }
}

impl Eq for Moving {}

impl Moving {
    /// Which move.
    #[must_use]
    pub const fn id(&self) -> &MigrationId {
        match self {
            Self::Out(source) => &source.order().id,
            Self::In(target) => &target.order().id,
        }
    }

    /// Whether it holds the guest: nothing else is decided about it then.
    #[must_use]
    pub fn holds(&self) -> bool {
        match self {
            Self::Out(source) => !source.is_over(),
            Self::In(_) => true,
        }
    }
}

/// Why an order, or an instruction while a guest moves, was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// This host does not own the VM under that epoch.
    #[error("the VM is not this host's under epoch {epoch}")]
    NotOwner {
        /// The epoch.
        epoch: Epoch,
    },
    /// The VM is here already.
    #[error("the VM is on this host already")]
    Present,
    /// Its power is not what the move is for.
    #[error(
        "the VM is wanted {power:?}: a live move needs it running or paused, a cold one stopped"
    )]
    Power {
        /// What is wanted.
        power: Power,
    },
    /// Another move of it is under way here.
    #[error("move {id} of this VM is under way on this host")]
    Busy {
        /// Which.
        id: MigrationId,
    },
    /// There is no such move here, or it is of another content.
    #[error("there is no move {id} of this VM on this host")]
    Unknown {
        /// Which.
        id: MigrationId,
    },
    /// The target owns it already.
    #[error("move {id} is committed and cannot be abandoned")]
    Committed {
        /// Which.
        id: MigrationId,
    },
    /// The move would bring an epoch that is over.
    #[error("epoch {asked} is over: the host obeys epoch {epoch}")]
    OlderEpoch {
        /// The move's.
        asked: Epoch,
        /// The epoch in force.
        epoch: Epoch,
    },
}

/// How an order was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// In force already.
    Same,
    /// In force from now on; nothing is left of the move when there is none.
    New(Option<Box<Moving>>),
}

fn new(moving: Moving) -> Taken {
    Taken::New(Some(Box::new(moving)))
}

/// Judges an order by what the host holds of the VM, without taking it.
///
/// # Errors
///
/// The reason, when it contradicts what is in force.
pub fn take(
    record: Option<&Record>,
    moving: Option<&Moving>,
    order: &MoveOrder,
) -> Result<Taken, Refused> {
    match order {
        MoveOrder::Out(order) => take_out(record, moving, order),
        MoveOrder::In(order) => take_in(record, moving, order),
        MoveOrder::Abandon(id) => abandon(record, moving, id),
        MoveOrder::SourceLost(id) => lose_source(record, moving, id),
    }
}

fn take_out(
    record: Option<&Record>,
    moving: Option<&Moving>,
    order: &Outgoing,
) -> Result<Taken, Refused> {
    if let Some(moving) = moving {
        if matches!(moving, Moving::Out(source) if source.order() == order) {
            return Ok(Taken::Same);
        }
        if moving.holds() || moving.id() == &order.id {
            return Err(Refused::Busy { id: moving.id().clone() });
        }
    }
    let not_owner = || Refused::NotOwner { epoch: order.epoch };
    let record = record.filter(|record| !record.buried).ok_or_else(not_owner)?;
    if record.instruction.epoch != order.epoch {
        return Err(not_owner());
    }
    let power = record.instruction.power;
    let fits = match power {
        Power::Running | Power::Paused => !order.cold,
        Power::Stopped => order.cold,
        Power::Deleted => false,
    };
    if !fits {
        return Err(Refused::Power { power });
    }
    Ok(new(Moving::Out(Source::new(order.clone()))))
}

fn take_in(
    record: Option<&Record>,
    moving: Option<&Moving>,
    order: &Incoming,
) -> Result<Taken, Refused> {
    if let Some(moving) = moving {
        return match moving {
            Moving::In(target) if target.order() == order => Ok(Taken::Same),
            Moving::In(_) | Moving::Out(_) => {
                Err(Refused::Busy { id: moving.id().clone() })
            }
        };
    }
    let Some(record) = record else {
        return Ok(new(Moving::In(Target::new(order.clone()))));
    };
    if !record.buried {
        return Err(Refused::Present);
    }
    let epoch = record.instruction.epoch;
    if epoch >= order.epoch {
        return Err(Refused::OlderEpoch { asked: order.epoch, epoch });
    }
    Ok(new(Moving::In(Target::new(order.clone()))))
}

fn abandon(
    record: Option<&Record>,
    moving: Option<&Moving>,
    id: &MigrationId,
) -> Result<Taken, Refused> {
    // What is not here, or was cleaned up long ago, is abandoned.
    let Some(moving) = moving.filter(|moving| moving.id() == id) else {
        return Ok(Taken::Same);
    };
    let committed = || Refused::Committed { id: id.clone() };
    match moving {
        Moving::Out(source) if source.is_over() => Ok(Taken::New(None)),
        Moving::Out(source) => match source.step() {
            SourceStep::Mirroring | SourceStep::Sending | SourceStep::Promised => {
                let mut source = source.clone();
                let reason = "abandoned by its region".to_owned();
                source.go(SourceStep::Abandoned { reason });
                Ok(new(Moving::Out(source)))
            }
            SourceStep::Abandoned { .. } => Ok(Taken::Same),
            SourceStep::TakingBack => Err(committed()),
        },
        Moving::In(target) if is_committed(record, target) => Err(committed()),
        Moving::In(target) if target.step() == TargetStep::Dropped => Ok(Taken::Same),
        Moving::In(target) => {
            let mut target = target.clone();
            target.drop_it();
            Ok(new(Moving::In(target)))
        }
    }
}

fn lose_source(
    record: Option<&Record>,
    moving: Option<&Moving>,
    id: &MigrationId,
) -> Result<Taken, Refused> {
    // What came and is over is not waited for any more.
    let Some(moving) = moving.filter(|moving| moving.id() == id) else {
        return Ok(Taken::Same);
    };
    let Moving::In(target) = moving else {
        return Err(Refused::Unknown { id: id.clone() });
    };
    if !is_committed(record, target) {
        return Err(Refused::NotOwner { epoch: target.order().epoch });
    }
    match target.step() {
        TargetStep::Started => {
            let mut target = target.clone();
            target.lose_source();
            Ok(new(Moving::In(target)))
        }
        TargetStep::Arrived | TargetStep::SourceLost => Ok(Taken::Same),
        // Nothing was promised to it, so its disk is not known to be whole.
        TargetStep::Preparing | TargetStep::Dropped => {
            Err(Refused::Unknown { id: id.clone() })
        }
    }
}

/// Whether the host holds an instruction under which the VM is the target's.
pub(super) fn is_committed(record: Option<&Record>, target: &Target) -> bool {
    record.is_some_and(|record| record.instruction.epoch >= target.order().epoch)
}

/// Says what an instruction that is about to be taken does to a move.
///
/// # Errors
///
/// When the guest is promised, so that its own epoch's wishes wait; or it comes under a later
/// epoch.
pub fn admit(
    moving: Option<&Moving>,
    instruction: &Instruction,
) -> Result<Option<Moving>, Refused> {
    let Some(moving) = moving else { return Ok(None) };
    let deleted = instruction.power == Power::Deleted;
    match moving {
        Moving::Out(source) => {
            if instruction.epoch <= source.order().epoch {
                if source.is_bound() {
                    return Err(Refused::Busy { id: moving.id().clone() });
                }
                let mut source = source.clone();
                source.abandon("its owner wanted something else of it meanwhile");
                return Ok(Some(Moving::Out(source)));
            }
            if deleted || source.is_over() {
                return Ok(None);
            }
            let mut source = source.clone();
            source.go(SourceStep::TakingBack);
            Ok(Some(Moving::Out(source)))
        }
        Moving::In(target) => {
            let (asked, epoch) = (instruction.epoch, target.order().epoch);
            if asked < epoch {
                return Err(Refused::OlderEpoch { asked, epoch });
            }
            if deleted {
                return Ok(None);
            }
            let mut target = target.clone();
            if asked > epoch && target.step() != TargetStep::Arrived {
                // Others owned the VM since: what was coming is history, and what came of the
                // disk too. The guest is made anew.
                target.drop_it();
            }
            Ok(Some(Moving::In(target)))
        }
    }
}
