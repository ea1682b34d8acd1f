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
use dwcp_runtime::mesh::MeshHandle;
use dwcp_runtime::strong::{
    Compare, Event, KeyValue, Op, OpId, Range, StrongEngine, StrongError, Txn, TxnOutcome,
};
use dwcp_state::membership::ChangeDenied;
use dwcp_state::{Actor, Membership, ReplicaId, Settled};
use dwcp_types::RegionId;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::interval;
use tracing::{debug, info, warn};

use super::shards::{self, WantedAreas};

/// The record.
const KEY: &str = "/state/membership";
/// Where replicas say how far they have settled.
const SETTLED: &str = "/state/settled/";
/// Everything that is followed.
const PREFIX: &str = "/state/";
/// Pause before the engine is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How often is looked whether what waited goes on.
const AGAIN_EVERY: Duration = Duration::from_secs(2);
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
    #[error("a record cannot be read: {0}; was it written by a newer version?")]
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
    /// Where slots are to be, by the configuration.
    pub(super) first_wanted: WantedAreas,
    pub(super) view: watch::Sender<Option<Arc<Membership>>>,
    pub(super) settled: watch::Receiver<Settled>,
    /// Where slots are to be.
    pub(super) wanted: watch::Sender<Arc<WantedAreas>>,
    /// The lines to the other replicas.
    pub(super) mesh: MeshHandle,
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
        create(self.engine.as_ref(), &self.first, &self.first_wanted).await?;
        let page = read(self.engine.as_ref()).await?;
        let mut watch = self.engine.watch(PREFIX, page.revision + 1).await?;
        self.wanted.send_replace(Arc::new(page.wanted));
        self.show(&page.membership);
        self.take_part().await;
        let mut again = interval(AGAIN_EVERY);
        loop {
            tokio::select! {
                // What waited for a region, or failed, is told by no record.
                _ = again.tick() => self.take_part().await,
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
                self.show(&decoded(record)?);
                self.take_part().await;
            }
            Event::Put(record) if record.key == shards::WANTED => {
                self.wanted.send_replace(Arc::new(
                    shards::read(Some(record)).map_err(ChangeError::Unreadable)?,
                ));
                self.take_part().await;
            }
            Event::Put(record) if record.key.starts_with(SETTLED) => {
                self.take_part().await;
            }
            Event::Put(_) | Event::Delete { .. } => {}
        }
        Ok(())
    }

    /// Takes the steps that this daemon may take by itself, when they may be taken now.
    async fn take_part(&self) {
        let Some(now) = self.view.borrow().clone() else { return };
        self.join(&now).await;
        self.balance(&now).await;
    }

    /// Brings slots a step nearer to where they are to be. Every daemon tries; one does it.
    ///
    /// Not while a voter is not reached: the epoch could not settle without it, and while that
    /// is so it could not be put out either.
    async fn balance(&self, now: &Membership) {
        let wanted = Arc::clone(&self.wanted.borrow());
        let Some(step) = now.rebalanced(&wanted) else { return };
        if let Some(away) = self.out_of_reach(now) {
            return debug!(%away, "slots wait for a region");
        }
        let is_as_seen = |current: &Membership| current.epoch == now.epoch;
        let changed = change_members(self.engine.as_ref(), |current| {
            is_as_seen(current).then(|| step.clone())
        })
        .await;
        match changed {
            Ok(next) if next == step => info!(epoch = next.epoch, "slots go on"),
            Ok(_) => {}
            Err(ChangeError::Denied(reason @ ChangeDenied::NotSettled { .. })) => {
                debug!(%reason, "slots wait");
            }
            Err(reason) => warn!(%reason, "slots do not go on"),
        }
    }

    /// A region that votes and is not connected now.
    fn out_of_reach(&self, now: &Membership) -> Option<RegionId> {
        let is_connected = |region: &RegionId| {
            self.mesh.peer_stats(region).is_some_and(|stats| stats.carrier.is_some())
        };
        let mut others = now.voting().into_iter().filter(|it| *it != self.region);
        others.find(|region| !is_connected(region))
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
        match change_members(self.engine.as_ref(), |current| {
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
    wanted: WantedAreas,
    wanted_record: Option<KeyValue>,
    settled: BTreeMap<ReplicaId, Settled>,
    /// Of the record; what else was read is of this one or a later one.
    revision: u64,
}

/// The records one after the other, because others lie between them (`/state/mints/`) that may
/// be many.
async fn read(engine: &dyn StrongEngine) -> Result<Read, ChangeError> {
    let limit = dwcp_runtime::strong::PAGE_ITEMS_MAX;
    let page = engine.range(Range { prefix: KEY, after: None, limit }).await?;
    let record = page.items.into_iter().find(|record| record.key == KEY);
    let record = record.ok_or(ChangeError::None)?;
    let wanted = engine.get(shards::WANTED).await?;
    let said = engine.range(Range { prefix: SETTLED, after: None, limit }).await?;
    let settled = said.items.iter().filter_map(|record| {
        let id = record.key.strip_prefix(SETTLED)?.parse().ok()?;
        let settled = serde_json::from_slice(&record.value).ok()?;
        Some((ReplicaId::new(id), settled))
    });
    Ok(Read {
        membership: decoded(&record)?,
        wanted: shards::read(wanted.as_ref()).map_err(ChangeError::Unreadable)?,
        wanted_record: wanted,
        settled: settled.collect(),
        revision: page.revision,
        record,
    })
}

/// Writes the first membership where there is none.
async fn create(
    engine: &dyn StrongEngine,
    first: &Membership,
    wanted: &WantedAreas,
) -> Result<(), ChangeError> {
    if engine.get(KEY).await?.is_some() {
        return Ok(());
    }
    let txn = Txn {
        compare: vec![Compare::absent(KEY)],
        then: vec![
            Op::put(KEY, encoded(first)?),
            Op::put(shards::WANTED, encoded(wanted)?),
        ],
        op_id: Some(OpId::random()),
    };
    if let TxnOutcome::Committed { .. } = engine.txn(txn).await? {
        info!(members = first.members.len(), "replicated state begins");
    }
    Ok(())
}

/// What follows: the membership, and where slots are to be.
pub(crate) type Next = (Membership, WantedAreas);

/// Changes the membership to what `step` makes of the current one, when that may follow now, and
/// with it where slots are to be. `step` gives nothing when there is nothing to change any more.
pub(crate) async fn change(
    engine: &dyn StrongEngine,
    step: impl Fn(&Membership, &WantedAreas) -> Option<Next>,
) -> Result<Next, ChangeError> {
    for _ in 0..ATTEMPTS_MAX {
        let now = read(engine).await?;
        let Some((next, wanted)) = step(&now.membership, &now.wanted) else {
            return Ok((now.membership, now.wanted));
        };
        now.membership.ready_for(&next, &now.settled)?;
        let mut compare = vec![Compare::unchanged(&now.record)];
        let mut then = vec![Op::put(KEY, encoded(&next)?)];
        if wanted != now.wanted {
            let found = now.wanted_record.as_ref();
            compare.push(Compare::as_found(shards::WANTED, found));
            then.push(Op::put(shards::WANTED, encoded(&wanted)?));
        }
        let txn = Txn { compare, then, op_id: Some(OpId::random()) };
        if let TxnOutcome::Committed { .. } = engine.txn(txn).await? {
            return Ok((next, wanted));
        }
    }
    Err(ChangeError::Contended)
}

/// Changes the membership alone.
pub(crate) async fn change_members(
    engine: &dyn StrongEngine,
    step: impl Fn(&Membership) -> Option<Membership>,
) -> Result<Membership, ChangeError> {
    let changed =
        change(engine, |now, wanted| Some((step(now)?, wanted.clone()))).await?;
    Ok(changed.0)
}

fn encoded(record: &impl Serialize) -> Result<Bytes, ChangeError> {
    let bytes = serde_json::to_vec(record);
    bytes.map(Bytes::from).map_err(|reason| ChangeError::Unreadable(reason.to_string()))
}

fn decoded(record: &KeyValue) -> Result<Membership, ChangeError> {
    serde_json::from_slice(&record.value)
        .map_err(|reason| ChangeError::Unreadable(reason.to_string()))
}
