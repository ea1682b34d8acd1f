//! Turns a reservation into ownership: the region that holds the capacity writes the VM's
//! record into the strong engine, once, whatever crashes between (docs/adr/0006).
//!
//! The ledger says *committing* durably before the engine is asked, so a crash at any point
//! leaves either a held reservation, which lapses, or a committing one, which is rolled forward
//! by sending the same transaction again. What came of a transaction is read from what is
//! stored, never guessed from a lost answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dwcp_controller::lease::{LeaseRecord, lease_key};
use dwcp_controller::ledger::{CommitDenied, Reservation, Stage};
use dwcp_controller::ownership::{
    Creation, EpochFloor, Owner, Place, Recovered, Recovery, TokenRecord, VmRecord,
    epoch_floor_key, judge_creation, judge_recovery, recover, token_key, vm_key,
};
use dwcp_runtime::crash::crash_point;
use dwcp_runtime::strong::{
    Compare, KeyValue, Op, OpId, StrongEngine, StrongError, Txn, TxnOutcome,
};
use dwcp_types::{Epoch, Generation, Power, RegionId, ReservationId, Timestamp};
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use crate::books::{Books, BooksError};
use dwcp_api::peer::{CommitBody, CommitReply};

/// How often commits that were cut short are looked for.
const ROLL_FORWARD_EVERY: Duration = Duration::from_secs(1);

/// Attempts at one transaction whose compares fail although nothing of it is stored: each
/// means that an epoch floor moved in between, which a deletion does once.
const ATTEMPTS_MAX: u32 = 8;

/// Why a reservation did not become ownership.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The reservation cannot be committed.
    #[error(transparent)]
    Denied(#[from] CommitDenied),
    /// The region's own store failed; nothing was done.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// The engine did not answer; the region goes on by itself until it is known.
    #[error("the outcome is not known yet: {0}; the region finishes it by itself")]
    Pending(StrongError),
    /// The engine will never take it; nothing was done.
    #[error("the VM cannot be recorded: {0}")]
    Impossible(StrongError),
    /// The token was used for another request.
    #[error("the client token {token:?} was used for another request")]
    TokenUsed {
        /// The token.
        token: String,
    },
    /// The token made a VM that was deleted since.
    #[error("the client token {token:?} made this VM before, and it was deleted since")]
    TokenSpent {
        /// The token.
        token: String,
    },
    /// The name belongs to another VM.
    #[error("a VM named {vm} exists already")]
    NameTaken {
        /// The name.
        vm: String,
    },
    /// A VM of a lost region is not to be taken over any more.
    #[error("VM {vm} was deleted or has moved on, or its region is back")]
    Superseded {
        /// The VM.
        vm: String,
    },
    /// A stored record cannot be read.
    #[error("the record {key} in the strong engine cannot be read: {reason}")]
    Unreadable {
        /// Its key.
        key: String,
        /// Why.
        reason: String,
    },
}

/// Commits reservations of one region.
#[derive(Clone, Debug)]
pub struct Committer {
    region: RegionId,
    books: Books,
    engine: Arc<dyn StrongEngine>,
}

impl Committer {
    /// For one region.
    #[must_use]
    pub fn new(region: RegionId, books: Books, engine: Arc<dyn StrongEngine>) -> Self {
        Self { region, books, engine }
    }

    /// Commits a held reservation; doing it again gives the same answer.
    ///
    /// # Errors
    ///
    /// See [`CommitError`]. After [`CommitError::Pending`] the region goes on by itself.
    pub async fn commit(
        &self,
        id: ReservationId,
        body: CommitBody,
    ) -> Result<CommitReply, CommitError> {
        let region = self.region.clone();
        let record = move |row: &Reservation, now| draft(region, row, now, body);
        let row = self.books.begin_commit(id, record).await??;
        crash_point("owner-after-begin-commit");
        self.finish(&row).await
    }

    /// Takes a VM of a lost region over: as a commit, but over the record that is there. Doing
    /// it again gives the same answer.
    ///
    /// # Errors
    ///
    /// See [`CommitError`].
    pub async fn take_over(
        &self,
        vm: VmRecord,
        recovered: Recovered,
    ) -> Result<CommitReply, CommitError> {
        let region = self.region.clone();
        let id = vm.reservation.clone();
        let record = move |row: &Reservation, now| {
            let (zone, host) = (row.zone.clone(), row.host.clone());
            recover(
                &vm,
                &Place { region, zone, host },
                Recovered { at: now, ..recovered },
            )
        };
        let row = self.books.begin_commit(id, record).await??;
        crash_point("owner-after-begin-recovery");
        self.finish(&row).await
    }

