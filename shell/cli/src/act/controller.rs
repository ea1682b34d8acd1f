//! `controller metrics` and `controller cache-stats` (O12, O13).

use dwcp_api::controller::{ControllerParams, ControllerReply, GetController};

use super::show_or_watch;
use crate::app::Run;
use crate::arguments::ControllerCommand;
use crate::failure::Failure;
use crate::view;

/// Shows one of the two sides of a region's daemon.
pub(super) async fn controller(
    run: &mut Run<'_>,
    command: ControllerCommand,
) -> Result<(), Failure> {
    let (args, view): (_, fn(&ControllerReply, view::Look) -> String) = match command {
        ControllerCommand::Metrics(args) => (args, view::controller_metrics),
        ControllerCommand::CacheStats(args) => (args, view::cache_stats),
    };
    let session = run.session()?;
    let asked = ControllerParams { region: args.region };
    let ask = async |_: &Run<'_>| session.call::<GetController>(&asked, &()).await;
    show_or_watch(run, args.watch, ask, view).await
}
