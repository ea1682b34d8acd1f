//! `monitoring silence` and `monitoring maintenance` (M15).

use dwcp_api::NoParams;
use dwcp_api::silence::{
    CreateSilence, EndSilence, GetSilence, ListSilences, NewSilence, SilenceEnd,
    SilenceFilter, SilenceParams,
};
use dwcp_monitor::incident::SilenceKind;

use super::{show, show_or_watch};
use crate::app::Run;
use crate::arguments::{MaintenanceArgs, SilenceCommand, WindowArgs};
use crate::failure::Failure;
use crate::view;

/// Carries a command about silences out.
pub(super) async fn silence(
    run: &mut Run<'_>,
    command: SilenceCommand,
) -> Result<(), Failure> {
    match command {
        SilenceCommand::Create(args) => {
            let body = NewSilence {
                cause: args.cause.map(Into::into),
                severity_below: args.severity_below.map(Into::into),
                ..new(SilenceKind::Silence, args.window)
            };
            create(run, &body).await
        }
        SilenceCommand::List(args) => {
            let session = run.session()?;
            let filter = SilenceFilter { region: args.region };
            let ask =
                async |_: &Run<'_>| session.call::<ListSilences>(&filter, &()).await;
            show_or_watch(run, args.watch, ask, view::silences).await
        }
        SilenceCommand::Show(args) => {
            let of = SilenceParams { silence: args.id };
            let reply = run.session()?.call::<GetSilence>(&of, &()).await?;
            show(run, &reply, view::silence)
        }
        SilenceCommand::End(args) => {
            let of = SilenceParams { silence: args.id };
            let body = SilenceEnd { dry_run: args.dry_run };
            let reply = run.session()?.call::<EndSilence>(&of, &body).await?;
            show(run, &reply, view::silence_ended)
        }
    }
}

/// Announces maintenance.
pub(super) async fn maintenance(
    run: &mut Run<'_>,
    args: MaintenanceArgs,
) -> Result<(), Failure> {
    create(run, &new(SilenceKind::Maintenance, args.window)).await
}

async fn create(run: &mut Run<'_>, body: &NewSilence) -> Result<(), Failure> {
    let reply = run.session()?.call::<CreateSilence>(&NoParams {}, body).await?;
    show(run, &reply, view::silence_made)
}

fn new(kind: SilenceKind, window: WindowArgs) -> NewSilence {
    NewSilence {
        kind,
        region: window.region,
        cause: None,
        severity_below: None,
        from: window.from,
        until: window.until,
        for_s: window.lasts.map(|lasts| lasts.as_secs()),
        reason: window.reason,
        dry_run: window.dry_run,
    }
}
