//! `failover`.

use dwcp_api::NoParams;
use dwcp_api::failover::{GetFailover, PostFailover, StartFailover};

use super::{show, show_or_watch};
use crate::app::Run;
use crate::arguments::{FailoverArgs, FailoverCommand};
use crate::failure::Failure;
use crate::view;

/// Starts a lost region's VMs elsewhere, or shows what is true of regions (O9).
pub(super) async fn failover(
    run: &mut Run<'_>,
    args: FailoverArgs,
) -> Result<(), Failure> {
    if let Some(FailoverCommand::Status(watch)) = args.command {
        let session = run.session()?;
        let ask =
            async |_: &Run<'_>| session.call::<GetFailover>(&NoParams {}, &()).await;
        return show_or_watch(run, watch, ask, view::failover_status).await;
    }
    let Some(from_region) = args.from_region else {
        return Err(Failure::usage("`failover` needs `--from-region REGION`")
            .with_remedy("or `failover status` to see which regions live"));
    };
    let reason = match args.reason {
        Some(reason) => reason,
        None if args.dry_run => String::new(),
        None => {
            return Err(Failure::usage(
                "`failover` needs `--reason TEXT`, kept in its log",
            )
            .with_remedy("or `--dry-run` to see who would go where"));
        }
    };
    let named = !args.to_regions.is_empty();
    let body = StartFailover {
        from_region,
        to_regions: named.then(|| args.to_regions.into_iter().collect()),
        reason,
        even_if_alive: args.even_if_alive,
        dry_run: args.dry_run,
    };
    let reply = run.session()?.call::<PostFailover>(&NoParams {}, &body).await?;
    show(run, &reply, view::failover_plan)
}
