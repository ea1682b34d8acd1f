//! `evacuate`: empty a region that lives (C16); `failback`: move back what was driven out of it
//! (F18).

use dwcp_api::NoParams;
use dwcp_api::evacuation::{
    CancelEvacuation, ListEvacuations, PostEvacuation, StartEvacuation,
};
use dwcp_api::migration::AskMigration;
use dwcp_api::public::{ListVms, RegionParams, VmItem};
use dwcp_types::Power;

use super::{migrate, reason, show, show_or_watch, some, vm};
use crate::app::Run;
use crate::arguments::{EvacuateArgs, EvacuateCommand, FailbackArgs};
use crate::failure::Failure;
use crate::view;

/// Empties a region, shows how far that is, or calls it off.
pub(super) async fn evacuate(
    run: &mut Run<'_>,
    args: EvacuateArgs,
) -> Result<(), Failure> {
    match args.command {
        None => start(run, args).await,
        Some(EvacuateCommand::Status(watch)) => {
            let session = run.session()?;
            let ask = async |_: &Run<'_>| {
                session.call::<ListEvacuations>(&NoParams {}, &()).await
            };
            show_or_watch(run, watch, ask, view::evacuations).await
        }
        Some(EvacuateCommand::Cancel(name)) => {
            let region = name.id().ok_or_else(|| Failure::usage("no region is named"))?;
            let params = RegionParams { region };
            let left = run.session()?.call::<CancelEvacuation>(&params, &()).await?;
            show(run, &left, view::evacuation_cancelled)
        }
    }
}

async fn start(run: &mut Run<'_>, args: EvacuateArgs) -> Result<(), Failure> {
    let Some(region) = args.region else {
        return Err(Failure::usage("`evacuate` needs `--region REGION`")
            .with_remedy("or `evacuate status` to see which regions are being emptied"));
    };
    let needs = "`evacuate` needs `--reason TEXT`, for others to see";
    let reason = reason(args.reason, args.dry_run, needs)?;
    let body = StartEvacuation {
        region,
        to_regions: some(args.to_regions),
        reason,
        dry_run: args.dry_run,
    };
    let begun = run.session()?.call::<PostEvacuation>(&NoParams {}, &body).await?;
    show(run, &begun, view::evacuation)
}

/// Moves back to a region what was driven out of it.
pub(super) async fn failback(
    run: &mut Run<'_>,
    args: FailbackArgs,
) -> Result<(), Failure> {
    let region = args.region;
    let session = run.session()?;
    let found = vm::pages(&session, ListVms::default(), u64::MAX).await?;
    let mut away: Vec<&VmItem> =
        found.items.iter().filter(|item| item.home.as_ref() == Some(&region)).collect();
    away.sort_by_key(|item| (std::cmp::Reverse(item.priority), &item.id));
    if away.is_empty() {
        return Err(Failure::usage(format!("no VM was driven out of {region}"))
            .with_remedy("move others there: `migrate VM --target REGION`"));
    }
    let back = |item: &&VmItem| AskMigration {
        source: Some(item.region.clone()),
        downtime_ms_max: u64::try_from(args.max_downtime.as_millis()).ok(),
        cold: item.power == Power::Stopped,
        dry_run: args.dry_run,
        ..AskMigration::new(item.id.clone(), region.clone())
    };
    let wishes = away.iter().map(back).collect();
    migrate::ask_for(run, &session, wishes).await
}
