//! What every plane is fed with: the newest table, who is up, and which cell a client is in.
//!
//! Planes ask nobody. When no table can be made, or the engine is gone, they answer by the last
//! one, in which regions that fall ill are left all the same.

use std::time::Duration;

use dwcp_edge::Steering;
use dwcp_router::Standing;

use super::Router;

/// How often it is looked who is up, between tables: half of a heartbeat.
const STANDING_EVERY: Duration = Duration::from_millis(250);

impl Router {
    /// Shows each table, and each change of who is up, for ever.
    pub(super) async fn follow_tables(&self, mut show: impl FnMut(Steering)) {
        let mut made = self.made.subscribe();
        let mut tick = tokio::time::interval(STANDING_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut shown: Option<(u64, Standing)> = None;
        loop {
            tokio::select! {
                changed = made.changed() => if changed.is_err() { return },
                _ = tick.tick() => {}
            }
            let Some(made) = made.borrow_and_update().clone() else { continue };
            let now = (made.table.generation(), self.standing_now(&made.table));
            if shown == Some(now) {
                continue;
            }
            shown = Some(now);
            show(Steering {
                table: made.table.clone(),
                standing: now.1,
                clients: made.places.clients.clone(),
            });
        }
    }
}
