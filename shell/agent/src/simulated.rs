//! The adapter that runs no guests: states only, for development without QEMU and for tens of
//! thousands of VMs on one machine.
//!
//! A guest is an entry in a map, no task and no thread. Each is also a small file, so that
//! guests outlive the adapter as real ones do; the files are not synced, because a power cut
//! ends real guests too. File operations here block for microseconds.

mod copier;
mod mover;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_types::{Timestamp, VmId, VmShape};
use dwcp_vm::{
    Given, GuestSpec, Monitor, Observation, Process, RunState, Scale, Storage, qcow2,
};
use futures_util::future::{BoxFuture, ready};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::clock::Clock;
use crate::hypervisor::{
    CHANGES_MAX, ConsolePart, Done, DriverFacts, Hypervisor, HypervisorError, Sighting,
    Usage,
};
use crate::qemu::{list_folders, make_folder, remove_folder};
use crate::trial::TRIALS;

const STATE: &str = "simulated.json";
/// Nothing changes by itself here, so looking is only for what a signal missed.
const SWEEP: Duration = Duration::from_mins(1);
/// What is kept of a console.
const CONSOLE_MAX: usize = 4096;

/// A guest that is only a state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Guest {
    state: Option<RunState>,
    since: Timestamp,
    console: String,
    /// An agent is connected: not kept, as a connection is not.
    #[serde(skip)]
    attached: bool,
}

impl Guest {
    /// As the next agent finds it. What was coming came to the agent that is gone: it never will.
    fn after_its_agent(self) -> Self {
        let state = self.state.filter(|state| *state != RunState::InMigrate);
        Self { state, ..self }
    }

    fn print(&mut self, line: &str) {
        if self.console.len() + line.len() > CONSOLE_MAX {
            self.console.clear();
        }
        self.console.push_str(line);
        self.console.push('\n');
    }
}

/// A host full of states.
#[derive(Debug)]
pub struct Simulated {
    folder: PathBuf,
    scale: Scale,
    clock: Clock,
    guests: Mutex<BTreeMap<VmId, Guest>>,
    moves: mover::Moves,
    copies: copier::Copies,
    changes: broadcast::Sender<VmId>,
}

impl Simulated {
    /// Finds the guests that are in the data folder.
    ///
    /// # Errors
    ///
    /// When the folder cannot be used.
    pub fn open(data: &Path, scale: Scale) -> Result<Self, HypervisorError> {
        Self::in_folder(data.join("guests"), scale)
    }

    fn in_folder(folder: PathBuf, scale: Scale) -> Result<Self, HypervisorError> {
        make_folder(&folder)?;
        let mut guests = BTreeMap::new();
        for vm in list_folders(&folder)? {
            let path = folder.join(vm.as_str()).join(STATE);
            // Without a readable state it is a folder without a disk: `Partial`.
            if let Ok(bytes) = fs::read(&path)
                && let Ok(guest) = serde_json::from_slice::<Guest>(&bytes)
            {
                guests.insert(vm, guest.after_its_agent());
            }
        }
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        let guests = Mutex::new(guests);
        let (clock, moves) = (Clock::start(), mover::Moves::default());
        let copies = copier::Copies::default();
        Ok(Self { folder, scale, clock, guests, moves, copies, changes })
    }

    /// Lets a guest end by itself, as a killed process would.
    pub fn crash(&self, vm: &VmId) {
        self.by_itself(vm, None);
    }

    /// Lets a guest shut itself down.
    pub fn shut_down_inside(&self, vm: &VmId) {
        self.by_itself(vm, Some(RunState::Shutdown));
    }

    fn by_itself(&self, vm: &VmId, state: Option<RunState>) {
        if let Some(guest) = self.guests().get_mut(vm) {
            guest.state = state;
            if state.is_none() {
                self.copies.forget(vm);
            }
            guest.attached &= state.is_some();
            if let Err(error) = self.keep(vm, guest) {
                tracing::warn!(%vm, error = %error.told(), "the state is not kept");
            }
        }
        // Nobody need listen.
        drop(self.changes.send(vm.clone()));
    }

    fn data(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }

