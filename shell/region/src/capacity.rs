//! What a region can still take, and what would be lost with it (O17, F12).

use std::collections::BTreeMap;
use std::sync::Arc;

use dwcp_api::public::{FlavourFit, NMinusOne, RegionCapacityReply};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::placement::{
    Policy, Requests, capacity, default_flavours, n_minus_1,
};
use dwcp_types::{RegionId, Tier};

use crate::fleet::FleetKeeper;
use crate::mirror::Mirror;

/// Stranded VMs that are named; the count says how many there are.
const STRANDED_MAX: usize = 100;

/// Plans capacity.
#[derive(Clone, Debug)]
pub struct CapacityPlanner {
    /// The fleet.
    pub fleet: Arc<FleetKeeper>,
    /// The requests of protected VMs.
    pub mirror: Arc<Mirror>,
    /// The operator's choices.
    pub policy: Policy,
}

impl CapacityPlanner {
    /// Of one region.
    ///
    /// # Errors
    ///
    /// When the fleet does not have it yet.
    pub fn of(&self, region: &RegionId) -> Result<RegionCapacityReply, ApiError> {
        let requests = self.protected();
        let looked = self.fleet.look(|fleet| {
            let sums = capacity(fleet, region, &default_flavours())?;
            Some((sums, n_minus_1(fleet, region, &requests, &self.policy)?))
        });
        let Some((sums, loss)) = looked else {
            let message =
                format!("region {region} is not in this daemon's view of the fleet yet");
            return Err(ApiError::new(ErrorCode::Unavailable, message)
                .with_remedy("try again in a second"));
        };
        let stranded = loss.stranded.len() as u64;
        let flavours = sums.fits.into_iter().map(|fit| FlavourFit {
            name: fit.flavour.name,
            shape: fit.flavour.shape,
            fits: fit.count,
        });
        Ok(RegionCapacityReply {
            region: region.clone(),
            total: sums.total,
            reserved: sums.reserved,
            free: sums.free,
            flavours: flavours.collect(),
            n_minus_1: NMinusOne {
                protected: loss.protected,
                fit_elsewhere: loss.protected.saturating_sub(stranded),
                slack: loss.free_elsewhere.saturating_sub(&loss.need),
                stranded: loss
                    .stranded
                    .into_iter()
                    .map(|vm| vm.vm)
                    .take(STRANDED_MAX)
                    .collect(),
            },
        })
    }

    fn protected(&self) -> Requests {
        let records = self
            .mirror
            .vms(None, usize::MAX, |record| record.request.tier == Tier::Protected);
        let pairs = records
            .into_iter()
            .map(|record| (record.request.id.clone(), record.request.clone()));
        pairs.collect::<BTreeMap<_, _>>()
    }
}
