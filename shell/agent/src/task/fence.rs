//! How the task keeps guests that are bound to their region's lease within it: halted when its
//! end is near, ended when it is over, started again only under a new grant, and only while the
//! watchdog runs, which ends them when this task cannot.
//!
//! This stands before the instance's own decision, and says to it when the guest was ended by
//! the lease: that is no death, and costs no pause when it may run again.

use dwcp_types::{Power, VmId};
use dwcp_vm::migration::{Holding, Moving};
use dwcp_vm::{
    Action, Grant, Instruction, Leave, Monitor, Observation, Process, RunState,
};

use super::Task;
use crate::held::Held;
use crate::lease;

impl Task {
    /// A grant came.
    pub(super) fn grant(&mut self, grant: Grant) {
        self.note_ends();
        if self.guard.take(grant) {
            self.mark_bound();
            self.watch_fence();
        }
    }

    /// Takes note of guests whose time was over before this task could look, because it was
    /// stopped: the watchdog has ended them, and under a new grant nothing would tell.
    fn note_ends(&mut self) {
        let (now, at) = (lease::now(), self.clock.now());
        for (vm, entry) in &mut self.entries {
            let Some(instance) = &entry.instance else { continue };
            let instruction = &instance.record().instruction;
            let ran = matches!(entry.sighting.observation.process, Process::Alive(_));
            let ends = || self.guard.leave(vm, instruction.epoch, now) == Leave::End;
            if instruction.guest.lease_bound && ran && !entry.is_moving() && ends() {
                entry.hold(at, Some(Held::Ended));
            }
        }
    }

    /// Looks at every bound guest whose leave has changed.
    pub(super) fn mark_bound(&mut self) {
        let now = lease::now();
        let changed = self.entries.iter().filter(|(vm, entry)| {
            let Some(instance) = &entry.instance else { return false };
            let instruction = &instance.record().instruction;
            let leave = self.guard.leave(vm, instruction.epoch, now);
            let held = entry.held.filter(|held| *held != Held::Unwatched);
            instruction.guest.lease_bound && held != Held::by(leave)
        });
        let changed: Vec<VmId> = changed.map(|(vm, _)| vm.clone()).collect();
        for vm in changed {
            self.mark(&vm);
        }
    }

    /// Looks at every guest that waits for the watchdog.
    pub(super) fn mark_unwatched(&mut self) {
        let waits =
            self.entries.iter().filter(|(_, it)| it.held == Some(Held::Unwatched));
        let waits: Vec<VmId> = waits.map(|(vm, _)| vm.clone()).collect();
        for vm in waits {
            self.mark(&vm);
        }
    }

