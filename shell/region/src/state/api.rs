//! Answers the state plane's door: which plane a key lives in, and the API's words for what the
//! replica or the engine say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::public::RegionParams;
use dwcp_api::shards::{AskShards, GetShards, MoveSlot, PostShardMove, ShardList};
use dwcp_api::state::peer::GetReplica;
use dwcp_api::state::{
    BATCH_MAX, Batch, BatchItem, BatchReply, BatchResult, EvictReplica, Eviction,
    ForceStateSync, GetReplicas, GetStateKey, GetStatePolicies, KEYS_MAX, KeyChanges,
    KeyPage, KeyParams, ListKeys, ListStateKeys, PostStateBatch, PostStateKey,
    PutStatePolicy, ReadKey, ReplicaReport, ReplicaReports, StateEntry, StateKind,
    StateLevel, StatePolicies, StatePolicy, StateUpdate, WATCH_MAX_MS, WatchKeys,
    WatchStateKeys, WriteKey, Written,
};
use dwcp_api::{ApiError, Client, ErrorCode, NoParams, Routes};
use dwcp_runtime::mesh::MeshHandle;
use dwcp_state::policy::Plane;
use dwcp_state::{
    Actor, Answer, Key, Kind, Level, Listed, Membership, Op, Outcome, Policy, Request,
    RequestId, Update,
};
use dwcp_types::RegionId;
use futures_util::future::join_all;

use super::engine_keys::EngineKeys;
use super::policies::{self, Rules};
use super::shards::{self, WantedView};
use super::task::{Handle, Stopping};
use super::{report, translate};
use crate::bind::bind;
use crate::fan::ask_each;
use crate::metrics::Metrics;
use crate::{peer_api, public_api};

/// Time for another region to answer for its replica.
const PEER_TIME_MAX: Duration = Duration::from_secs(2);

/// Everything behind the state plane's door.
#[derive(Debug)]
pub(crate) struct StateApi {
    pub(crate) region: RegionId,
    pub(crate) handle: Handle,
    pub(crate) mesh: MeshHandle,
    pub(crate) engine: EngineKeys,
    pub(crate) rules: Rules,
    /// Where slots are to be.
    pub(crate) wanted: WantedView,
    pub(crate) peers: BTreeMap<RegionId, Client>,
    pub(crate) metrics: Arc<Metrics>,
}

/// The routes of operators and of peers.
pub(crate) fn routes(api: &Arc<StateApi>) -> Routes {
    let public = bind! { api, public_api::admit,
        GetStateKey => get;
        PostStateKey => write;
        PostStateBatch => batch;
        ListStateKeys => list;
        WatchStateKeys => watch;
        GetReplicas => replicas;
        ForceStateSync => force_sync;
        EvictReplica => evict;
        PutStatePolicy => set_policy;
        GetStatePolicies => policies;
        GetShards => shards;
        PostShardMove => move_slot;
    };
    public.merge(bind! { api, peer_api::admit, GetReplica => replica; })
}

impl StateApi {
    async fn get(&self, ask: ReadKey, (): ()) -> Result<StateEntry, ApiError> {
        let read = self.read(ask).await;
        self.count("get", read.as_ref().map(|read| read.level));
        read
    }

    /// Counts an operation by the level that it reached, or by why it did not.
    fn count(&self, operation: &'static str, reached: Result<StateLevel, &ApiError>) {
        let (level, status) = match reached {
            Ok(level) => (translate::level(level).as_str(), "ok"),
            Err(why) => ("none", why.code.as_str()),
        };
        self.metrics.operation(operation, level, status);
    }

    async fn read(&self, ask: ReadKey) -> Result<StateEntry, ApiError> {
        let policy = self.policy(&ask.key)?;
        if policy.plane == Plane::Engine {
            return self.engine.read(&self.region, ask).await;
        }
        let key = Key::from(ask.key.as_str());
        let max_staleness = ask.max_staleness_ms.map(Duration::from_millis);
        let request = Request {
            id: RequestId(0),
            op: Op::Get { key, max_staleness },
            level: ask.level.map(translate::level),
            session: ask.session.as_deref().map(translate::token).transpose()?,
            within: translate::within(ask.timeout_ms),
        };
        match answer(self.handle.ask(request).await, None)? {
            Answer::Read(read) => {
                let kind = translate::shown_kind(policy.kind);
                Ok(self.entry(ask.key, kind, &read))
            }
            Answer::Written(_) | Answer::Listed(_) => Err(confused()),
        }
    }

