//! How the task keeps guests that are bound to their region's lease within it: halted when its
//! end is near, ended when it is over, started again only under a new grant.
//!
//! This stands before the instance's own decision, whose memory it leaves alone: a guest that
//! was ended here is to the instance one that died, and is started again when it may.

use dwcp_types::{Power, VmId};
use dwcp_vm::migration::{Holding, Moving};
use dwcp_vm::{
    Action, Grant, Instruction, Leave, Monitor, Observation, Process, RunState,
};

use super::Task;
use crate::lease;

impl Task {
    /// A grant came.
    pub(super) fn grant(&mut self, grant: Grant) {
        if self.guard.take(grant) {
            self.mark_bound();
            self.watch_fence();
        }
    }

    /// Looks at every bound guest whose leave has changed.
    pub(super) fn mark_bound(&mut self) {
        let now = lease::now();
        let changed = self.entries.iter().filter(|(vm, entry)| {
            let Some(instance) = &entry.instance else { return false };
            let instruction = &instance.record().instruction;
            let leave = self.guard.leave(vm, instruction.epoch, now);
            instruction.guest.lease_bound
                && entry.held_back.unwrap_or(Leave::Run) != leave
        });
        let changed: Vec<VmId> = changed.map(|(vm, _)| vm.clone()).collect();
        for vm in changed {
            self.mark(&vm);
        }
    }

    /// Notes when to look next if no grant comes.
    pub(super) fn watch_fence(&mut self) {
        let now = lease::now();
        let next = self.guard.changes_at(now);
        self.fence_at = next.map(|at| self.clock.now().plus(at.saturating_sub(now)));
    }

    /// Whether a guest's instruction lets its CPUs run on this host now.
    pub(super) fn may_run(&self, vm: &VmId, instruction: &Instruction) -> bool {
        let bound = instruction.guest.lease_bound;
        let leave = || self.guard.leave(vm, instruction.epoch, lease::now());
        !bound || leave() == Leave::Run
    }

    /// What is to be done about a bound guest instead of what its instance would decide;
    /// nothing when it may run, or is not bound.
    pub(super) fn fenced(&mut self, vm: &VmId, seen: &Observation) -> Option<Action> {
        let entry = self.entries.get_mut(vm)?;
        let instruction = &entry.instance.as_ref()?.record().instruction;
        if !instruction.guest.lease_bound || instruction.power == Power::Deleted {
            entry.held_back = None;
            return None;
        }
        let now = lease::now();
        let leave = match entry.moving.as_ref().and_then(Moving::holding) {
            None => self.guard.leave(vm, instruction.epoch, now),
            // Its CPUs are halted, and the move starts them only under a grant: it waits for
            // one that names it, or for the end of the whole lease.
            Some(Holding::Leaving) if self.guard.is_over(now) => Leave::End,
            Some(Holding::NotYet | Holding::Leaving) => return None,
        };
        let stopped = instruction.power == Power::Stopped;
        let action = match (leave, seen.process) {
            (Leave::Run, _) => None,
            (Leave::End, Process::Alive(_)) => Some(Action::Kill { clean: false }),
            (Leave::Halt, Process::Alive(Monitor::Says(RunState::Running))) => {
                Some(Action::Pause)
            }
            (Leave::Halt, Process::Alive(Monitor::Detached)) => Some(Action::Adopt),
            (Leave::Halt | Leave::End, Process::Gone) if stopped => None,
            (Leave::Halt | Leave::End, _) => Some(Action::Nothing),
        };
        let held = action.is_some().then_some(leave);
        if entry.held_back != held {
            entry.held_back = held;
            let what = match held {
                None => "its region holds its lease",
                Some(Leave::Halt) => "halted: its region's lease is not renewed",
                Some(_) => "not running: its region's lease is over",
            };
            let now = self.clock.now();
            entry.note(now, what.to_owned());
        }
        action
    }
}
