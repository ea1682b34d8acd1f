//! Copies of disks that are only names: modelled, no disk flows. A copy follows as soon as it is
//! begun, and what is kept is one empty file for each, so that a region can rehearse all steps.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dwcp_api::host::StandbyBody;
use dwcp_types::{CopyId, VmId};
use dwcp_vm::migration::Mirror;
use dwcp_vm::{CopyOrder, CopyPlace, CopySeen};
use futures_util::future::{BoxFuture, ready};

use super::{Guest, Simulated};
use crate::copier::Copier;
use crate::hypervisor::{Done, HypervisorError};
use crate::qemu::{make_folder, remove_folder};
use crate::standby::STANDBYS;

/// Nobody listens there.
const PORT: u16 = 1;

/// The copies that are written.
#[derive(Debug, Default)]
pub(super) struct Copies(Mutex<BTreeMap<VmId, CopyId>>);

impl Copies {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<VmId, CopyId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, vm: &VmId) {
        self.lock().remove(vm);
    }
}

impl Simulated {
    fn standby(&self, vm: &VmId) -> std::path::PathBuf {
        let data = self.folder.parent().unwrap_or(&self.folder);
        data.join(STANDBYS).join(vm.as_str())
    }

    fn keep_file(&self, vm: &VmId, order: &StandbyBody) -> Result<u16, HypervisorError> {
        let folder = self.standby(vm);
        make_folder(&folder)?;
        let path = folder.join(format!("copy-{}", order.copy));
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
        let here = self.standby(vm).join(format!("copy-{copy}")).is_file();
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
    fn copy_seen<'a>(&'a self, vm: &'a VmId) -> BoxFuture<'a, Option<CopySeen>> {
        let mirror = Mirror { ready: true, sound: true, copied: 1, total: 1 };
        let copy = self.copies.lock().get(vm).copied();
        Box::pin(ready(copy.map(|copy| CopySeen { copy, mirror })))
    }

    fn begin_copy<'a>(
        &'a self,
        vm: &'a VmId,
        order: &'a CopyOrder,
        _: &'a CopyPlace,
    ) -> Done<'a> {
        self.copies.lock().insert(vm.clone(), order.copy);
        Box::pin(ready(Ok(())))
    }

    fn end_copy<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        self.copies.forget(vm);
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

    fn take_copy<'a>(&'a self, vm: &'a VmId, copy: CopyId) -> Done<'a> {
        Box::pin(ready(self.take_file(vm, copy)))
    }
}
