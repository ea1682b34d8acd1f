//! The part that looks after incidents, put together.

use tokio::task::JoinSet;

use super::{Core, spawn};

impl Core {
    /// Starts what follows incidents, and what is on duty when nobody else is.
    pub(super) fn watch(&self, tasks: &mut JoinSet<&'static str>) {
        spawn(tasks, "the copy of incidents", self.incidents.clone().follow());
        spawn(tasks, "the look at incidents", self.incidents.clone().run());
    }
}
