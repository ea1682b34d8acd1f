//! `migrate`: one VM or all that a filter means; `migrate queue|status|cancel` (O8, O16).

use dwcp_api::NoParams;
use dwcp_api::migration::{
    AskMigration, CancelMigration, CreateMigration, GetMigration, ListMigrations,
    MigrationFilter, MigrationList, MigrationParams,
};
use dwcp_api::public::ListVms;
use dwcp_types::{RegionId, VmId};

use super::{show, show_or_watch, vm};
use crate::app::{Run, tell};
use crate::arguments::{BeginArgs, MigrateArgs, MigrateCommand, QueueArgs, StatusOfArgs};
use crate::failure::{Failure, Kind};
use crate::session::Session;
use crate::view;

/// Carries `migrate` out.
pub(super) async fn migrate(run: &mut Run<'_>, args: MigrateArgs) -> Result<(), Failure> {
    match args.command {
        None => begin(run, args.begin).await,
        Some(MigrateCommand::Queue(args)) => queue(run, args).await,
        Some(MigrateCommand::Status(args)) => status(run, args).await,
        Some(MigrateCommand::Cancel { migration }) => {
            let params = MigrationParams { migration };
            let session = run.session()?;
            let reply = session.call::<CancelMigration>(&params, &()).await?;
            show(run, &reply, view::migration)
        }
    }
}

async fn queue(run: &mut Run<'_>, args: QueueArgs) -> Result<(), Failure> {
    let filter = MigrationFilter { source: args.source, ..MigrationFilter::default() };
    let session = run.session()?;
    let ask = async |_: &Run<'_>| session.call::<ListMigrations>(&filter, &()).await;
    show_or_watch(run, args.watch, ask, view::migrations).await
}

async fn status(run: &mut Run<'_>, args: StatusOfArgs) -> Result<(), Failure> {
    let session = run.session()?;
    if let Some(migration) = args.migration {
        let params = MigrationParams { migration };
        let ask = async |_: &Run<'_>| session.call::<GetMigration>(&params, &()).await;
        return show_or_watch(run, args.watch, ask, view::migration).await;
    }
    let (vm, source) = (args.vm, args.source);
    let filter = MigrationFilter { vm, source, all: true, limit: None };
    let ask = async |_: &Run<'_>| session.call::<ListMigrations>(&filter, &()).await;
    show_or_watch(run, args.watch, ask, view::migrations).await
}

async fn begin(run: &mut Run<'_>, args: BeginArgs) -> Result<(), Failure> {
    let Some(target) = args.target.clone() else {
        return Err(Failure::usage("a move needs to know where to")
            .with_remedy("say --target REGION"));
    };
    let session = run.session()?;
    let one = args.vm.clone().or_else(|| args.vm_flag.clone());
    let now = run.surroundings.clock.now();
    let wish = |vm: VmId| AskMigration {
        vm,
        source: args.source.clone(),
        target: target.clone(),
        cause: args.reason.cause(),
        priority: args.priority,
        downtime_ms_max: u64::try_from(args.max_downtime.as_millis()).ok(),
        bandwidth_mbps: args.bandwidth,
        deadline: args.deadline.map(|within| now.plus(within)),
        cold: args.cold,
        dry_run: args.dry_run,
    };
    let Some(vm) = one else {
        let vms = meant(&session, &args, &target).await?;
        return ask_for(run, &session, vms.into_iter().map(wish).collect()).await;
    };
    let reply = session.call::<CreateMigration>(&NoParams {}, &wish(vm)).await?;
    let list = MigrationList { items: vec![reply.migration] };
    show(run, &list, |list, _| view::begun(list, args.dry_run))
}

/// Asks for one move after the other and shows them; those that are refused are told, and stop
/// none of the others.
pub(super) async fn ask_for(
    run: &mut Run<'_>,
    session: &Session,
    wishes: Vec<AskMigration>,
) -> Result<(), Failure> {
    let dry_run = wishes.iter().any(|wish| wish.dry_run);
    let all = wishes.len();
    let mut list = MigrationList::default();
    for wish in wishes {
        match session.call::<CreateMigration>(&NoParams {}, &wish).await {
            Ok(reply) => list.items.push(reply.migration),
            Err(failure) => tell(&failure, run.format(), run.terminal),
        }
    }
    show(run, &list, |list, _| view::begun(list, dry_run))?;
    let failures = all - list.items.len();
    if failures > 0 {
        let message = format!("{failures} of {all} VMs stay where they are; see above");
        return Err(Failure::new(Kind::Refused, message));
    }
    Ok(())
}

/// The VMs that a filter means, but for those that are at the target. A filter that means
/// nothing is a mistake, one that means everything too unless `--all` is said.
async fn meant(
    session: &Session,
    args: &BeginArgs,
    target: &RegionId,
) -> Result<Vec<VmId>, Failure> {
    if args.vm_filter.is_none() && !args.all {
        return Err(Failure::usage("a move needs to know of what").with_remedy(
            "name a VM, or say --vm-filter tag:KEY=VALUE, or --all for every VM",
        ));
    }
    let of = |label: Option<String>| ListVms {
        region: args.source.clone(),
        label,
        ..ListVms::default()
    };
    let found = vm::pages(session, of(args.vm_filter.clone()), u64::MAX).await?;
    let mut elsewhere: Vec<_> =
        found.items.iter().filter(|item| item.region != *target).collect();
    // The most urgent is asked for first; whose turn it is then is up to the daemons (F16).
    elsewhere.sort_by_key(|item| (std::cmp::Reverse(item.priority), &item.id));
    let vms: Vec<_> = elsewhere.into_iter().map(|item| item.id.clone()).collect();
    if vms.is_empty() {
        return Err(Failure::usage(
            "no VM is meant: none matches and is not there already",
        )
        .with_remedy("see `dwcp-cli vm list --filter tag:KEY=VALUE`"));
    }
    let everything = vm::pages(session, of(None), u64::MAX).await?;
    if !args.all && found.items.len() == everything.items.len() {
        let count = found.items.len();
        let message = format!("the filter means every VM that there is: {count}");
        return Err(Failure::usage(message).with_remedy("say --all if that is meant"));
    }
    Ok(vms)
}
