//! Moves of guests that are only states: modelled, no memory and no disk flows. What goes over
//! the connection, on loopback and without TLS, is the state itself, so that two agents can
//! rehearse a move with all its steps and failures.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_types::VmId;
use dwcp_vm::migration::{
    Incoming, Machine, Mirror, Outgoing, Ports, Stream, StreamStatus, Traffic,
};
use dwcp_vm::{GuestSpec, RunState};
use futures_util::future::{BoxFuture, ready};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Guest, Simulated};
use crate::hypervisor::{Done, HypervisorError};
use crate::mover::{Doorway, Mover, same_machine};

/// Largest state: a console and some words.
const STATE_LEN_MAX: u64 = 64 * 1024;
/// A target on the same machine answers at once.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);

/// One side of a move.
#[derive(Debug)]
enum Side {
    Source { to: Option<TcpStream>, status: StreamStatus },
    Waiting { port: u16, task: JoinHandle<()> },
    Came { port: u16, guest: Option<Box<Guest>> },
}

/// All moves; shared with the tasks that wait for guests.
#[derive(Clone, Debug, Default)]
pub(super) struct Moves(Arc<Mutex<BTreeMap<VmId, Side>>>);

impl Moves {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<VmId, Side>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, vm: &VmId) {
        if let Some(Side::Waiting { task, .. }) = self.lock().remove(vm) {
            task.abort();
        }
    }
}

/// Waits for one guest.
async fn wait(
    listener: TcpListener,
    (vm, port): (VmId, u16),
    moves: Moves,
    changes: broadcast::Sender<VmId>,
) {
    let mut bytes = Vec::new();
    if let Ok((stream, _)) = listener.accept().await {
        let read = stream.take(STATE_LEN_MAX).read_to_end(&mut bytes).await;
        if let Err(error) = read {
            tracing::debug!(%vm, %error, "a guest did not come");
        }
    }
    let guest = serde_json::from_slice(&bytes).ok();
    let mut sides = moves.lock();
    let still =
        matches!(sides.get(&vm), Some(Side::Waiting { port: its, .. }) if *its == port);
    if !still {
        // It was called off in this moment.
        return;
    }
    sides.insert(vm.clone(), Side::Came { port, guest });
    drop(sides);
    // Nobody need listen.
    drop(changes.send(vm));
}

fn broken(reason: &str) -> HypervisorError {
    HypervisorError::Launch { reason: format!("the simulated move: {reason}") }
}

impl Simulated {
    async fn reach(&self, vm: &VmId, order: &Outgoing) -> Result<(), HypervisorError> {
        let at = (order.address.as_str(), order.ports.memory);
        let stream = timeout(CONNECT_LIMIT, TcpStream::connect(at)).await;
        let stream = stream.map_err(|_| broken("the target does not answer"))?;
        let to = Some(stream.map_err(|error| broken(&error.to_string()))?);
        let side = Side::Source { to, status: StreamStatus::None };
        self.moves.lock().insert(vm.clone(), side);
        Ok(())
    }

    fn halt(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let mut moves = self.moves.lock();
        let Some(Side::Source { status, .. }) = moves.get_mut(vm) else {
            return Err(broken("there is no connection"));
        };
        *status = StreamStatus::PreSwitchover;
        self.turn(vm, RunState::FinishMigrate, "")?;
        // Nobody need listen.
        drop(self.changes.send(vm.clone()));
        Ok(())
    }

    async fn hand(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let to = match self.moves.lock().get_mut(vm) {
            Some(Side::Source { to, .. }) => to.take(),
            _ => None,
        };
        let guest = self.guests().get(vm).cloned().unwrap_or_default();
        let bytes = serde_json::to_vec(&guest).unwrap_or_default();
        let sent = match to {
            Some(mut to) => {
                to.write_all(&bytes).await.is_ok() && to.shutdown().await.is_ok()
            }
            None => false,
        };
        // A hypervisor lets a guest go on whose stream broke.
        let (state, ended) = if sent {
            (RunState::PostMigrate, StreamStatus::Completed)
        } else {
            (RunState::Running, StreamStatus::Failed)
        };
        if let Some(Side::Source { status, .. }) = self.moves.lock().get_mut(vm) {
            *status = ended;
        }
        self.turn(vm, state, "")
    }

    fn call_off(&self, vm: &VmId) -> Result<(), HypervisorError> {
        self.moves.forget(vm);
        let halted = self
            .guests()
            .get(vm)
            .is_some_and(|guest| guest.state == Some(RunState::FinishMigrate));
        if halted { self.turn(vm, RunState::Running, "") } else { Ok(()) }
    }