    /// Writes the new owner over the record of a lost region's VM, if its lease is still fenced
    /// by this failover, and says what is true then.
    async fn recover(
        &self,
        wanted: &VmRecord,
        from: &RegionId,
    ) -> Result<(Creation, Option<VmRecord>), CommitError> {
        let vm_key = vm_key(&wanted.request.id);
        let lease_key = lease_key(from);
        for _ in 0..ATTEMPTS_MAX {
            let lease = self.read::<LeaseRecord>(&lease_key);
            let vm = self.read::<VmRecord>(&vm_key);
            let (lease, vm) = tokio::try_join!(lease, vm)?;
            let seen = (vm.as_ref().map(|it| &it.1), lease.as_ref().map(|it| &it.1));
            let next = match judge_recovery(wanted, seen.0, seen.1) {
                Recovery::Done => return Ok((Creation::Done, vm.map(|(_, vm)| vm))),
                Recovery::Superseded => return Ok((Creation::DoneAndDeleted, None)),
                Recovery::Open(next) => next,
            };
            let value = encoded(&next).map_err(|reason| CommitError::Unreadable {
                key: vm_key.clone(),
                reason,
            })?;
            let compare = vm.iter().map(|it| &it.0).chain(lease.iter().map(|it| &it.0));
            let txn = Txn {
                compare: compare.map(Compare::unchanged).collect(),
                then: vec![Op::Put { key: vm_key.clone(), value, lease: None }],
                op_id: Some(OpId::random()),
            };
            match self.engine.txn(txn).await {
                Ok(TxnOutcome::Committed { .. }) => {
                    return Ok((Creation::Done, Some(*next)));
                }
                Ok(TxnOutcome::Conflict { .. }) => {}
                Err(reason) => return Err(CommitError::Pending(reason)),
            }
        }
        Err(CommitError::Pending(StrongError::Unavailable {
            reason: "the VM's record keeps changing".to_owned(),
        }))
    }

    /// Brings a reservation that is being committed to its end.
    async fn finish(&self, row: &Reservation) -> Result<CommitReply, CommitError> {
        let Stage::Committing { record: wanted } = &row.stage else {
            return self.already(row).await;
        };
        let id = row.ask.id.clone();
        let created = self.create(wanted).await;
        if matches!(created, Err(CommitError::Impossible(_))) {
            self.release(id.clone()).await;
        }
        let (creation, stored) = created?;
        crash_point("owner-after-engine-txn");
        match (creation, stored) {
            (Creation::Done, Some(record)) => {
                self.confirm(id).await;
                crash_point("owner-after-confirm");
                Ok(CommitReply { record, repeated: false })
            }
            (Creation::DoneByAnother, Some(record)) if record.token == wanted.token => {
                self.release(id).await;
                Ok(CommitReply { record, repeated: true })
            }
            (creation, _) => {
                self.release(id).await;
                Err(refusal(creation, wanted))
            }
        }
    }

    /// The engine has decided, so the answer is known whether the books can note it or not;
    /// what they cannot note now is rolled forward.
    async fn confirm(&self, id: ReservationId) {
        match self.books.confirm(id).await {
            Ok(Ok(_)) => {}
            Ok(Err(reason)) => {
                warn!(%reason, "a created VM's reservation is gone; it is taken in again");
            }
            Err(reason) => warn!(%reason, "a commit is noted later"),
        }
    }

    /// As [`Self::confirm`].
    async fn release(&self, id: ReservationId) {
        if let Err(reason) = self.books.release(id).await {
            warn!(%reason, "capacity is given back later");
        }
    }

    /// A reservation that was confirmed before: its VM as it is stored.
    async fn already(&self, row: &Reservation) -> Result<CommitReply, CommitError> {
        let vm = self.read::<VmRecord>(&vm_key(&row.ask.vm)).await?;
        match vm {
            Some((_, record)) if record.reservation == row.ask.id => {
                Ok(CommitReply { record, repeated: false })
            }
            _ => Err(CommitDenied::Unknown { id: row.ask.id.clone() }.into()),
        }
    }

    /// Creates the record if nothing stands in its way, and says what is true then.
    async fn create(
        &self,
        wanted: &VmRecord,
    ) -> Result<(Creation, Option<VmRecord>), CommitError> {
        if let Some(recovered) = &wanted.recovered {
            return self.recover(wanted, &recovered.from).await;
        }
        for _ in 0..ATTEMPTS_MAX {
            let floor_key = epoch_floor_key(&wanted.request.id);
            let floor = self.read::<EpochFloor>(&floor_key).await?;
            let mut record = wanted.clone();
            record.owner.epoch =
                EpochFloor::first_above(floor.as_ref().map(|(_, floor)| *floor));
            let floor_revision = floor.map_or(0, |(kv, _)| kv.mod_revision);
            let txn = creation(&record, floor_key, floor_revision)?;
            match self.engine.txn(txn).await {
                Ok(TxnOutcome::Committed { .. }) => {
                    return Ok((Creation::Done, Some(record)));
                }
                Ok(TxnOutcome::Conflict { .. }) => {}
                Err(
                    reason @ (StrongError::TooLarge { .. }
                    | StrongError::Malformed { .. }),
                ) => return Err(CommitError::Impossible(reason)),
                Err(reason) => return Err(CommitError::Pending(reason)),
            }
            // The token first: it is written with the VM and outlives it. So a VM that is not
            // there after its token was seen was deleted; the other order could take one that
            // is just being created for deleted, and sell its capacity.
            let token_key = token_key(&wanted.request.tenant, &wanted.token);
            let token = self.read::<TokenRecord>(&token_key).await?;
            let vm = self.read::<VmRecord>(&vm_key(&wanted.request.id)).await?;
            let (vm, token) = (vm.map(|(_, vm)| vm), token.map(|(_, token)| token));
            let judged = judge_creation(wanted, vm.as_ref(), token.as_ref());
            if judged != Creation::Open {
                return Ok((judged, vm));
            }
        }
        Err(CommitError::Pending(StrongError::Unavailable {
            reason: "the VM's epoch keeps changing".to_owned(),
        }))
    }

