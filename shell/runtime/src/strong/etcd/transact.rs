//! Transactions: ours to etcd's, and etcd's answer back.
//!
//! An operation id is a key that the transaction writes besides, and whose absence it compares.
//! So the memory of what was done is made by the very step that does it. When a comparison
//! fails etcd reads, in the same step, the id and every compared key: whether the transaction
//! was done before, and else what stands in its way.

use std::time::Duration;

use bytes::Bytes;

use super::super::txn::may_hold_later;
use super::super::{Compare, LeaseId, Op, OpId, StrongError, Txn, TxnOutcome};
use super::grpc::{Failure, Status};
use super::member::describe;
use super::members::{Again, Answer};
use super::proto::{
    self, DeleteRangeRequest, LeaseRequest, PutRequest, RangeRequest, Request, RequestOp,
    Response, Target, TimeToLiveCall, TxnCall, TxnRequest, TxnResponse, revision, signed,
    unsigned,
};
use super::{Shared, unavailable};

/// The code of gRPC for something that is not there: here, a lease.
const NOT_FOUND: i32 = 5;

/// Carries out a transaction that was checked.
pub(super) async fn transact(
    shared: &Shared,
    txn: Txn,
) -> Result<TxnOutcome, StrongError> {
    if let Some(lease) = leases(&txn).find(|lease| shared.leases.is_over(*lease)) {
        return Err(StrongError::LeaseNotFound { lease });
    }
    // Once more when the lease of the ids was gone: nothing was done then.
    for _ in 0..2 {
        let op_lease = match &txn.op_id {
            None => 0,
            Some(_) => shared.ops.next(&shared.members).await.map_err(|failure| {
                // The transaction itself was not sent.
                unavailable(&failure)
            })?,
        };
        let request = encode(shared, &txn, op_lease);
        // Under an id, what was lost may be asked again.
        let again = match &txn.op_id {
            Some(_) => Again::Harmless,
            None => Again::OnlyIfNotDone,
        };
        let Answer { result, lost } =
            shared.members.call::<TxnCall>(&request, again).await;
        let failure = match result {
            Ok(response) => return outcome(shared, &txn, response, lost),
            Err(failure) => failure,
        };
        let Failure::Refused(Status { code: NOT_FOUND, .. }) = failure else {
            return Err(error(&failure, txn.op_id, lost));
        };
        if let Some(lease) = missing_lease(shared, &txn).await? {
            return Err(StrongError::LeaseNotFound { lease });
        }
        shared.ops.forget(op_lease).await;
    }
    Err(StrongError::Unavailable {
        reason: "the leases of operation ids vanish; does somebody revoke them?"
            .to_owned(),
    })
}

fn leases(txn: &Txn) -> impl Iterator<Item = LeaseId> {
    txn.then.iter().filter_map(|op| match op {
        Op::Put { lease, .. } => *lease,
        Op::Delete { .. } => None,
    })
}

fn encode(shared: &Shared, txn: &Txn, op_lease: i64) -> TxnRequest {
    let keys = &shared.keys;
    let mut request = TxnRequest::default();
    if let Some(id) = &txn.op_id {
        let key = keys.op(id);
        request.compare.push(compare(key.clone(), Target::CreateRevision(0)));
        request.failure.push(read(key.clone()));
        let value = Bytes::copy_from_slice(&txn.digest());
        request.success.push(op(Request::Put(PutRequest {
            key,
            value,
            lease: op_lease,
        })));
    }
    for one in &txn.compare {
        let key = keys.record(one.key());
        request.failure.push(read(key.clone()));
        let target = match one {
            Compare::Revision { mod_revision, .. } => {
                Target::ModRevision(signed(*mod_revision))
            }
            Compare::Value { value, .. } => Target::Value(value.clone()),
        };
        request.compare.push(compare(key, target));
    }
    for one in &txn.then {
        let key = keys.record(one.key());
        request.success.push(op(match one {
            Op::Put { value, lease, .. } => {
                let lease = lease.map_or(0, |lease| signed(lease.get()));
                Request::Put(PutRequest { key, value: value.clone(), lease })
            }
            Op::Delete { .. } => Request::DeleteRange(DeleteRangeRequest { key }),
        }));
    }
    request
}

fn compare(key: Bytes, target: Target) -> proto::Compare {
    proto::Compare { target: target.number(), key, union: Some(target) }
}

fn read(key: Bytes) -> RequestOp {
    op(Request::Range(RangeRequest { key, ..RangeRequest::default() }))
}

const fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// What an answer means. `lost`: an earlier try of the same may still be on its way.
fn outcome(
    shared: &Shared,
    txn: &Txn,
    response: TxnResponse,
    lost: bool,
) -> Result<TxnOutcome, StrongError> {
    if response.succeeded {
        return Ok(TxnOutcome::Committed { revision: revision(response.header) });
    }
    let mut found = response.responses.into_iter().map(|one| match one.response {
        Some(Response::Range(range)) => range.kvs.into_iter().next(),
        None => None,
    });
    if let Some(id) = &txn.op_id
        && let Some(done) = found.next().flatten()
    {
        return repeated(id, txn, &done);
    }
    let current: Result<Vec<_>, StrongError> = txn
        .compare
        .iter()
        .zip(found)
        .map(|(one, kv)| {
            let record = kv.map(|kv| shared.keys.parse(kv)).transpose()?;
            Ok((one.key().to_owned(), record))
        })
        .collect();
    let current = current?;
    if lost && may_hold_later(&txn.compare, &current) {
        let reason =
            "an earlier try got no reply and a later one met a conflict".to_owned();
        return Err(StrongError::Indeterminate { op_id: txn.op_id.clone(), reason });
    }
    Ok(TxnOutcome::Conflict { current })
}

/// What was done under this id before.
fn repeated(
    id: &OpId,
    txn: &Txn,
    done: &proto::KeyValue,
) -> Result<TxnOutcome, StrongError> {
    if done.value == txn.digest()[..] {
        return Ok(TxnOutcome::Committed { revision: unsigned(done.create_revision) });
    }
    let reason = format!("operation id {id} was used for another transaction");
    Err(StrongError::Malformed { reason })
}

/// The first lease of a transaction that is not there.
async fn missing_lease(
    shared: &Shared,
    txn: &Txn,
) -> Result<Option<LeaseId>, StrongError> {
    for lease in leases(txn) {
        let request = LeaseRequest { id: signed(lease.get()) };
        let answer =
            shared.members.call::<TimeToLiveCall>(&request, Again::Harmless).await;
        match answer.result {
            Ok(response) if response.ttl > 0 => {}
            Ok(_) | Err(Failure::Refused(_)) => return Ok(Some(lease)),
            Err(failure) => return Err(unavailable(&failure)),
        }
    }
    Ok(None)
}

/// A write's failure for callers.
pub(super) fn error(failure: &Failure, op_id: Option<OpId>, lost: bool) -> StrongError {
    let reason = describe(failure);
    match failure {
        Failure::Unknown(_) => StrongError::Indeterminate { op_id, reason },
        // An earlier try may have been done, whatever the last one says.
        Failure::NotDone(_) if lost => StrongError::Indeterminate { op_id, reason },
        Failure::NotDone(_) => StrongError::Unavailable { reason },
        Failure::Refused(status) if too_many(status) => StrongError::Malformed {
            reason: format!(
                "{reason}; start etcd with --max-txn-ops={} --max-request-bytes={}",
                super::command::TXN_OPS_MAX,
                super::command::REQUEST_LEN_MAX,
            ),
        },
        Failure::Refused(_) => StrongError::Unavailable { reason },
    }
}

fn too_many(status: &Status) -> bool {
    ["too many operations", "request is too large", "larger than max"]
        .iter()
        .any(|words| status.message.contains(words))
}

/// Whole seconds, rounded up: what etcd counts leases in.
pub(super) fn seconds(ttl: Duration) -> i64 {
    let more = u64::from(ttl.subsec_nanos() > 0);
    signed(ttl.as_secs().saturating_add(more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_after_a_lost_try_leaves_the_outcome_open() {
        let refused = Failure::NotDone("no leader".to_owned());
        let id = Some(OpId::random());
        assert!(matches!(
            error(&refused, id.clone(), true),
            StrongError::Indeterminate { op_id, .. } if op_id == id
        ));
        assert!(matches!(error(&refused, id, false), StrongError::Unavailable { .. }));
        let unknown = Failure::Unknown("silence".to_owned());
        assert!(matches!(
            error(&unknown, None, false),
            StrongError::Indeterminate { .. }
        ));
    }

    #[test]
    fn a_lease_never_lives_shorter_than_asked() {
        for (millis, whole) in [(1, 1), (999, 1), (1_000, 1), (1_001, 2), (6_000, 6)] {
            assert_eq!(seconds(Duration::from_millis(millis)), whole);
        }
    }
}
