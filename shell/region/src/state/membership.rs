//! Who the replicas are and under which rules, as the strong engine has it.
//!
//! One record, changed only by compare-and-set, epoch by epoch. The first daemon that finds none
//! writes epoch 1: every region of its configuration that has a `state_endpoint`. A region that
//! comes later admits itself, and begins to vote when all have settled. Each replica says in a
//! record of its own how far it has settled; a change waits for that.
//!
//! A daemon that cannot reach the engine goes on under the last membership that its replica
//! followed, which is among the replica's rows: a region that is cut off must serve what it may.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dwcp_runtime::strong::{
    Compare, Event, KeyValue, Op, OpId, Range, StrongEngine, StrongError, Txn, TxnOutcome,
};
use dwcp_state::membership::ChangeDenied;
use dwcp_state::{Actor, Membership, ReplicaId, Settled};
use dwcp_types::RegionId;
use serde::Serialize;
use tokio::sync::watch;
use tracing::{info, warn};

/// The record.
const KEY: &str = "/state/membership";
/// Where replicas say how far they have settled.
const SETTLED: &str = "/state/settled/";
/// Everything that is followed.
const PREFIX: &str = "/state/";
/// Pause before the engine is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Attempts at a change that others keep overtaking.
const ATTEMPTS_MAX: usize = 16;

/// Why the membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChangeError {
    /// The engine does not do it.
    #[error(transparent)]
    Engine(#[from] StrongError),
    /// It may not follow, or not yet.
    #[error(transparent)]
    Denied(#[from] ChangeDenied),
    /// The record cannot be read.
    #[error("the record {KEY} cannot be read: {0}; was it written by a newer version?")]
    Unreadable(String),
    /// There is none yet.
    #[error("there is no membership yet; wait until a region's daemon has written it")]
    None,
    /// Others change it all the time.
    #[error("the membership is being changed by others all the time; try again later")]
    Contended,
}

/// The membership's keeper in one daemon.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) region: RegionId,
    pub(super) engine: Arc<dyn StrongEngine>,
    pub(super) first: Membership,
    pub(super) view: watch::Sender<Option<Arc<Membership>>>,
    pub(super) settled: watch::Receiver<Settled>,
    /// Who the replica was last, for one that was evicted and has its disk.
    pub(super) actor: watch::Receiver<Actor>,
}

