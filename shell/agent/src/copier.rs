//! The port to whatever copies disks between hosts: a part of [`crate::hypervisor`].
//!
//! Rules for an adapter: what is seen is a fact and looking never fails; every call is safe to
//! repeat; a copy takes in writes only under its own name and from the one host that it is for;
//! what was acknowledged to a guest while its copy followed is on the disk of the host that
//! keeps it; all of a round that is told to be there is there, and is the disk of one moment.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dwcp_api::host::StandbyBody;
use dwcp_runtime::crash::crash_point;
use dwcp_types::{CopyId, Timestamp, VmId};
use dwcp_vm::{CopyAction, CopyOrder, CopyPlace, CopySight};
use futures_util::future::BoxFuture;

use crate::hypervisor::{Done, Hypervisor, HypervisorError};

/// What copies disks.
pub trait Copier: Send + Sync + Debug + 'static {
    /// What is seen of a VM's copies at their source; `rounds` says to look for those too.
    fn copy_seen<'a>(&'a self, vm: &'a VmId, rounds: bool) -> BoxFuture<'a, CopySight>;

    /// Begins to write a copy, and from then on each write of the guest; or takes the disk of a
    /// round as it is after `now`, and notes from then on what changes.
    fn begin_copy<'a>(
        &'a self,
        vm: &'a VmId,
        order: &'a CopyOrder,
        to: &'a CopyPlace,
        now: Timestamp,
    ) -> Done<'a>;

    /// Sends what a round took. The guest's writes do not wait for it.
    fn send_copy<'a>(
        &'a self,
        vm: &'a VmId,
        order: &'a CopyOrder,
        to: &'a CopyPlace,
    ) -> Done<'a>;

    /// Ends whatever copy is written; writes that wait for it wait no longer. What changed since
    /// any round but `keep` is forgotten.
    fn end_copy<'a>(&'a self, vm: &'a VmId, keep: Option<CopyId>) -> Done<'a>;

    /// Keeps a copy of a VM that runs elsewhere: makes its disk when it is begun, opens the door
    /// to its writer, and removes copies that are not to be kept any more. Says at which port.
    fn keep_copy<'a>(
        &'a self,
        vm: &'a VmId,
        order: &'a StandbyBody,
    ) -> BoxFuture<'a, Result<u16, HypervisorError>>;

    /// Closes the door and removes all copies of a VM.
    fn drop_copies<'a>(&'a self, vm: &'a VmId) -> Done<'a>;

    /// Closes all doors, and ends guests that an agent was about to start when it ended; copies
    /// and disks stay.
    fn shut_doors(&self) -> Done<'_>;

    /// Makes the disk of a trial ([`Hypervisor::for_trials`]) from a copy that is kept and whole,
    /// as it is at one moment; the copy is left as it is, and goes on following when it is the one
    /// that is written. One that is read as a file is given up when `stop` is set: the file is
    /// written next.
    fn fork_copy<'a>(
        &'a self,
        vm: &'a VmId,
        copy: CopyId,
        order: &'a StandbyBody,
        stop: &'a Arc<AtomicBool>,
    ) -> Done<'a>;

    /// Ends the making of such a disk that nobody waits for any more.
    fn end_fork<'a>(&'a self, vm: &'a VmId) -> Done<'a>;

    /// Closes the door and makes a copy the VM's disk on this host.
    fn take_copy<'a>(&'a self, vm: &'a VmId, copy: CopyId) -> Done<'a>;
}

/// Performs what was decided about a copy.
///
/// # Errors
///
/// What the adapter says.
pub(crate) async fn perform_copy(
    hypervisor: &dyn Hypervisor,
    vm: &VmId,
    order: Option<&CopyOrder>,
    (action, now): (CopyAction, Timestamp),
) -> Result<(), HypervisorError> {
    let place = order.and_then(|order| order.to.as_ref());
    match (action, order.zip(place)) {
        (CopyAction::Begin, Some((order, to))) => {
            crash_point("copy-before-begin");
            let begun = hypervisor.begin_copy(vm, order, to, now).await;
            crash_point("copy-after-begin");
            begun
        }
        (CopyAction::Send, Some((order, to))) => {
            crash_point("copy-before-send");
            let sent = hypervisor.send_copy(vm, order, to).await;
            crash_point("copy-after-send");
            sent
        }
        (CopyAction::End, _) => {
            crash_point("copy-before-end");
            let keep = order.and_then(CopyOrder::base);
            let ended = hypervisor.end_copy(vm, keep).await;
            crash_point("copy-after-end");
            ended
        }
        (CopyAction::Nothing, _) | (CopyAction::Begin | CopyAction::Send, None) => Ok(()),
    }
}
