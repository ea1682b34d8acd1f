//! How an instruction is taken: judged, written, and only then in force and acknowledged.
//!
//! Of one VM one instruction is written at a time; later ones wait in line, and are judged
//! when it is their turn, by what is in force then.

use std::net::Ipv4Addr;

use dwcp_types::{Power, VmId};
use dwcp_vm::{Accepted, GuestName, Instance};

use super::{ENTRIES_MAX, Outcome, PUTS_MAX, Task};
use crate::entry::Put;
use crate::handle::{PutError, PutReply, Taken};
use crate::hypervisor::Prefix;
use crate::store::StoreError;

impl Task {
    pub(super) fn put(&mut self, vm: &VmId, put: Put) {
        if !self.entries.contains_key(vm) && self.entries.len() >= ENTRIES_MAX {
            return put.answer(Err(PutError::Busy { what: "too many VMs on this host" }));
        }
        let entry = self.entries.entry(vm.clone()).or_default();
        if !entry.saving {
            return self.begin(vm, put);
        }
        if entry.puts.len() >= PUTS_MAX {
            let what = "too many instructions for this VM at once";
            return put.answer(Err(PutError::Busy { what }));
        }
        entry.puts.push_back(put);
    }

    fn begin(&mut self, vm: &VmId, put: Put) {
        let Some(entry) = self.entries.get(vm) else { return };
        let mut next = match &entry.instance {
            Some(instance) => instance.clone(),
            None => Instance::new(put.instruction.clone()),
        };
        let accepted = match entry.instance {
            Some(_) => next.accept(put.instruction.clone()),
            None => Ok(Accepted::New),
        };
        match accepted {
            Err(refused) => return self.answered(vm, put, Err(refused.into())),
            Ok(Accepted::Same) => {
                return self.answered(vm, put, Ok(Taken { repeated: true }));
            }
            Ok(Accepted::New) => {}
        }
        let address = self.address(vm, &put);
        let write = self.write(self.stored(vm, next.record().clone(), address));
        if let Some(entry) = self.entries.get_mut(vm) {
            entry.saving = true;
            // Kept from now on, so that no other VM is given it meanwhile.
            entry.address = address;
        }
        let vm = vm.clone();
        self.work.push(Box::pin(async move {
            let result = write.await;
            Outcome::Kept { vm, put, address, result }
        }));
    }

    /// Answers without a change and goes on with the next that waits.
    fn answered(&mut self, vm: &VmId, put: Put, answer: PutReply) {
        put.answer(answer);
        self.next_put(vm);
    }

    pub(super) fn next_put(&mut self, vm: &VmId) {
        let Some(entry) = self.entries.get_mut(vm) else { return };
        if entry.saving {
            return;
        }
        if let Some(put) = entry.puts.pop_front() {
            self.begin(vm, put);
        } else if entry.instance.is_none() {
            // The first instruction was not kept: nothing is known of this VM.
            self.entries.remove(vm);
        }
    }

    fn address(&self, vm: &VmId, put: &Put) -> Option<Ipv4Addr> {
        let guest = &put.instruction.guest;
        let had = self.entries.get(vm).and_then(|entry| entry.address);
        let prefix: Prefix = self.facts.prefix?;
        if put.instruction.power == Power::Deleted {
            return had;
        }
        guest.address.or(had).or_else(|| {
            let taken = self.entries.values().filter_map(|entry| entry.address).collect();
            prefix.choose(GuestName::of(vm).seed(), &taken)
        })
    }

    pub(super) fn kept(
        &mut self,
        vm: &VmId,
        put: Put,
        address: Option<Ipv4Addr>,
        result: Result<(), StoreError>,
    ) {
        let now = self.clock.now();
        let Some(entry) = self.entries.get_mut(vm) else { return };
        entry.saving = false;
        let answer = match result {
            Ok(()) => {
                if let Some(at) = entry.buried_at.take() {
                    self.graves.remove(&(at, vm.clone()));
                }
                entry.address = address;
                entry.unsaved = false;
                let told = accepted_text(&put);
                match &mut entry.instance {
                    Some(instance) => instance
                        .accept(put.instruction.clone())
                        .map(drop)
                        .map_err(Into::into),
                    empty => {
                        *empty = Some(Instance::new(put.instruction.clone()));
                        Ok(())
                    }
                }
                .map(|()| {
                    entry.note(now, told);
                    Taken { repeated: false }
                })
            }
            Err(error) if error.nothing_was_done() => {
                Err(PutError::NotKept { reason: error.to_string() })
            }
            Err(error) => Err(PutError::Unsure { reason: error.to_string() }),
        };
        put.answer(answer);
        self.tell(vm);
        self.mark(vm);
        self.next_put(vm);
    }
}

fn accepted_text(put: &Put) -> String {
    let instruction = &put.instruction;
    let wanted = match instruction.power {
        Power::Running => "running",
        Power::Paused => "paused",
        Power::Stopped => "stopped",
        Power::Deleted => "deleted",
    };
    let (epoch, generation) = (instruction.epoch, instruction.generation);
    format!("wanted {wanted} (epoch {epoch}, generation {generation})")
}
