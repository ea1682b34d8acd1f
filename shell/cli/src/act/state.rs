//! `state`: the replicated key space (O3, O14, O15, O33).

use std::time::Duration;

use dwcp_api::public::{ListRegions, RegionParams};
use dwcp_api::shards::{AskShards, GetShards, MoveSlot, PostShardMove, ShardList};
use dwcp_api::state::{
    EvictReplica, ForceStateSync, GetReplicas, GetStateKey, GetStatePolicies, KEYS_MAX,
    KeyChanges, KeyPage, KeyParams, ListKeys, ListStateKeys, PostStateKey,
    PutStatePolicy, ReadKey, StatePolicy, StateUpdate, Text, WATCH_MAX_MS, WatchKeys,
    WatchStateKeys, WriteKey,
};
use dwcp_api::{CallError, NoParams, Operation};
use dwcp_types::{RegionId, millis};

use super::{View, show, show_or_watch, written};
use crate::app::Run;
use crate::arguments::{
    ChangeCommand, ConfigureArgs, EvictArgs, GetArgs, HowArgs, InitArgs, ListArgs,
    MoveSlotArgs, PutArgs, ShardsArgs, ShardsCommand, StateArgs, StateCommand,
    VerifyArgs, WatchArgs, WatchKeysArgs,
};
use crate::failure::{Failure, Kind};
use crate::session::Session;
use crate::view;

/// How often in a row the federation may not answer before watching ends: a daemon that
/// restarts is back within this many looks of half a second.
const MISSED_MAX: u32 = 60;

/// Carries a state command out.
pub(super) async fn state(run: &mut Run<'_>, args: StateArgs) -> Result<(), Failure> {
    let session = at(run, args.at.as_ref()).await?;
    // Who names a region wants its answer.
    let anywhere = args.at.is_none();
    match args.command {
        StateCommand::Init(args) => init(run, &session, args).await,
        StateCommand::Get(args) => get(run, &session, args, anywhere).await,
        StateCommand::List(args) => list(run, &session, args).await,
        StateCommand::Watch(args) => watch(run, &session, args).await,
        StateCommand::LatencyMatrix(w) => {
            replicas(run, &session, w, view::latency_matrix).await
        }
        StateCommand::LagMatrix(w) => replicas(run, &session, w, view::lag_matrix).await,
        StateCommand::QueueDepth(w) => {
            replicas(run, &session, w, view::queue_depth).await
        }
        StateCommand::Replicas(w) => replicas(run, &session, w, view::replicas).await,
        StateCommand::Conflicts(w) => replicas(run, &session, w, view::conflicts).await,
        StateCommand::VerifySync(args) => verify(run, &session, &args).await,
        StateCommand::ForceSync => {
            session.call::<ForceStateSync>(&NoParams {}, &()).await?;
            run.terminal.print("every peer is compared with now\n")
        }
        StateCommand::Evict(args) => evict(run, &session, args).await,
        StateCommand::Shards(args) => shards(run, &session, args).await,
        StateCommand::Policies => {
            let reply = session.call::<GetStatePolicies>(&NoParams {}, &()).await?;
            show(run, &reply, view::policies)
        }
        StateCommand::Configure(args) => configure(run, &session, args).await,
        StateCommand::Change(change) => {
            let (key, write) = changed(change);
            let ask = (&KeyParams { key }, &write);
            let reply = ask_holder::<PostStateKey>(run, &session, ask, anywhere).await?;
            show(run, &reply, view::key_written)
        }
    }
}

/// The federation, by the daemon of one region when one is named.
async fn at(run: &Run<'_>, region: Option<&RegionId>) -> Result<Session, Failure> {
    let session = run.session()?;
    let Some(region) = region else { return Ok(session) };
    let list = session.call::<ListRegions>(&NoParams {}, &()).await?;
    let found = list.items.iter().find(|item| item.region.id == *region);
    let found = found.ok_or_else(|| {
        let known = list.items.iter().map(|item| item.region.id.to_string());
        let known = known.collect::<Vec<_>>().join(", ");
        Failure::usage(format!("there is no region {region}"))
            .with_remedy(format!("name one of {known}"))
    })?;
    run.session_at(&format!("https://{}", found.endpoint))
}

