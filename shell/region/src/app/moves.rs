//! The part that moves VMs between regions, put together.

use std::sync::Arc;

use super::Core;
use crate::migrate::{Migrations, Reach};

impl Core {
    /// Who asks for moves, shows them and drives them; made anew for each that needs it,
    /// because all that is kept is on the board.
    pub(super) fn migrations(&self) -> Arc<Migrations> {
        Arc::new(Migrations {
            region: self.region.clone(),
            engine: self.engine.clone(),
            mirror: self.mirror.clone(),
            fleet: self.fleet.clone(),
            policy: self.policy,
            books: self.books.clone(),
            reach: self.reach(),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            at_once: usize::try_from(self.moves_at_once).unwrap_or(usize::MAX),
            board: self.board.clone(),
        })
    }

    pub(super) fn reach(&self) -> Reach {
        Reach::new(
            self.region.clone(),
            self.engine.clone(),
            self.books.clone(),
            self.hosts.clone(),
            self.peers.clone(),
        )
    }
}
