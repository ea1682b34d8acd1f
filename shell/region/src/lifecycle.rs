//! Changes what is wanted of a VM: start, pause, stop, delete, and stop for a more urgent one.
//!
//! A change is one compare-and-set of the VM's record in the strong engine, from any daemon;
//! the owner's link to the host brings it about. Wanting what is wanted already changes
//! nothing, so asking again is safe.

use std::sync::Arc;

use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::ownership::{
    PowerDenied, VmRecord, preempt, reinstate, set_power, vm_key,
};
use dwcp_runtime::clock::Clock;
use dwcp_runtime::strong::{Compare, KeyValue, Op, OpId, StrongEngine, Txn, TxnOutcome};
use dwcp_types::{Power, Timestamp, VmId};

use crate::commit::encoded;
use crate::engine;

/// Attempts when others change the same record at the same time.
const ATTEMPTS_MAX: u32 = 16;

/// Changes VM records.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    /// The engine that holds them.
    pub engine: Arc<dyn StrongEngine>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Lifecycle {
    /// Stops a VM to make room for `urgent`, if it is `still` what it was taken for; its
    /// capacity is given back when it has stopped. One that is being deleted makes room anyway.
    ///
    /// # Errors
    ///
    /// As [`Self::want`], and when it is something else by now.
    pub async fn preempt(
        &self,
        vm: &VmId,
        urgent: &VmId,
        still: impl Fn(&VmRecord) -> bool,
    ) -> Result<VmRecord, ApiError> {
        self.change(vm, |record, now| {
            if !still(record) {
                let message =
                    format!("VM {vm} is not what it was when the plan was made");
                return Err(ApiError::new(ErrorCode::Conflict, message));
            }
            if record.power == Power::Deleted {
                return Ok(record.clone());
            }
            preempt(record, urgent, now).map_err(denied)
        })
        .await
    }

    /// Marks that a pre-empted VM has its capacity back, if it is still as it was when it got
    /// it: it may have been pre-empted again.
    ///
    /// # Errors
    ///
    /// As [`Self::want`].
    pub async fn reinstate(&self, was: &VmRecord) -> Result<VmRecord, ApiError> {
        let back = |record: &VmRecord, _| {
            Ok(if record == was { reinstate(record) } else { record.clone() })
        };
        self.change(&was.request.id, back).await
    }

    /// Wants a VM to be so; gives the record as it is then.
    ///
    /// # Errors
    ///
    /// When there is no such VM, it is being deleted, or the engine does not answer.
    pub async fn want(&self, vm: &VmId, power: Power) -> Result<VmRecord, ApiError> {
        self.change(vm, |record, now| set_power(record, power, now).map_err(denied)).await
    }

    /// Changes a record as long as nobody else does at the same time.
    ///
    /// # Errors
    ///
    /// As [`Self::want`].
    pub(crate) async fn change(
        &self,
        vm: &VmId,
        change: impl Fn(&VmRecord, Timestamp) -> Result<VmRecord, ApiError>,
    ) -> Result<VmRecord, ApiError> {
        for _ in 0..ATTEMPTS_MAX {
            let (kv, record) = read_vm(self.engine.as_ref(), vm).await?;
            let next = change(&record, self.clock.now())?;
            if next == record {
                return Ok(record);
            }
            let value =
                encoded(&next).map_err(|m| ApiError::new(ErrorCode::Internal, m))?;
            let txn = Txn {
                compare: vec![Compare::unchanged(&kv)],
                then: vec![Op::Put { key: kv.key, value, lease: None }],
                op_id: Some(OpId::random()),
            };
            match self.engine.txn(txn).await.map_err(|e| engine::failed(&e))? {
                TxnOutcome::Committed { .. } => return Ok(next),
                TxnOutcome::Conflict { .. } => {}
            }
        }
        let message = format!("VM {vm} is being changed by others all the time");
        Err(ApiError::new(ErrorCode::Busy, message).with_remedy("try again in a moment"))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
fn denied(denied: PowerDenied) -> ApiError {
    ApiError::new(ErrorCode::Conflict, denied.to_string())
}

/// A VM's record as the engine has it.
///
/// # Errors
///
/// When there is no such VM, its record is unreadable, or the engine does not answer.
pub(crate) async fn read_vm(
    engine: &dyn StrongEngine,
    vm: &VmId,
) -> Result<(KeyValue, VmRecord), ApiError> {
    let stored = engine.get(&vm_key(vm)).await.map_err(|e| engine::failed(&e))?;
    let Some(kv) = stored else { return Err(no_such_vm(vm)) };
    let record = serde_json::from_slice(&kv.value).map_err(|reason| {
        let message = format!("the record of VM {vm} cannot be read: {reason}");
        ApiError::new(ErrorCode::Internal, message)
    })?;
    Ok((kv, record))
}

/// That there is no VM of this name.
#[must_use]
pub fn no_such_vm(vm: &VmId) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no VM {vm}"))
        .with_remedy("`dwcp-cli federation vm list` shows what there is")
}
