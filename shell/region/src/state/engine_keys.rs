//! Keys of the engine plane: records of the strong engine under a prefix of their own.

use std::sync::Arc;

use dwcp_api::state::{
    ReadKey, StateEntry, StateKind, StateLevel, StateUpdate, StateValue, Text, WriteKey,
    Written,
};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_runtime::strong::{Compare, KeyValue, Op, OpId, StrongEngine, Txn, TxnOutcome};
use dwcp_types::RegionId;

use super::policies::fresh_op_id;
use super::translate;
use crate::engine;

/// Where they lie, apart from the federation's own records.
const PREFIX: &str = "/kv/";

/// Reads and writes them.
#[derive(Clone, Debug)]
pub(crate) struct EngineKeys {
    engine: Arc<dyn StrongEngine>,
}

impl EngineKeys {
    /// By this engine.
    pub(crate) fn new(engine: Arc<dyn StrongEngine>) -> Self {
        Self { engine }
    }

    /// A linearizable read.
    ///
    /// # Errors
    ///
    /// When a weaker level is asked for, or the engine does not answer.
    pub(crate) async fn read(
        &self,
        region: &RegionId,
        ask: ReadKey,
    ) -> Result<StateEntry, ApiError> {
        only_strong(&ask.key, ask.level)?;
        let path = format!("{PREFIX}{}", ask.key);
        let found = self.engine.get(&path).await.map_err(|e| engine::failed(&e))?;
        let value = found.as_ref().map(|kv| StateValue::Content(Text::of(&kv.value)));
        Ok(StateEntry {
            key: ask.key,
            kind: StateKind::Strong,
            value,
            level: StateLevel::Strong,
            served_by: region.clone(),
            staleness_ms: None,
            revision: Some(found.map_or(0, |kv| kv.mod_revision)),
            context: None,
            // The engine's order is every session's order.
            session: ask.session.unwrap_or_default(),
        })
    }

    /// A linearizable write.
    ///
    /// # Errors
    ///
    /// A conflict when the revision is another one; otherwise as [`Self::read`].
    pub(crate) async fn write(
        &self,
        region: &RegionId,
        key: String,
        ask: WriteKey,
    ) -> Result<Written, ApiError> {
        only_strong(&key, ask.level)?;
        let path = format!("{PREFIX}{key}");
        let then = match &ask.update {
            StateUpdate::Set { value } => Op::put(&*path, translate::content(value)?),
            StateUpdate::Delete => Op::delete(&*path),
            StateUpdate::Increment { .. }
            | StateUpdate::Add { .. }
            | StateUpdate::Remove { .. }
            | StateUpdate::Field { .. }
            | StateUpdate::RemoveField { .. }
            | StateUpdate::Spend { .. }
            | StateUpdate::Refund { .. }
            | StateUpdate::Transfer { .. }
            | StateUpdate::Mint { .. } => return Err(no_such_change(&key, &ask.update)),
        };
        let op_id = ask.op_id.unwrap_or_else(fresh_op_id);
        let name = OpId::new(&format!("kv/{op_id}")).map_err(|error| {
            ApiError::new(ErrorCode::Invalid, error.to_string())
                .with_remedy("use a shorter id of letters, digits and dashes")
        })?;
        let compare = ask
            .if_revision
            .map(|mod_revision| Compare::Revision { key: path.clone(), mod_revision });
        let txn = Txn {
            compare: compare.into_iter().collect(),
            then: vec![then],
            op_id: Some(name),
        };
        let outcome = self.engine.txn(txn).await;
        match outcome.map_err(|error| engine::failed_under(&error, &op_id))? {
            TxnOutcome::Committed { revision } => Ok(Written {
                key,
                level: StateLevel::Strong,
                region: region.clone(),
                op_id: Some(op_id),
                revision: Some(revision),
                session: ask.session.unwrap_or_default(),
            }),
            TxnOutcome::Conflict { current } => Err(conflict(&key, &current)),
        }
    }
}

fn only_strong(key: &str, level: Option<StateLevel>) -> Result<(), ApiError> {
    match level {
        None | Some(StateLevel::Strong) => Ok(()),
        Some(_) => Err(ApiError::new(
            ErrorCode::Refused,
            format!("{key:?} lives in the plane of the strong engine"),
        )
        .with_remedy("ask at level strong, or leave the level out")),
    }
}

fn no_such_change(key: &str, update: &StateUpdate) -> ApiError {
    let name = serde_json::to_value(update).ok();
    let name = name.as_ref().and_then(|json| json.get("op")?.as_str()).unwrap_or("this");
    let message = format!("{key:?} is a record of the strong engine: it cannot {name}");
    ApiError::new(ErrorCode::Refused, message)
        .with_remedy("set or delete it, with --if-revision to compare first")
}

fn conflict(key: &str, current: &[(String, Option<KeyValue>)]) -> ApiError {
    let revision =
        current.first().and_then(|(_, kv)| kv.as_ref()).map(|kv| kv.mod_revision);
    let now = revision.map_or_else(
        || "there is none now".to_owned(),
        |revision| format!("it is at revision {revision} now"),
    );
    ApiError::new(ErrorCode::Conflict, format!("{key:?} was changed: {now}"))
        .with_remedy("read it again and decide anew")
        .with_details(&serde_json::json!({ "revision": revision.unwrap_or(0) }))
}
