//! Guests whose disk is copied to another region: the copy is begun and ended as the region
//! says, and a guest is halted while its copy is relied on and does not follow.

use std::time::Duration;

use dwcp_api::host::CopyReport;
use dwcp_types::{Power, VmId};
use dwcp_vm::{
    Action, CopyAction, CopyDecision, CopyOrder, CopySight, Monitor, Process, RunState,
    decide_copy,
};

use super::{Deed, Task};
use crate::entry::{CopyState, Entry};
use crate::handle::CopyRefused;

/// How often a copy that is being made is looked at; its end tells of itself.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Pause before a copy that could not be begun or ended is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

impl Task {
    /// The region says what is to become of a VM's copy.
    pub(super) fn put_copy(
        &mut self,
        vm: &VmId,
        order: CopyOrder,
    ) -> Result<(), CopyRefused> {
        let entry = self.entries.get_mut(vm).filter(|entry| !entry.is_buried());
        let entry = entry.ok_or(CopyRefused::NoVm)?;
        let instance = entry.instance.as_ref().ok_or(CopyRefused::NoVm)?;
        let epoch = instance.record().instruction.epoch;
        if order.copy.epoch != epoch {
            return Err(CopyRefused::OtherEpoch { asked: order.copy, epoch });
        }
        match &entry.copy.order {
            Some(old) if !order.replaces(old) => {
                return Err(CopyRefused::Over { asked: order.copy, kept: old.copy });
            }
            Some(old) if *old == order => return Ok(()),
            Some(_) | None => {}
        }
        entry.copy.order = Some(order);
        entry.copy.retry_at = None;
        entry.copy.error = None;
        self.tell(vm);
        self.mark(vm);
        Ok(())
    }

    /// What a guest's copy asks to be done before anything that its instance would decide, and
    /// whether its CPUs must not run.
    pub(super) fn seen_copy(
        &mut self,
        vm: &VmId,
        sight: CopySight,
    ) -> (Option<Deed>, bool) {
        let now = self.clock.now();
        let Some(entry) = self.entries.get_mut(vm) else { return (None, false) };
        let CopySight { written: seen, since } = sight;
        (entry.copy.seen, entry.copy.since) = (seen, since);
        // Of one VM nothing is looked at while something is done.
        entry.copy.beginning = false;
        if !entry.is_copied() {
            entry.copy.held = false;
            let left =
                seen.is_some_and(|_| entry.copy.retry_at.is_none_or(|at| at <= now));
            return (left.then_some(Deed::Copy(CopyAction::End)), false);
        }
        let process = entry.sighting.observation.process;
        let CopyState { order, begun, .. } = &entry.copy;
        let decision = decide_copy(order.as_ref(), process, seen.as_ref(), *begun);
        let ordered = order.as_ref().map(|order| order.copy);
        let CopyDecision { action, hold } = decision;
        if entry.copy.held != hold {
            entry.copy.held = hold;
            let what = if hold {
                "not running: its replica is relied on and does not follow"
            } else {
                "its replica lets it run"
            };
            entry.note(now, what.to_owned());
        }
        let running = Process::Alive(Monitor::Says(RunState::Running));
        if hold && process == running {
            return (Some(Deed::Guest(Action::Pause)), hold);
        }
        let waits = entry.copy.retry_at.is_some_and(|at| at > now);
        if action == CopyAction::Nothing || waits {
            return (None, hold);
        }
        if action == CopyAction::Begin {
            // On disk before it is begun: it is never begun twice.
            entry.copy.begun = ordered;
            entry.copy.beginning = true;
            entry.unsaved = true;
        }
        (Some(Deed::Copy(action)), hold)
    }

    /// Takes note of what came of an action on a copy.
    pub(super) fn copy_done(&mut self, vm: &VmId, result: Result<(), String>) {
        let now = self.clock.now();
        let Some(entry) = self.entries.get_mut(vm) else { return };
        entry.copy.retry_at = result.is_err().then(|| now.plus(RETRY_AFTER));
        entry.copy.error = result.err();
        if let Some(at) = entry.copy.retry_at {
            self.timers.insert((at, vm.clone()));
        }
    }

    /// When a copy that is not whole yet is looked at again.
    pub(super) fn copy_look_at(&self, vm: &VmId) -> Option<dwcp_types::Timestamp> {
        let seen = self.entries.get(vm)?.copy.seen?;
        let open = !seen.mirror.is_equal();
        open.then(|| self.clock.now().plus(LOOK_EVERY))
    }
}

/// What a CPU start becomes while the guest's CPUs must not run.
pub(super) const fn without_cpus(action: Action) -> Action {
    match action {
        Action::Start { .. } => Action::Start { paused: true },
        Action::Cont => Action::Nothing,
        Action::Nothing
        | Action::CreateDisk
        | Action::Adopt
        | Action::Pause
        | Action::PowerDown
        | Action::Kill { .. }
        | Action::DeleteDisk
        | Action::Bury => action,
    }
}

impl Entry {
    /// Whether its disk is to be copied.
    pub(crate) fn is_copied(&self) -> bool {
        self.instance.as_ref().is_some_and(|instance| {
            let instruction = &instance.record().instruction;
            instruction.guest.copied && instruction.power != Power::Deleted
        })
    }

    /// Whether its disk is copied, or may be before its region was heard again: a disk has one
    /// mirror at a time.
    pub(super) fn is_being_copied(&self) -> bool {
        let CopyState { order, seen, beginning, .. } = &self.copy;
        let rests = order.as_ref().is_some_and(|it| !it.relied_on && it.to.is_none());
        (self.is_copied() && !rests) || seen.is_some() || *beginning
    }

    /// What is told about its copy.
    pub(crate) fn copy_report(&self) -> Option<CopyReport> {
        if !self.is_copied() && self.copy.seen.is_none() {
            return None;
        }
        let seen = self.copy.seen;
        let mirror = seen.map(|seen| seen.mirror).unwrap_or_default();
        Some(CopyReport {
            ordered: self.copy.order.as_ref().map(|order| order.copy),
            relied_on: self.copy.order.as_ref().is_some_and(|order| order.relied_on),
            written: seen.map(|seen| seen.copy),
            equal: mirror.is_equal(),
            as_of: seen.and_then(|seen| seen.round).map(|round| round.as_of),
            since: self.copy.since,
            lost: self.copy.is_lost(),
            done: mirror.copied,
            total: mirror.total,
            held: self.copy.held,
            error: self.copy.error.clone(),
        })
    }
}
