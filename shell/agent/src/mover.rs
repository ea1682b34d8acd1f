//! The port to whatever moves guests between hosts: a part of [`crate::hypervisor`].
//!
//! Rules for an adapter: `traffic` reports facts and never fails; every action is safe to
//! repeat; nothing but [`Hypervisor::resume`] lets a guest's CPUs run at a target; undoing
//! leaves a source as if there had been no move.

use std::fmt::Debug;

use dwcp_runtime::crash::crash_point;
use dwcp_types::VmId;
use dwcp_vm::GuestSpec;
use dwcp_vm::migration::{Incoming, Machine, MoveAction, Moving, Outgoing, Traffic};
use futures_util::future::BoxFuture;

use crate::hypervisor::{Done, Hypervisor, HypervisorError};

/// What moves guests.
pub trait Mover: Send + Sync + Debug + 'static {
    /// What a guest of this kind runs on here, or why it cannot.
    ///
    /// # Errors
    ///
    /// When its image is missing.
    fn machine(&self, guest: &GuestSpec) -> Result<Machine, HypervisorError>;

    /// Where this host waits for guests.
    ///
    /// # Errors
    ///
    /// When it has no certificate to be known by.
    fn doorway(&self) -> Result<Doorway, HypervisorError>;

    /// What its disk takes here, in bytes.
    fn disk_use(&self, vm: &VmId) -> u64;

    /// Measures how fast the memory of a running guest changes, in bytes a second; takes a
    /// second.
    fn dirty_rate<'a>(
        &'a self,
        vm: &'a VmId,
    ) -> BoxFuture<'a, Result<u64, HypervisorError>>;

    /// What is seen of a move.
    fn traffic<'a>(&'a self, vm: &'a VmId) -> BoxFuture<'a, Traffic>;

    /// Copies the disk to the target, and from then on each write.
    fn mirror<'a>(&'a self, vm: &'a VmId, order: &'a Outgoing) -> Done<'a>;

    /// Sends the memory and halts the guest before the last pages.
    fn send<'a>(&'a self, vm: &'a VmId, order: &'a Outgoing) -> Done<'a>;

    /// Ends the mirror of a halted guest with both disks equal.
    fn end_mirror<'a>(&'a self, vm: &'a VmId) -> Done<'a>;

    /// Sends the last pages.
    fn switch_over<'a>(&'a self, vm: &'a VmId) -> Done<'a>;

    /// Cancels whatever there is of a move at its source; the guest runs on.
    fn undo<'a>(&'a self, vm: &'a VmId) -> Done<'a>;

    /// Starts the process that waits for a guest.
    fn start_waiting<'a>(
        &'a self,
        vm: &'a VmId,
        guest: &'a GuestSpec,
        order: &'a Incoming,
    ) -> Done<'a>;

    /// Opens the doors for disk and memory, for this source only.
    fn listen<'a>(&'a self, vm: &'a VmId, order: &'a Incoming) -> Done<'a>;

    /// Closes them.
    fn settle<'a>(&'a self, vm: &'a VmId) -> Done<'a>;
}

/// Where a host waits for guests, and who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doorway {
    /// Its address.
    pub address: String,
    /// The name that its certificate bears.
    pub name: String,
    /// The subject of its certificate.
    pub subject: String,
}

/// Whether a guest can go on here: the state of one machine is nothing to another.
///
/// # Errors
///
/// [`HypervisorError::OtherMachine`].
pub(crate) fn same_machine(
    here: Machine,
    order: &Incoming,
) -> Result<(), HypervisorError> {
    if here == order.machine {
        return Ok(());
    }
    Err(HypervisorError::OtherMachine {
        source_has: format!("{:?}", order.machine),
        target_has: format!("{here:?}"),
    })
}

/// Performs what was decided about a move.
///
/// # Errors
///
/// What the adapter says.
pub async fn perform_move(
    hypervisor: &dyn Hypervisor,
    vm: &VmId,
    guest: &GuestSpec,
    (moving, action): (&Moving, MoveAction),
) -> Result<(), HypervisorError> {
    let (before, after) = points(action);
    crash_point(before);
    let done = match (moving, action) {
        (_, MoveAction::Nothing) => Ok(()),
        (_, MoveAction::Adopt) => hypervisor.adopt(vm).await,
        (_, MoveAction::Cont) => hypervisor.resume(vm).await,
        (_, MoveAction::Pause) => hypervisor.pause(vm).await,
        (_, MoveAction::Kill) => hypervisor.kill(vm, false).await,
        (_, MoveAction::Quit) => hypervisor.kill(vm, true).await,
        (_, MoveAction::DeleteDisk) => hypervisor.delete(vm).await,
        (_, MoveAction::CreateDisk) => hypervisor.create_disk(vm, guest).await,
        (_, MoveAction::StartHalted) => hypervisor.start(vm, guest, true).await,
        (_, MoveAction::EndMirror) => hypervisor.end_mirror(vm).await,
        (_, MoveAction::Continue) => hypervisor.switch_over(vm).await,
        (_, MoveAction::Undo) => hypervisor.undo(vm).await,
        (_, MoveAction::Settle) => hypervisor.settle(vm).await,
        (Moving::Out(source), MoveAction::Mirror) => {
            hypervisor.mirror(vm, source.order()).await
        }
        (Moving::Out(source), MoveAction::Send) => {
            hypervisor.send(vm, source.order()).await
        }
        (Moving::In(target), MoveAction::StartWaiting) => {
            hypervisor.start_waiting(vm, guest, target.order()).await
        }
        (Moving::In(target), MoveAction::Listen) => {
            hypervisor.listen(vm, target.order()).await
        }
        // No side decides the other's actions.
        (Moving::Out(_), MoveAction::StartWaiting | MoveAction::Listen)
        | (Moving::In(_), MoveAction::Mirror | MoveAction::Send) => Ok(()),
    };
    crash_point(after);
    done
}

/// Where a test may end the agent.
const fn points(action: MoveAction) -> (&'static str, &'static str) {
    match action {
        MoveAction::Mirror => ("move-before-mirror", "move-after-mirror"),
        MoveAction::Send => ("move-before-send", "move-after-send"),
        MoveAction::EndMirror => ("move-before-end-mirror", "move-after-end-mirror"),
        MoveAction::Continue => ("move-before-switch", "move-after-switch"),
        MoveAction::Undo => ("move-before-undo", "move-after-undo"),
        MoveAction::StartWaiting => ("move-before-wait", "move-after-wait"),
        MoveAction::Listen => ("move-before-listen", "move-after-listen"),
        MoveAction::Cont => ("move-before-cont", "move-after-cont"),
        MoveAction::Settle => ("move-before-settle", "move-after-settle"),
        MoveAction::Quit => ("move-before", "move-after-quit"),
        MoveAction::Nothing
        | MoveAction::Adopt
        | MoveAction::StartHalted
        | MoveAction::CreateDisk
        | MoveAction::Pause
        | MoveAction::Kill
        | MoveAction::DeleteDisk => ("move-before", "move-after"),
    }
}
