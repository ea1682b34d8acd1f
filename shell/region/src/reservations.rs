//! This region's side of placing: reserve, commit, release, as the API's errors.
//!
//! The one door to the books for coordinators, whether they are in this daemon or in another
//! region's: both get the same answers.

use std::sync::Arc;

use dwcp_api::peer::{CommitBody, CommitReply, HeldReply, ReserveBody, TakeOverBody};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::ledger::{
    CommitDenied, Proposal, ROOM_HOLD_FOR, Reserve, ReserveDenied, Stage,
};
use dwcp_runtime::crash::crash_point;
use dwcp_types::ReservationId;

use crate::books::{Books, BooksError};
use crate::commit::{CommitError, Committer};
use crate::trail::Followed;

/// Reserves and commits in this region.
#[derive(Debug)]
pub struct Reservations {
    books: Books,
    committer: Committer,
    followed: Arc<Followed>,
}

impl Reservations {
    /// On these books.
    #[must_use]
    pub(crate) const fn new(
        books: Books,
        committer: Committer,
        followed: Arc<Followed>,
    ) -> Self {
        Self { books, committer, followed }
    }

    /// Holds capacity.
    ///
    /// # Errors
    ///
    /// Refused when no host takes it, so that the next region is tried.
    pub async fn reserve(&self, body: ReserveBody) -> Result<HeldReply, ApiError> {
        let mut ask = Reserve::of(body.id, &body.request);
        ask.proposal = Proposal { zone: Some(body.zone), host: Some(body.host) };
        if !body.victims.is_empty() {
            ask.hold_for = ROOM_HOLD_FOR;
            ask.victims = body.victims.into_iter().collect();
        }
        let row = self.books.reserve(ask).await.map_err(not_stored)?;
        let row = match row {
            Ok(row) => row,
            Err(denied) => return Err(self.reserve_denied(&denied).await),
        };
        crash_point("owner-after-reserve");
        let Stage::Held { expires_at } = row.stage else {
            let message = format!("reservation {} is past being held", row.ask.id);
            return Err(ApiError::new(ErrorCode::Conflict, message));
        };
        Ok(HeldReply {
            id: row.ask.id.clone(),
            zone: row.zone.clone(),
            host: row.host.clone(),
            expires_at,
            waits_for: row.awaits.keys().cloned().collect(),
        })
    }

    async fn reserve_denied(&self, denied: &ReserveDenied) -> ApiError {
        let ReserveDenied::VmReserved { vm, by } = denied else {
            return reserve_denied(denied);
        };
        let committing = self.books.committing().await.unwrap_or_default();
        if committing.iter().any(|row| row.ask.id == *by) {
            let message = format!(
                "an earlier request for VM {vm} is being committed in this region"
            );
            return ApiError::new(ErrorCode::Indeterminate, message).with_remedy(
                "ask again with the same client token: the VM is made at most once",
            );
        }
        reserve_denied(denied).with_remedy("choose another name, or delete that VM first")
    }

    /// Makes a held reservation a VM that this region owns.
    ///
    /// # Errors
    ///
    /// Indeterminate while the engine does not answer; the region then goes on by itself.
    pub async fn commit(
        &self,
        id: &ReservationId,
        body: CommitBody,
    ) -> Result<CommitReply, ApiError> {
        self.followed.trail.note(&body.request.id);
        self.committer
            .commit(id.clone(), body)
            .await
            .map_err(|error| commit_error(&error))
    }

    /// Takes a VM of a lost region over.
    ///
    /// # Errors
    ///
    /// Refused when no host takes it; a conflict when it is not to be taken over any more.
    pub async fn take_over(&self, body: TakeOverBody) -> Result<CommitReply, ApiError> {
        let TakeOverBody { record, recovered } = body;
        self.followed.trail.note(&record.request.id);
        // Without a place in mind, or where its disk is: asking again must ask for the same.
        let mut ask = Reserve::of(record.reservation.clone(), &record.request);
        if let Some(replica) = &record.replica {
            ask.bounds.host = Some(replica.at.host.clone());
            ask.replaces = Some(replica.reservation.clone());
        }
        let held = self.books.reserve(ask).await.map_err(not_stored)?;
        if let Err(denied) = held {
            return Err(self.reserve_denied(&denied).await);
        }
        crash_point("owner-after-reserve");
        let taken = self.committer.take_over(record, recovered).await;
        taken.map_err(|error| commit_error(&error))
    }

    /// Makes what is held the storage of a replica.
    ///
    /// # Errors
    ///
    /// A conflict when it is not held any more, or nothing can be stored.
    pub async fn keep_for_replica(&self, id: &ReservationId) -> Result<(), ApiError> {
        let kept = self.books.keep_for_replica(id.clone()).await.map_err(not_stored)?;
        kept.map(drop)
            .map_err(|denied| ApiError::new(ErrorCode::Conflict, denied.to_string()))
    }

    /// Gives back what is only held.
    ///
    /// # Errors
    ///
    /// When it is being committed already, or nothing can be stored.
    pub async fn release(&self, id: &ReservationId) -> Result<(), ApiError> {
        let cancelled = self.books.cancel(id.clone()).await.map_err(not_stored)?;
        cancelled.map_err(|denied| ApiError::new(ErrorCode::Conflict, denied.to_string()))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
pub(crate) fn not_stored(error: BooksError) -> ApiError {
    ApiError::new(ErrorCode::Unavailable, error.to_string()).with_remedy(
        "free space on the disk of that region's data directory, then try again",
    )
}

pub(crate) fn reserve_denied(denied: &ReserveDenied) -> ApiError {
    let code = match denied {
        ReserveDenied::OutOfRange { .. } => ErrorCode::Invalid,
        ReserveDenied::VmReserved { .. } | ReserveDenied::OtherContent { .. } => {
            ErrorCode::Conflict
        }
        ReserveDenied::NoHost { .. }
        | ReserveDenied::VictimGuarded { .. }
        | ReserveDenied::VictimTaken { .. }
        | ReserveDenied::RulesContradict { .. }
        | ReserveDenied::Full { .. } => ErrorCode::Refused,
    };
    ApiError::new(code, denied.to_string())
}

fn commit_error(error: &CommitError) -> ApiError {
    let message = error.to_string();
    match error {
        CommitError::Denied(
            CommitDenied::Unknown { .. } | CommitDenied::AwaitsRoom { .. },
        ) => ApiError::new(ErrorCode::Refused, message),
        CommitError::Denied(CommitDenied::OtherRecord { .. }) => {
            ApiError::new(ErrorCode::Invalid, message)
        }
        CommitError::Books(_) => ApiError::new(ErrorCode::Unavailable, message),
        CommitError::Impossible(_) => ApiError::new(ErrorCode::Invalid, message)
            .with_remedy("make the request smaller: fewer labels and lists"),
        CommitError::Pending(_) => ApiError::new(ErrorCode::Indeterminate, message),
        CommitError::TokenUsed { .. } | CommitError::TokenSpent { .. } => {
            ApiError::new(ErrorCode::Conflict, message)
                .with_remedy("use a new client token")
        }
        CommitError::NameTaken { .. } => ApiError::new(ErrorCode::Conflict, message)
            .with_remedy("choose another name, or delete that VM first"),
        CommitError::Superseded { .. } => ApiError::new(ErrorCode::Conflict, message),
        CommitError::Unreadable { .. } => ApiError::new(ErrorCode::Internal, message),
    }
}
