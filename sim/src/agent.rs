//! A host: its agent, which may crash, and its guests, which live on.
//!
//! The agent stores an instruction before it acts on it, refuses an older one, and after a
//! crash brings its guests in line with what it stored. The tombstone of a deleted VM stays,
//! so that an instruction that was held up cannot bring it back.

use std::collections::BTreeMap;

use dwcp_controller::ledger::HostReport;
use dwcp_controller::ownership::Instruction;
use dwcp_types::{Epoch, Generation, Power, VmId, VmShape};

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
}

impl Agent {
    /// Whether it takes the instruction.
    pub(crate) fn accepts(&self, it: &Instruction) -> bool {
        let version = |it: &Instruction| (it.epoch, it.generation);
        it.host == self.report.id
            && (self.forgets_order
                || self.held.get(&it.vm).is_none_or(|held| version(held) <= version(it)))
    }

    /// Brings every guest in line with what is stored.
    pub(crate) fn align(&mut self) {
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
            guest.alive = it.power != Power::Stopped;
            guest.paused = it.power == Power::Paused;
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
