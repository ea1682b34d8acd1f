//! Records in files by number (an hour, for example), to be added to, read by place, and thrown
//! away a whole file at a time.
//!
//! ```text
//!   DIR/<number>.seg = frame*      frame = length u32 | crc32 u32 | zstd of the record
//! ```
//!
//! Nothing is synced: the last moments before a power failure may be lost. A file is read up to
//! its first frame that is not whole and cut there when it is opened, so that what is added later
//! can be read again; how much was cut is said.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes before a frame's record.
const HEAD_LEN: u64 = 8;
/// A record's length before it is packed; above all that a damaged length may ask for.
const RECORD_LEN_MAX: usize = 32 << 20;
/// How files end.
const SUFFIX: &str = "seg";
/// How much work packing is worth: the library's default.
const LEVEL: i32 = 3;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// In which file.
    pub segment: u64,
    at: u64,
    len: u32,
}

/// What was cut off a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Which file.
    pub segment: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// The files of one folder. One owner writes them.
#[derive(Debug)]
pub struct Segments {
    dir: PathBuf,
    lens: BTreeMap<u64, u64>,
    /// The file that was added to last.
    open: Option<(u64, File)>,
}

impl Segments {
    /// Opens a folder, which is made when it is not there, and hands over every record with its
    /// place. Says what was cut.
    ///
    /// # Errors
    ///
    /// When the folder or a file in it cannot be used.
    pub fn open(
        dir: &Path,
        mut each: impl FnMut(Place, Vec<u8>),
    ) -> io::Result<(Self, Vec<Cut>)> {
        fs::create_dir_all(dir)?;
        let mut segments =
            Self { dir: dir.to_owned(), lens: BTreeMap::new(), open: None };
        let mut cuts = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let Some(segment) = number(&path) else { continue };
            let mut bytes = Vec::new();
            File::open(&path)?.read_to_end(&mut bytes)?;
            let len = frames(segment, &bytes, &mut each);
            let whole = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if len < whole {
                OpenOptions::new().write(true).open(&path)?.set_len(len)?;
                cuts.push(Cut { segment, bytes: whole - len });
            }
            segments.lens.insert(segment, len);
        }
        Ok((segments, cuts))
    }

    /// What all files take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.lens.values().sum()
    }

    /// The lowest number.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.lens.keys().next().copied()
    }

    /// Adds a record to a file.
    ///
    /// # Errors
    ///
    /// When it is too large, or the disk refuses; the record is not there then.
    pub fn add(&mut self, segment: u64, record: &[u8]) -> io::Result<Place> {
        if record.len() > RECORD_LEN_MAX {
            return Err(io::Error::other("the record is larger than 32 MiB"));
        }
        let packed = zstd::bulk::compress(record, LEVEL)?;
        let len = u32::try_from(packed.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(packed.len() + 8);
        frame.extend(len.to_le_bytes());
        frame.extend(crc32fast::hash(&packed).to_le_bytes());
        frame.extend(packed);
        let at = self.lens.get(&segment).copied().unwrap_or(0);
        let file = self.file(segment)?;
        let written = file.write_all(&frame);
        if let Err(reason) = written {
            // What was written of it would hide all that comes after it.
            file.set_len(at)?;
            return Err(reason);
        }
        self.lens.insert(segment, at + HEAD_LEN + u64::from(len));
        Ok(Place { segment, at, len })
    }

    fn file(&mut self, segment: u64) -> io::Result<&mut File> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != segment) {
            let path = self.path(segment);
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            self.open = Some((segment, file));
        }
        let (_, file) =
            self.open.as_mut().ok_or_else(|| io::Error::other("no file is open"))?;
        Ok(file)
    }

    /// Reads what was added, beside whoever adds.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(&self.dir)
    }

    /// Throws a file away.
    ///
    /// # Errors
    ///
    /// When the disk refuses; it counts as there then.
    pub fn remove(&mut self, segment: u64) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|(open, _)| *open == segment) {
            self.open = None;
        }
        match fs::remove_file(self.path(segment)) {
            Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(reason),
            _ => {
                self.lens.remove(&segment);
                Ok(())
            }
        }
    }

    fn path(&self, segment: u64) -> PathBuf {
        path(&self.dir, segment)
    }
}

/// Reads records by their place; any number may, while one owner writes.
#[derive(Clone, Debug)]
pub struct Reader {
    dir: PathBuf,
}

impl Reader {
    /// Of the files of a folder.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Reads a record.
    ///
    /// # Errors
    ///
    /// When its file is gone or damaged since.
    pub fn read(&self, place: Place) -> io::Result<Vec<u8>> {
        let file = File::open(path(&self.dir, place.segment))?;
        let mut head = [0; 8];
        file.read_exact_at(&mut head, place.at)?;
        let mut packed = vec![0; usize::try_from(place.len).map_err(io::Error::other)?];
        file.read_exact_at(&mut packed, place.at + HEAD_LEN)?;
        unpack(head, &packed).ok_or_else(|| {
            let what =
                format!("the record at {} of {} is damaged", place.at, place.segment);
            io::Error::new(io::ErrorKind::InvalidData, what)
        })
    }
}

