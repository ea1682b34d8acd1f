//! Where in a map something lies, and what lies there: one thing for each mutation.
//!
//! A map of maps is not kept as a tree but as a list of its leaves, each with the way to it. Places
//! below one field follow each other in order, so a field is a range of them. An empty field has
//! no leaf and so does not exist.

use std::sync::Arc;

use super::kernel::Item;
use super::kind::Kind;
use super::limit::{DEPTH_MAX, ELEMENT_BYTES_MAX, NAME_BYTES_MAX, WRITTEN_BYTES_MAX};
use super::pncounter::{Tally, put_tally, tally};
use crate::bytes::Bytes;
use crate::clock::Hlc;
use crate::codec::{DecodeError, Sink, Source, positive, put_bytes, put_len, put_number};

/// One level of the way to a leaf.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step {
    pub(super) name: Bytes,
    /// Part of the name: two replicas may make fields of one name and different kinds.
    pub(super) kind: Kind,
}

/// What one mutation made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Leaf {
    /// All that an actor added to a counter since it was last reset.
    Tally(Tally),
    /// An element of a set.
    Element(Bytes),
    /// A value beside others.
    Sibling(Bytes),
    /// A stamped value.
    Written(Hlc, Bytes),
}

impl Leaf {
    /// Before every other: where the range of a field begins.
    pub(super) const LEAST: Self = Self::Tally(Tally { up: 0, down: 0 });

    fn bytes(&self) -> usize {
        match self {
            Self::Tally(_) => 0,
            Self::Element(bytes) | Self::Sibling(bytes) | Self::Written(_, bytes) => {
                bytes.len()
            }
        }
    }
}

/// A leaf and the way to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// From the outermost map; all but the last are maps. Never empty.
    pub(super) path: Arc<[Step]>,
    pub(super) leaf: Leaf,
}

/// What the numbers of a leaf take at most in an encoding, and those of a step.
const NUMBERS_SIZE: usize = 20;
const STEP_SIZE: usize = 3;

impl Item for Place {
    fn put(&self, out: &mut impl Sink) {
        put_len(out, self.path.len());
        for step in self.path.iter() {
            put_bytes(out, &step.name);
            out.put(&[step.kind.code()]);
        }
        match &self.leaf {
            Leaf::Tally(tally) => put_tally(out, *tally),
            Leaf::Element(bytes) | Leaf::Sibling(bytes) => put_bytes(out, bytes),
            Leaf::Written(stamp, bytes) => {
                put_number(out, stamp.bits());
                put_bytes(out, bytes);
            }
        }
    }

    fn take(from: &mut Source<'_>) -> Result<Self, DecodeError> {
        const REFUSED: DecodeError = DecodeError::NotCanonical("the way to a field");
        let steps = from.len(2)?;
        if steps == 0 || steps > DEPTH_MAX {
            return Err(REFUSED);
        }
        let mut path = Vec::new();
        for at in 1..=steps {
            let name = from.bytes(NAME_BYTES_MAX)?;
            let kind = Kind::from_code(from.byte()?).ok_or(REFUSED)?;
            if (kind == Kind::OrMap) != (at < steps) {
                return Err(REFUSED);
            }
            path.push(Step { name, kind });
        }
        let last = path.last().map(|step| step.kind).ok_or(REFUSED)?;
        Ok(Self { path: path.into(), leaf: leaf(last, from)? })
    }

    fn size(&self) -> usize {
        let names: usize = self.path.iter().map(|step| step.name.len() + STEP_SIZE).sum();
        names + NUMBERS_SIZE + self.leaf.bytes()
    }
}

fn leaf(kind: Kind, from: &mut Source<'_>) -> Result<Leaf, DecodeError> {
    match kind {
        Kind::GCounter => {
            let leaf = tally(from)?;
            positive(u64::from(leaf.down == 0), "a counter that only grows")?;
            Ok(Leaf::Tally(leaf))
        }
        Kind::PnCounter => tally(from).map(Leaf::Tally),
        Kind::OrSet => from.bytes(ELEMENT_BYTES_MAX).map(Leaf::Element),
        Kind::Mv => from.bytes(WRITTEN_BYTES_MAX).map(Leaf::Sibling),
        Kind::Lww => {
            let stamp = Hlc::from_bits(from.number()?);
            from.bytes(WRITTEN_BYTES_MAX).map(|bytes| Leaf::Written(stamp, bytes))
        }
        Kind::GSet | Kind::OrMap | Kind::Bounded | Kind::Register => {
            Err(DecodeError::NotCanonical("the kind of a field"))
        }
    }
}
