//! Makes what can be read of a file the same as what its disk has.
//!
//! After a failed sync Linux keeps the pages that it could not write, marks them clean, and
//! serves them to every reader: a process that starts again would take up, and build on, what
//! the disk never got. So whoever opens a database first syncs its files (which writes what is
//! still dirty, and brings up an error that nobody has seen) and then drops their clean pages,
//! so that everything is read from the disk again.
//!
//! Dropping is a request to the kernel (`POSIX_FADV_DONTNEED`); pages that another process has
//! mapped stay. Reading around the page cache (`O_DIRECT`) was rejected: no database that we
//! use does it.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use super::Fault;

/// Syncs a file and drops its pages from memory.
pub(crate) fn settle_file(path: &Path) -> Result<(), Fault> {
    let file = opened(path)?;
    file.sync_all().map_err(unsynced)?;
    // A file system without pages to drop may refuse.
    fadvise(&file, 0, None, Advice::DontNeed).ok();
    Ok(())
}

/// The same for every file below a folder.
#[cfg(any(test, feature = "fjall"))]
pub(crate) fn settle_folder(path: &Path) -> Result<(), Fault> {
    let unread = |error: io::Error| Fault::of_io(&error);
    for entry in std::fs::read_dir(path).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        if entry.file_type().map_err(unread)?.is_dir() {
            settle_folder(&entry.path())?;
        } else {
            settle_file(&entry.path())?;
        }
    }
    opened(path)?.sync_all().map_err(unsynced)
}

/// Makes durable that a file or folder was made or removed.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Fault> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    opened(folder.unwrap_or_else(|| Path::new(".")))?.sync_all().map_err(unsynced)
}

fn opened(path: &Path) -> Result<File, Fault> {
    File::open(path).map_err(|error| Fault::of_io(&error))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn unsynced(error: io::Error) -> Fault {
    Fault::Unsynced(error.to_string())
}
