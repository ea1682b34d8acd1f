//! Whether a file is another than when it was read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Tells one state of a file from another: by its change time, length and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    changed_s: i64,
    changed_ns: i64,
    len: u64,
    inode: u64,
}

impl Stamp {
    /// Of a file as it is now; nothing of one that is not there.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self {
            changed_s: file.ctime(),
            changed_ns: file.ctime_nsec(),
            len: file.len(),
            inode: file.ino(),
        })
    }
}
