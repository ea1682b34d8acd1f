//! One commit as it lies in a journal: length, checksum, number, changes.
//!
//! Read back only as a run: records of consecutive numbers from the start of a file. Whatever
//! does not fit, be it a record that was being written when the power went or what is left of an
//! older run, ends the run. Nothing that is read is trusted before its checksum is.

use bytes::{Buf, BufMut, Bytes};

use super::super::Change;

/// Bytes before the changes: length of the changes, checksum, number.
pub(super) const HEAD_LEN: usize = 16;
/// Where the checksum lies, and where what it covers besides the length begins.
const SUM_AT: usize = 4;
const COVERED_AT: usize = 8;

const PUT: u8 = 1;
const DELETE: u8 = 2;

/// Appends the record of a commit. False, with nothing appended, when something in it is longer
/// than a record can say.
pub(super) fn encode(count: u64, changes: &[Change], out: &mut Vec<u8>) -> bool {
    let from = out.len();
    out.resize(from + SUM_AT + size_of::<u32>(), 0);
    out.put_u64_le(count);
    let fits = changes.iter().all(|change| encode_change(change, out).is_some());
    let Some(len) = u32::try_from(out.len() - from - HEAD_LEN).ok().filter(|_| fits)
    else {
        out.truncate(from);
        return false;
    };
    let (head, covered) = out[from..].split_at_mut(COVERED_AT);
    head[..SUM_AT].copy_from_slice(&len.to_le_bytes());
    head[SUM_AT..].copy_from_slice(&checksum(len, covered).to_le_bytes());
    true
}

fn encode_change(change: &Change, out: &mut Vec<u8>) -> Option<()> {
    let (kind, key) = match change {
        Change::Put { key, .. } => (PUT, key),
        Change::Delete { key } => (DELETE, key),
    };
    out.put_u8(kind);
    out.put_u16_le(u16::try_from(key.len()).ok()?);
    out.put_slice(key.as_bytes());
    if let Change::Put { value, .. } = change {
        out.put_u32_le(u32::try_from(value.len()).ok()?);
        out.put_slice(value);
    }
    Some(())
}

/// The record at the start of some bytes: its number, its changes, and how long it is. None
/// where there is no whole record.
pub(super) fn decode(bytes: &Bytes) -> Option<(u64, Vec<Change>, usize)> {
    let mut head = bytes.get(..HEAD_LEN)?;
    let len = head.get_u32_le();
    let sum = head.get_u32_le();
    let count = head.get_u64_le();
    let end = HEAD_LEN.checked_add(usize::try_from(len).ok()?)?;
    let covered = bytes.get(COVERED_AT..end)?;
    if checksum(len, covered) != sum {
        return None;
    }
    let mut body = bytes.slice(HEAD_LEN..end);
    let mut changes = Vec::new();
    while body.has_remaining() {
        changes.push(decode_change(&mut body)?);
    }
    Some((count, changes, end))
}

fn decode_change(body: &mut Bytes) -> Option<Change> {
    let kind = body.try_get_u8().ok()?;
    let len = usize::from(body.try_get_u16_le().ok()?);
    let key = String::from_utf8(take(body, len)?.into()).ok()?;
    match kind {
        PUT => {
            let len = usize::try_from(body.try_get_u32_le().ok()?).ok()?;
            Some(Change::Put { key, value: take(body, len)? })
        }
        DELETE => Some(Change::Delete { key }),
        _ => None,
    }
}

fn take(body: &mut Bytes, len: usize) -> Option<Bytes> {
    (len <= body.len()).then(|| body.split_to(len))
}

fn checksum(len: u32, covered: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&len.to_le_bytes());
    hasher.update(covered);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop, prop_oneof, proptest};
    use proptest::prop_assert_eq;

    use super::{Change, decode, encode};

    fn change() -> impl Strategy<Value = Change> {
        let value = prop::collection::vec(any::<u8>(), 0..40);
        prop_oneof![
            (".{0,20}", value)
                .prop_map(|(key, value)| Change::Put { key, value: value.into() }),
            ".{0,20}".prop_map(|key| Change::Delete { key }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            count: u64,
            changes in prop::collection::vec(change(), 0..10),
            behind in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = Vec::new();
            assert!(encode(count, &changes, &mut bytes));
            let len = bytes.len();
            bytes.extend(behind);
            prop_assert_eq!(decode(&bytes.into()), Some((count, changes, len)));
        }

        #[test]
        fn a_record_with_a_turned_bit_or_without_its_end_is_none(
            changes in prop::collection::vec(change(), 0..10),
            bit: usize,
            end: usize,
        ) {
            let mut bytes = Vec::new();
            assert!(encode(7, &changes, &mut bytes));
            let cut = bytes[..end % bytes.len()].to_vec();
            prop_assert_eq!(decode(&cut.into()), None);
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode(&bytes.into()), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            decode(&bytes.into());
        }
    }
}