    /// Whether a watchdog runs, where there is to be one.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.as_ref().is_none_or(|watched| *watched.borrow())
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
        let watched = self.is_watched();
        let entry = self.entries.get_mut(vm)?;
        let instruction = &entry.instance.as_ref()?.record().instruction;
        if !instruction.guest.lease_bound || instruction.power == Power::Deleted {
            entry.held = None;
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
        let off = entry.instance.as_ref().is_some_and(|it| it.record().halted);
        let stopped = instruction.power == Power::Stopped || off;
        // A move of a guest that is gone already ends by itself, whoever owns the VM by now.
        let leaves =
            matches!(&entry.moving, Some(moving @ Moving::Out(_)) if moving.holds());
        let action = match (leave, seen.process) {
            (Leave::Run, Process::Gone) if !watched && !stopped => Some(Action::Nothing),
            (Leave::Run, _) => None,
            (Leave::End, Process::Alive(_)) => Some(Action::Kill { clean: false }),
            (Leave::Halt, Process::Alive(Monitor::Says(RunState::Running))) => {
                Some(Action::Pause)
            }
            (Leave::Halt, Process::Alive(Monitor::Detached)) => Some(Action::Adopt),
            (Leave::Halt | Leave::End, Process::Gone) if stopped || leaves => None,
            (Leave::Halt | Leave::End, _) => Some(Action::Nothing),
        };
        let held = action.map(|_| Held::by(leave).unwrap_or(Held::Unwatched));
        if [entry.held, held].contains(&Some(Held::Ended))
            && seen.process == Process::Gone
            && let Some(instance) = &mut entry.instance
        {
            instance.fenced();
        }
        entry.hold(self.clock.now(), held);
        action
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use dwcp_api::host::HostFacts;
    use dwcp_types::{Capacity, Epoch, Generation, HostId, RegionId, Timestamp, ZoneId};
    use dwcp_vm::{Guard, GuestSpec, Note, Policy, Record, Scale, Storage};
    use tokio::sync::{Semaphore, watch};

    use super::*;
    use crate::simulated::Simulated;
    use crate::store::{Store, Stored};
    use crate::task::Parts;

    fn web() -> VmId {
        VmId::new("web").unwrap()
    }

    fn grant(age: Duration) -> Grant {
        Grant {
            from: lease::now().saturating_sub(age),
            pause_after: Duration::from_secs(60),
            kill_after: Duration::from_secs(120),
            vms: BTreeMap::from([(web(), Epoch::FIRST)]),
        }
    }

    fn facts() -> HostFacts {
        HostFacts {
            host: HostId::new("h1").unwrap(),
            region: RegionId::new("eu-west-1").unwrap(),
            zone: ZoneId::new("eu-west-1a").unwrap(),
            capacity: Capacity::default(),
            driver: "simulated".to_owned(),
            accelerator: "none".to_owned(),
            hypervisor_version: String::new(),
            version: String::new(),
            scaled: false,
            strangers: Vec::new(),
        }
    }

    fn task(folder: &std::path::Path) -> Task {
        let guest = GuestSpec { lease_bound: true, ..GuestSpec::default() };
        let (epoch, generation, power) =
            (Epoch::FIRST, Generation::FIRST, Power::Running);
        let record = Record::new(Instruction { epoch, generation, power, guest });
        let stored = Stored {
            vm: web(),
            record: Some(record),
            moving: None,
            address: None,
            copy_begun: None,
            at: Timestamp::default(),
        };
        let parts = Parts {
            hypervisor: Arc::new(Simulated::open(folder, Scale::default()).unwrap()),
            store: Arc::new(Store::open(folder).unwrap()),
            host: facts(),
            policy: Policy::default(),
            starts_max: 1,
            saves: Arc::new(Semaphore::new(1)),
            guard: Guard::default(),
            watched: None,
            traced: crate::traced::Traced::new(&facts()),
        };
        Task::new(parts, vec![stored], watch::channel(0).0)
    }

    const RUNS: Observation = Observation {
        storage: Storage::Ready,
        process: Process::Alive(Monitor::Says(RunState::Running)),
    };
    const GONE: Observation =
        Observation { storage: Storage::Ready, process: Process::Gone };

    fn decide(task: &mut Task, seen: &Observation) -> dwcp_vm::Decision {
        let now = task.clock.now();
        let instance = task.entries.get_mut(&web()).unwrap().instance.as_mut().unwrap();
        instance.decide(now, seen, &Policy::default())
    }

    /// The watchdog ended it while the agent was stopped, and a new grant is the first that the
    /// agent hears of.
    #[tokio::test]
    async fn a_guest_that_the_watchdog_ended_before_a_new_grant_came_did_not_die() {
        let folder = tempfile::tempdir().unwrap();
        let mut task = task(folder.path());
        task.grant(grant(Duration::from_secs(119)));
        let _adopted = decide(&mut task, &RUNS);
        task.entries.get_mut(&web()).unwrap().sighting.observation = RUNS;
        task.guard = Guard::default();
        task.guard.take(grant(Duration::from_secs(121)));
        task.grant(grant(Duration::ZERO));
        assert_eq!(task.fenced(&web(), &GONE), None, "it may run again");
        let next = decide(&mut task, &GONE);
        assert!(matches!(next.action, Action::Start { .. }), "{next:?}");
        assert!(!next.notes.contains(&Note::Died), "{next:?}");
    }

    /// One that dies under a grant did die.
    #[tokio::test]
    async fn a_guest_that_dies_under_a_grant_is_told_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut task = task(folder.path());
        task.grant(grant(Duration::ZERO));
        let _adopted = decide(&mut task, &RUNS);
        task.entries.get_mut(&web()).unwrap().sighting.observation = RUNS;
        task.grant(grant(Duration::ZERO));
        assert_eq!(task.fenced(&web(), &GONE), None);
        assert!(decide(&mut task, &GONE).notes.contains(&Note::Died));
    }
}
