//! A set whose elements can be removed (F39).
//!
//! A removal takes out the insertions that were seen where it was made. One that was not seen
//! stays, so of an insertion and a removal that are concurrent the insertion wins. What was
//! removed leaves no tombstone.

use std::borrow::Borrow;

use super::error::UpdateError;
use super::gset::check_element;
use super::kernel::{Item, Kernel};
use super::limit::ELEMENT_BYTES_MAX;
use super::update::Writer;
use crate::bytes::Bytes;
use crate::clock::Dot;
use crate::codec::{DecodeError, Sink, Source, put_bytes};
use crate::digest::Mixer;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Element(Bytes);

// Sound because the order of elements is that of their bytes.
impl Borrow<[u8]> for Element {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl Item for Element {
    fn put(&self, out: &mut impl Sink) {
        put_bytes(out, &self.0);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, DecodeError> {
        from.bytes(ELEMENT_BYTES_MAX).map(Self)
    }

    fn size(&self) -> usize {
        self.0.len()
    }
}

/// Elements and what was seen of their insertions.
///
/// ```
/// use dwcp_state::{Actor, Hlc, OrSet, ReplicaId, Writer};
///
/// let by = |replica, seq| {
///     let actor = Actor::new(ReplicaId::new(replica), 1);
///     Writer { actor, seq, stamp: Hlc::ZERO }
/// };
/// let mut here = OrSet::default();
/// here.join(&here.insert("web".into(), &by(1, 1))?);
/// let mut there = here.clone();
/// let again = here.insert("web".into(), &by(1, 2))?; // here, while
/// let gone = there.remove(b"web"); //                   there
/// for set in [&mut here, &mut there] {
///     set.join(&gone);
///     set.join(&again);
///     assert!(set.contains(b"web"));
/// }
/// # Ok::<(), dwcp_state::UpdateError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrSet {
    kernel: Kernel<Element>,
}

impl OrSet {
    /// The delta that puts an element in, in the place of its earlier insertions.
    ///
    /// # Errors
    ///
    /// When the element or the set would be too large, or the writer's number was used before.
    pub fn insert(&self, element: Bytes, by: &Writer) -> Result<Self, UpdateError> {
        check_element(&element)?;
        let gone = self.kernel.dots_of(&*element).to_vec();
        Ok(Self { kernel: self.kernel.replace(gone, Element(element), by)? })
    }

    /// The delta that takes an element out, as far as its insertions were seen here.
    #[must_use]
    pub fn remove(&self, element: &[u8]) -> Self {
        let gone = self.kernel.dots_of(element).iter().copied();
        Self { kernel: self.kernel.remove(gone) }
    }

    /// The delta that takes everything out that was seen here.
    #[must_use]
    pub fn clear(&self) -> Self {
        Self { kernel: self.kernel.remove(self.kernel.live()) }
    }

    /// Whether an element is in it.
    #[must_use]
    pub fn contains(&self, element: &[u8]) -> bool {
        !self.kernel.dots_of(element).is_empty()
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.kernel.iter().map(|(element, _)| &element.0)
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kernel.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kernel.is_bottom()
    }

    /// Takes in insertions and removals. Whether anything changed.
    pub fn join(&mut self, other: &Self) -> bool {
        self.kernel.join(&other.kernel)
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
