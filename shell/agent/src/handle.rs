//! The only way to the agent's task.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::host::{HostReport, MoveReport, MoveStage, StandbyBody};
use dwcp_types::{CopyId, Epoch, VmId};
use dwcp_vm::migration::{self, MoveOrder};
use dwcp_vm::{CopyOrder, Grant, Instruction, Refused};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::entry::Want;
use crate::hypervisor::{ConsolePart, Hypervisor, HypervisorError};
use crate::lease::LeaseWriter;
use crate::news::Cursor;
use crate::standby::{StandbyError, Standbys};
use crate::traced::Traced;
use crate::trial::Trials;
use dwcp_runtime::trace::Tracer;

/// Requests that may wait for the task; further ones wait at the sender.
pub(crate) const INBOX_MAX: usize = 1024;
/// Longest wait of a long poll.
pub(crate) const WAIT_MAX: Duration = Duration::from_mins(1);

/// How an instruction was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// It was in force already.
    pub repeated: bool,
}

pub(crate) type PutReply = Result<Taken, PutError>;

/// Why an instruction was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// A later one is in force, or it clashes.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It contradicts the VM's move.
    #[error(transparent)]
    Move(#[from] migration::Refused),
    /// It could not be written, and nothing was done.
    #[error("the instruction could not be kept: {reason}")]
    NotKept {
        /// Why not.
        reason: String,
    },
    /// It may or may not survive; giving it again is safe.
    #[error("the instruction may not be kept: {reason}")]
    Unsure {
        /// Why.
        reason: String,
    },
    /// Too many instructions for this VM, or too many VMs.
    #[error("{what}; try again later")]
    Busy {
        /// Too many of what.
        what: &'static str,
    },
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
}

/// What the task is asked.
#[derive(Debug)]
pub(crate) enum Message {
    Put {
        vm: VmId,
        want: Want,
        reply: oneshot::Sender<PutReply>,
    },
    Move {
        vm: VmId,
        reply: oneshot::Sender<MoveReport>,
    },
    Report {
        incarnation: Option<u64>,
        cursor: Option<Cursor>,
        reply: oneshot::Sender<HostReport>,
    },
    Address {
        vm: VmId,
        reply: oneshot::Sender<Option<Ipv4Addr>>,
    },
    Copy {
        vm: VmId,
        order: CopyOrder,
        reply: oneshot::Sender<Result<(), CopyRefused>>,
    },
    Grant {
        grant: Grant,
        reply: oneshot::Sender<()>,
    },
    Knows {
        vm: VmId,
        reply: oneshot::Sender<bool>,
    },
}

/// A way to an agent; cheap to clone.
#[derive(Clone, Debug)]
pub struct AgentHandle {
    pub(crate) inbox: mpsc::Sender<Message>,
    pub(crate) seq: watch::Receiver<u64>,
    pub(crate) hypervisor: Arc<dyn Hypervisor>,
    pub(crate) lease: Arc<LeaseWriter>,
    pub(crate) standbys: Arc<Standbys>,
    pub(crate) trials: Arc<Trials>,
    pub(crate) traced: Arc<Traced>,
}

/// The agent is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent is stopping")]
pub struct Stopping;

impl AgentHandle {
    /// What this host makes spans with.
    #[must_use]
    pub fn tracer(&self) -> &Tracer {
        &self.traced.tracer
    }

    /// Gives an instruction; it is on disk when this returns.
    ///
    /// # Errors
    ///
    /// When it is refused or could not be kept.
    pub async fn put(
        &self,
        vm: VmId,
        instruction: Instruction,
    ) -> Result<Taken, PutError> {
        self.want(vm, Want::Instruction(instruction)).await
    }

    /// Says what is to be done about a VM that moves; it is on disk when this returns.
    ///
    /// # Errors
    ///
    /// When it contradicts what is in force or could not be kept.
    pub async fn put_move(&self, vm: VmId, order: MoveOrder) -> Result<Taken, PutError> {
        self.want(vm, Want::Move(order)).await
    }

