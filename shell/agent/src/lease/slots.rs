//! A file of fixed length with two slots that are written in turn, so that a full disk does not
//! matter and a write that is cut short is seen.
//!
//! ```text
//!   slot:  checksum u32 | length u32 | number u64 | bytes ...      (little-endian)
//! ```
//!
//! All of the file is written once at the start, which takes its room of the disk; after that it
//! is only overwritten. The slot with the highest number whose checksum is right is the one that
//! counts: while one is written, or was written in part only, that is the one before. Whoever
//! reads needs no lock; where a slot is not whole it reads again, because the other may have been
//! read long before.
//!
//! On a file system that copies what is overwritten a full disk refuses all the same. Rejected:
//! replacing a file, which needs room for the new one while the old one is there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::serve::BODY_MAX;

/// Most that a slot holds: a grant as it came, and what is noted beside it.
const BYTES_MAX: usize = BODY_MAX + 4_096 - HEAD_LEN;
/// Checksum, length, number.
const HEAD_LEN: usize = 16;
/// Where the checksum ends and what it covers begins.
const COVERED_AT: usize = 4;
/// Where the number begins.
const NUMBER_AT: usize = 8;
const SLOT_LEN: usize = HEAD_LEN + BYTES_MAX;
const FILE_LEN: u64 = 2 * SLOT_LEN as u64;
/// What the room is taken with, at once.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// What a whole slot holds.
#[derive(Debug, PartialEq, Eq)]
struct Slot {
    number: u64,
    bytes: Vec<u8>,
}

/// The file, to be written.
#[derive(Debug)]
pub(super) struct Slots {
    file: File,
    /// The number that was written last, or begun.
    last: u64,
}

impl Slots {
    /// Opens the file and takes its room, unless it has it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let file = options.open(path)?;
        let mut at = file.metadata()?.len();
        while at < FILE_LEN {
            let rest = usize::try_from(FILE_LEN - at).unwrap_or(ZEROS.len());
            let part = &ZEROS[..rest.min(ZEROS.len())];
            file.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        let last = newest(&file).map_or(0, |slot| slot.number);
        Ok(Self { file, last })
    }

    /// Writes over the older slot.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= BYTES_MAX);
        let Some(len) = len else {
            let what = format!("{} bytes, and a slot has {BYTES_MAX}", bytes.len());
            return Err(io::Error::other(what));
        };
        // A number is used once, also when its write fails: the slot may hold part of it.
        let number = self.last + 1;
        let mut slot = vec![0; HEAD_LEN];
        slot[COVERED_AT..NUMBER_AT].copy_from_slice(&len.to_le_bytes());
        slot[NUMBER_AT..].copy_from_slice(&number.to_le_bytes());
        slot.extend_from_slice(bytes);
        let sum = crc32fast::hash(&slot[COVERED_AT..]);
        slot[..COVERED_AT].copy_from_slice(&sum.to_le_bytes());
        self.file.write_all_at(&slot, offset(number % 2))?;
        self.last = number;
        Ok(())
    }
}

/// What was written last and is whole; nothing when there is no such slot.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    newest(&File::open(path).ok()?).map(|slot| slot.bytes)
}

fn newest(file: &File) -> Option<Slot> {
    let both = || [0, 1].map(|index| slot(file, offset(index)));
    let mut slots = both();
    if slots.iter().any(Option::is_none) {
        slots = both();
    }
    slots.into_iter().flatten().max_by_key(|slot| slot.number)
}

fn slot(file: &File, at: u64) -> Option<Slot> {
    let mut slot = vec![0; HEAD_LEN];
    file.read_exact_at(&mut slot, at).ok()?;
    let sum = u32::from_le_bytes(slot[..COVERED_AT].try_into().ok()?);
    let len = u32::from_le_bytes(slot[COVERED_AT..NUMBER_AT].try_into().ok()?);
    let number = u64::from_le_bytes(slot[NUMBER_AT..].try_into().ok()?);
    let len = usize::try_from(len).ok().filter(|len| *len <= BYTES_MAX)?;
    slot.resize(HEAD_LEN + len, 0);
    file.read_exact_at(&mut slot[HEAD_LEN..], at + HEAD_LEN as u64).ok()?;
    let whole = number > 0 && crc32fast::hash(&slot[COVERED_AT..]) == sum;
    whole.then(|| Slot { number, bytes: slot.split_off(HEAD_LEN) })
}

const fn offset(index: u64) -> u64 {
    index * SLOT_LEN as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> (Slots, std::path::PathBuf) {
        let path = folder.join("slots");
        (Slots::open(&path).unwrap(), path)
    }

    #[test]
    fn the_last_one_counts_and_the_next_writer_goes_on_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut slots, path) = open(folder.path());
        assert_eq!(read(&path), None);
        for text in ["one", "two, and longer", "three"] {
            slots.write(text.as_bytes()).unwrap();
            assert_eq!(read(&path).unwrap(), text.as_bytes());
        }
        drop(slots);
        let (mut slots, path) = open(folder.path());
        assert_eq!(read(&path).unwrap(), b"three");
        slots.write(b"four").unwrap();
        assert_eq!(read(&path).unwrap(), b"four");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), FILE_LEN);
    }

    /// Every prefix of a write that may be all that reached the file, over what was there.
    #[test]
    fn of_a_write_that_is_cut_short_nothing_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (mut slots, path) = open(folder.path());
        for text in ["one", "two"] {
            slots.write(text.as_bytes()).unwrap();
        }
        let before = std::fs::read(&path).unwrap();
        slots.write(b"three").unwrap();
        let after = std::fs::read(&path).unwrap();
        let from = usize::try_from(offset(1)).unwrap();
        for len in 0..HEAD_LEN + "three".len() {
            let mut torn = before.clone();
            torn[from..from + len].copy_from_slice(&after[from..from + len]);
            std::fs::write(&path, torn).unwrap();
            assert_eq!(read(&path).unwrap(), b"two", "{len} bytes of it were written");
        }
        std::fs::write(&path, after).unwrap();
        assert_eq!(read(&path).unwrap(), b"three");
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (mut slots, path) = open(folder.path());
        slots.write(&vec![7; BYTES_MAX]).unwrap();
        assert!(slots.write(&vec![8; BYTES_MAX + 1]).is_err());
        assert_eq!(read(&path).unwrap(), vec![7; BYTES_MAX]);
    }

    #[test]
    fn a_file_whose_room_was_taken_in_part_is_made_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slots");
        std::fs::write(&path, b"half").unwrap();
        let (mut slots, path) = open(folder.path());
        assert_eq!(read(&path), None);
        slots.write(b"one").unwrap();
        assert_eq!(read(&path).unwrap(), b"one");
    }
}