/// The change that a command means.
fn changed(command: ChangeCommand) -> (String, WriteKey) {
    let texts = |elements: Vec<String>| elements.into_iter().map(Text::Plain).collect();
    match command {
        ChangeCommand::Put(args) => put(args),
        ChangeCommand::Increment(args) => {
            (args.key, how(StateUpdate::Increment { by: args.by }, args.how))
        }
        ChangeCommand::Add(args) => {
            let elements = texts(args.elements);
            (args.key, how(StateUpdate::Add { elements }, args.how))
        }
        ChangeCommand::Remove(args) => {
            let elements = texts(args.elements);
            (args.key, how(StateUpdate::Remove { elements }, args.how))
        }
        ChangeCommand::Spend(args) => {
            (args.key, how(StateUpdate::Spend { amount: args.amount }, args.how))
        }
        ChangeCommand::Mint(args) => {
            (args.key, how(StateUpdate::Mint { amount: args.amount }, args.how))
        }
        ChangeCommand::Transfer(args) => {
            let update = StateUpdate::Transfer { amount: args.amount, to: args.to };
            (args.key, how(update, args.how))
        }
        ChangeCommand::Delete(args) => (args.key, how(StateUpdate::Delete, args.how)),
    }
}

fn put(args: PutArgs) -> (String, WriteKey) {
    let update = StateUpdate::Set { value: Text::Plain(args.value) };
    let write = WriteKey {
        if_revision: args.if_revision,
        context: args.context,
        ..how(update, args.how)
    };
    (args.key, write)
}

fn how(update: StateUpdate, how: HowArgs) -> WriteKey {
    WriteKey {
        level: how.level.map(Into::into),
        op_id: how.op_id,
        session: how.session,
        ..WriteKey::of(update)
    }
}

async fn get(
    run: &mut Run<'_>,
    session: &Session,
    args: GetArgs,
    anywhere: bool,
) -> Result<(), Failure> {
    let params = ReadKey {
        key: args.key,
        level: args.level.map(Into::into),
        session: args.session,
        max_staleness_ms: args.max_staleness.map(millis),
        timeout_ms: None,
    };
    let ask = async |run: &Run<'_>| {
        ask_holder::<GetStateKey>(run, session, (&params, &()), anywhere).await
    };
    show_or_watch(run, args.watch, ask, view::key).await
}

/// Every key that is asked for, page by page.
async fn list(
    run: &mut Run<'_>,
    session: &Session,
    args: ListArgs,
) -> Result<(), Failure> {
    let most = args.limit.unwrap_or(u64::MAX);
    let mut filter = ListKeys { prefix: args.prefix, after: None, limit: None };
    let mut all = KeyPage { items: Vec::new(), next: None };
    loop {
        let left = most - u64::try_from(all.items.len()).unwrap_or(u64::MAX).min(most);
        filter.limit = Some(u32::try_from(left).unwrap_or(KEYS_MAX).min(KEYS_MAX));
        let page = session.call::<ListStateKeys>(&filter, &()).await?;
        all.items.extend(page.items);
        // Keys rise from page to page, so that a service that repeats one cannot keep this
        // going for ever.
        all.next = page.next.filter(|next| filter.after.as_ref() < Some(next));
        let enough = u64::try_from(all.items.len()).unwrap_or(u64::MAX) >= most;
        if all.next.is_none() || enough {
            return show(run, &all, view::keys);
        }
        filter.after.clone_from(&all.next);
    }
}

/// Prints what changes until Ctrl-C; a federation that does not answer is asked again.
async fn watch(
    run: &mut Run<'_>,
    session: &Session,
    args: WatchKeysArgs,
) -> Result<(), Failure> {
    let mut interrupt = run.surroundings.take_interrupt();
    let mut params =
        WatchKeys { prefix: args.prefix, token: args.token, wait_ms: Some(0) };
    let mut missed = 0;
    let mut pause = Duration::ZERO;
    loop {
        let next = async {
            session.pause(pause).await;
            session.call::<WatchStateKeys>(&params, &()).await
        };
        let changes: Result<KeyChanges, Failure> = tokio::select! {
            () = &mut interrupt => return Ok(()),
            changes = next => changes,
        };
        match changes {
            Ok(changes) => {
                missed = 0;
                pause = Duration::ZERO;
                if changes.reset || !changes.items.is_empty() {
                    let text = written(run, &changes, view::key_changes)?;
                    run.terminal.print(&text)?;
                }
                params.token = Some(changes.token);
                params.wait_ms = Some(WATCH_MAX_MS);
            }
            Err(failure) if failure.may_pass() && missed < MISSED_MAX => {
                missed += 1;
                pause = session.pace.poll;
            }
            Err(failure) => return Err(failure),
        }
    }
}

