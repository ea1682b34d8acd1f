//! The copies that this host keeps of VMs that run elsewhere: one order for each VM, on disk
//! before it is acted on. A copy never goes back to an earlier one, so a writer that another has
//! followed is shut out for ever (F4).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_api::host::StandbyBody;
use dwcp_types::{CopyId, VmId};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::timeout;

use crate::hypervisor::{Hypervisor, HypervisorError};
use crate::qemu::{list_folders, make_folder};
use crate::store::{self, StoreError};

/// Where each has its folder, below the data folder.
pub(crate) const STANDBYS: &str = "standbys";
const ORDER: &str = "order.json";
/// How long a new order waits for the disk of a trial that is copied: less than its region waits
/// for an answer.
const WAIT_FOR_FORK: Duration = Duration::from_secs(4);

/// Why a copy is not kept.
#[derive(Debug, thiserror::Error)]
pub enum StandbyError {
    /// A later one is kept.
    #[error("copy {asked} is over: the host keeps copy {kept}")]
    Older {
        /// What was asked for.
        asked: CopyId,
        /// What is kept.
        kept: CopyId,
    },
    /// It is not there to be tried.
    #[error("copy {copy} is not kept on this host as a whole one; ask again")]
    NotKept {
        /// Which.
        copy: CopyId,
    },
    /// The order could not be read or kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk or its door.
    #[error("{}", .0.told())]
    Hypervisor(#[from] HypervisorError),
}

/// See the module.
#[derive(Debug)]
pub struct Standbys {
    folder: PathBuf,
    hypervisor: Arc<dyn Hypervisor>,
    /// One call at a time for each VM.
    turns: Mutex<BTreeMap<VmId, Arc<AsyncMutex<()>>>>,
    /// Disks of trials that are copied just now from a file that is written next.
    forks: Mutex<BTreeMap<VmId, Forking>>,
}

/// A file that is copied.
#[derive(Debug)]
struct Forking {
    stop: Arc<AtomicBool>,
    /// Closed when it is over.
    alive: watch::Receiver<()>,
}

/// Ends what is copied when nobody waits for it any more.
#[derive(Debug)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Standbys {
    pub(crate) fn in_folder(data: &Path, hypervisor: Arc<dyn Hypervisor>) -> Self {
        let (folder, turns) = (data.join(STANDBYS), Mutex::default());
        Self { folder, hypervisor, turns, forks: Mutex::default() }
    }

