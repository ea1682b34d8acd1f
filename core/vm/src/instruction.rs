//! What the owner of a VM wants of it, and which instruction is taken (F4).
//!
//! The pair (epoch, generation) orders all instructions of one VM; a receiver never goes
//! back. An equal pair must carry equal content: two different instructions under one pair
//! mean two owners, and the second one is refused. A VM that was deleted under an epoch stays
//! deleted under it: only a later owner may make it again.
//!
//! Whether a guest is bound to its region's lease is no wish of its owner's: its region decides
//! it anew when it begins or ceases to keep a lease, and changes nothing else by it.

use std::net::Ipv4Addr;

use dwcp_types::{CopyId, Epoch, Generation, Power, VmShape};
use serde::{Deserialize, Serialize};

/// What a guest is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSpec {
    /// The size that was asked for; the host's scale says what the guest gets.
    pub shape: VmShape,
    /// The image's name in the host's image folder; the folder itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Its address; one of the host's prefix when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// It runs only while its region holds its lease ([`crate::Guard`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lease_bound: bool,
    /// It runs only as the copy of its disk allows ([`crate::decide_copy`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copied: bool,
    /// Its disk is this copy, which the host has kept; made anew when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_from: Option<CopyId>,
}

/// What its owner wants of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// Which owner says so.
    pub epoch: Epoch,
    /// How often that owner changed its mind.
    pub generation: Generation,
    /// What is wanted.
    pub power: Power,
    /// Of which guest.
    pub guest: GuestSpec,
}

impl Instruction {
    /// Whether it says the same but for whether the guest is bound to its region's lease.
    fn is_but_for_the_binding(&self, other: &Self) -> bool {
        let lease_bound = self.guest.lease_bound;
        let guest = GuestSpec { lease_bound, ..other.guest.clone() };
        *self == Self { guest, ..other.clone() }
    }
}

/// What a host keeps on disk about a VM. It is written before anything is done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The latest instruction that was accepted.
    pub instruction: Instruction,
    /// The guest shut itself down under this instruction, so it is not started again.
    #[serde(default)]
    pub halted: bool,
    /// The host pressed the power button, or an earlier instruction was in force when the
    /// guest shut down: a shutdown that is seen now is not the guest's own wish.
    #[serde(default)]
    pub shutdown_expected: bool,
    /// The VM is deleted; the record is its tombstone.
    #[serde(default)]
    pub buried: bool,
}

impl Record {
    /// The record of a VM that nothing was done about yet.
    #[must_use]
    pub const fn new(instruction: Instruction) -> Self {
        Self { instruction, halted: false, shutdown_expected: false, buried: false }
    }

    /// Says whether the host takes this instruction, without taking it.
    ///
    /// # Errors
    ///
    /// The reason, when it is older than the one in force or clashes with it.
    pub fn judge(&self, next: &Instruction) -> Result<Accepted, Refused> {
        let now = &self.instruction;
        let (epoch, generation) = (now.epoch, now.generation);
        if next.epoch < epoch {
            return Err(Refused::OlderEpoch { asked: next.epoch, epoch, generation });
        }
        if next.epoch > epoch {
            return Ok(Accepted::New);
        }
        if next.generation < generation {
            let asked = next.generation;
            return Err(Refused::OlderGeneration { asked, epoch, generation });
        }
        if next.generation == generation {
            return if next == now {
                Ok(Accepted::Same)
            } else if !now.is_but_for_the_binding(next) {
                Err(Refused::Different { epoch, generation })
            } else if now.power == Power::Deleted {
                Ok(Accepted::Same) // nothing is left that could be bound
            } else {
                Ok(Accepted::Rebound)
            };
        }
        if now.power == Power::Deleted && next.power != Power::Deleted {
            return Err(Refused::Deleted { epoch, generation });
        }
        Ok(Accepted::New)
    }
}

/// How an instruction was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It replaces the one before.
    New,
    /// It says the same as the one in force, but for whether the guest is bound to its region's
    /// lease.
    Rebound,
    /// It is in force already.
    Same,
}