async fn replicas(
    run: &mut Run<'_>,
    session: &Session,
    watch: WatchArgs,
    view: View<dwcp_api::state::ReplicaReports>,
) -> Result<(), Failure> {
    let ask = async |_: &Run<'_>| session.call::<GetReplicas>(&NoParams {}, &()).await;
    show_or_watch(run, watch, ask, view).await
}

/// Whether all regions hold the same: the exit code says it too.
async fn verify(
    run: &mut Run<'_>,
    session: &Session,
    args: &VerifyArgs,
) -> Result<(), Failure> {
    let mut reply = session.call::<GetReplicas>(&NoParams {}, &()).await?;
    if let Some(region) = &args.region
        && !reply.items.iter().any(|item| item.region == *region)
    {
        let message = format!("region {region} did not answer for its replica");
        return Err(Failure::new(Kind::Failed, message)
            .with_remedy("see `dwcp-cli federation state replicas`"));
    }
    reply.items.sort_by(|a, b| a.region.cmp(&b.region));
    show(run, &reply, view::replicas)?;
    let digests: std::collections::BTreeSet<_> =
        reply.items.iter().map(|item| &item.digest).collect();
    if digests.len() <= 1 && reply.missing.is_empty() {
        return Ok(());
    }
    let message = if digests.len() > 1 {
        "the regions do not hold the same"
    } else {
        "not all regions answered"
    };
    Err(Failure::new(Kind::Failed, message).with_remedy(
        "writes under way make them differ for a moment: ask again; if it stays so, \
         `dwcp-cli federation state force-sync`",
    ))
}

/// Puts a replica out. It is asked for twice, because what only that one has is lost to the
/// others.
async fn evict(
    run: &mut Run<'_>,
    session: &Session,
    args: EvictArgs,
) -> Result<(), Failure> {
    let region = args.region;
    if !args.yes {
        let message = format!(
            "evicting the replica of {region} keeps out what it wrote and had not sent; \
             when its daemon runs, it joins again by itself and begins empty"
        );
        return Err(Failure::usage(message).with_remedy(
            "look at `dwcp-cli federation state queue-depth`, and say --yes if that is meant",
        ));
    }
    let reply = session.call::<EvictReplica>(&RegionParams { region }, &()).await?;
    show(run, &reply, |reply, _| {
        format!("the replica of {} is out, as of epoch {}\n", reply.region, reply.epoch)
    })
}

async fn configure(
    run: &mut Run<'_>,
    session: &Session,
    args: ConfigureArgs,
) -> Result<(), Failure> {
    let policy = StatePolicy {
        prefix: args.prefix,
        kind: args.kind.into(),
        level: args.level.into(),
        regions: args.regions,
        ttl_ms: args.ttl.map(millis),
        copies: args.copies,
        shard_by: args.shard_by.map(Into::into),
    };
    let reply = session.call::<PutStatePolicy>(&NoParams {}, &policy).await?;
    show(run, &reply, view::policies)
}

async fn shards(
    run: &mut Run<'_>,
    session: &Session,
    args: ShardsArgs,
) -> Result<(), Failure> {
    if let Some(ShardsCommand::Move(args)) = args.command {
        return move_slot(run, session, args).await;
    }
    let params = AskShards { key: args.key };
    let ask = async |_: &Run<'_>| session.call::<GetShards>(&params, &()).await;
    show_or_watch(run, args.watch, ask, view::shards).await
}

