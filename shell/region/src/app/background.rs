//! What runs beside the parts: shows the books, announces the region; and what the configuration
//! says to them.

use std::sync::Arc;
use std::time::Duration;

use dwcp_controller::placement::Policy;
use dwcp_runtime::clock::Clock;
use dwcp_runtime::store::LocalStore;
use dwcp_types::RegionId;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info};

use super::{no_endpoint, spawn};
use crate::books::{Books, BooksTask, Shown};
use crate::config::{Federation, RegionSpec};
use crate::events::Events;
use crate::records::RegionRecord;
use crate::region_records::RegionRecords;
use crate::world::World;

/// Pause after the books changed, for what follows to be shown at once with it: they change
/// with every batch of reservations.
const BOOKS_PAUSE: Duration = Duration::from_millis(20);

/// Shows, for ever, what the books say is free.
pub(super) async fn show_books(
    region: RegionId,
    mut books: watch::Receiver<Shown>,
    world: Arc<World>,
) {
    while books.changed().await.is_ok() {
        let hosts = books.borrow_and_update().clone();
        world.show_free(&region, &hosts);
        tokio::time::sleep(BOOKS_PAUSE).await;
    }
}

/// Says, until the engine has heard it, that this region is there; then stays quiet.
pub(super) async fn announce(regions: RegionRecords, record: RegionRecord) {
    while let Err(reason) = regions.announce(&record).await {
        info!(%reason, "the region waits for the strong engine");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    std::future::pending::<()>().await;
}

/// The region as its configuration has it.
pub(super) fn record(spec: &RegionSpec) -> anyhow::Result<RegionRecord> {
    let endpoint = spec.endpoint.as_ref().ok_or_else(|| no_endpoint(&spec.region.id))?;
    Ok(RegionRecord {
        region: spec.region.as_ref().clone(),
        endpoint: endpoint.to_string(),
        evacuation: None,
    })
}

/// How the operator wants VMs to be placed.
pub(super) const fn policy(federation: &Federation) -> Policy {
    Policy {
        strategy: federation.controller.strategy,
        preemption: federation.controller.preemption_enabled,
        n_minus_1: federation.controller.n_minus_1,
    }
}

/// A store or engine that can do nothing more ends the daemon: the next one finds out what is
/// on the disk.
pub(super) async fn complain(ended: impl Future<Output = String> + Send) {
    let reason = ended.await;
    error!(%reason, "the daemon cannot go on");
}

/// Opens what a region writes down of itself, and starts its tasks.
pub(super) fn open_books(
    region: &RegionId,
    store: &Arc<LocalStore>,
    clock: &Arc<dyn Clock>,
    tasks: &mut JoinSet<&'static str>,
) -> anyhow::Result<(Books, Events)> {
    let (task, books) = BooksTask::open(region.clone(), store.clone(), clock.clone())?;
    spawn(tasks, "the books", task.run());
    let (task, events) = Events::open(region.clone(), store.clone(), clock.clone())?;
    spawn(tasks, "the events", task.run());
    Ok((books, events))
}
