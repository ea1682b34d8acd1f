//! Named fields, each a counter, a set, a register or a map again (F39).
//!
//! Removing a field resets what was seen of it. A change that was not seen stays, and with it the
//! field: of a change and a removal that are concurrent the change wins. For a counter the unit
//! is all that an actor has added since it last saw the field reset: a removal that is concurrent
//! with an addition leaves that actor's whole contribution. Splitting it would take every addition
//! kept apart for good, or a tombstone.
//!
//! Grow-only sets, bounded counters and quorum registers cannot be fields: a removal would make
//! them forget what they promise to keep.

use super::error::UpdateError;
use super::kernel::Kernel;
use super::kind::Kind;
use super::limit::{DEPTH_MAX, NAME_BYTES_MAX};
use super::place::{Leaf, Place, Step};
use super::reading::FieldReading;
use super::update::{Update, Writer};
use crate::bytes::Bytes;
use crate::clock::Dot;
use crate::codec::{DecodeError, Sink, Source};
use crate::digest::Mixer;

mod change;
mod read;

/// Fields.
///
/// ```
/// use dwcp_state::{Actor, Hlc, Kind, OrMap, ReplicaId, Update, Writer};
///
/// let actor = Actor::new(ReplicaId::new(1), 1);
/// let by = |seq| Writer { actor, seq, stamp: Hlc::from_bits(seq) };
/// let mut vm = OrMap::default();
/// let name = Update::Set("web-001".into());
/// vm.join(&vm.field("name".into(), Kind::Lww, &name, &by(1))?);
/// let starts = Update::Increment(1);
/// vm.join(&vm.field("starts".into(), Kind::GCounter, &starts, &by(2))?);
/// assert_eq!(vm.read().len(), 2);
/// vm.join(&vm.remove_field(b"name"));
/// assert_eq!(vm.read().len(), 1);
/// # Ok::<(), dwcp_state::UpdateError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrMap {
    kernel: Kernel<Place>,
}

impl OrMap {
    /// The delta that changes a field, which comes into being by it.
    ///
    /// # Errors
    ///
    /// When the kind cannot be a field or has no such update, names or values are too large, maps
    /// too deep, or the writer's number was used before.
    pub fn field(
        &self,
        name: Bytes,
        kind: Kind,
        update: &Update,
        by: &Writer,
    ) -> Result<Self, UpdateError> {
        let change = self.change(&[], Step { name, kind }, update, by)?;
        let kernel = match change.made {
            Some(place) => self.kernel.replace(change.gone, place, by)?,
            None => self.kernel.remove(change.gone),
        };
        Ok(Self { kernel })
    }

    /// The delta that takes out every field of a name, as far as it was seen here.
    #[must_use]
    pub fn remove_field(&self, name: &[u8]) -> Self {
        Self { kernel: self.kernel.remove(self.named(&[], name)) }
    }

    /// The delta that takes out everything that was seen here.
    #[must_use]
    pub fn clear(&self) -> Self {
        Self { kernel: self.kernel.remove(self.kernel.live()) }
    }

    /// The fields in order.
    #[must_use]
    pub fn read(&self) -> Vec<FieldReading> {
        let leaves: Vec<_> = self.kernel.iter().collect();
        read::fields(&leaves, 0)
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kernel.is_bottom()
    }

    /// Takes in changes and removals. Whether anything changed.
    pub fn join(&mut self, other: &Self) -> bool {
        self.kernel.join(&other.kernel)
    }

    /// The leaves at or below a path.
    fn below<'a>(
        &'a self,
        path: &'a [Step],
    ) -> impl Iterator<Item = (&'a Place, &'a [Dot])> {
        let least = Place { path: path.into(), leaf: Leaf::LEAST };
        self.kernel
            .iter_from(&least)
            .take_while(|(place, _)| place.path.starts_with(path))
    }

    /// The dots below every field of a name, whatever its kind.
    fn named(&self, path: &[Step], name: &[u8]) -> Vec<Dot> {
        let dots = Kind::ALL.iter().flat_map(|kind| {
            let mut way = path.to_vec();
            way.push(Step { name: name.into(), kind: *kind });
            self.below(&way).flat_map(|(_, dots)| dots.to_vec()).collect::<Vec<_>>()
        });
        dots.collect()
    }

    pub(super) fn is_covered(&self, covers: impl Fn(Dot) -> bool) -> bool {
        self.kernel.is_covered(covers)
    }

    pub(super) fn put_digest(&self, mixer: &mut Mixer) {
        self.kernel.put_digest(mixer);
    }

    pub(super) fn encode(&self, out: &mut impl Sink) {
        self.kernel.encode(out);
    }

    pub(super) fn decode(from: &mut Source<'_>) -> Result<Self, DecodeError> {
        Kernel::decode(from).map(|kernel| Self { kernel })
    }
}
