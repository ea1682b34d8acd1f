//! The parts that trace requests, put together.

use std::collections::BTreeMap;
use std::sync::Arc;

use dwcp_api::Client;
use dwcp_runtime::clock::Clock;
use dwcp_runtime::strong::{StrongEngine, TracedEngine};
use dwcp_runtime::trace::Trail;
use dwcp_types::RegionId;
use tokio::task::JoinSet;

use super::spawn;
use crate::config::Federation;
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::traces::{Around, Beginnings, Traces};
use crate::trail::Followed;
use crate::world::World;

impl Engine {
    /// The same, whose calls are spans of the current trace.
    pub(super) fn traced(self) -> Self {
        Self { port: Arc::new(TracedEngine::new(self.port)), ..self }
    }
}

/// What is shared with what traces.
pub(super) type Shared<'a> =
    (&'a Arc<World>, &'a Arc<Metrics>, &'a Arc<dyn StrongEngine>, &'a Arc<dyn Clock>);

/// Starts what brings spans home and keeps traces; and what follows instructions to hosts.
pub(super) fn start(
    beginnings: Beginnings,
    (federation, region): (&Federation, &RegionId),
    peers: &BTreeMap<RegionId, Client>,
    (world, metrics, engine, clock): Shared<'_>,
    tasks: &mut JoinSet<&'static str>,
) -> (Arc<Traces>, Arc<Followed>) {
    let around = Around {
        region: region.clone(),
        file: federation.monitoring.tracing,
        otlp: federation.monitoring.otlp.clone(),
        engine: engine.clone(),
        peers: peers.clone(),
        world: world.clone(),
        metrics: metrics.clone(),
        clock: clock.clone(),
    };
    let (traces, ended) = Traces::new(beginnings, around);
    spawn(tasks, "the traces", traces.clone().run(ended));
    let trail = Trail::new(traces.tracer().clone(), clock.clone());
    let followed = Followed::new(traces.tracer().clone(), trail);
    (traces, Arc::new(followed))
}
