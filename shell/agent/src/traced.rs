//! What this host does within traces: its spans go to the region's daemon with its reports.

use std::sync::{Arc, Mutex, PoisonError};

use dwcp_api::host::{HostFacts, SPANS_MAX};
use dwcp_monitor::trace::{Lane, Span};
use dwcp_runtime::clock::SystemClock;
use dwcp_runtime::trace::{Fault, Tracer, Trail};
use dwcp_vm::Action;
use tokio::sync::mpsc;

use crate::hypervisor::HypervisorError;

/// See the module.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) tracer: Tracer,
    /// Which requests the instructions in force come from.
    pub(crate) trail: Trail,
    ended: Mutex<mpsc::Receiver<Span>>,
}

impl Traced {
    pub(crate) fn new(host: &HostFacts) -> Arc<Self> {
        let clock = Arc::new(SystemClock::new());
        let lane = Lane { region: host.region.clone(), process: host.host.to_string() };
        let (tracer, ended) = Tracer::new(lane, clock.clone());
        let trail = Trail::new(tracer.clone(), clock);
        Arc::new(Self { tracer, trail, ended: Mutex::new(ended) })
    }

    /// Spans that ended since; what a report that is lost had taken is lost with it.
    pub(crate) fn take(&self) -> Vec<Span> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| ended.try_recv().ok()).take(SPANS_MAX).collect()
    }
}

/// What an action on a guest is called in a trace.
pub(crate) const fn name(action: Action) -> &'static str {
    match action {
        Action::CreateDisk => "create_disk",
        Action::Start { .. } => "start_guest",
        Action::Adopt => "adopt_guest",
        Action::Cont => "resume_guest",
        Action::Pause => "pause_guest",
        Action::PowerDown => "power_down_guest",
        Action::Kill { .. } => "end_guest",
        Action::DeleteDisk => "delete_disk",
        Action::Bury | Action::Nothing => "nothing",
    }
}

impl Fault for HypervisorError {
    fn fault(&self) -> Option<String> {
        Some(self.told())
    }
}