    fn entry(&self, key: String, kind: StateKind, read: &dwcp_state::Read) -> StateEntry {
        let shown = read.reading.as_ref().map(|it| translate::shown(it, self.me()));
        let (value, context) = shown.unwrap_or_default();
        StateEntry {
            key,
            kind,
            value,
            level: translate::shown_level(read.level),
            served_by: self.region.clone(),
            staleness_ms: millis(read.staleness),
            revision: None,
            context,
            session: translate::token_text(&read.token),
        }
    }

    async fn write(&self, params: KeyParams, ask: WriteKey) -> Result<Written, ApiError> {
        let written = self.change(params, ask).await;
        self.count("update", written.as_ref().map(|written| written.level));
        written
    }

    async fn change(
        &self,
        params: KeyParams,
        ask: WriteKey,
    ) -> Result<Written, ApiError> {
        let policy = self.policy(&params.key)?;
        if policy.plane == Plane::Engine {
            return self.engine.write(&self.region, params.key, ask).await;
        }
        if ask.if_revision.is_some() {
            let key = params.key;
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("compare-and-set of {key:?} needs one order of all writes"),
            )
            .with_remedy(
                "give its prefix the rule `strong`, or leave out --if-revision",
            ));
        }
        let op_id = ask.op_id.clone().unwrap_or_else(policies::fresh_op_id);
        let updates = self.updates(&params.key, policy.kind, &ask, &op_id).await?;
        let op_id = is_remembered(&policy, &ask).then_some(op_id);
        let mut last = None;
        // Most updates are one; the elements of a set are one each, under ids of their own.
        for (number, update) in updates.into_iter().enumerate() {
            let id = op_id.as_ref().map(|op_id| match number {
                0 => translate::op_id(op_id),
                number => translate::op_id(&format!("{op_id}/{number}")),
            });
            let request = Request {
                id: RequestId(0),
                op: Op::Update { key: Key::from(params.key.as_str()), update, op_id: id },
                level: ask.level.map(translate::level),
                session: ask.session.as_deref().map(translate::token).transpose()?,
                within: translate::within(ask.timeout_ms),
            };
            match answer(self.handle.ask(request).await, op_id.as_deref())? {
                Answer::Written(written) => last = Some(written),
                Answer::Read(_) | Answer::Listed(_) => return Err(confused()),
            }
        }
        let written = last.ok_or_else(|| {
            ApiError::new(ErrorCode::Invalid, "there is no element to change")
                .with_remedy("name at least one")
        })?;
        Ok(Written {
            key: params.key,
            level: translate::shown_level(written.level),
            region: self.region.clone(),
            op_id,
            revision: None,
            session: translate::token_text(&written.token),
        })
    }

    /// The changes that are meant. Rights are minted in the strong engine first.
    async fn updates(
        &self,
        key: &str,
        kind: Kind,
        ask: &WriteKey,
        op_id: &str,
    ) -> Result<Vec<Update>, ApiError> {
        let me = self.me();
        if let StateUpdate::Mint { amount } = ask.update {
            return Ok(vec![self.rules.mint(key, amount, op_id, me).await?]);
        }
        let around = translate::Around { context: ask.context.as_deref(), me };
        let StateUpdate::Transfer { to, .. } = &ask.update else {
            return translate::update(&ask.update, kind, around, &|_| None);
        };
        let other = self.actor_of(to).await?;
        translate::update(&ask.update, kind, around, &|_| other)
    }

    /// Who the replica of a region is now, as far as it was heard of here.
    async fn actor_of(&self, region: &RegionId) -> Result<Option<Actor>, ApiError> {
        let view = self.view()?;
        let found = view.members.iter().find(|(_, member)| member.region == *region);
        let Some((id, _)) = found else { return Ok(None) };
        let received = self.handle.frontier().await.map_err(stopping)?;
        let incarnation = received.get(*id).incarnation;
        Ok((incarnation > 0).then(|| Actor::new(*id, incarnation)))
    }

    fn me(&self) -> Actor {
        *self.handle.actor.borrow()
    }

    async fn batch(&self, _: NoParams, ask: Batch) -> Result<BatchReply, ApiError> {
        if ask.items.len() > BATCH_MAX {
            let message =
                format!("the batch has {} items, more than {BATCH_MAX}", ask.items.len());
            return Err(ApiError::new(ErrorCode::Invalid, message)
                .with_remedy("send several batches"));
        }
        let items = ask.items.into_iter().map(|item| async {
            let result = match item {
                BatchItem::Read(read) => self.get(read, ()).await.map(BatchResult::Read),
                BatchItem::Write { key, write } => {
                    let params = KeyParams { key };
                    self.write(params, write).await.map(BatchResult::Written)
                }
            };
            result.unwrap_or_else(BatchResult::Error)
        });
        Ok(BatchReply { items: join_all(items).await })
    }

    async fn list(&self, ask: ListKeys, (): ()) -> Result<KeyPage, ApiError> {
        let prefix = ask.prefix.unwrap_or_default();
        let limit = ask.limit.unwrap_or(KEYS_MAX).min(KEYS_MAX);
        let request = Request {
            id: RequestId(0),
            op: Op::List {
                prefix: Key::from(prefix.as_str()),
                after: ask.after.as_deref().map(Key::from),
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
            },
            level: None,
            session: None,
            within: translate::within(None),
        };
        match answer(self.handle.ask(request).await, None)? {
            Answer::Listed(listed) => self.page(&listed),
            Answer::Read(_) | Answer::Written(_) => Err(confused()),
        }
    }

    fn page(&self, listed: &Listed) -> Result<KeyPage, ApiError> {
        let mut items = Vec::new();
        for (key, reading) in &listed.items {
            let policy = self.policy(key)?;
            let (value, context) = translate::shown(reading, self.me());
            items.push(StateEntry {
                key: key.to_string(),
                kind: translate::shown_kind(policy.kind),
                value,
                level: StateLevel::Eventual,
                served_by: self.region.clone(),
                staleness_ms: millis(listed.staleness),
                revision: None,
                context,
                session: translate::token_text(&listed.token),
            });
        }
        let next = listed.more.then(|| items.last().map(|item| item.key.clone()));
        Ok(KeyPage { items, next: next.flatten() })
    }

    async fn watch(&self, ask: WatchKeys, (): ()) -> Result<KeyChanges, ApiError> {
        let prefix = ask.prefix.unwrap_or_default();
        let patience = Duration::from_millis(ask.wait_ms.unwrap_or(0).min(WATCH_MAX_MS));
        let mut news = self.handle.feed.follow();
        let most = usize::try_from(KEYS_MAX).unwrap_or(usize::MAX);
        let mut token = ask.token;
        let waited = tokio::time::timeout(patience, async {
            loop {
                let page = self.handle.feed.since(&prefix, token.as_deref(), most);
                if page.reset || !page.keys.is_empty() {
                    return page;
                }
                token = Some(page.token);
                if news.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        })
        .await;
        let page = match waited {
            Ok(page) => page,
            Err(_) => self.handle.feed.since(&prefix, token.as_deref(), most),
        };
        let mut items = Vec::new();
        for key in page.keys {
            let ask = ReadKey { level: Some(StateLevel::Eventual), ..ReadKey::of(&*key) };
            match self.get(ask, ()).await {
                Ok(entry) => items.push(entry),
                // Its slot left this region: who watches there is told.
                Err(error) if translate::is_elsewhere(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(KeyChanges { items, reset: page.reset, token: page.token })
    }

    async fn replica(&self, _: NoParams, (): ()) -> Result<ReplicaReport, ApiError> {
        self.report().await
    }

    /// How this region's replica is.
    ///
    /// # Errors
    ///
    /// Before the first membership, and when the daemon stops.
    pub(crate) async fn report(&self) -> Result<ReplicaReport, ApiError> {
        let view = self.view()?;
        let report = self.handle.report().await.map_err(stopping)?;
        Ok(report::shown(&self.region, &view, &report, &self.mesh.stats()))
    }

    async fn replicas(&self, _: NoParams, (): ()) -> Result<ReplicaReports, ApiError> {
        let own = self.report().await?;
        let peers = self.peers.iter();
        let asked = ask_each::<GetReplica>(peers, &NoParams {}, PEER_TIME_MAX);
        let (mut items, missing) = asked.await;
        items.push(own);
        items.sort_by(|a, b| a.region.cmp(&b.region));
        Ok(ReplicaReports { items, missing })
    }

    async fn evict(&self, params: RegionParams, (): ()) -> Result<Eviction, ApiError> {
        self.rules.evict(&params.region).await
    }

    async fn force_sync(&self, _: NoParams, (): ()) -> Result<(), ApiError> {
        self.handle.reconcile().await.map_err(stopping)
    }

    async fn set_policy(
        &self,
        _: NoParams,
        policy: StatePolicy,
    ) -> Result<StatePolicies, ApiError> {
        let (membership, wanted) = self.rules.set(&policy).await?;
        Ok(policies::shown(&membership, &wanted))
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn policies(&self, _: NoParams, (): ()) -> Result<StatePolicies, ApiError> {
        Ok(policies::shown(self.view()?.as_ref(), &self.wanted.borrow()))
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn shards(&self, ask: AskShards, (): ()) -> Result<ShardList, ApiError> {
        shards::shown(self.view()?.as_ref(), &self.wanted.borrow(), &ask)
    }

    async fn move_slot(&self, _: NoParams, ask: MoveSlot) -> Result<ShardList, ApiError> {
        let view = self.view()?;
        let wanted = self.rules.move_slot(&ask, &view.voting()).await?;
        shards::shown(&view, &wanted, &AskShards::default())
    }

    fn view(&self) -> Result<Arc<Membership>, ApiError> {
        self.handle.view.borrow().clone().ok_or_else(no_membership)
    }

    fn policy(&self, key: &str) -> Result<Policy, ApiError> {
        let view = self.view()?;
        view.policies.of(key).cloned().ok_or_else(|| {
            ApiError::new(ErrorCode::Refused, format!("no rule covers the key {key:?}"))
                .with_remedy(
                    "set one: dwcp-cli federation state configure --prefix PREFIX --kind KIND \
                     --level LEVEL",
                )
        })
    }
}

/// Whether a write is remembered, so that asking again does nothing twice: when the client gave
/// it a name to ask again by, or when its outcome may stay open, which is told with an id. A
/// write of level eventual waits for this replica's disk only, and to remember one costs as
/// much as to write it.
fn is_remembered(policy: &Policy, ask: &WriteKey) -> bool {
    let level = ask.level.map_or(policy.floor, translate::level);
    ask.op_id.is_some()
        || level != Level::Eventual
        || matches!(ask.update, StateUpdate::Mint { .. } | StateUpdate::Transfer { .. })
}

fn answer(
    outcome: Result<Outcome, Stopping>,
    op_id: Option<&str>,
) -> Result<Answer, ApiError> {
    outcome.map_err(stopping)?.map_err(|refusal| translate::refused(&refusal, op_id))
}

fn stopping(stopping: Stopping) -> ApiError {
    ApiError::new(ErrorCode::Unavailable, stopping.to_string())
        .with_remedy("ask another region, or again when the daemon is back")
}

fn confused() -> ApiError {
    ApiError::new(ErrorCode::Internal, "the replica answered another question")
}

fn no_membership() -> ApiError {
    let message = "this region's replica does not know the membership yet";
    ApiError::new(ErrorCode::Unavailable, message).with_remedy(
        "wait until the strong engine was reached once: see `dwcp-cli federation status`",
    )
}

fn millis(span: Duration) -> Option<u64> {
    u64::try_from(span.as_millis()).ok()
}
