//! Makes room for a more urgent VM by stopping less urgent ones (F32).
//!
//! The plan names the victims; each is stopped only if it is still what the plan took it for.
//! A victim keeps its record and its disk, and gives back CPU, memory and bandwidth; it starts
//! again when its user asks and there is room.

use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::placement::Victim;
use dwcp_types::VmId;
use tracing::info;

use crate::lifecycle::Lifecycle;

/// Stops victims.
#[derive(Clone, Debug)]
pub struct Preemptor {
    /// Changes VMs.
    pub lifecycle: Lifecycle,
}

impl Preemptor {
    /// Stops them for `urgent`.
    ///
    /// # Errors
    ///
    /// When one of them cannot be stopped; those before it stay stopped.
    pub async fn stop(&self, victims: &[Victim], urgent: &VmId) -> Result<(), ApiError> {
        for victim in victims {
            self.lifecycle.preempt(&victim.vm, urgent).await.map_err(|error| {
                let message = format!("cannot make room for VM {urgent}: {error}");
                ApiError::new(ErrorCode::Refused, message)
                    .with_remedy("ask again; another host may do")
            })?;
            info!(victim = %victim.vm, %urgent, "pre-empted");
        }
        Ok(())
    }
}
