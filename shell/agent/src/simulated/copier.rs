//! Copies of disks that are only names: modelled, no disk flows. A copy follows as soon as it is
//! begun and a round is there as soon as it is sent; what is kept is one empty file for each, so
//! that a region can rehearse all steps. What changed since a round is known as long as the guest
//! and this process live, as with a real guest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dwcp_api::host::StandbyBody;
use dwcp_types::{CopyId, Timestamp, VmId};
use dwcp_vm::migration::Mirror;
use dwcp_vm::{CopyOrder, CopyPlace, CopySeen, CopySight, RoundSeen};
use futures_util::future::{BoxFuture, ready};

use super::{Guest, Simulated};
use crate::copier::Copier;
use crate::hypervisor::{Done, HypervisorError};
use crate::qemu::{make_folder, remove_folder, remove_stale};
use crate::standby::STANDBYS;

/// Nobody listens there.
const PORT: u16 = 1;

/// The copies of one VM.
#[derive(Debug, Default)]
struct Written {
    copy: Option<(CopyId, Option<RoundSeen>)>,
    since: BTreeSet<CopyId>,
}

impl Written {
    fn sight(&self) -> CopySight {
        let seen = |(copy, round): (CopyId, Option<RoundSeen>)| {
            let ready = round.is_none_or(|round| !round.waits);
            let mirror = Mirror { ready, sound: true, copied: 1, total: 1 };
            CopySeen { copy, mirror, round }
        };
        let written = self.copy.map(seen);
        let earlier = |it: &&CopyId| Some(**it) != self.copy.map(|(copy, _)| copy);
        CopySight { written, since: self.since.iter().rev().find(earlier).copied() }
    }

    fn begin(
        &mut self,
        order: &CopyOrder,
        now: Timestamp,
    ) -> Result<(), HypervisorError> {
        if let Some(base) = order.base().filter(|base| !self.since.contains(base)) {
            return Err(HypervisorError::NoBase { base });
        }
        let round = order.round.map(|_| RoundSeen { as_of: now, waits: true });
        self.copy = Some((order.copy, round));
        if round.is_some() {
            self.since.insert(order.copy);
        }
        Ok(())
    }
}

/// The copies that are written.
#[derive(Debug, Default)]
pub(super) struct Copies(Mutex<BTreeMap<VmId, Written>>);

impl Copies {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<VmId, Written>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, vm: &VmId) {
        self.lock().remove(vm);
    }
}

impl Simulated {
    fn standby(&self, vm: &VmId) -> std::path::PathBuf {
        self.data().join(STANDBYS).join(vm.as_str())
    }

    fn kept(&self, vm: &VmId, copy: CopyId) -> std::path::PathBuf {
        self.standby(vm).join(format!("copy-{copy}"))
    }

    fn keep_file(&self, vm: &VmId, order: &StandbyBody) -> Result<u16, HypervisorError> {
        let folder = self.standby(vm);
        make_folder(&folder)?;
        let kept = |copy| folder.join(format!("copy-{copy}"));
        let path = kept(order.copy);
        let keep = [Some(path.clone()), order.whole.map(kept)];
        let cannot_list =
            |source| HypervisorError::File { what: "read", path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(cannot_list)?.flatten() {
            let is_copy = entry.file_name().to_string_lossy().starts_with("copy-");
            if is_copy && !keep.contains(&Some(entry.path())) {
                remove_stale(&entry.path())?;
            }
        }
        let base = order.round.and_then(|round| round.base);
        if let Some(copy) = base.filter(|base| !path.exists() && !kept(*base).exists()) {
            return Err(HypervisorError::NoCopy { copy });
        }
        let written = fs::write(&path, b"");
        written.map_err(|source| HypervisorError::File {
            what: "write",
            path,
            source,
        })?;
        Ok(PORT)
    }

    fn drop_files(&self, vm: &VmId) -> Result<(), HypervisorError> {
        remove_folder(&self.standby(vm))
    }

    fn take_file(&self, vm: &VmId, copy: CopyId) -> Result<(), HypervisorError> {
        let here = self.kept(vm, copy).is_file();
        let mut guests = self.guests();
        if !guests.contains_key(vm) {
            if !here {
                return Err(HypervisorError::NoCopy { copy });
            }
            make_folder(&self.folder.join(vm.as_str()))?;
            let guest = Guest::default();
            self.keep(vm, &guest)?;
            guests.insert(vm.clone(), guest);
        }
        drop(guests);
        self.drop_files(vm)
    }
}

impl Copier for Simulated {
    fn copy_seen<'a>(&'a self, vm: &'a VmId, _: bool) -> BoxFuture<'a, CopySight> {
        let sight = self.copies.lock().get(vm).map(Written::sight);
        Box::pin(ready(sight.unwrap_or_default()))
    }

    fn begin_copy<'a>(
        &'a self,
        vm: &'a VmId,
        order: &'a CopyOrder,
        _: &'a CopyPlace,
        now: Timestamp,
    ) -> Done<'a> {
        let begun = self.copies.lock().entry(vm.clone()).or_default().begin(order, now);
        Box::pin(ready(begun))
    }

    fn send_copy<'a>(
        &'a self,
        vm: &'a VmId,
        _: &'a CopyOrder,
        _: &'a CopyPlace,
    ) -> Done<'a> {
        let mut copies = self.copies.lock();
        let copy = copies.get_mut(vm).and_then(|written| written.copy.as_mut());
        if let Some((_, Some(round))) = copy {
            round.waits = false;
        }
        Box::pin(ready(Ok(())))
    }

    fn end_copy<'a>(&'a self, vm: &'a VmId, keep: Option<CopyId>) -> Done<'a> {
        if let Some(written) = self.copies.lock().get_mut(vm) {
            written.copy = None;
            written.since.retain(|copy| Some(*copy) == keep);
        }
        Box::pin(ready(Ok(())))
    }

    fn keep_copy<'a>(
        &'a self,
        vm: &'a VmId,
        order: &'a StandbyBody,
    ) -> BoxFuture<'a, Result<u16, HypervisorError>> {
        Box::pin(ready(self.keep_file(vm, order)))
    }

    fn drop_copies<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        Box::pin(ready(self.drop_files(vm)))
    }

    fn shut_doors(&self) -> Done<'_> {
        Box::pin(ready(Ok(())))
    }

    fn fork_copy<'a>(
        &'a self,
        vm: &'a VmId,
        copy: CopyId,
        _: &'a StandbyBody,
        _: &'a Arc<AtomicBool>,
    ) -> Done<'a> {
        let here = self.kept(vm, copy).is_file();
        Box::pin(ready(here.then_some(()).ok_or(HypervisorError::NoCopy { copy })))
    }

    fn end_fork<'a>(&'a self, _: &'a VmId) -> Done<'a> {
        Box::pin(ready(Ok(())))
    }

    fn take_copy<'a>(&'a self, vm: &'a VmId, copy: CopyId) -> Done<'a> {
        Box::pin(ready(self.take_file(vm, copy)))
    }
}
