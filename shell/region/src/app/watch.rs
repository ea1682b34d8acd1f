//! The parts that watch the federation and look after incidents, put together.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Core, Plane, spawn};
use crate::chronicle::Measured;
use crate::overview::{Overviews, Sources};
use crate::scrape::{Counted, Scrape};
use crate::state::StateApi;
use crate::trips;

impl Core {
    /// Starts what says how this region fares, what listens to the others, what follows incidents,
    /// and what is on duty when nobody else is.
    pub(super) fn watch(&self, tasks: &mut JoinSet<&'static str>) {
        spawn(tasks, "the look at the load", self.controller.clone().run());
        spawn(tasks, "the copy of incidents", self.incidents.clone().follow());
        let says = self.chronicle.clone().run(self.meter.clone(), self.inventory.clone());
        spawn(tasks, "the digests", says);
        spawn(tasks, "the keeper of the history", self.chronicle.clone().keep());
        spawn(tasks, "the ear", self.incidents.clone().listen());
        spawn(tasks, "the look at incidents", self.incidents.clone().run());
    }

    /// What Prometheus reads.
    pub(super) fn scrape(
        &self,
        state: Option<Arc<StateApi>>,
        counted: Counted,
    ) -> Scrape {
        Scrape {
            metrics: self.metrics.clone(),
            state,
            inventory: self.inventory.clone(),
            incidents: self.incidents.clone(),
            traces: self.traces.clone(),
            counted,
        }
    }

    /// Keeps what the lines of replicated state measure.
    pub(super) fn measure(&self, plane: &Plane, tasks: &mut JoinSet<&'static str>) {
        let (region, mesh) = (self.region.clone(), plane.api.mesh.clone());
        let measured = trips::keep(mesh, region, self.world.clone(), self.clock.clone());
        spawn(tasks, "the round trips", measured);
    }

    /// What answers operators who ask for everything at a look.
    pub(super) fn overviews(&self) -> Arc<Overviews> {
        let sources = Sources {
            engine: self.engine_view.clone(),
            inventory: self.inventory.clone(),
            incidents: self.incidents.clone(),
            chronicle: self.chronicle.clone(),
            moves: self.board.clone(),
            seen: self.guard.seen.subscribe(),
        };
        Overviews::new(self.region.clone(), sources)
    }

    /// What answers operators who ask what is measured.
    pub(super) fn measured(&self) -> Arc<Measured> {
        let (chronicle, mirror) = (self.chronicle.clone(), self.mirror.clone());
        Arc::new(Measured { chronicle, mirror })
    }
}