impl Keeper {
    /// Follows the record, writes the first one, joins, and says what has settled, for ever.
    pub(super) async fn run(mut self) {
        loop {
            if let Err(reason) = self.follow().await {
                warn!(%reason, "the membership of replicated state is not followed now");
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn follow(&mut self) -> Result<(), ChangeError> {
        create(self.engine.as_ref(), &self.first).await?;
        let page = read(self.engine.as_ref()).await?;
        let mut watch = self.engine.watch(PREFIX, page.revision + 1).await?;
        self.show(&page.membership);
        self.join(&page.membership).await;
        loop {
            tokio::select! {
                batch = watch.next() => {
                    let Some(batch) = batch else { return Ok(()) };
                    for event in batch?.events {
                        self.heard(&event).await?;
                    }
                }
                changed = self.settled.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let settled = *self.settled.borrow_and_update();
                    self.say_settled(settled).await?;
                }
            }
        }
    }

    async fn heard(&self, event: &Event) -> Result<(), ChangeError> {
        match event {
            Event::Put(record) if record.key == KEY => {
                let membership = decoded(record)?;
                self.show(&membership);
                self.join(&membership).await;
            }
            Event::Put(record) if record.key.starts_with(SETTLED) => {
                let current = self.view.borrow().clone();
                if let Some(current) = current {
                    self.join(&current).await;
                }
            }
            Event::Put(_) | Event::Delete { .. } => {}
        }
        Ok(())
    }

    /// Shows a membership to the replica.
    fn show(&self, membership: &Membership) {
        let newer = self
            .view
            .borrow()
            .as_ref()
            .is_none_or(|known| known.epoch < membership.epoch);
        if !newer {
            return;
        }
        self.view.send_replace(Some(Arc::new(membership.clone())));
    }

    /// Asks to be admitted, or to vote, when this region is not or does not.
    async fn join(&self, now: &Membership) {
        let own = now.members.iter().find(|(_, member)| member.region == self.region);
        let step = match own {
            None => self.admitted(now),
            Some((id, _)) if !now.is_active(*id) => now.activating(*id),
            Some(_) => return,
        };
        match change(self.engine.as_ref(), |current| {
            (current.epoch == now.epoch).then(|| step.clone())
        })
        .await
        {
            Ok(next) => info!(epoch = next.epoch, "this region's replica joins"),
            // Told again when somebody settles.
            Err(ChangeError::Denied(reason)) => {
                info!(%reason, "this region's replica waits to join");
            }
            Err(reason) => warn!(%reason, "this region's replica does not join now"),
        }
    }

    fn admitted(&self, now: &Membership) -> Membership {
        let before = self.actor.borrow().replica;
        let used = now.members.keys().chain(now.evicted.keys());
        let fresh = used.map(|id| id.get()).max().unwrap_or(0).saturating_add(1);
        let returns = now.evicted.contains_key(&before);
        let id = if returns { before } else { ReplicaId::new(fresh) };
        now.admitting(id, self.region.clone())
    }

    async fn say_settled(&self, settled: Settled) -> Result<(), ChangeError> {
        let Some(view) = self.view.borrow().clone() else { return Ok(()) };
        let own = view.members.iter().find(|(_, member)| member.region == self.region);
        let Some((id, _)) = own else { return Ok(()) };
        let txn = Txn {
            compare: Vec::new(),
            then: vec![Op::put(format!("{SETTLED}{id}"), encoded(&settled)?)],
            op_id: Some(OpId::random()),
        };
        self.engine.txn(txn).await?;
        Ok(())
    }
}

/// The membership as the engine has it.
pub(crate) async fn now(engine: &dyn StrongEngine) -> Result<Membership, ChangeError> {
    read(engine).await.map(|read| read.membership)
}

struct Read {
    membership: Membership,
    record: KeyValue,
    settled: BTreeMap<ReplicaId, Settled>,
    revision: u64,
}

/// Everything below the prefix, as of one revision.
async fn read(engine: &dyn StrongEngine) -> Result<Read, ChangeError> {
    let limit = dwcp_runtime::strong::PAGE_ITEMS_MAX;
    let page = engine.range(Range { prefix: PREFIX, after: None, limit }).await?;
    let record = page.items.iter().find(|record| record.key == KEY);
    let record = record.cloned().ok_or(ChangeError::None)?;
    let settled = page.items.iter().filter_map(|record| {
        let id = record.key.strip_prefix(SETTLED)?.parse().ok()?;
        let settled = serde_json::from_slice(&record.value).ok()?;
        Some((ReplicaId::new(id), settled))
    });
    Ok(Read {
        membership: decoded(&record)?,
        settled: settled.collect(),
        revision: page.revision,
        record,
    })
}

/// Writes the first membership where there is none.
async fn create(
    engine: &dyn StrongEngine,
    first: &Membership,
) -> Result<(), ChangeError> {
    if engine.get(KEY).await?.is_some() {
        return Ok(());
    }
    let txn = Txn {
        compare: vec![Compare::absent(KEY)],
        then: vec![Op::put(KEY, encoded(first)?)],
        op_id: Some(OpId::random()),
    };
    if let TxnOutcome::Committed { .. } = engine.txn(txn).await? {
        info!(members = first.members.len(), "replicated state begins");
    }
    Ok(())
}

/// Changes the membership to what `step` makes of the current one, when that may follow now.
/// `step` gives nothing when there is nothing to change any more.
pub(crate) async fn change(
    engine: &dyn StrongEngine,
    step: impl Fn(&Membership) -> Option<Membership>,
) -> Result<Membership, ChangeError> {
    for _ in 0..ATTEMPTS_MAX {
        let now = read(engine).await?;
        let Some(next) = step(&now.membership) else { return Ok(now.membership) };
        now.membership.ready_for(&next, &now.settled)?;
        let txn = Txn {
            compare: vec![Compare::unchanged(&now.record)],
            then: vec![Op::put(KEY, encoded(&next)?)],
            op_id: Some(OpId::random()),
        };
        if let TxnOutcome::Committed { .. } = engine.txn(txn).await? {
            return Ok(next);
        }
    }
    Err(ChangeError::Contended)
}

fn encoded(record: &impl Serialize) -> Result<Bytes, ChangeError> {
    let bytes = serde_json::to_vec(record);
    bytes.map(Bytes::from).map_err(|reason| ChangeError::Unreadable(reason.to_string()))
}

fn decoded(record: &KeyValue) -> Result<Membership, ChangeError> {
    serde_json::from_slice(&record.value)
        .map_err(|reason| ChangeError::Unreadable(reason.to_string()))
}
