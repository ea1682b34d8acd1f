//! Which region's daemon a trace is at home in: every process brings its spans there, and there it
//! is decided whether it is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use dwcp_api::NoParams;
use dwcp_api::trace::peer::{BATCH_MAX, PutSpans, SpanBatch};
use dwcp_monitor::trace::{Span, SpanId, TraceId};
use dwcp_types::RegionId;
use tokio::sync::mpsc;
use tracing::info;

use super::Traces;

/// How long ended spans are gathered before they are sent: well below the time after which a trace
/// counts as over.
const GATHER: Duration = Duration::from_millis(500);
/// A region that was not heard for so long is not asked to be a home.
const SILENT_AFTER: Duration = Duration::from_secs(3);
/// Time for one batch.
const SEND_TIME_MAX: Duration = Duration::from_secs(2);

/// The home of a trace among regions: the same for whoever knows the same regions, and another
/// one for the traces of a region that is gone only.
fn home<'a>(
    trace: TraceId,
    regions: impl Iterator<Item = &'a RegionId>,
) -> Option<&'a RegionId> {
    regions.max_by_key(|region| (SpanId::of(trace, region.as_str()), *region))
}

impl Traces {
    /// Brings this process's spans, and those of its hosts, to their homes, for ever.
    pub(super) async fn ship(&self, mut ended: mpsc::Receiver<Span>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while ended.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.send(std::mem::take(&mut batch)).await;
            if ended.len() < BATCH_MAX / 2 {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    async fn send(&self, spans: Vec<Span>) {
        let mut by_home: BTreeMap<RegionId, Vec<Span>> = BTreeMap::new();
        let regions = self.living();
        for span in spans {
            let home = home(span.trace, regions.iter()).unwrap_or(&self.region);
            by_home.entry(home.clone()).or_default().push(span);
        }
        let sent = by_home.into_iter().map(|(home, spans)| self.send_to(home, spans));
        futures_util::future::join_all(sent).await;
    }

    async fn send_to(&self, home: RegionId, spans: Vec<Span>) {
        let Some(peer) = self.peers.get(&home) else { return self.take(spans) };
        let peer = peer.clone().with_call_time_max(SEND_TIME_MAX);
        let batch = SpanBatch { spans };
        if let Err(reason) = peer.call::<PutSpans>(&NoParams {}, &batch).await {
            // Nothing is lost: they are judged here, if need be without the others of their
            // traces. Should they have arrived after all, both keep them, and readers see one.
            info!(%home, %reason, "a home of traces does not take spans");
            self.take(batch.spans);
        }
    }

    /// This region and all that were heard lately.
    fn living(&self) -> Vec<RegionId> {
        let now = self.clock.monotonic();
        let lives = |region: &&RegionId| {
            self.world.region(region, |known| {
                known
                    .and_then(|known| known.heard_at)
                    .is_some_and(|heard| now.saturating_sub(heard) < SILENT_AFTER)
            })
        };
        let peers = self.peers.keys().filter(lives);
        peers.chain([&self.region]).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions(names: &[&str]) -> Vec<RegionId> {
        names.iter().map(|name| RegionId::new(name).unwrap()).collect()
    }

    #[test]
    fn homes_are_spread_and_only_those_of_a_lost_region_change() {
        let all = regions(&["a", "b", "c", "d", "e"]);
        let without: Vec<_> =
            all.iter().filter(|it| it.as_str() != "c").cloned().collect();
        let mut counts = BTreeMap::new();
        for number in 1..=5_000_u128 {
            let trace = TraceId::of("test", &number.to_string());
            let before = home(trace, all.iter()).unwrap();
            let after = home(trace, without.iter()).unwrap();
            *counts.entry(before).or_insert(0) += 1;
            assert!(before.as_str() == "c" || before == after);
        }
        // 1,000 each; far outside of this no fair draw lies.
        assert!(counts.values().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}
