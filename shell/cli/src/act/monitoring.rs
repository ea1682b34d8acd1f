//! `monitoring incidents|metrics|sla|silence|maintenance` (M3 to M8, M13 to M15, O5, DETAILS 2.4).

use dwcp_api::NoParams;
use dwcp_api::measured::{GetHistory, GetMetrics, HistoryParams, MetricsParams};
use dwcp_api::monitoring::{
    Acknowledge, AcknowledgeIncident, Assign, AssignIncident, CreateIncident,
    GetIncident, IncidentFilter, IncidentParams, ListIncidents, ReportIncident, Resolve,
    ResolveIncident,
};

use dwcp_api::sla::{
    CreateSla, DeleteSla, GetSlaHistory, ListSlas, NewSla, SlaFilter, SlaHistoryParams,
    SlaList, SlaParams,
};

use super::{dashboard, promql, show, show_or_watch, silence, trace};
use crate::app::Run;
use crate::arguments::{
    CreateIncidentArgs, CreateSlaArgs, HistoryArgs, IncidentsCommand, MetricsCommand,
    MonitoringCommand, ReportFormat, SlaArgs, SlaCommand, SlaReportArgs,
};
use crate::failure::Failure;
use crate::view;

/// Carries a monitoring command out.
pub(super) async fn monitoring(
    run: &mut Run<'_>,
    command: MonitoringCommand,
) -> Result<(), Failure> {
    match command {
        MonitoringCommand::Incidents(command) => incidents(run, command).await,
        MonitoringCommand::Metrics(command) => metrics(run, command).await,
        MonitoringCommand::Maintenance(args) => silence::maintenance(run, args).await,
        MonitoringCommand::Silence(command) => silence::silence(run, command).await,
        MonitoringCommand::Sla(command) => sla(run, command).await,
        MonitoringCommand::Trace(command) => trace::trace(run, command).await,
        MonitoringCommand::Tracing(command) => trace::tracing(run, command).await,
        MonitoringCommand::Dashboard(command) => {
            Box::pin(dashboard::dashboard(run, command)).await
        }
    }
}

async fn metrics(run: &mut Run<'_>, command: MetricsCommand) -> Result<(), Failure> {
    match command {
        MetricsCommand::Show(args) => {
            let session = run.session()?;
            let over_s = Some(args.over.as_secs());
            let asked = MetricsParams { region: args.region, over_s };
            let ask = async |_: &Run<'_>| session.call::<GetMetrics>(&asked, &()).await;
            show_or_watch(run, args.watch, ask, view::metrics).await
        }
        MetricsCommand::Query(args) => Box::pin(promql::query(run, args)).await,
        MetricsCommand::History(args) => {
            let session = run.session()?;
            let HistoryArgs { region, metric, range, csv, watch } = args;
            let range_s = Some(range.as_secs());
            let asked = HistoryParams { metric, region, range_s };
            let ask = async |_: &Run<'_>| session.call::<GetHistory>(&asked, &()).await;
            if csv {
                let text = view::history_csv(&ask(run).await?);
                return run.terminal.print(&text);
            }
            show_or_watch(run, watch, ask, view::history).await
        }
    }
}

async fn sla(run: &mut Run<'_>, command: SlaCommand) -> Result<(), Failure> {
    match command {
        SlaCommand::List(args) => slas(run, args, view::slas).await,
        SlaCommand::Status(args) => slas(run, args, view::sla_status).await,
        SlaCommand::Explain(args) => slas(run, args, view::sla_explained).await,
        SlaCommand::Report(args) => report_slas(run, args).await,
        SlaCommand::Create(args) => {
            let body = new_sla(args)?;
            let session = run.session()?;
            let reply = session.call::<CreateSla>(&NoParams {}, &body).await?;
            show(run, &reply, view::sla_created)
        }
        SlaCommand::History(args) => {
            let of = SlaHistoryParams { sla: args.id, region: args.region };
            let reply = run.session()?.call::<GetSlaHistory>(&of, &()).await?;
            show(run, &reply, view::sla_history)
        }
        SlaCommand::Delete(args) => {
            let of = SlaParams { sla: args.id };
            run.session()?.call::<DeleteSla>(&of, &()).await?;
            show(run, &of, view::sla_deleted)
        }
    }
}