/// Why an instruction was not taken; each names the epoch and generation in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A later owner has spoken.
    #[error(
        "epoch {asked} is over: the host obeys epoch {epoch} (generation {generation})"
    )]
    OlderEpoch {
        /// The epoch of the refused instruction.
        asked: Epoch,
        /// The epoch in force.
        epoch: Epoch,
        /// The generation in force.
        generation: Generation,
    },
    /// The same owner has changed its mind since.
    #[error(
        "generation {asked} of epoch {epoch} is over: the host obeys generation {generation}"
    )]
    OlderGeneration {
        /// The generation of the refused instruction.
        asked: Generation,
        /// The epoch in force.
        epoch: Epoch,
        /// The generation in force.
        generation: Generation,
    },
    /// Two contents under one number.
    #[error(
        "epoch {epoch}, generation {generation} is in force with another content; raise the generation"
    )]
    Different {
        /// The epoch in force.
        epoch: Epoch,
        /// The generation in force.
        generation: Generation,
    },
    /// The VM was deleted under this epoch.
    #[error(
        "the VM is deleted under epoch {epoch} (generation {generation}); only a later epoch may make it again"
    )]
    Deleted {
        /// The epoch in force.
        epoch: Epoch,
        /// The generation in force.
        generation: Generation,
    },
}

impl Refused {
    /// The epoch and generation in force.
    #[must_use]
    pub const fn in_force(&self) -> (Epoch, Generation) {
        match *self {
            Self::OlderEpoch { epoch, generation, .. }
            | Self::OlderGeneration { epoch, generation, .. }
            | Self::Different { epoch, generation }
            | Self::Deleted { epoch, generation } => (epoch, generation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn instruction(epoch: u64, generation: u64, power: Power) -> Instruction {
        Instruction {
            epoch: Epoch::new(epoch),
            generation: Generation::new(generation),
            power,
            guest: GuestSpec::default(),
        }
    }

    fn power() -> impl Strategy<Value = Power> {
        prop::sample::select(vec![
            Power::Running,
            Power::Paused,
            Power::Stopped,
            Power::Deleted,
        ])
    }

    prop_compose! {
        fn any_instruction()(epoch in 1..4u64, generation in 1..4u64, power in power())
            -> Instruction { instruction(epoch, generation, power) }
    }

    proptest! {
        /// The oracle is the order of pairs, written apart from the code.
        #[test]
        fn what_is_taken_never_goes_back(now in any_instruction(), next in any_instruction()) {
            let judged = Record::new(now.clone()).judge(&next);
            let (was, asks) =
                ((now.epoch, now.generation), (next.epoch, next.generation));
            let risen = now.power == Power::Deleted
                && next.power != Power::Deleted
                && now.epoch == next.epoch;
            let expected_ok = next == now || (asks > was && !risen);
            prop_assert_eq!(judged.is_ok(), expected_ok, "{:?}", judged);
            if let Ok(accepted) = judged {
                prop_assert_eq!(accepted == Accepted::Same, next == now);
            }
            if let Err(refused) = judged {
                prop_assert_eq!(refused.in_force(), was);
            }
        }
    }

    #[test]
    fn the_binding_alone_may_change_and_a_deleted_vm_has_none() {
        let bound = |lease_bound, power| Instruction {
            guest: GuestSpec { lease_bound, ..GuestSpec::default() },
            ..instruction(2, 5, power)
        };
        let record = Record::new(bound(false, Power::Running));
        assert_eq!(record.judge(&bound(true, Power::Running)), Ok(Accepted::Rebound));
        assert_eq!(record.judge(&bound(false, Power::Running)), Ok(Accepted::Same));
        let other = record.judge(&bound(true, Power::Stopped));
        assert!(matches!(other, Err(Refused::Different { .. })), "{other:?}");
        let record = Record::new(bound(true, Power::Running));
        assert_eq!(record.judge(&bound(false, Power::Running)), Ok(Accepted::Rebound));
        let record = Record::new(bound(false, Power::Deleted));
        assert_eq!(record.judge(&bound(true, Power::Deleted)), Ok(Accepted::Same));
    }

    #[test]
    fn a_refusal_names_what_is_in_force() {
        let record = Record::new(instruction(7, 3, Power::Running));
        let refused = record.judge(&instruction(6, 9, Power::Running)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "epoch 6 is over: the host obeys epoch 7 (generation 3)"
        );
    }

    #[test]
    fn a_deleted_vm_rises_only_under_a_later_epoch() {
        let record = Record::new(instruction(2, 5, Power::Deleted));
        let same_owner = instruction(2, 6, Power::Running);
        let later_owner = instruction(3, 1, Power::Running);
        assert!(matches!(record.judge(&same_owner), Err(Refused::Deleted { .. })));
        assert_eq!(record.judge(&later_owner), Ok(Accepted::New));
    }
}