    fn guests(&self) -> MutexGuard<'_, BTreeMap<VmId, Guest>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, vm: &VmId, guest: &Guest) -> Result<(), HypervisorError> {
        let path = self.folder.join(vm.as_str()).join(STATE);
        let bytes = serde_json::to_vec(guest).unwrap_or_default();
        fs::write(&path, bytes).map_err(|source| HypervisorError::File {
            what: "write",
            path,
            source,
        })
    }

    /// Changes a guest and keeps the change.
    fn change(
        &self,
        vm: &VmId,
        change: impl FnOnce(&mut Guest) -> Result<(), HypervisorError>,
    ) -> Result<(), HypervisorError> {
        let mut guests = self.guests();
        let guest = guests.get_mut(vm).ok_or(HypervisorError::NoDisk)?;
        change(guest)?;
        self.keep(vm, guest)
    }

    fn turn(
        &self,
        vm: &VmId,
        state: RunState,
        says: &str,
    ) -> Result<(), HypervisorError> {
        self.change(vm, |guest| {
            if guest.state.is_none() {
                return Err(HypervisorError::NotRunning);
            }
            guest.state = Some(state);
            guest.attached = true;
            if !says.is_empty() {
                guest.print(says);
            }
            Ok(())
        })
    }

    fn look(&self, vm: &VmId) -> Sighting {
        let guests = self.guests();
        let Some(guest) = guests.get(vm) else {
            let storage = if self.folder.join(vm.as_str()).exists() {
                Storage::Partial
            } else {
                Storage::Absent
            };
            let observation = Observation { storage, process: Process::Gone };
            return Sighting { observation, ..Sighting::default() };
        };
        let process = match guest.state {
            None => Process::Gone,
            Some(_) if !guest.attached => Process::Alive(Monitor::Detached),
            Some(state) => Process::Alive(Monitor::Says(state)),
        };
        let uptime = match guest.state {
            None => Duration::ZERO,
            Some(_) => self.clock.now().since(guest.since),
        };
        Sighting {
            observation: Observation { storage: Storage::Ready, process },
            pid: None,
            usage: Usage { uptime, ..Usage::default() },
        }
    }

    fn make(&self, vm: &VmId, spec: &GuestSpec) -> Result<(), HypervisorError> {
        // The same sizes are impossible here as with QEMU.
        let _empty = qcow2::empty(spec.shape.storage.get().saturating_mul(1 << 30))?;
        let mut guests = self.guests();
        if guests.contains_key(vm) {
            return Ok(());
        }
        make_folder(&self.folder.join(vm.as_str()))?;
        let guest = Guest::default();
        self.keep(vm, &guest)?;
        guests.insert(vm.clone(), guest);
        Ok(())
    }

    fn launch(&self, vm: &VmId, paused: bool) -> Result<(), HypervisorError> {
        let now = self.clock.now();
        self.change(vm, |guest| {
            if guest.state.is_some() {
                return Err(HypervisorError::AlreadyRunning { pid: 0 });
            }
            guest.attached = true;
            guest.since = now;
            guest.state = Some(RunState::Prelaunch);
            if !paused {
                guest.state = Some(RunState::Running);
                guest.print(&format!("READY {vm} 0.00"));
            }
            Ok(())
        })
    }

    fn remove(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let mut guests = self.guests();
        if guests.get(vm).is_some_and(|guest| guest.state.is_some()) {
            return Err(HypervisorError::AlreadyRunning { pid: 0 });
        }
        guests.remove(vm);
        let path = self.folder.join(vm.as_str());
        remove_folder(&path)
    }
}

impl Hypervisor for Simulated {
    fn facts(&self) -> DriverFacts {
        DriverFacts {
            driver: "simulated",
            accelerator: "none",
            version: String::new(),
            scaled: self.scale.is_reduced(),
            prefix: None,
            sweep: SWEEP,
        }
    }

    fn give(&self, asked: &VmShape) -> Given {
        self.scale.give(asked)
    }

    fn changes(&self) -> broadcast::Receiver<VmId> {
        self.changes.subscribe()
    }

    fn for_trials(&self) -> Result<Arc<dyn Hypervisor>, HypervisorError> {
        Ok(Arc::new(Self::in_folder(self.data().join(TRIALS), self.scale)?))
    }

    fn list(&self) -> Result<Vec<VmId>, HypervisorError> {
        list_folders(&self.folder)
    }

    fn observe<'a>(&'a self, vm: &'a VmId) -> BoxFuture<'a, Sighting> {
        Box::pin(ready(self.look(vm)))
    }

    fn create_disk<'a>(&'a self, vm: &'a VmId, guest: &'a GuestSpec) -> Done<'a> {
        Box::pin(ready(self.make(vm, guest)))
    }

    fn start<'a>(&'a self, vm: &'a VmId, _: &'a GuestSpec, paused: bool) -> Done<'a> {
        Box::pin(ready(self.launch(vm, paused)))
    }

    fn adopt<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        Box::pin(ready(match self.guests().get_mut(vm) {
            Some(guest) if guest.state.is_some() => {
                guest.attached = true;
                Ok(())
            }
            Some(_) | None => Err(HypervisorError::NotRunning),
        }))
    }

    fn resume<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        let first = self.look(vm).observation.process
            == Process::Alive(Monitor::Says(RunState::Prelaunch));
        let says = if first { format!("READY {vm} 0.00") } else { String::new() };
        let taken = self.take_in(vm);
        Box::pin(ready(taken.and_then(|()| self.turn(vm, RunState::Running, &says))))
    }

    fn pause<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        Box::pin(ready(self.turn(vm, RunState::Paused, "")))
    }

    fn power_down<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        let says = format!("POWERDOWN {vm}");
        Box::pin(ready(self.turn(vm, RunState::Shutdown, &says)))
    }

    fn kill<'a>(&'a self, vm: &'a VmId, _clean: bool) -> Done<'a> {
        self.moves.forget(vm);
        self.copies.forget(vm);
        let ended = self.change(vm, |guest| {
            guest.state = None;
            guest.attached = false;
            Ok(())
        });
        Box::pin(ready(match ended {
            Err(HypervisorError::NoDisk) => Ok(()),
            ended => ended,
        }))
    }

    fn delete<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        self.moves.forget(vm);
        Box::pin(ready(self.remove(vm)))
    }

    fn console<'a>(
        &'a self,
        vm: &'a VmId,
        offset: Option<u64>,
        limit: u32,
    ) -> BoxFuture<'a, Result<ConsolePart, HypervisorError>> {
        let guests = self.guests();
        let text = guests.get(vm).map_or("", |guest| guest.console.as_str());
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let from = match offset {
            None => text.len().saturating_sub(limit),
            Some(offset) => usize::try_from(offset).unwrap_or(usize::MAX).min(text.len()),
        };
        let bytes = text.bytes().skip(from).take(limit).collect();
        Box::pin(ready(Ok(ConsolePart { offset: from as u64, bytes })))
    }
}