async fn slas(
    run: &mut Run<'_>,
    args: SlaArgs,
    view: fn(&SlaList, view::Look) -> String,
) -> Result<(), Failure> {
    let session = run.session()?;
    let filter = SlaFilter { sla: args.id, region: args.region };
    let ask = async |_: &Run<'_>| session.call::<ListSlas>(&filter, &()).await;
    show_or_watch(run, args.watch, ask, view).await
}

async fn report_slas(run: &mut Run<'_>, args: SlaReportArgs) -> Result<(), Failure> {
    let filter = SlaFilter { sla: None, region: args.region };
    let list = run.session()?.call::<ListSlas>(&filter, &()).await?;
    let text = match args.format {
        ReportFormat::Markdown => view::sla_markdown(&list, run.look()),
        ReportFormat::Csv => view::sla_csv(&list),
        ReportFormat::Json => view::sla_json(&list),
    };
    run.terminal.print(&text)
}

fn new_sla(args: CreateSlaArgs) -> Result<NewSla, Failure> {
    // Thousandths of a per cent are ten parts per million.
    let ppm = u32::try_from(args.compliance.saturating_mul(10));
    let compliance_ppm = ppm.map_err(|_| {
        Failure::usage("`--compliance` is more than 100 %").with_remedy("such as 99.9")
    })?;
    Ok(NewSla {
        id: args.id,
        name: args.name,
        metric: args.metric,
        target_milli: args.target,
        operator: args.operator.into(),
        compliance_ppm,
        severity: args.severity.into(),
        window_s: args.window.as_secs(),
        period_s: args.period.as_secs(),
        region: args.region,
    })
}

async fn incidents(run: &mut Run<'_>, command: IncidentsCommand) -> Result<(), Failure> {
    let session = run.session()?;
    match command {
        IncidentsCommand::List(args) => {
            let status = args.status.map(Into::into);
            let filter = IncidentFilter { status, region: args.region };
            let ask =
                async |_: &Run<'_>| session.call::<ListIncidents>(&filter, &()).await;
            show_or_watch(run, args.watch, ask, view::incidents).await
        }
        IncidentsCommand::Show(args) => {
            let of = IncidentParams { incident: args.id };
            let ask = async |_: &Run<'_>| session.call::<GetIncident>(&of, &()).await;
            show_or_watch(run, args.watch, ask, view::incident).await
        }
        IncidentsCommand::Acknowledge(args) => {
            let of = IncidentParams { incident: args.id };
            let body = Acknowledge { by: args.by };
            let reply = session.call::<AcknowledgeIncident>(&of, &body).await?;
            show(run, &reply, view::incident)
        }
        IncidentsCommand::Assign(args) => {
            let of = IncidentParams { incident: args.id };
            let body = Assign { to: args.to };
            let reply = session.call::<AssignIncident>(&of, &body).await?;
            show(run, &reply, view::incident)
        }
        IncidentsCommand::Resolve(args) => {
            let of = IncidentParams { incident: args.id };
            let body =
                Resolve { root_cause: args.root_cause, resolution: args.resolution };
            let reply = session.call::<ResolveIncident>(&of, &body).await?;
            show(run, &reply, view::incident)
        }
        IncidentsCommand::Create(args) => {
            let body = report(args);
            let reply = session.call::<CreateIncident>(&NoParams {}, &body).await?;
            show(run, &reply, view::incident)
        }
    }
}

fn report(args: CreateIncidentArgs) -> ReportIncident {
    ReportIncident {
        title: args.title,
        description: args.description,
        severity: args.severity.into(),
        category: args.category.into(),
        region: args.region,
    }
}
