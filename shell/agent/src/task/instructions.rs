//! How an instruction is taken: judged, written, and only then in force and acknowledged.
//!
//! Of one VM one instruction is written at a time; later ones wait in line, and are judged
//! when it is their turn, by what is in force then.

use std::net::Ipv4Addr;

use dwcp_types::{Power, VmId};
use dwcp_vm::migration::{self, MoveOrder, Moving};
use dwcp_vm::{Accepted, GuestName, Instance, Instruction};

use super::{ENTRIES_MAX, Outcome, PUTS_MAX, Task};
use crate::entry::{Entry, Put, Want};
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
        let next = match entry.after(&put.want) {
            Err(refused) => return self.answered(vm, put, Err(refused)),
            Ok(Some(next)) if self.is_bound_too_early(vm, entry, &next) => {
                let what = "it is bound to its region's lease when that is granted here";
                return self.answered(vm, put, Err(PutError::Busy { what }));
            }
            Ok(Some(_)) if put.want.takes_disk_away() && entry.is_being_copied() => {
                let what = "its disk is copied to another region, and leaves when that has ended";
                return self.answered(vm, put, Err(PutError::Busy { what }));
            }
            Ok(None) => return self.answered(vm, put, Ok(Taken { repeated: true })),
            Ok(Some(next)) => next,
        };
        let address = self.address(vm, &put);
        let (instance, moving) = (next.instance.as_ref(), next.moving.as_ref());
        let write = self.write(self.stored(vm, instance, moving, address));
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

    /// Whether a guest that runs unbound would be bound without a grant that names it: it would
    /// end at once.
    fn is_bound_too_early(&self, vm: &VmId, entry: &Entry, next: &Next) -> bool {
        let of = |instance: &Option<Instance>| {
            instance.as_ref().map(|it| it.record().instruction.clone())
        };
        let (Some(now), Some(next)) = (of(&entry.instance), of(&next.instance)) else {
            return false;
        };
        let same = (now.epoch, now.generation) == (next.epoch, next.generation);
        same && !now.guest.lease_bound && !self.may_run(vm, &next)
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
        } else if entry.instance.is_none() && entry.moving.is_none() {
            // The first instruction was not kept, or what was to come was dropped: nothing is
            // known of this VM.
            self.entries.remove(vm);
        }
    }

    fn address(&self, vm: &VmId, put: &Put) -> Option<Ipv4Addr> {
        let had = self.entries.get(vm).and_then(|entry| entry.address);
        let instruction = match &put.want {
            Want::Instruction(instruction) => instruction,
            // A guest that comes keeps the address that it has.
            Want::Move(MoveOrder::In(order)) => return order.guest.address,
            Want::Move(_) => return had,
        };
        let prefix: Prefix = self.facts.prefix?;
        if instruction.power == Power::Deleted {
            return had;
        }
        instruction.guest.address.or(had).or_else(|| {
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
                // As it was judged: nothing was decided meanwhile.
                entry.after(&put.want).map(|next| {
                    if let Some(Next { instance, moving }) = next {
                        (entry.instance, entry.moving) = (instance, moving);
                    }
                    entry.note(now, accepted_text(&put.want));
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

/// What is in force once a wish is on disk.
struct Next {
    instance: Option<Instance>,
    moving: Option<Moving>,
}

impl Entry {
    /// What a wish would make of it; nothing when it is in force already.
    fn after(&self, want: &Want) -> Result<Option<Next>, PutError> {
        match want {
            Want::Instruction(instruction) => self.after_instruction(instruction),
            Want::Move(order) => {
                let record = self.instance.as_ref().map(Instance::record);
                match migration::take(record, self.moving.as_ref(), order)? {
                    migration::Taken::Same => Ok(None),
                    migration::Taken::New(moving) => {
                        let moving = moving.map(|moving| *moving);
                        Ok(Some(Next { instance: self.instance.clone(), moving }))
                    }
                }
            }
        }
    }

    fn after_instruction(
        &self,
        instruction: &Instruction,
    ) -> Result<Option<Next>, PutError> {
        let instance = match &self.instance {
            None => Instance::new(instruction.clone()),
            Some(instance) => {
                let mut next = instance.clone();
                match next.accept(instruction.clone())? {
                    Accepted::Same => return Ok(None),
                    Accepted::Rebound if self.is_moving() => {
                        let what = "it moves, and is bound or let loose after that";
                        return Err(PutError::Busy { what });
                    }
                    Accepted::Rebound => {
                        let moving = self.moving.clone();
                        return Ok(Some(Next { instance: Some(next), moving }));
                    }
                    Accepted::New => next,
                }
            }
        };
        let moving = migration::admit(self.moving.as_ref(), instruction)?;
        Ok(Some(Next { instance: Some(instance), moving }))
    }
}

fn accepted_text(want: &Want) -> String {
    let instruction = match want {
        Want::Instruction(instruction) => instruction,
        Want::Move(order) => return move_text(order),
    };
    let wanted = match instruction.power {
        Power::Running => "running",
        Power::Paused => "paused",
        Power::Stopped => "stopped",
        Power::Deleted => "deleted",
    };
    let (epoch, generation) = (instruction.epoch, instruction.generation);
    let bound = if instruction.guest.lease_bound { ", bound to the lease" } else { "" };
    format!("wanted {wanted} (epoch {epoch}, generation {generation}{bound})")
}

fn move_text(order: &MoveOrder) -> String {
    match order {
        MoveOrder::Out(order) => format!("leaves for {} (move {})", order.name, order.id),
        MoveOrder::In(order) => format!("comes from {} (move {})", order.from, order.id),
        MoveOrder::Abandon(id) => format!("stays (move {id} is off)"),
        MoveOrder::SourceLost(id) => {
            format!("starts anew from its disk: the source is lost (move {id})")
        }
    }
}
