//! PL-2: the ledger agrees with itself, and no host holds more than it has. Hosts do not
//! shrink and disks are not lost in this world, so nothing excuses over-commitment.

use super::Statement;
use crate::world::World;

pub(super) const STATEMENT: Statement = Statement {
    id: "PL-2",
    statement: "a region's ledger agrees with itself and over-commits no host",
};

pub(super) fn check(world: &World, index: usize) -> Option<String> {
    let region = &world.regions[index];
    let daemon = region.daemon.as_ref()?;
    if let Some(finding) = daemon.ledger.lint().first() {
        return Some(format!("{}: {finding}", region.id));
    }
    let over = daemon.ledger.overcommitted();
    (!over.is_empty()).then(|| format!("{} over-commits {over:?}", region.id))
}
