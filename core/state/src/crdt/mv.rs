//! All bytes that nobody has overwritten knowingly (S14.2, F41).
//!
//! Every reading says what was seen; a write replaces that and nothing else. Writes that did not
//! see each other stay side by side until someone reads and merges them. The cap counts when a
//! write is made. Joins do not count: replicas that refuse each other's state never agree.

use super::error::UpdateError;
use super::kernel::{Item, Kernel};
use super::limit::{SIBLINGS_MAX, WRITTEN_BYTES_MAX};
use super::update::Writer;
use crate::bytes::Bytes;
use crate::clock::{Dot, DottedVersion};
use crate::codec::{DecodeError, Sink, Source, put_bytes};
use crate::digest::Mixer;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sibling(Bytes);

impl Item for Sibling {
    fn put(&self, out: &mut impl Sink) {
        put_bytes(out, &self.0);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, DecodeError> {
        from.bytes(WRITTEN_BYTES_MAX).map(Self)
    }

    fn size(&self) -> usize {
        self.0.len()
    }
}

/// Values side by side.
///
/// ```
/// use dwcp_state::{Actor, DottedVersion, Hlc, Mv, ReplicaId, Writer};
///
/// let by = |replica, seq| {
///     let actor = Actor::new(ReplicaId::new(replica), 1);
///     Writer { actor, seq, stamp: Hlc::ZERO }
/// };
/// let nothing = DottedVersion::new();
/// let mut here = Mv::default().write("a".into(), &nothing, &by(1, 1))?;
/// here.join(&Mv::default().write("b".into(), &nothing, &by(2, 1))?);
/// assert_eq!(here.values().len(), 2); // neither had seen the other
///
/// let merged = here.write("a and b".into(), &here.seen(), &by(1, 2))?;
/// here.join(&merged);
/// assert_eq!(here.values(), ["a and b".into()]);
/// # Ok::<(), dwcp_state::UpdateError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mv {
    kernel: Kernel<Sibling>,
}

impl Mv {
    /// The delta that replaces what was seen. What was seen elsewhere and is not known here yet
    /// is replaced too, when it comes.
    ///
    /// # Errors
    ///
    /// When the bytes are too many, [`SIBLINGS_MAX`] values would remain beside them, `seen` is
    /// none that a reading gave, or the writer's number was used before.
    pub fn write(
        &self,
        value: Bytes,
        seen: &DottedVersion,
        by: &Writer,
    ) -> Result<Self, UpdateError> {
        let gone = seen_dots(seen)?;
        check_siblings(self.kernel.live().filter(|dot| !seen.covers(*dot)).count())?;
        Ok(Self { kernel: self.kernel.replace(gone, Sibling(value), by)? })
    }

    /// The delta that deletes what was seen.
    ///
    /// # Errors
    ///
    /// When `seen` is none that a reading gave.
    pub fn delete(&self, seen: &DottedVersion) -> Result<Self, UpdateError> {
        Ok(Self { kernel: self.kernel.remove(seen_dots(seen)?) })
    }

    /// The delta that deletes what is here.
    #[must_use]
    pub fn clear(&self) -> Self {
        Self { kernel: self.kernel.remove(self.kernel.live()) }
    }

    /// The values in order, each once.
    #[must_use]
    pub fn values(&self) -> Vec<Bytes> {
        self.kernel.iter().map(|(sibling, _)| sibling.0.clone()).collect()
    }

    /// What a write must be given so that it replaces the values that are here now.
    #[must_use]
    pub fn seen(&self) -> DottedVersion {
        self.kernel.live().collect()
    }

    /// Takes in writes and what they replaced. Whether anything changed.
    pub fn join(&mut self, other: &Self) -> bool {
        self.kernel.join(&other.kernel)
    }

    pub(super) fn is_bottom(&self) -> bool {
        self.kernel.is_bottom()
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

/// A write beside this many values it does not replace.
pub(super) fn check_siblings(beside: usize) -> Result<(), UpdateError> {
    if beside >= SIBLINGS_MAX {
        return Err(UpdateError::TooManySiblings { siblings: beside });
    }
    Ok(())
}

/// Most dots that a reading can name: the siblings that each of many replicas added at once.
const SEEN_MAX: u64 = 1024;

/// The dots that a caller says it saw. A caller that made them up can only hurt this value, and
/// no more of it than a deletion would and a number of writes that are still to come.
fn seen_dots(seen: &DottedVersion) -> Result<Vec<Dot>, UpdateError> {
    let mut dots = Vec::new();
    let mut left = SEEN_MAX;
    for (after, upto) in seen.spans() {
        left = left.checked_sub(upto - after.seq).ok_or(UpdateError::NotSeen)?;
        dots.extend((after.seq + 1..=upto).map(|seq| Dot::new(after.actor, seq)));
    }
    Ok(dots)
}
