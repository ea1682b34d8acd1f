//! `monitoring incidents` (M13 to M15, DETAILS 2.4).

use dwcp_api::NoParams;
use dwcp_api::monitoring::{
    Acknowledge, AcknowledgeIncident, Assign, AssignIncident, CreateIncident,
    GetIncident, IncidentFilter, IncidentParams, ListIncidents, ReportIncident, Resolve,
    ResolveIncident,
};

use super::{show, show_or_watch};
use crate::app::Run;
use crate::arguments::{CreateIncidentArgs, IncidentsCommand, MonitoringCommand};
use crate::failure::Failure;
use crate::view;

/// Carries a monitoring command out.
pub(super) async fn monitoring(
    run: &mut Run<'_>,
    command: MonitoringCommand,
) -> Result<(), Failure> {
    let MonitoringCommand::Incidents(command) = command;
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
