//! `failover`.

use dwcp_api::NoParams;
use dwcp_api::failover::{
    ApproveFailover, DenyFailover, FailoverDenial, FailoverRequestParams, GetFailover,
    ListFailoverRequests, ListFailovers, PostFailover, StartFailover,
};

use super::{answers_yes, reason, show, show_or_watch, some, trial};
use crate::app::Run;
use crate::arguments::{FailoverArgs, FailoverCommand};
use crate::failure::{Failure, Kind};
use crate::view;

/// Starts a lost region's VMs elsewhere, or shows what is true of regions (O9).
pub(super) async fn failover(
    run: &mut Run<'_>,
    args: FailoverArgs,
) -> Result<(), Failure> {
    match args.command {
        None => start(run, args).await,
        Some(FailoverCommand::History) => {
            let session = run.session()?;
            let logs = session.call::<ListFailovers>(&NoParams {}, &()).await?;
            show(run, &logs, view::failover_history)
        }
        Some(FailoverCommand::Status(args)) => {
            let session = run.session()?;
            if let Some(id) = args.failover_id {
                let logs = session.call::<ListFailovers>(&NoParams {}, &()).await?;
                let log = logs.items.into_iter().find(|log| log.id == id);
                let unknown = || {
                    Failure::new(Kind::NotFound, format!("there is no failover {id}"))
                        .with_remedy("`failover history` lists those that were")
                };
                return show(run, &log.ok_or_else(unknown)?, view::failover_log);
            }
            let ask =
                async |_: &Run<'_>| session.call::<GetFailover>(&NoParams {}, &()).await;
            show_or_watch(run, args.watch, ask, view::failover_status).await
        }
        Some(FailoverCommand::Test(args)) => Box::pin(trial::test(run, args)).await,
        Some(FailoverCommand::Requests) => {
            let session = run.session()?;
            let list = session.call::<ListFailoverRequests>(&NoParams {}, &()).await?;
            show(run, &list, view::failover_requests)
        }
        Some(FailoverCommand::Approve(args)) => {
            let of = FailoverRequestParams { request: args.id };
            let reply = run.session()?.call::<ApproveFailover>(&of, &()).await?;
            show(run, &reply, view::failover_plan)
        }
        Some(FailoverCommand::Deny(args)) => {
            let of = FailoverRequestParams { request: args.id };
            let why = FailoverDenial { reason: args.reason };
            let denied = run.session()?.call::<DenyFailover>(&of, &why).await?;
            show(run, &denied, view::failover_denied)
        }
    }
}

async fn start(run: &mut Run<'_>, args: FailoverArgs) -> Result<(), Failure> {
    let Some(from_region) = args.from_region else {
        return Err(Failure::usage("`failover` needs `--from-region REGION`")
            .with_remedy("or `failover status` to see which regions live"));
    };
    let needs = "`failover` needs `--reason TEXT`, kept in its log";
    let reason = reason(args.reason, args.dry_run, needs)?;
    let body = StartFailover {
        from_region,
        to_regions: some(args.to_regions),
        reason,
        even_if_alive: args.even_if_alive,
        accept_data_loss: args.accept_data_loss,
        hosts_off: args.hosts_off,
        dry_run: args.dry_run,
        require_approval: args.require_approval,
    };
    let body = if args.require_approval.is_none() && !args.dry_run {
        confirmed(run, body).await?
    } else {
        body
    };
    let reply = run.session()?.call::<PostFailover>(&NoParams {}, &body).await?;
    show(run, &reply, view::failover_plan)
}

/// Shows the plan and asks for a yes, unless another operator is asked: then it says so, because
/// another daemon may answer next, which goes by a configuration of its own.
async fn confirmed(
    run: &mut Run<'_>,
    body: StartFailover,
) -> Result<StartFailover, Failure> {
    let region = &body.from_region;
    let rehearsal = StartFailover { dry_run: true, ..body.clone() };
    let plan = run.session()?.call::<PostFailover>(&NoParams {}, &rehearsal).await?;
    if plan.two_persons {
        return Ok(StartFailover { require_approval: Some(true), ..body });
    }
    if !run.surroundings.interactive {
        let what = format!("the failover of {region} needs somebody's approval");
        return Err(Failure::usage(what).with_remedy(
            "say `--require-approval true` to have another operator approve it, or \
             `--require-approval false` when nobody can be asked",
        ));
    }
    let text = view::failover_plan(&plan, run.look());
    run.terminal.tell(&text);
    if answers_yes(run, &format!("fail {region} over like this?")) {
        return Ok(body);
    }
    Err(Failure::usage(format!("{region} is left as it is")))
}
