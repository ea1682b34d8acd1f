//! Makes room for a more urgent VM by stopping less urgent ones (F32).
//!
//! The plan names the victims; each is stopped only if it is still what the plan took it for.
//! A victim keeps its record and its disk, and gives back CPU, memory and bandwidth; it starts
//! again when its user asks and there is room.

use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::ownership::VmRecord;
use dwcp_controller::placement::Preemption;
use dwcp_types::{Power, Tier};
use tracing::info;

use crate::lifecycle::Lifecycle;

/// Stops victims.
#[derive(Clone, Debug)]
pub struct Preemptor {
    /// Changes VMs.
    pub lifecycle: Lifecycle,
}

impl Preemptor {
    /// Stops the victims of a plan for a VM of this priority.
    ///
    /// # Errors
    ///
    /// When one of them is not what the plan took it for any more, or cannot be stopped; those
    /// before it stay stopped.
    pub async fn stop(&self, plan: &Preemption, priority: u8) -> Result<(), ApiError> {
        let still = |record: &VmRecord| {
            let makes_room_anyway = record.power == Power::Deleted;
            let as_planned = record.owner.host == plan.host
                && record.request.priority < priority
                && record.request.tier != Tier::Protected;
            makes_room_anyway || as_planned
        };
        for victim in &plan.victims {
            let stopped = self.lifecycle.preempt(&victim.vm, &plan.request, still).await;
            match stopped {
                Ok(_) => info!(victim = %victim.vm, urgent = %plan.request, "pre-empted"),
                // It is gone: so is what it held.
                Err(error) if error.code == ErrorCode::NotFound => {}
                Err(error) => {
                    let message =
                        format!("cannot make room for VM {}: {error}", plan.request);
                    return Err(ApiError::new(ErrorCode::Refused, message)
                        .with_remedy("ask again; another host may do"));
                }
            }
        }
        Ok(())
    }
}
