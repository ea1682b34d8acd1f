//! What a host makes of an instruction, as part of the trace of the request that it comes from.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use dwcp_api::host::InstanceReport;
use dwcp_runtime::trace::{Moment, Tracer, Trail};
use dwcp_types::{Epoch, Generation, VmId, VmPhase};

/// Guests that are waited for at once.
const GUESTS_MAX: usize = 10_000;

/// An instruction that a host has, and since when.
type Told = ((Epoch, Generation), Moment);

/// Which requests instructions come from, and guests that are to start since.
#[derive(Debug)]
pub(crate) struct Followed {
    tracer: Tracer,
    /// Of which request the newest record of a VM is.
    pub(crate) trail: Trail,
    told: Mutex<BTreeMap<VmId, Told>>,
}

impl Followed {
    pub(crate) fn new(tracer: Tracer, trail: Trail) -> Self {
        Self { tracer, trail, told: Mutex::default() }
    }

    /// The host has this instruction.
    pub(crate) fn told(&self, vm: &VmId, version: (Epoch, Generation)) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= GUESTS_MAX {
            // Those that never started are not followed any more.
            told.retain(|vm, _| self.trail.of(vm).is_some());
        }
        if self.trail.of(vm).is_some() && told.len() < GUESTS_MAX {
            told.insert(vm.clone(), (version, self.tracer.moment()));
        }
    }

    /// The host says how a guest is: one that runs as it was told to ends its trace.
    pub(crate) fn saw(&self, guest: &InstanceReport) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((version, since)) = told.get(&guest.vm).copied() else { return };
        if (guest.epoch, guest.generation) < version || guest.phase != VmPhase::Running {
            return;
        }
        told.remove(&guest.vm);
        drop(told);
        if let Some(of) = self.trail.of(&guest.vm) {
            let tags = [("vm", guest.vm.to_string())];
            self.tracer.tell_part(of, "guest_starts", since, tags);
        }
        self.trail.end(&guest.vm);
    }
}
