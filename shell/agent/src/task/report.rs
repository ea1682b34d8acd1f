//! What the task tells of the host and of what changed on it.

use dwcp_api::host::HostReport;
use dwcp_types::VmId;
use dwcp_vm::Action;
use tokio::sync::oneshot;

use super::{PAGE_MAX, Task};
use crate::news::Cursor;

impl Task {
    /// Tells readers when something about the VM is news.
    pub(super) fn tell(&mut self, vm: &VmId) {
        if let Some(entry) = self.entries.get_mut(vm)
            && entry.has_news()
        {
            entry.seq = self.news.changed(vm.clone(), entry.seq);
            self.seq.send_replace(entry.seq);
        }
    }

    pub(super) fn report(
        &self,
        incarnation: Option<u64>,
        cursor: Option<Cursor>,
        reply: oneshot::Sender<HostReport>,
    ) {
        let own = self.store.incarnation();
        let page = self.news.page(cursor.filter(|_| incarnation == Some(own)), PAGE_MAX);
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        for vm in page.vms {
            let Some(entry) = self.entries.get(&vm) else { continue };
            if entry.is_buried() {
                // Whoever begins anew knows nothing that could be removed.
                if !page.complete {
                    removed.push(vm);
                }
                continue;
            }
            let given = entry.instance.as_ref().map(|instance| {
                self.hypervisor.give(&instance.record().instruction.guest.shape)
            });
            changed.extend(given.and_then(|given| entry.report(&vm, given)));
        }
        let mut host = self.host.clone();
        host.strangers.retain(|name| {
            VmId::new(name).map_or(true, |vm| !self.entries.contains_key(&vm))
        });
        let report = HostReport {
            incarnation: own,
            seq: page.seq,
            begun: page.begun,
            host,
            changed,
            removed,
            // Whoever hands the report out puts them in: this one may be thrown away for a newer.
            spans: Vec::new(),
            complete: page.complete,
            more: page.more,
        };
        // Whoever asked may have given up.
        drop(reply.send(report));
    }
}

/// What is told of an action that succeeded; the quiet ones show in the phase.
pub(super) const fn told(action: Action) -> Option<&'static str> {
    match action {
        Action::CreateDisk => Some("its disk is made"),
        Action::Start { .. } => Some("started"),
        Action::Cont => Some("resumed"),
        Action::Pause => Some("paused"),
        Action::PowerDown => Some("asked to shut down"),
        Action::Kill { .. } => Some("its process is ended"),
        Action::DeleteDisk => Some("its disk is removed"),
        Action::Adopt | Action::Bury | Action::Nothing => None,
    }
}