    async fn read<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<(KeyValue, T)>, CommitError> {
        let Some(kv) = self.engine.get(key).await.map_err(CommitError::Pending)? else {
            return Ok(None);
        };
        let value = serde_json::from_slice(&kv.value).map_err(|reason| {
            CommitError::Unreadable { key: key.to_owned(), reason: reason.to_string() }
        })?;
        Ok(Some((kv, value)))
    }

    /// Finishes, for ever, what was cut short by a crash or an engine that was away.
    pub async fn roll_forward(self) {
        loop {
            tokio::time::sleep(ROLL_FORWARD_EVERY).await;
            let rows = match self.books.committing().await {
                Ok(rows) => rows,
                Err(BooksError::Stopping) => return,
                Err(BooksError::NotStored { .. }) => continue,
            };
            // A move has a log of its own, whose controller finishes it.
            for row in rows.into_iter().filter(|row| !row.is_move()) {
                match self.finish(&row).await {
                    Ok(reply) => {
                        info!(vm = %reply.record.request.id, "commit rolled forward");
                    }
                    Err(CommitError::Pending(reason)) => {
                        warn!(vm = %row.ask.vm, %reason, "a commit waits for the engine");
                        break;
                    }
                    Err(reason) => {
                        info!(vm = %row.ask.vm, %reason, "a commit was given up");
                    }
                }
            }
        }
    }
}

/// The record that a reservation becomes. Its epoch is decided by the transaction.
fn draft(
    region: RegionId,
    row: &Reservation,
    now: Timestamp,
    body: CommitBody,
) -> VmRecord {
    VmRecord {
        request: body.request,
        owner: Owner {
            region,
            zone: row.zone.clone(),
            host: row.host.clone(),
            epoch: Epoch::FIRST,
        },
        power: Power::Running,
        generation: Generation::FIRST,
        preempted_by: None,
        reservation: row.ask.id.clone(),
        token: body.token,
        image: body.image,
        decision: body.decision,
        recovered: None,
        home: None,
        replica: None,
        disk_from: None,
        created_at: now,
        updated_at: now,
    }
}

fn refusal(creation: Creation, wanted: &VmRecord) -> CommitError {
    let token = wanted.token.to_string();
    if wanted.recovered.is_some() {
        return CommitError::Superseded { vm: wanted.request.id.to_string() };
    }
    match creation {
        Creation::TokenUsed => CommitError::TokenUsed { token },
        Creation::DoneAndDeleted | Creation::DoneByAnother => {
            CommitError::TokenSpent { token }
        }
        Creation::Done | Creation::NameTaken | Creation::Open => {
            CommitError::NameTaken { vm: wanted.request.id.to_string() }
        }
    }
}

/// Puts record and token where there is neither, above the epoch floor that was read.
fn creation(
    record: &VmRecord,
    floor_key: String,
    floor_revision: u64,
) -> Result<Txn, CommitError> {
    let vm_key = vm_key(&record.request.id);
    let token_key = token_key(&record.request.tenant, &record.token);
    let unreadable = |key: &str, reason: String| CommitError::Unreadable {
        key: key.to_owned(),
        reason,
    };
    let vm = encoded(record).map_err(|reason| unreadable(&vm_key, reason))?;
    let token = encoded(&TokenRecord::of(record))
        .map_err(|reason| unreadable(&token_key, reason))?;
    Ok(Txn {
        compare: vec![
            Compare::absent(vm_key.clone()),
            Compare::absent(token_key.clone()),
            Compare::Revision { key: floor_key, mod_revision: floor_revision },
        ],
        then: vec![
            Op::Put { key: vm_key, value: vm, lease: None },
            Op::Put { key: token_key, value: token, lease: None },
        ],
        op_id: Some(OpId::random()),
    })
}

/// A value as the engine stores it, for whoever speaks in the engine's errors.
pub(crate) fn stored(value: &impl serde::Serialize) -> Result<Bytes, StrongError> {
    encoded(value).map_err(|reason| StrongError::Malformed { reason })
}

/// A value as the engine stores it.
pub(crate) fn encoded(value: &impl serde::Serialize) -> Result<Bytes, String> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| error.to_string())
}
