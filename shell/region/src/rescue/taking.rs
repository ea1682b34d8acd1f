//! Asks a region to take a VM over: the own one directly, another by its door.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::peer::{TakeOver, TakeOverBody};
use dwcp_api::{ApiError, CallError, Client, ErrorCode, NoParams};
use dwcp_controller::ownership::{Recovered, VmRecord};
use dwcp_runtime::trace::Fault;
use dwcp_types::RegionId;

use crate::reservations::Reservations;

/// Time for one take-over: reserve, one transaction, confirm.
const TAKE_TIME_MAX: Duration = Duration::from_secs(2);

/// Who takes VMs over.
#[derive(Debug)]
pub struct Takers {
    /// This region.
    pub region: RegionId,
    /// Its books.
    pub own: Arc<Reservations>,
    /// The other regions.
    pub peers: BTreeMap<RegionId, Client>,
}

impl Takers {
    /// Has a region own a VM of a lost one; doing it again is doing it once.
    ///
    /// # Errors
    ///
    /// Why it does not, or that it is not known to.
    pub(super) async fn take_over(
        &self,
        to: &RegionId,
        record: VmRecord,
        recovered: Recovered,
    ) -> Result<(), NotTaken> {
        let body = TakeOverBody { record, recovered };
        if *to == self.region {
            return self
                .own
                .take_over(body)
                .await
                .map(drop)
                .map_err(|error| NotTaken::of(&error));
        }
        let Some(peer) = self.peers.get(to) else {
            let reason = format!("region {to} has no endpoint");
            return Err(NotTaken { is_final: true, reason });
        };
        let peer = peer.clone().with_call_time_max(TAKE_TIME_MAX);
        let taken = peer.call::<TakeOver>(&NoParams {}, &body).await;
        taken.map(drop).map_err(|error| match error {
            CallError::Api(error) => NotTaken::of(&error),
            CallError::Unreachable { .. }
            | CallError::Tls { .. }
            | CallError::Timeout { .. }
            | CallError::Protocol { .. } => {
                NotTaken { is_final: false, reason: error.to_string() }
            }
        })
    }
}

/// Why a region does not own a VM of a lost one.
#[derive(Debug)]
pub(super) struct NotTaken {
    /// It understood and said no; else it may do so when asked again.
    pub(super) is_final: bool,
    /// In words.
    pub(super) reason: String,
}

impl Fault for NotTaken {
    fn fault(&self) -> Option<String> {
        Some(self.reason.clone())
    }
}

impl NotTaken {
    fn of(error: &ApiError) -> Self {
        let is_final = matches!(error.code, ErrorCode::Refused | ErrorCode::Conflict);
        Self { is_final, reason: error.to_string() }
    }
}
