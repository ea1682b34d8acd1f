//! The parts that move VMs between regions and copy their disks, put together.

use std::sync::{Arc, Mutex};

use super::Core;
use crate::evacuate::Evacuator;
use crate::migrate::{Migrations, Reach};
use crate::replicate::Replicator;
use crate::replicate::keeper::Keeper;
use crate::trials::Trials;

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
            seen: self.guard.seen.subscribe(),
            saga: self.traces.saga("move"),
        })
    }

    /// Who empties regions.
    pub(super) fn evacuator(&self) -> Arc<Evacuator> {
        Arc::new(Evacuator {
            regions: self.region_records(),
            migrations: self.migrations(),
        })
    }

    /// Who keeps copies of this region's disks elsewhere.
    pub(super) fn replicator(&self) -> Arc<Replicator> {
        Arc::new(Replicator {
            region: self.region.clone(),
            lifecycle: self.lifecycle(),
            mirror: self.mirror.clone(),
            fleet: self.fleet.clone(),
            policy: self.policy,
            world: self.world.clone(),
            reach: self.reach(),
            claims: self.claims(),
            events: self.events.clone(),
            clock: self.clock.clone(),
            board: self.board.clone(),
            cares: Mutex::default(),
        })
    }

    /// Who removes copies of other regions' disks that nobody asks for.
    pub(super) fn keeper(&self) -> Keeper {
        Keeper {
            region: self.region.clone(),
            engine: self.engine.clone(),
            hosts: self.hosts.clone(),
        }
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

    pub(super) fn trials(&self) -> Trials {
        Trials {
            region: self.region.clone(),
            engine: self.engine.clone(),
            books: self.books.clone(),
            reach: self.reach(),
            events: self.events.clone(),
        }
    }
}
