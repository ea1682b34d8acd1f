//! A strong engine whose calls are spans of the current trace.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{
    Answer, KeyValue, LeaseId, Page, Range, StrongEngine, Txn, TxnOutcome, Watch,
};
use crate::trace::span;

/// See the module. Watches and leases live longer than any request and are none.
#[derive(Debug)]
pub struct TracedEngine(Arc<dyn StrongEngine>);

impl TracedEngine {
    /// The same engine, traced.
    #[must_use]
    pub const fn new(engine: Arc<dyn StrongEngine>) -> Self {
        Self(engine)
    }
}

impl StrongEngine for TracedEngine {
    fn txn(&self, txn: Txn) -> Answer<'_, TxnOutcome> {
        Box::pin(span("engine_write", self.0.txn(txn)))
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<KeyValue>> {
        Box::pin(span("engine_read", self.0.get(key)))
    }

    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Page> {
        Box::pin(span("engine_list", self.0.range(range)))
    }

    fn watch<'a>(&'a self, prefix: &'a str, from_revision: u64) -> Answer<'a, Watch> {
        self.0.watch(prefix, from_revision)
    }

    fn lease_grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
        self.0.lease_grant(ttl)
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> Answer<'_, Duration> {
        self.0.lease_keep_alive(lease)
    }

    fn lease_revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
        self.0.lease_revoke(lease)
    }

    fn ended(&self) -> BoxFuture<'static, String> {
        self.0.ended()
    }
}