    /// Says what is to become of the copy of a VM's disk.
    ///
    /// # Errors
    ///
    /// When there is no such VM here under that epoch, or a later copy is in force.
    pub async fn put_copy(&self, vm: VmId, order: CopyOrder) -> Result<(), CopyRefused> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Copy { vm, order, reply };
        self.inbox.send(message).await.map_err(|_| CopyRefused::Stopping)?;
        answer.await.map_err(|_| CopyRefused::Stopping)?
    }

    /// The copies that this host keeps of VMs that run elsewhere.
    #[must_use]
    pub fn standbys(&self) -> &Standbys {
        &self.standbys
    }

    /// Keeps a copy of a VM that runs elsewhere, and says at which port it takes in writes. What
    /// was begun is ended also when nobody waits for it any more: a round that becomes one file
    /// may take longer than its owner waits.
    ///
    /// # Errors
    ///
    /// When a later copy is kept, or the disk or the door cannot be made.
    pub async fn keep_standby(
        &self,
        vm: VmId,
        order: StandbyBody,
    ) -> Result<u16, StandbyError> {
        let standbys = Arc::clone(&self.standbys);
        let keeping = tokio::spawn(async move { standbys.keep(&vm, order).await });
        keeping.await.unwrap_or_else(|error| {
            let reason = format!("keeping a copy ended: {error}");
            Err(HypervisorError::Launch { reason }.into())
        })
    }

    /// The failovers that are tried here.
    #[must_use]
    pub const fn trials(&self) -> &Arc<Trials> {
        &self.trials
    }

    /// Whether a VM is this host's.
    ///
    /// # Errors
    ///
    /// When the agent is stopping.
    pub async fn knows(&self, vm: &VmId) -> Result<bool, Stopping> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Knows { vm: vm.clone(), reply };
        self.inbox.send(message).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }

    /// How far a move is, as soon as it is another stage than `known`, or after `wait`.
    ///
    /// # Errors
    ///
    /// When the agent is stopping.
    pub async fn read_move(
        &self,
        vm: &VmId,
        known: Option<MoveStage>,
        wait: Duration,
    ) -> Result<MoveReport, Stopping> {
        let deadline = Instant::now() + wait.min(WAIT_MAX);
        let mut seq = self.seq.clone();
        loop {
            seq.mark_unchanged();
            let (reply, answer) = oneshot::channel();
            let message = Message::Move { vm: vm.clone(), reply };
            self.inbox.send(message).await.map_err(|_| Stopping)?;
            let report = answer.await.map_err(|_| Stopping)?;
            if known != Some(report.stage) {
                return Ok(report);
            }
            match timeout_at(deadline, seq.changed()).await {
                Err(_) => return Ok(report),
                Ok(changed) => changed.map_err(|_| Stopping)?,
            }
        }
    }

    /// The address of a VM's guest.
    ///
    /// # Errors
    ///
    /// When the agent is stopping.
    pub async fn address(&self, vm: &VmId) -> Result<Option<Ipv4Addr>, Stopping> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Address { vm: vm.clone(), reply };
        self.inbox.send(message).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }

    async fn want(&self, vm: VmId, want: Want) -> Result<Taken, PutError> {
        let (reply, answer) = oneshot::channel();
        self.traced.trail.note(&vm);
        let message = Message::Put { vm, want, reply };
        self.inbox.send(message).await.map_err(|_| PutError::Stopping)?;
        answer.await.map_err(|_| PutError::Stopping)?
    }

    /// Where the grant in force is written.
    #[must_use]
    pub(crate) fn lease(&self) -> &LeaseWriter {
        &self.lease
    }

    /// Lets bound guests run for a while. The grant is written for the watchdog before it is in
    /// force, so that no guest runs that the watchdog does not know of.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or the agent is stopping.
    pub async fn grant(&self, grant: Grant) -> Result<(), GrantError> {
        let lease = Arc::clone(&self.lease);
        let written = grant.clone();
        let writing = tokio::task::spawn_blocking(move || lease.write(&written));
        writing.await.map_err(|_| Stopping)??;
        let (reply, answer) = oneshot::channel();
        let message = Message::Grant { grant, reply };
        self.inbox.send(message).await.map_err(|_| Stopping)?;
        Ok(answer.await.map_err(|_| Stopping)?)
    }

    /// Reads what changed after `cursor` in this incarnation of the agent, waiting for a change
    /// at most `wait`.
    ///
    /// # Errors
    ///
    /// When the agent is stopping.
    pub async fn report(
        &self,
        incarnation: Option<u64>,
        cursor: Option<Cursor>,
        wait: Duration,
    ) -> Result<HostReport, Stopping> {
        let deadline = Instant::now() + wait.min(WAIT_MAX);
        let mut seq = self.seq.clone();
        loop {
            seq.mark_unchanged();
            let (reply, answer) = oneshot::channel();
            let message = Message::Report { incarnation, cursor, reply };
            self.inbox.send(message).await.map_err(|_| Stopping)?;
            let mut report = answer.await.map_err(|_| Stopping)?;
            let news = report.complete
                || !report.changed.is_empty()
                || !report.removed.is_empty();
            if news || timeout_at(deadline, self.changed(&mut seq)).await.is_err() {
                report.spans = self.traced.take();
                return Ok(report);
            }
        }
    }

    /// Waits for news; for ever when the agent is stopping, which the next question hears.
    async fn changed(&self, seq: &mut watch::Receiver<u64>) {
        if seq.changed().await.is_err() {
            self.inbox.closed().await;
        }
    }

    /// Reads a console; nothing when the VM is not known here.
    ///
    /// # Errors
    ///
    /// When the agent is stopping or the console cannot be read.
    pub async fn console(
        &self,
        vm: &VmId,
        offset: Option<u64>,
        limit: u32,
    ) -> Result<Option<ConsolePart>, ConsoleError> {
        if !self.knows(vm).await? {
            return Ok(None);
        }
        Ok(Some(self.hypervisor.console(vm, offset, limit).await?))
    }
}

/// Why an order about a copy is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyRefused {
    /// There is no such VM.
    #[error("there is no such VM on this host")]
    NoVm,
    /// The copy is another owner's.
    #[error("copy {asked} is not of epoch {epoch}, which the host obeys")]
    OtherEpoch {
        /// What was asked for.
        asked: CopyId,
        /// The epoch in force.
        epoch: Epoch,
    },
    /// A later order is in force.
    #[error("copy {asked} is over, or relied on: the host writes copy {kept}")]
    Over {
        /// What was asked for.
        asked: CopyId,
        /// What is in force.
        kept: CopyId,
    },
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
}

/// Why a grant is not in force.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The agent is stopping.
    #[error(transparent)]
    Stopping(#[from] Stopping),
    /// It cannot be written.
    #[error("the lease cannot be written for the watchdog: {0}")]
    NotWritten(#[from] std::io::Error),
}

/// Why a console is not read.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The agent is stopping.
    #[error(transparent)]
    Stopping(#[from] Stopping),
    /// It cannot be read.
    #[error("the console cannot be read")]
    Unreadable(#[from] HypervisorError),
}
