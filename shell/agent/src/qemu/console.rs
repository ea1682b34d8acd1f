//! A guest's console on disk, bounded.
//!
//! QEMU appends what the guest prints to a file and would do so for ever. The head of the
//! file is given back to the file system by punching a hole, so positions stay what they
//! were: a reader that comes back with an offset never reads a byte twice or in the wrong
//! place. QEMU's `ringbuf` was rejected: it is read by taking out, dies with the process, and
//! so loses the last words of a guest that died. Rotation by renaming was rejected: QEMU keeps
//! the old file open. Where the file system has no holes the file is cut to nothing instead
//! and positions begin anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use crate::hypervisor::ConsolePart;

/// What is kept of a console at least; about 13,000 lines.
pub(crate) const KEPT: u64 = 1024 * 1024;
/// Holes are made of whole blocks of every file system in use.
const BLOCK: u64 = 64 * 1024;

/// Gives back what lies more than [`KEPT`] bytes before the end.
///
/// # Errors
///
/// When the file cannot be used; a missing one is fine.
pub(crate) fn trim(path: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let metadata = file.metadata()?;
    // `blocks` counts units of 512 bytes whatever the file system's own are.
    if metadata.blocks().saturating_mul(512) <= 2 * KEPT {
        return Ok(());
    }
    let end = metadata.len().saturating_sub(KEPT) / BLOCK * BLOCK;
    if end == 0 {
        return Ok(());
    }
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if fallocate(&file, flags, 0, end).is_err() {
        file.set_len(0)?;
    }
    Ok(())
}

/// Reads at most `limit` bytes from `offset`, or the last `limit` bytes. What was given back
/// is skipped.
///
/// # Errors
///
/// When the file cannot be read; a missing one is an empty console.
pub(crate) fn read(
    path: &Path,
    offset: Option<u64>,
    limit: u32,
) -> io::Result<ConsolePart> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(ConsolePart::default());
        }
        opened => opened?,
    };
    let length = file.metadata()?.len();
    let wanted = offset.unwrap_or_else(|| length.saturating_sub(u64::from(limit)));
    let kept_from = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).unwrap_or(0);
    let offset = wanted.max(kept_from).min(length);
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(u64::from(limit)).read_to_end(&mut bytes)?;
    Ok(ConsolePart { offset, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_console_that_never_ends_keeps_its_end_and_its_positions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let line = [b'x'; 1023];
        for _ in 0..8 * 1024 {
            file.write_all(&line).unwrap();
            file.write_all(b"\n").unwrap();
        }
        file.sync_all().unwrap();
        trim(&path).unwrap();
        file.write_all(b"the end").unwrap();
        let blocks = file.metadata().unwrap().blocks() * 512;
        assert!(blocks <= KEPT + 2 * BLOCK, "{blocks}");

        let end = 8 * 1024 * 1024;
        let tail = read(&path, None, 7).unwrap();
        assert_eq!((tail.offset, tail.bytes.as_slice()), (end, b"the end".as_slice()));
        let early = read(&path, Some(0), 10).unwrap();
        assert_eq!(early.offset, end - KEPT);
        assert_eq!(early.bytes, vec![b'x'; 10]);
        let beyond = read(&path, Some(end * 2), 10).unwrap();
        assert_eq!((beyond.offset, beyond.bytes.len()), (end + 7, 0));
    }

    #[test]
    fn a_console_that_is_not_there_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none");
        trim(&path).unwrap();
        assert_eq!(read(&path, None, 10).unwrap(), ConsolePart::default());
    }
}
