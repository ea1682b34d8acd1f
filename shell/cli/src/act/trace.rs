//! `monitoring trace` and `monitoring tracing` (M10, O6).

use std::time::Duration;

use dwcp_api::NoParams;
use dwcp_api::trace::{
    GetTrace, GetTracing, ListTraces, PutTracing, TraceFilter, TraceParams, Tracing,
    TracingReply,
};
use dwcp_types::{Timestamp, millis};

use super::show;
use crate::app::Run;
use crate::arguments::{
    EnableTracingArgs, ListTracesArgs, ShowTraceArgs, TraceCommand, TracingCommand,
};
use crate::failure::Failure;
use crate::view;

/// Carries a `trace` command out.
pub(super) async fn trace(
    run: &mut Run<'_>,
    command: TraceCommand,
) -> Result<(), Failure> {
    let session = run.session()?;
    match command {
        TraceCommand::List(args) => {
            let filter = filter(args, run.look().now);
            let reply = session.call::<ListTraces>(&filter, &()).await?;
            show(run, &reply, view::traces)
        }
        TraceCommand::Show(ShowTraceArgs { id: trace, align }) => {
            let reply = session.call::<GetTrace>(&TraceParams { trace }, &()).await?;
            let draw = if align { view::trace_aligned } else { view::trace };
            show(run, &reply, draw)
        }
    }
}

fn filter(args: ListTracesArgs, now: Timestamp) -> TraceFilter {
    let ago = |span: Duration| {
        Timestamp::from_millis(now.as_millis().saturating_sub(millis(span)))
    };
    TraceFilter {
        operation: args.operation,
        region: args.region,
        vm: args.vm,
        failed: args.failed,
        min_ms: args.min_duration.map(millis),
        since: args.since.map(ago),
        limit: Some(args.limit),
    }
}

/// Carries a `tracing` command out.
pub(super) async fn tracing(
    run: &mut Run<'_>,
    command: TracingCommand,
) -> Result<(), Failure> {
    let session = run.session()?;
    let now = session.call::<GetTracing>(&NoParams {}, &()).await?;
    let (wanted, dry_run) = match command {
        TracingCommand::Status => return show(run, &now, view::tracing),
        TracingCommand::Disable => (Tracing { enabled: false, ..now.tracing }, false),
        TracingCommand::Enable(args) => (enabled(now.tracing, &args)?, args.dry_run),
    };
    let reply = if dry_run {
        TracingReply { tracing: wanted, by_operator: true, ..now }
    } else {
        session.call::<PutTracing>(&NoParams {}, &wanted).await?
    };
    show(run, &reply, view::tracing)
}

fn enabled(now: Tracing, args: &EnableTracingArgs) -> Result<Tracing, Failure> {
    let hours = args.retention.map(|retention| {
        // An hour is the unit that traces are thrown away in.
        u32::try_from(retention.as_secs().div_ceil(3_600))
            .map_err(|_| Failure::usage("`--retention` is too long").with_remedy("7d"))
    });
    Ok(Tracing {
        enabled: true,
        rate_ppm: args.sampling_rate.unwrap_or(now.rate_ppm),
        retention_h: hours.transpose()?.unwrap_or(now.retention_h),
    })
}
