//! A segment of a region's history as bytes: frames, one behind the other, each with a checksum.
//!
//! ```text
//!   frame:   length of the body, 4 bytes ─ CRC-32, 4 bytes ─ body
//!   body:    life, number and moment of the newest digest ─ how many places ─ places
//!   place:   offset in the segment ─ figures ─ sketch
//! ```
//!
//! A place stands whole in a frame, and the last frame that has it wins: writing it again, after a
//! write that failed or a digest that came late, changes nothing else. The checksum is also of whose
//! segment it is and of where in it the frame begins, so that no frame is read at another place. The
//! first frame that is not as it was written ends the segment: what lies behind it is a gap.

use std::collections::BTreeMap;

use dwcp_types::{RegionId, Timestamp};

use super::SegmentId;
use super::slot::Slot;
use crate::varint::{put, take};

/// Longest body: as many places as a segment has, each with a sketch of every bucket.
const BODY_LEN_MAX: usize = 8 << 20;
/// Bytes before the body.
const HEAD_LEN: usize = 8;
/// What the format is called; another one is another text.
const FORMAT: &[u8] = b"dwcp history 1";

/// The newest digest of a region that is in its history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Which life of its daemon said it.
    pub life: u64,
    /// Its number in that life.
    pub seq: u64,
    /// To which moment it belongs.
    pub at: Timestamp,
}

/// What is to be written to one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// To which.
    pub segment: SegmentId,
    pub(super) cursor: Option<Cursor>,
    /// By offset in the segment.
    pub(super) slots: BTreeMap<u64, Slot>,
}

impl Piece {
    /// As bytes that stand so far behind the segment's begin.
    #[must_use]
    pub fn encode(&self, region: &RegionId, offset: u64) -> Vec<u8> {
        let mut body = Vec::new();
        let cursor = self.cursor.unwrap_or_default();
        for number in [cursor.life, cursor.seq, cursor.at.as_millis()] {
            put(&mut body, number);
        }
        put(&mut body, u64::try_from(self.slots.len()).unwrap_or(u64::MAX));
        for (number, slot) in &self.slots {
            put(&mut body, *number);
            slot.write(&mut body);
        }
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let sum = checksum(region, self.segment, (offset, len), &body);
        [len.as_slice(), sum.as_slice(), body.as_slice()].concat()
    }
}

/// What a segment's bytes hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub(super) slots: BTreeMap<u64, Slot>,
    pub(super) cursor: Option<Cursor>,
    /// Bytes up to the end of the last frame that is as it was written.
    pub sound_len: u64,
    /// Whether something else lies behind it.
    pub is_damaged: bool,
}

impl Segment {
    /// Reads one. Never fails: what cannot be read is a gap.
    #[must_use]
    pub fn decode(region: &RegionId, id: SegmentId, bytes: &[u8]) -> Self {
        let mut segment = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(end) = segment.frame(region, id, rest) else {
                segment.is_damaged = true;
                break;
            };
            segment.sound_len += u64::try_from(end).unwrap_or(0);
            rest = rest.get(end..).unwrap_or_default();
        }
        segment
    }

    /// Takes the first frame; gives its length.
    fn frame(&mut self, region: &RegionId, id: SegmentId, bytes: &[u8]) -> Option<usize> {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk::<4>()?;
        let body_len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        let body = rest.get(..body_len).filter(|_| body_len <= BODY_LEN_MAX)?;
        if checksum(region, id, (self.sound_len, *len), body) != *sum {
            return None;
        }
        let (cursor, slots) = self::body(id, body)?;
        self.cursor = cursor.or(self.cursor);
        self.slots.extend(slots);
        Some(HEAD_LEN + body_len)
    }
}

fn body(
    id: SegmentId,
    mut bytes: &[u8],
) -> Option<(Option<Cursor>, BTreeMap<u64, Slot>)> {
    let (life, seq) = (take(&mut bytes)?, take(&mut bytes)?);
    let at = Timestamp::from_millis(take(&mut bytes)?);
    let cursor = (seq > 0).then_some(Cursor { life, seq, at });
    let mut slots = BTreeMap::new();
    for _ in 0..take(&mut bytes)? {
        let offset = take(&mut bytes)?;
        if !id.has(offset) {
            return None;
        }
        slots.insert(offset, Slot::read(&mut bytes)?);
    }
    bytes.is_empty().then_some((cursor, slots))
}

fn checksum(
    region: &RegionId,
    id: SegmentId,
    (offset, len): (u64, [u8; 4]),
    body: &[u8],
) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    let name = id.to_string();
    // The zero ends a name: neither has one in it.
    for part in [FORMAT, region.as_str().as_bytes(), name.as_bytes()] {
        hasher.update(part);
        hasher.update(&[0]);
    }
    hasher.update(&offset.to_le_bytes());
    hasher.update(&len);
    hasher.update(body);
    hasher.finalize().to_le_bytes()
}
