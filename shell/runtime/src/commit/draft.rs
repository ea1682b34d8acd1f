//! A new database appears whole or not at all.
//!
//! redb and fjall both make theirs in several steps, and neither opens what a stop between them
//! leaves: a daemon that was killed in its first second could never start again. So a database
//! is made under another name, and gets its own when it is complete.

use std::fs;
use std::io;
use std::path::Path;

use super::settle::sync_parent;
use super::{Fault, beside};

/// Makes a file or folder by making it elsewhere. What an earlier try left is removed.
pub(crate) fn make_whole(
    path: &Path,
    make: impl FnOnce(&Path) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let draft = beside(path, "new");
    remove(&draft).map_err(|error| Fault::of_io(&error))?;
    make(&draft)?;
    fs::rename(&draft, path).map_err(|error| Fault::of_io(&error))?;
    sync_parent(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
