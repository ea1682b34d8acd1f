//! The link to another region's daemon: reads what it says of its hosts and guests.
//!
//! One task a peer, so that a dead region delays nobody. What was last heard stays, with its
//! age; whoever reads it decides what an old report is worth.

use std::sync::Arc;
use std::time::Duration;

use dwcp_api::peer::{GetRegionReport, RegionReport, ReportParams};
use dwcp_api::{CallError, Client};
use dwcp_runtime::clock::Clock;
use dwcp_types::RegionId;
use tracing::{info, warn};

use crate::chronicle::Chronicle;
use crate::trips;
use crate::world::World;

/// How long a report is waited for when there is no news: the heartbeat between regions.
const REPORT_WAIT: Duration = Duration::from_millis(500);

/// Time for one report, with its wait: a region that hangs is as silent as one that is gone.
const REPORT_TIME_MAX: Duration = Duration::from_millis(1_500);

/// Pause after a report with news, for what follows to come in one report: a burst of placements
/// would else make each region ask each other one hundreds of times a second. Well below the
/// heartbeat, so that what is known of a region is hardly older for it.
const GATHER: Duration = Duration::from_millis(100);

/// Pause before a region that failed to answer is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Reads one peer's reports for ever.
pub async fn follow(
    region: RegionId,
    client: Client,
    (world, chronicle): (Arc<World>, Arc<Chronicle>),
    clock: Arc<dyn Clock>,
) {
    let client = client.with_call_time_max(REPORT_TIME_MAX);
    let mut at = ReportParams::default();
    let mut answers = false;
    loop {
        (at.digest_life, at.digest_seq) = chronicle.cursor(&region);
        at.wait_ms = u64::try_from(REPORT_WAIT.as_millis()).unwrap_or(u64::MAX);
        match client.call::<GetRegionReport>(&at, &()).await {
            Ok(mut report) => {
                chronicle.hear(&region, std::mem::take(&mut report.digests));
                if !answers {
                    info!(%region, "a region answers");
                }
                answers = true;
                at.incarnation = report.incarnation;
                (at.begun, at.after) = (report.begun, report.seq);
                let news = !report.changed.is_empty() || !report.removed.is_empty();
                let more = report.more;
                apply(&region, report, &world, clock.as_ref());
                if news && !more {
                    tokio::time::sleep(GATHER).await;
                }
            }
            Err(reason) => {
                if answers {
                    told(&region, &reason);
                }
                answers = false;
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

fn told(region: &RegionId, reason: &CallError) {
    warn!(%region, %reason, "a region does not answer");
}

fn apply(region: &RegionId, report: RegionReport, world: &World, clock: &dyn Clock) {
    let now = clock.monotonic();
    world.update(region, |known| {
        known.heard_at = Some(now);
        known.hosts = report.hosts;
        known.meter = report.meter;
        known.trips = trips::heard(report.trips, now);
        if report.reset {
            known.guests.clear();
        }
        for vm in &report.removed {
            known.guests.remove(vm);
        }
        for guest in report.changed {
            known.guests.insert(guest.vm.clone(), Arc::new(guest));
        }
    });
}