/// Has a slot move; waits for it when that is asked for, as long as a wait may take.
async fn move_slot(
    run: &mut Run<'_>,
    session: &Session,
    args: MoveSlotArgs,
) -> Result<(), Failure> {
    let MoveSlotArgs { prefix, slot, from, to, wait } = args;
    let ask = MoveSlot { prefix, slot, from, to };
    let mut reply = session.call::<PostShardMove>(&NoParams {}, &ask).await?;
    let began = session.monotonic();
    while wait && !is_there(&reply, &ask)? {
        if session.monotonic().saturating_sub(began) >= session.wait_time_max {
            let message = format!("slot {} is not in {} yet", ask.slot, ask.to);
            return Err(Failure::new(Kind::Failed, message).with_remedy(
                "it goes on; look with `dwcp-cli federation state shards`, or wait with a longer \
                 --timeout",
            ));
        }
        session.pause(session.pace.poll).await;
        match session.call::<GetShards>(&AskShards::default(), &()).await {
            Ok(now) => reply = now,
            Err(failure) if failure.may_pass() => {}
            Err(failure) => return Err(failure),
        }
    }
    show(run, &reply, view::shards)
}

/// Whether a slot is where it was asked to be. Not yet, for a region that has not heard of it.
fn is_there(reply: &ShardList, ask: &MoveSlot) -> Result<bool, Failure> {
    let items = reply.items.iter().filter(|item| item.prefix == ask.prefix);
    let mut slots = items.flat_map(|item| &item.moved);
    let Some(at) = slots.find(|at| at.slot == ask.slot) else { return Ok(false) };
    if at.wanted.contains(&ask.from) && !at.wanted.contains(&ask.to) {
        let message = format!("slot {} is to be in {} again", ask.slot, ask.from);
        return Err(Failure::new(Kind::Conflict, message)
            .with_remedy("somebody else moved it meanwhile; ask them"));
    }
    Ok(at.wanted.contains(&ask.to) && !at.is_moving())
}

/// Asks, and asks the regions that hold the key one by one when the one that answered does not:
/// straight away, because a region that may not hold a key may not hand it on either (F45).
async fn ask_holder<O: Operation>(
    run: &Run<'_>,
    session: &Session,
    (params, body): (&O::Params, &O::Body),
    anywhere: bool,
) -> Result<O::Reply, Failure> {
    let mut last = match session.call::<O>(params, body).await {
        Err(failure) if anywhere => failure,
        answered => return answered,
    };
    for holder in last.holders() {
        let there = at(run, Some(&holder)).await?;
        match there.try_call::<O>(params, body).await {
            Ok(reply) => return Ok(reply),
            // Nothing arrived there. After a silence it may have been carried out.
            Err(error @ CallError::Unreachable { .. }) => {
                last = Session::failure_of::<O>(error);
            }
            Err(error) => return Err(Session::failure_of::<O>(error)),
        }
    }
    Err(last)
}

/// The source's `state init`: the replicas are there already, so it checks what is asked for
/// against them and sets the rule of all keys that have none of their own.
async fn init(
    run: &mut Run<'_>,
    session: &Session,
    args: InitArgs,
) -> Result<(), Failure> {
    let list = session.call::<ListRegions>(&NoParams {}, &()).await?;
    let known: Vec<&RegionId> = list.items.iter().map(|item| &item.region.id).collect();
    let named = args.local_region.iter().chain(&args.regions);
    if let Some(unknown) = named.into_iter().find(|region| !known.contains(region)) {
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        return Err(Failure::usage(format!("there is no region {unknown}"))
            .with_remedy(format!("name some of {}", known.join(", "))));
    }
    let regions = if args.regions.is_empty() { known.len() } else { args.regions.len() };
    let regions = u32::try_from(regions).unwrap_or(u32::MAX);
    if let Some(factor) = args.replication_factor
        && (factor == 0 || factor > regions)
    {
        return Err(Failure::usage(format!(
            "--replication-factor is {factor} and there are {regions} regions to hold the keys"
        ))
        .with_remedy("name at least as many with --regions, or a smaller number of copies"));
    }
    let policy = StatePolicy {
        prefix: String::new(),
        kind: args.kind.into(),
        level: args.consistency.into(),
        regions: args.regions,
        ttl_ms: None,
        copies: args.replication_factor,
        shard_by: None,
    };
    if args.dry_run {
        return show(run, &policy, |policy, _| {
            format!("would set the rule of all keys: {}\n", view::rule(policy))
        });
    }
    let reply = session.call::<PutStatePolicy>(&NoParams {}, &policy).await?;
    show(run, &reply, view::policies)
}
