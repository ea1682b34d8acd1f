//! What a region can still take, and what would be lost with it (O17, F12).

use std::collections::BTreeMap;
use std::sync::Arc;

use dwcp_api::public::{FlavourFit, NMinusOne, RegionCapacityReply};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::placement::{
    AdmissionVerdict, Choice, Fleet, Policy, RegionLoss, Requests, admit, capacity,
    default_flavours, is_judged, n_minus_1,
};
use dwcp_types::{PlacementRequest, RegionId, Tier};

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

    /// Whether a protected VM may be placed where it was decided: the losses that it would
    /// newly make unbearable, where the policy only warns of them (F12).
    ///
    /// # Errors
    ///
    /// When the policy refuses such a placement.
    pub fn admit(
        &self,
        request: &PlacementRequest,
        at: &Choice,
    ) -> Result<Vec<RegionLoss>, ApiError> {
        if !is_judged(request, &self.policy) {
            return Ok(Vec::new());
        }
        let requests = self.protected();
        // Regions are lost and rehearsed in a copy: placements go on meanwhile.
        let fleet = self.fleet.look(Fleet::clone);
        match admit(&fleet, request, at, &requests, &self.policy) {
            AdmissionVerdict::Admitted => Ok(Vec::new()),
            AdmissionVerdict::Warned { losses } => Ok(losses),
            AdmissionVerdict::Refused { losses } => Err(not_survivable(request, &losses)),
        }
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

fn not_survivable(request: &PlacementRequest, losses: &[RegionLoss]) -> ApiError {
    let regions: Vec<String> = losses
        .iter()
        .map(|loss| {
            let vms: Vec<&str> = loss.stranded.iter().map(|vm| vm.vm.as_str()).collect();
            format!("{} would strand {}", loss.region, vms.join(", "))
        })
        .collect();
    let message = format!(
        "VM {} is protected, and placed it would break N-1: the loss of {}",
        request.id,
        regions.join("; of ")
    );
    ApiError::new(ErrorCode::Refused, message)
        .with_remedy(
            "add capacity where those VMs may run, place it with another tier, or set \
             `controller.n_minus_1: warn`",
        )
        .with_details(&losses)
}
