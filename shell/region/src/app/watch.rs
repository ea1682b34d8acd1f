//! The parts that look after what this daemon sees of others, put together.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Core, Plane, spawn};
use crate::scrape::{Counted, Scrape};
use crate::state::StateApi;
use crate::trips;

impl Core {
    /// Starts what follows incidents, and what is on duty when nobody else is.
    pub(super) fn watch(&self, tasks: &mut JoinSet<&'static str>) {
        spawn(tasks, "the copy of incidents", self.incidents.clone().follow());
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
            counted,
        }
    }

    /// Keeps what the lines of replicated state measure.
    pub(super) fn measure(&self, plane: &Plane, tasks: &mut JoinSet<&'static str>) {
        let (region, mesh) = (self.region.clone(), plane.api.mesh.clone());
        let measured = trips::keep(mesh, region, self.world.clone(), self.clock.clone());
        spawn(tasks, "the round trips", measured);
    }
}
