//! Removes the record of a VM whose host has deleted it, and gives its capacity back.
//!
//! Record first, reservation second: a crash between leaves capacity that is counted and not
//! used, which the next comparison of books and records gives back. The other order could
//! sell capacity that a record still claims.

use std::sync::Arc;

use dwcp_controller::ownership::{EpochFloor, VmRecord, epoch_floor_key, vm_key};
use dwcp_runtime::strong::{Compare, Op, OpId, StrongEngine, Txn, TxnOutcome};
use tracing::{info, warn};

use crate::books::Books;
use crate::commit::encoded;
use crate::events::Events;
use crate::mirror::Mirror;

/// Removes records of one region.
#[derive(Clone, Debug)]
pub struct Remover {
    /// The engine that holds the records.
    pub engine: Arc<dyn StrongEngine>,
    /// Their copy, for the revision to compare with.
    pub mirror: Arc<Mirror>,
    /// The books that hold the capacity.
    pub books: Books,
    /// Where to note it.
    pub events: Events,
}

impl Remover {
    /// Removes one; tried again by its host's link when it fails.
    pub async fn remove(&self, record: &VmRecord) {
        let vm = &record.request.id;
        let Some(stored) = self.mirror.vm(vm) else { return };
        if stored.record.as_ref() != record {
            return;
        }
        let key = vm_key(vm);
        let floor = EpochFloor { epoch: record.owner.epoch };
        let value = match encoded(&floor) {
            Ok(value) => value,
            Err(reason) => return warn!(%vm, reason, "an epoch floor cannot be written"),
        };
        let txn = Txn {
            compare: vec![Compare::Revision {
                key: key.clone(),
                mod_revision: stored.mod_revision,
            }],
            then: vec![
                Op::Delete { key },
                Op::Put { key: epoch_floor_key(vm), value, lease: None },
            ],
            op_id: Some(OpId::random()),
        };
        match self.engine.txn(txn).await {
            Ok(TxnOutcome::Committed { .. }) => {}
            Ok(TxnOutcome::Conflict { .. }) => return,
            Err(reason) => {
                return warn!(%vm, %reason, "a deleted VM's record stays for now");
            }
        }
        if let Err(reason) = self.books.release(record.reservation.clone()).await {
            warn!(%vm, %reason, "a deleted VM's capacity is given back later");
        }
        info!(%vm, "deleted");
        self.events.note(Some(vm), "deleted").await;
    }
}
