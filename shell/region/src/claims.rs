//! Claims capacity at the region that owns it: reserve, commit, give back (docs/adr/0006).
//!
//! One way for both, this daemon's own region and a peer's, with the same answers. An answer
//! that was lost is asked for again, because both steps may be repeated; what stays open is
//! said to be open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::peer::{
    Commit, CommitBody, CommitReply, HeldReply, KeepReplica, Release, ReservationParams,
    Reserve, ReserveBody,
};
use dwcp_api::{ApiError, CallError, Client, ErrorCode, NoParams};
use dwcp_runtime::crash::crash_point;
use dwcp_runtime::strong::OpId;
use dwcp_runtime::trace::{span, tag};
use dwcp_types::{RegionId, ReservationId};
use tracing::{info, warn};

use crate::reservations::Reservations;

/// How often, and after what pause, a commit whose answer was lost is asked about again.
const COMMIT_TRIES_MAX: u32 = 3;
const COMMIT_PAUSE: Duration = Duration::from_millis(200);

/// Reaches the books of every region.
#[derive(Debug)]
pub struct Claims {
    /// This daemon's region.
    pub region: RegionId,
    /// This region's own reservations.
    pub own: Arc<Reservations>,
    /// The daemons of the other regions.
    pub peers: BTreeMap<RegionId, Client>,
}

/// Why one region did not take a VM.
#[derive(Debug)]
pub enum Missed {
    /// It is full, closed or away; the next may do.
    TryNext(ApiError),
    /// No other will do either.
    Final(ApiError),
}

impl Claims {
    /// Reserves and commits.
    ///
    /// # Errors
    ///
    /// Why this region did not take the VM.
    pub async fn claim(
        &self,
        region: &RegionId,
        body: ReserveBody,
        commit: CommitBody,
    ) -> Result<CommitReply, Missed> {
        tag("vm", &body.request.id);
        crash_point("coordinator-before-reserve");
        let held = self.reserve(region, body).await?;
        crash_point("coordinator-after-reserve");
        let reply = self.commit(region, &held.id, commit).await?;
        crash_point("coordinator-after-commit");
        Ok(reply)
    }

    /// Holds capacity. What is held without a commit lapses, whatever comes of the answer.
    ///
    /// # Errors
    ///
    /// As [`Self::claim`].
    pub async fn reserve(
        &self,
        region: &RegionId,
        body: ReserveBody,
    ) -> Result<HeldReply, Missed> {
        let reply = if *region == self.region {
            span("reserve", self.own.reserve(body)).await.map_err(CallError::Api)
        } else {
            self.peer(region)?.call::<Reserve>(&NoParams {}, &body).await
        };
        reply.map_err(missed)
    }

    /// Makes what is held a VM.
    ///
    /// # Errors
    ///
    /// As [`Self::claim`]; what was held is given back then, unless the outcome is open.
    pub async fn commit(
        &self,
        region: &RegionId,
        id: &ReservationId,
        body: CommitBody,
    ) -> Result<CommitReply, Missed> {
        let params = ReservationParams { reservation: id.clone() };
        let mut tries = 1;
        loop {
            let reply = if *region == self.region {
                let own = self.own.commit(id, body.clone());
                span("commit_reservation", own).await.map_err(CallError::Api)
            } else {
                self.peer(region)?.call::<Commit>(&params, &body).await
            };
            match reply {
                Ok(reply) => return Ok(reply),
                Err(error) if is_open(&error) && tries < COMMIT_TRIES_MAX => {
                    warn!(%region, reservation = %id, %error, "a commit's outcome is open");
                    tries += 1;
                    tokio::time::sleep(COMMIT_PAUSE).await;
                }
                Err(error) if is_open(&error) => {
                    return Err(Missed::Final(open(region, &error)));
                }
                Err(error) => {
                    self.give_back(region, id).await;
                    return Err(missed(error));
                }
            }
        }
    }

    /// Gives back what will not be committed, ahead of its expiry.
    pub async fn give_back(&self, region: &RegionId, id: &ReservationId) {
        let params = ReservationParams { reservation: id.clone() };
        let given = if *region == self.region {
            self.own.release(id).await.map_err(CallError::Api)
        } else {
            match self.peer(region) {
                Ok(peer) => peer.call::<Release>(&params, &()).await,
                Err(_) => return,
            }
        };
        if let Err(reason) = given {
            info!(%region, reservation = %id, %reason, "a hold lapses by itself");
        }
    }

    /// Makes what is held in another region the storage of a replica. Doing it twice is doing it
    /// once.
    ///
    /// # Errors
    ///
    /// When it is not held any more, or its region does not answer.
    pub async fn keep_for_replica(
        &self,
        region: &RegionId,
        id: &ReservationId,
    ) -> Result<(), CallError> {
        let params = ReservationParams { reservation: id.clone() };
        match self.peer(region) {
            Ok(peer) => peer.call::<KeepReplica>(&params, &()).await,
            Err(Missed::TryNext(error) | Missed::Final(error)) => {
                Err(CallError::Api(error))
            }
        }
    }

    fn peer(&self, region: &RegionId) -> Result<&Client, Missed> {
        self.peers.get(region).ok_or_else(|| {
            let message = "its daemon's address is not known here";
            Missed::TryNext(ApiError::new(ErrorCode::Unavailable, message).with_remedy(
                "add its endpoint to federation.yaml and restart this daemon",
            ))
        })
    }
}

/// A reservation id that nobody else has.
///
/// # Errors
///
/// Never: what is made of random digits is a name.
pub fn attempt() -> Result<ReservationId, ApiError> {
    ReservationId::new(&random_name("r"))
        .map_err(|reason| ApiError::new(ErrorCode::Internal, reason.to_string()))
}

/// A name that nobody else has.
#[must_use]
pub fn random_name(prefix: &str) -> String {
    format!("{prefix}-{}", OpId::random())
}

/// Whether nobody knows if it was done.
fn is_open(error: &CallError) -> bool {
    if let CallError::Api(error) = error {
        return error.code == ErrorCode::Indeterminate;
    }
    error.may_have_been_done()
}

fn open(region: &RegionId, error: &CallError) -> ApiError {
    let message = format!(
        "{region} holds the capacity and did not say whether it owns the VM: {error}"
    );
    ApiError::new(ErrorCode::Indeterminate, message)
        .with_remedy("ask again with the same client token: the VM is made at most once")
}

fn missed(error: CallError) -> Missed {
    let error = error.or_unavailable("its daemon", "try again when it is back");
    let is_final = matches!(
        error.code,
        ErrorCode::Conflict | ErrorCode::Invalid | ErrorCode::Indeterminate
    );
    if is_final { Missed::Final(error) } else { Missed::TryNext(error) }
}
