//! From the disk to a replica: who it is, and what it had.
//!
//! Its number is the membership's to give. A region that was never a member waits until it is
//! admitted; one that was knows its number from its own disk and serves without the engine.

use std::sync::Arc;

use anyhow::Context;
use dwcp_runtime::store::{Change, LocalStore};
use dwcp_state::{ClusterId, Membership, Replica, ReplicaConfig, ReplicaId, Row};
use dwcp_types::RegionId;
use tokio::sync::watch;
use tracing::error;

/// The row that keeps the number.
const NUMBER: &str = "replica";

/// What is needed to begin.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) region: RegionId,
    pub(super) cluster: ClusterId,
    pub(super) store: Arc<LocalStore>,
    pub(super) view: watch::Receiver<Option<Arc<Membership>>>,
}

impl Start {
    /// The replica as its disk says; nothing when it never was a member.
    ///
    /// # Errors
    ///
    /// When the disk cannot be read.
    pub(super) fn restored(&self) -> anyhow::Result<Option<Replica>> {
        let Some(number) = self.store.get(NUMBER)? else { return Ok(None) };
        let text =
            std::str::from_utf8(&number).context("the row `replica` is no text")?;
        let number = text.parse().context("the row `replica` is no number")?;
        self.replica(ReplicaId::new(number)).map(Some)
    }

    fn replica(&self, id: ReplicaId) -> anyhow::Result<Replica> {
        let found = self.store.scan("")?.into_iter();
        let rows = found
            .filter(|(row, _)| row != NUMBER)
            .map(|(row, value)| Row { row, value: value.to_vec() });
        Ok(Replica::new(ReplicaConfig::new(id, self.cluster), rows)?)
    }

    /// Waits until this region is a member, and begins. Nothing when that can never be.
    pub(super) async fn first(&mut self) -> Option<Replica> {
        let id = loop {
            if let Some(id) = self.admitted() {
                break id;
            }
            self.view.changed().await.ok()?;
        };
        let value = id.to_string().into();
        let change = Change::Put { key: NUMBER.to_owned(), value };
        if let Err(reason) = self.store.apply(vec![change]).await {
            error!(%reason, "the replica cannot keep its number");
            return None;
        }
        self.replica(id)
            .inspect_err(|reason| error!(%reason, "the replica cannot begin"))
            .ok()
    }

    fn admitted(&mut self) -> Option<ReplicaId> {
        let view = self.view.borrow_and_update();
        let members = view.as_ref()?.members.iter();
        let mut own = members.filter(|(_, member)| member.region == self.region);
        own.next().map(|(id, _)| *id)
    }
}
