//! What a caller sees of the leaves of a map.

use super::{Dot, FieldReading, Kind, Leaf, Place};
use crate::bytes::Bytes;
use crate::crdt::pncounter::balance;
use crate::crdt::reading::Reading;

/// A leaf with the dots that made it.
type Made<'a> = (&'a Place, &'a [Dot]);

/// The fields of the map at one depth, from the leaves below it, which are in order.
pub(super) fn fields(leaves: &[Made<'_>], depth: usize) -> Vec<FieldReading> {
    let groups =
        leaves.chunk_by(|one, next| one.0.path.get(depth) == next.0.path.get(depth));
    let reading = |leaves: &[Made<'_>]| {
        // Maps end where their last step is another kind: there always is one.
        let step = leaves.first()?.0.path.get(depth)?;
        let reading = if step.kind == Kind::OrMap {
            Reading::Fields(fields(leaves, depth + 1))
        } else {
            field(step.kind, leaves)
        };
        Some(FieldReading { name: step.name.clone(), kind: step.kind, reading })
    };
    groups.filter_map(reading).collect()
}

fn field(kind: Kind, leaves: &[Made<'_>]) -> Reading {
    match kind {
        Kind::GCounter => Reading::Count(u64::try_from(net(leaves)).unwrap_or(u64::MAX)),
        Kind::PnCounter => Reading::Balance(balance(net(leaves))),
        Kind::Lww => Reading::Latest(latest(leaves)),
        Kind::Mv => Reading::Siblings {
            values: bytes(leaves),
            seen: leaves.iter().flat_map(|(_, dots)| dots.iter().copied()).collect(),
        },
        Kind::GSet | Kind::OrSet | Kind::OrMap | Kind::Bounded | Kind::Register => {
            Reading::Set(bytes(leaves))
        }
    }
}

fn net(leaves: &[Made<'_>]) -> i128 {
    let tallies = leaves.iter().map(|(place, dots)| match place.leaf {
        // Actors that added as much share a leaf.
        Leaf::Tally(tally) => dots.iter().map(|_| tally.net()).sum(),
        Leaf::Element(_) | Leaf::Sibling(_) | Leaf::Written(..) => 0,
    });
    tallies.sum()
}

/// Concurrent writes stay side by side until the next one; the order of `Lww` chooses.
fn latest(leaves: &[Made<'_>]) -> Option<Bytes> {
    let writes = leaves.iter().filter_map(|(place, dots)| match &place.leaf {
        Leaf::Written(stamp, value) => Some((*stamp, dots.last()?.actor, value)),
        Leaf::Tally(_) | Leaf::Element(_) | Leaf::Sibling(_) => None,
    });
    writes.max().map(|(_, _, value)| value.clone())
}

fn bytes(leaves: &[Made<'_>]) -> Vec<Bytes> {
    let bytes = leaves.iter().filter_map(|(place, _)| match &place.leaf {
        Leaf::Element(bytes) | Leaf::Sibling(bytes) => Some(bytes.clone()),
        Leaf::Tally(_) | Leaf::Written(..) => None,
    });
    bytes.collect()
}
