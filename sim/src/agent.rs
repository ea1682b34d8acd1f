//! A host: its agent, which may crash, and its guests, which live on.
//!
//! The agent stores an instruction before it acts on it, refuses an older one, and after a
//! crash brings its guests in line with what it stored. The tombstone of a deleted VM stays,
//! so that an instruction that was held up cannot bring it back.

use std::collections::BTreeMap;
use std::time::Duration;

use dwcp_controller::ledger::HostReport;
use dwcp_controller::ownership::Instruction;
use dwcp_types::{Epoch, Generation, Power, VmId, VmShape};
use dwcp_vm::{Guard, Leave};

use crate::message::SeenVm;

/// A guest as the hypervisor has it.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) epoch: Epoch,
    pub(crate) shape: VmShape,
    /// A process exists that may write to the VM's disk.
    pub(crate) alive: bool,
    pub(crate) paused: bool,
}

/// A host.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) region: usize,
    pub(crate) report: HostReport,
    /// What was stored last for each VM.
    pub(crate) held: BTreeMap<VmId, Instruction>,
    pub(crate) guests: BTreeMap<VmId, Guest>,
    pub(crate) forgets_order: bool,
    /// The grant that it, and its watchdog, go by; as a file it outlives both.
    pub(crate) guard: Guard,
    /// How often guests were ended because their lease was over.
    pub(crate) fenced: u64,
}

/// What a guest may do: one that is not bound to a lease may always run.
fn leave(guard: &Guard, it: &Instruction, mono: Duration) -> Leave {
    if it.lease_bound { guard.leave(&it.vm, it.epoch, mono) } else { Leave::Run }
}

impl Agent {
    /// Whether it takes the instruction.
    pub(crate) fn accepts(&self, it: &Instruction) -> bool {
        let version = |it: &Instruction| (it.epoch, it.generation);
        it.host == self.report.id
            && (self.forgets_order
                || self.held.get(&it.vm).is_none_or(|held| version(held) <= version(it)))
    }

    /// Brings every guest in line with what is stored, as far as its lease lets it, at a moment
    /// of its monotonic clock.
    pub(crate) fn align(&mut self, mono: Duration) {
        for it in self.held.values() {
            if it.power == Power::Deleted {
                self.guests.remove(&it.vm);
                continue;
            }
            let fresh =
                Guest { epoch: it.epoch, shape: it.shape, alive: false, paused: false };
            let guest = self.guests.entry(it.vm.clone()).or_insert_with(|| fresh.clone());
            if guest.epoch != it.epoch {
                *guest = fresh;
            }
            let leave = leave(&self.guard, it, mono);
            let alive = it.power != Power::Stopped && leave != Leave::End
                // One that is not there is not started for a moment.
                && (guest.alive || leave == Leave::Run);
            self.fenced += u64::from(guest.alive && leave == Leave::End);
            guest.alive = alive;
            guest.paused = it.power == Power::Paused || leave == Leave::Halt;
        }
    }

    /// What the watchdog does, a process of its own: it ends whatever must not be any more.
    pub(crate) fn bite(&mut self, mono: Duration) {
        for it in self.held.values() {
            let over = leave(&self.guard, it, mono) == Leave::End;
            if let Some(guest) = self.guests.get_mut(&it.vm).filter(|_| over) {
                self.fenced += u64::from(guest.alive);
                guest.alive = false;
            }
        }
    }

    pub(crate) fn seen(&self) -> Vec<SeenVm> {
        let seen = |it: &Instruction| SeenVm {
            vm: it.vm.clone(),
            version: (it.epoch, it.generation),
            gone: it.power == Power::Deleted && !self.guests.contains_key(&it.vm),
            stopped: self.guests.get(&it.vm).is_some_and(|guest| !guest.alive),
        };
        self.held.values().map(seen).collect()
    }

    /// The highest version that was stored for a VM.
    pub(crate) fn version(&self, vm: &VmId) -> Option<(Epoch, Generation)> {
        self.held.get(vm).map(|it| (it.epoch, it.generation))
    }
}
