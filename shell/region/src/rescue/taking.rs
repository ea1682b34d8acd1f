//! Asks a region to take a VM over: the own one directly, another by its door.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::peer::{TakeOver, TakeOverBody};
use dwcp_api::{Client, NoParams};
use dwcp_controller::ownership::{Recovered, VmRecord};
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
    /// Why it does not.
    pub(super) async fn take_over(
        &self,
        to: &RegionId,
        record: VmRecord,
        recovered: Recovered,
    ) -> Result<(), String> {
        let body = TakeOverBody { record, recovered };
        if *to == self.region {
            return self.own.take_over(body).await.map(drop).map_err(|e| e.to_string());
        }
        let Some(peer) = self.peers.get(to) else {
            return Err(format!("region {to} has no endpoint"));
        };
        let peer = peer.clone().with_call_time_max(TAKE_TIME_MAX);
        let taken = peer.call::<TakeOver>(&NoParams {}, &body).await;
        taken.map(drop).map_err(|error| error.to_string())
    }
}