fn path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment}.{SUFFIX}"))
}

fn number(path: &Path) -> Option<u64> {
    if path.extension()?.to_str()? != SUFFIX {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}

/// Hands over each whole frame; says where they end.
fn frames(segment: u64, bytes: &[u8], each: &mut impl FnMut(Place, Vec<u8>)) -> u64 {
    let mut at = 0;
    while let Some((head, rest)) =
        bytes.get(at..).and_then(|rest| rest.split_first_chunk())
    {
        let len = length(*head);
        let packed = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let Some(packed) = packed else { break };
        let Some(record) = unpack(*head, packed) else { break };
        each(Place { segment, at: at as u64, len }, record);
        at += head.len() + packed.len();
    }
    at as u64
}

fn length(head: [u8; 8]) -> u32 {
    let [a, b, c, d, ..] = head;
    u32::from_le_bytes([a, b, c, d])
}

fn unpack(head: [u8; 8], packed: &[u8]) -> Option<Vec<u8>> {
    let [.., a, b, c, d] = head;
    let sound = usize::try_from(length(head)).is_ok_and(|len| len == packed.len())
        && crc32fast::hash(packed) == u32::from_le_bytes([a, b, c, d]);
    if !sound {
        return None;
    }
    zstd::bulk::decompress(packed, RECORD_LEN_MAX).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(dir: &Path) -> (Segments, Vec<Vec<u8>>, Vec<Cut>) {
        let mut records = Vec::new();
        let (segments, cuts) =
            Segments::open(dir, |_, record| records.push(record)).unwrap();
        (segments, records, cuts)
    }

    #[test]
    fn what_was_added_is_there_and_goes_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let (mut segments, none, _) = all(dir.path());
        assert!(none.is_empty());
        let one = segments.add(7, b"one").unwrap();
        let two = segments.add(8, b"two").unwrap();
        let three = segments.add(7, b"three").unwrap();
        for (place, record) in [(one, &b"one"[..]), (two, b"two"), (three, b"three")] {
            assert_eq!(segments.reader().read(place).unwrap(), record);
        }
        let bytes = segments.bytes();
        drop(segments);
        let (mut segments, mut records, cuts) = all(dir.path());
        records.sort();
        assert_eq!(records, [&b"one"[..], b"three", b"two"]);
        assert!(cuts.is_empty());
        assert_eq!((segments.bytes(), segments.first()), (bytes, Some(7)));
        segments.remove(7).unwrap();
        segments.remove(7).unwrap();
        assert!(segments.reader().read(one).is_err());
        assert_eq!(segments.reader().read(two).unwrap(), b"two");
        assert_eq!(segments.first(), Some(8));
    }

    #[test]
    fn other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("README"), "by hand").unwrap();
        fs::write(dir.path().join("x.seg"), "by hand").unwrap();
        let (segments, records, cuts) = all(dir.path());
        assert!(records.is_empty() && cuts.is_empty() && segments.first().is_none());
    }

    proptest! {
        /// A file that is cut anywhere, or in which any byte is another, loses what comes from
        /// there on and nothing else; what is added after it was opened is read again.
        #[test]
        fn a_damaged_file_is_read_up_to_the_damage(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8),
            at in any::<prop::sample::Index>(),
            flip in prop::option::of(1..=255_u8),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let (mut segments, _, _) = all(dir.path());
            let places: Vec<Place> =
                records.iter().map(|record| segments.add(1, record).unwrap()).collect();
            drop(segments);
            let path = dir.path().join("1.seg");
            let mut bytes = fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            match flip {
                Some(flip) => bytes[at] ^= flip,
                None => bytes.truncate(at),
            }
            fs::write(&path, &bytes).unwrap();
            let whole = places
                .iter()
                .take_while(|it| it.at + HEAD_LEN + u64::from(it.len) <= at as u64)
                .count();
            let (mut segments, read, cuts) = all(dir.path());
            prop_assert_eq!(&read[..], &records[..whole]);
            let end = places.get(whole).map_or(0, |it| it.at);
            let lost = bytes.len() as u64 - end;
            let said: u64 = cuts.iter().map(|cut| cut.bytes).sum();
            prop_assert_eq!(said, lost);
            segments.add(1, b"more").unwrap();
            drop(segments);
            let (_, read, cuts) = all(dir.path());
            prop_assert_eq!(read.len(), whole + 1);
            prop_assert!(cuts.is_empty());
        }
    }
}