    async fn open_door(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let refused = |error: std::io::Error| broken(&error.to_string());
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = bound.map_err(refused)?;
        let port = listener.local_addr().map_err(refused)?.port();
        let (moves, changes) = (self.moves.clone(), self.changes.clone());
        let task = tokio::spawn(wait(listener, (vm.clone(), port), moves, changes));
        self.moves.forget(vm);
        self.moves.lock().insert(vm.clone(), Side::Waiting { port, task });
        Ok(())
    }

    fn see(&self, vm: &VmId) -> Traffic {
        let mut moves = self.moves.lock();
        let stream = |status| Stream { status, ..Stream::default() };
        let Some(side) = moves.get_mut(vm) else {
            let status = self.after_its_agent(vm);
            return Traffic { stream: stream(status), ..Traffic::default() };
        };
        let at = |port| Some(Ports { disk: port, memory: port });
        match side {
            Side::Source { status, to } => {
                let mirror = to.is_some().then_some(Mirror {
                    ready: true,
                    sound: true,
                    copied: 1,
                    total: 1,
                });
                Traffic { stream: stream(*status), mirror, ports: None }
            }
            Side::Waiting { port, .. } => {
                Traffic { ports: at(*port), ..Traffic::default() }
            }
            Side::Came { port, guest } => {
                let came = guest.is_some();
                let status =
                    if came { StreamStatus::Completed } else { StreamStatus::Failed };
                Traffic { stream: stream(status), mirror: None, ports: at(*port) }
            }
        }
    }

    /// How far a stream is of which this agent knows nothing: an earlier one's connection ended
    /// with it, and what had been sent was sent.
    fn after_its_agent(&self, vm: &VmId) -> StreamStatus {
        match self.guests().get(vm).and_then(|guest| guest.state) {
            Some(RunState::PostMigrate) => StreamStatus::Completed,
            Some(RunState::FinishMigrate) => StreamStatus::Failed,
            _ => StreamStatus::None,
        }
    }

    /// Makes what came the guest's state. Until then it is in this agent's memory only, and lost
    /// with it, as a process's memory is with the process.
    pub(super) fn take_in(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let came = match self.moves.lock().get(vm) {
            Some(Side::Came { guest: Some(guest), .. }) => guest.console.clone(),
            _ => return Ok(()),
        };
        self.change(vm, |guest| {
            if guest.state == Some(RunState::InMigrate) {
                guest.state = Some(RunState::Paused);
                guest.console = came;
            }
            Ok(())
        })
    }
}

impl Mover for Simulated {
    fn machine(&self, guest: &GuestSpec) -> Result<Machine, HypervisorError> {
        let given = self.scale.give(&guest.shape);
        Ok(Machine { accelerator: None, given, wired: false })
    }

    fn doorway(&self) -> Result<Doorway, HypervisorError> {
        Ok(Doorway {
            address: Ipv4Addr::LOCALHOST.to_string(),
            name: "simulated".to_owned(),
            subject: "simulated".to_owned(),
        })
    }

    fn disk_use(&self, _: &VmId) -> u64 {
        0
    }

    fn dirty_rate<'a>(
        &'a self,
        _: &'a VmId,
    ) -> BoxFuture<'a, Result<u64, HypervisorError>> {
        Box::pin(ready(Ok(0)))
    }

    fn traffic<'a>(&'a self, vm: &'a VmId) -> BoxFuture<'a, Traffic> {
        Box::pin(ready(self.see(vm)))
    }

    fn mirror<'a>(&'a self, vm: &'a VmId, order: &'a Outgoing) -> Done<'a> {
        Box::pin(self.reach(vm, order))
    }

    fn send<'a>(&'a self, vm: &'a VmId, _: &'a Outgoing) -> Done<'a> {
        Box::pin(ready(self.halt(vm)))
    }

    fn end_mirror<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        // The one connection is memory's and disk's.
        Box::pin(self.hand(vm))
    }

    fn switch_over<'a>(&'a self, _: &'a VmId) -> Done<'a> {
        Box::pin(ready(Ok(())))
    }

    fn undo<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        Box::pin(ready(self.call_off(vm)))
    }

    fn start_waiting<'a>(
        &'a self,
        vm: &'a VmId,
        guest: &'a GuestSpec,
        order: &'a Incoming,
    ) -> Done<'a> {
        Box::pin(async move {
            same_machine(self.machine(guest)?, order)?;
            self.launch(vm, true)?;
            self.turn(vm, RunState::InMigrate, "")
        })
    }

    fn listen<'a>(&'a self, vm: &'a VmId, _: &'a Incoming) -> Done<'a> {
        Box::pin(self.open_door(vm))
    }

    fn settle<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        let taken = self.take_in(vm);
        self.moves.forget(vm);
        Box::pin(ready(taken))
    }
}