    fn turn(&self, vm: &VmId) -> Arc<AsyncMutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody waits for or holds are not kept.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(vm.clone()).or_default())
    }

    fn path(&self, vm: &VmId) -> PathBuf {
        self.folder.join(vm.as_str()).join(ORDER)
    }

    fn order(&self, vm: &VmId) -> Result<Option<StandbyBody>, StandbyError> {
        let path = self.path(vm);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(StoreError::File { what: "read", path, source }.into());
            }
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            StoreError::Damaged { path, reason: error.to_string() }.into()
        })
    }

    /// Keeps a copy, and says at which port it takes in writes. Asking again is asking once, and
    /// opens a door again that was shut by a crash.
    ///
    /// # Errors
    ///
    /// When a later copy is kept, or the disk or the door cannot be made.
    pub async fn keep(&self, vm: &VmId, order: StandbyBody) -> Result<u16, StandbyError> {
        let turn = self.turn(vm);
        let _turn = turn.lock().await;
        let kept = self.order(vm)?;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.copy > order.copy) {
            return Err(StandbyError::Older { asked: order.copy, kept: kept.copy });
        }
        if kept.as_ref() != Some(&order) {
            self.give_way(vm).await;
            make_folder(&self.folder.join(vm.as_str()))?;
            store::write(&self.path(vm), &order)?;
        }
        Ok(self.hypervisor.keep_copy(vm, &order).await?)
    }

    /// Makes the disk of a trial from this copy, which must be whole, or from a later round that
    /// is whole too; says from which.
    ///
    /// # Errors
    ///
    /// When it is not kept any more, or the disk cannot be made.
    pub async fn fork(&self, vm: &VmId, copy: CopyId) -> Result<CopyId, StandbyError> {
        let turn = self.turn(vm);
        let held = turn.lock().await;
        let not_kept = || StandbyError::NotKept { copy };
        let order = self.order(vm)?.ok_or_else(not_kept)?;
        if order.copy == copy {
            // Its writer goes on, and is not to wait for as long as this takes.
            drop(held);
            let stop = Arc::default();
            self.hypervisor.fork_copy(vm, copy, &order, &stop).await?;
            return Ok(copy);
        }
        let whole = order.whole.filter(|whole| *whole >= copy).ok_or_else(not_kept)?;
        let (stop, alive) = (Arc::<AtomicBool>::default(), watch::Sender::new(()));
        let fork = Forking { stop: Arc::clone(&stop), alive: alive.subscribe() };
        self.forks().insert(vm.clone(), fork);
        let stop = StopOnDrop(stop);
        // The same order may be given again meanwhile: nothing is done about a disk then.
        drop(held);
        let forked = self.hypervisor.fork_copy(vm, whole, &order, &stop.0).await;
        drop(alive);
        forked.map(|()| whole).map_err(StandbyError::from)
    }

    fn forks(&self) -> MutexGuard<'_, BTreeMap<VmId, Forking>> {
        let mut forks = self.forks.lock().unwrap_or_else(PoisonError::into_inner);
        forks.retain(|_, fork| fork.alive.has_changed().is_ok());
        forks
    }

    /// Waits a moment for the disk of a trial that is copied from a file which is written next, and
    /// then no longer: the copy comes first.
    async fn give_way(&self, vm: &VmId) {
        let fork =
            self.forks().get(vm).map(|it| (Arc::clone(&it.stop), it.alive.clone()));
        let Some((stop, mut alive)) = fork else { return };
        let over = async { while alive.changed().await.is_ok() {} };
        if timeout(WAIT_FOR_FORK, over).await.is_err() {
            stop.store(true, Ordering::Release);
        }
    }

    /// What keeps them.
    pub(crate) fn hypervisor(&self) -> &dyn Hypervisor {
        self.hypervisor.as_ref()
    }

    /// Removes what is kept of a VM, unless a later copy than this is. Doing it twice is doing
    /// it once.
    ///
    /// # Errors
    ///
    /// When a later copy is kept, or something cannot be removed.
    pub async fn drop_up_to(&self, vm: &VmId, copy: CopyId) -> Result<(), StandbyError> {
        let turn = self.turn(vm);
        let _turn = turn.lock().await;
        if let Some(kept) = self.order(vm)?.filter(|kept| kept.copy > copy) {
            return Err(StandbyError::Older { asked: copy, kept: kept.copy });
        }
        self.give_way(vm).await;
        Ok(self.hypervisor.drop_copies(vm).await?)
    }

    /// What is kept, by VM. One whose order cannot be read is left out and told in the log.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<(VmId, StandbyBody)>, StandbyError> {
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut kept = Vec::new();
        for vm in list_folders(&self.folder)? {
            match self.order(&vm) {
                Ok(Some(order)) => kept.push((vm, order)),
                Ok(None) => {}
                Err(error) => tracing::warn!(%vm, %error, "a copy is not told of"),
            }
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use dwcp_types::{Epoch, Gib};
    use dwcp_vm::Scale;

    use super::*;
    use crate::simulated::Simulated;

    fn order(epoch: u64, number: u32) -> StandbyBody {
        let copy = CopyId { epoch: Epoch::new(epoch), number };
        let from = "CN=h".to_owned();
        let (whole, round) = (None, None);
        StandbyBody { copy, whole, exists: false, round, storage: Gib::new(1), from }
    }

    fn standbys(data: &Path) -> Standbys {
        let hypervisor = Arc::new(Simulated::open(data, Scale::default()).unwrap());
        Standbys::in_folder(data, hypervisor)
    }

    #[tokio::test]
    async fn a_writer_that_another_has_followed_is_shut_out_also_after_a_restart() {
        let data = tempfile::tempdir().unwrap();
        let vm = VmId::new("vm").unwrap();
        let kept = standbys(data.path());
        kept.keep(&vm, order(1, 1)).await.unwrap();
        kept.keep(&vm, order(1, 1)).await.unwrap();
        kept.keep(&vm, order(2, 1)).await.unwrap();
        let again = standbys(data.path());
        let late = again.keep(&vm, order(1, 9)).await.unwrap_err();
        assert!(matches!(late, StandbyError::Older { .. }), "{late}");
        let late = again.drop_up_to(&vm, order(1, 9).copy).await.unwrap_err();
        assert!(matches!(late, StandbyError::Older { .. }), "{late}");
        assert_eq!(again.list().unwrap(), [(vm.clone(), order(2, 1))]);
        again.drop_up_to(&vm, order(2, 1).copy).await.unwrap();
        again.drop_up_to(&vm, order(2, 1).copy).await.unwrap();
        assert_eq!(again.list().unwrap(), []);
    }

    #[tokio::test]
    async fn an_order_that_cannot_be_read_is_never_replaced_in_silence() {
        let data = tempfile::tempdir().unwrap();
        let vm = VmId::new("vm").unwrap();
        let kept = standbys(data.path());
        kept.keep(&vm, order(3, 1)).await.unwrap();
        fs::write(kept.path(&vm), b"{").unwrap();
        let damaged = kept.keep(&vm, order(4, 1)).await.unwrap_err();
        assert!(damaged.to_string().contains("order.json"), "{damaged}");
        assert_eq!(kept.list().unwrap(), []);
    }
}
