//! `status` and `events`.

use std::time::Duration;

use dwcp_api::NoParams;
use dwcp_api::public::{EventParams, GetEvents, GetStatus};

use super::{overview, show_or_watch};
use crate::app::Run;
use crate::arguments::{EventsArgs, StatusArgs, VmEventsArgs, WatchArgs};
use crate::failure::Failure;
use crate::parse::WatchEvery;
use crate::view;

/// How often the figures are asked for when nothing is said.
const EVERY: WatchEvery = WatchEvery(Duration::from_secs(2));

/// The federation at a glance (O10).
pub(super) async fn status(run: &mut Run<'_>, args: StatusArgs) -> Result<(), Failure> {
    let view = if args.global { view::global_status } else { view::status };
    if !args.global && args.watch == Some(None) {
        return Box::pin(overview::follow(run)).await;
    }
    let watch = args.watch.map(|every| every.unwrap_or(EVERY));
    let session = run.session()?;
    let ask = async |_: &Run<'_>| session.call::<GetStatus>(&NoParams {}, &()).await;
    show_or_watch(run, WatchArgs { watch }, ask, view).await
}

/// What happened anywhere.
pub(super) async fn events(run: &mut Run<'_>, args: EventsArgs) -> Result<(), Failure> {
    let params = EventParams { vm: None, region: args.region, limit: Some(args.limit) };
    let session = run.session()?;
    let ask = async |_: &Run<'_>| session.call::<GetEvents>(&params, &()).await;
    show_or_watch(run, args.watch, ask, view::events).await
}

/// What happened to one VM.
pub(super) async fn vm_events(
    run: &mut Run<'_>,
    args: VmEventsArgs,
) -> Result<(), Failure> {
    let params = EventParams { vm: Some(args.vm), region: None, limit: Some(args.limit) };
    let session = run.session()?;
    let ask = async |_: &Run<'_>| session.call::<GetEvents>(&params, &()).await;
    show_or_watch(run, args.watch, ask, view::events).await
}
