//! A set that only grows (S5). Tags that can be taken off again are an OR-set (F39).

use std::collections::BTreeSet;

use super::error::UpdateError;
use super::limit::{ELEMENT_BYTES_MAX, WRITTEN_BYTES_MAX};
use crate::bytes::Bytes;
use crate::codec::{
    DecodeError, Sink, Source, ascending, put_bytes, put_len, put_number,
};
use crate::digest::Mixer;

/// About what the length before an element takes in an encoding.
const LEN_SIZE: usize = 3;

/// Elements, for good.
///
/// ```
/// use dwcp_state::GSet;
///
/// let mut tags = GSet::default();
/// let production = tags.insert("tag:production".into())?;
/// tags.join(&production);
/// tags.join(&GSet::default().insert("tag:web-tier".into())?);
/// assert_eq!(tags.len(), 2); // S5
/// # Ok::<(), dwcp_state::UpdateError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GSet {
    elements: BTreeSet<Bytes>,
    size: usize,
    /// The sum of the digests of the elements, so that it follows each change.
    sum: u64,
}

impl GSet {
    /// The delta that puts an element in.
    ///
    /// # Errors
    ///
    /// When the element or the set would be too large.
    pub fn insert(&self, element: Bytes) -> Result<Self, UpdateError> {
        check_element(&element)?;
        let mut delta = Self::default();
        if self.contains(&element) {
            return Ok(delta);
        }
        let bytes = self.size + element.len() + LEN_SIZE;
        if bytes > WRITTEN_BYTES_MAX {
            let (what, max) = ("the set with this element", WRITTEN_BYTES_MAX);
            return Err(UpdateError::TooLarge { what, bytes, max });
        }
        delta.take_in(element);
        Ok(delta)
    }

    /// Whether an element is in it.
    #[must_use]
    pub fn contains(&self, element: &[u8]) -> bool {
        self.elements.contains(element)
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.elements.iter()
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The union. Whether anything changed.
    pub fn join(&mut self, other: &Self) -> bool {
        let before = self.len();
        for element in &other.elements {
            if !self.contains(element) {
                self.take_in(element.clone());
            }
        }
        self.len() > before
    }

    fn take_in(&mut self, element: Bytes) {
        let mut mixer = Mixer::new();
        put_bytes(&mut mixer, &element);
        self.sum = self.sum.wrapping_add(mixer.finish());
        self.size += element.len() + LEN_SIZE;
        self.elements.insert(element);
    }

    pub(super) fn put_digest(&self, mixer: &mut Mixer) {
        put_len(mixer, self.elements.len());
        put_number(mixer, self.sum);
    }

    pub(super) fn encode(&self, out: &mut impl Sink) {
        put_len(out, self.elements.len());
        for element in &self.elements {
            put_bytes(out, element);
        }
    }

    pub(super) fn decode(from: &mut Source<'_>) -> Result<Self, DecodeError> {
        let mut set = Self::default();
        let mut last = None;
        for _ in 0..from.len(1)? {
            let element = from.bytes(ELEMENT_BYTES_MAX)?;
            set.take_in(ascending(element, &mut last, "an element")?);
        }
        Ok(set)
    }
}

pub(super) fn check_element(element: &Bytes) -> Result<(), UpdateError> {
    let bytes = element.len();
    if bytes > ELEMENT_BYTES_MAX {
        let (what, max) = ("the element", ELEMENT_BYTES_MAX);
        return Err(UpdateError::TooLarge { what, bytes, max });
    }
    Ok(())
}
