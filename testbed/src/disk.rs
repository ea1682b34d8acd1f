//! A small disk for one process, which can be filled to the last byte and emptied again: a file
//! system in memory over its data folder. Needs root.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file that takes what is free.
const BALLAST: &str = "ballast";
/// What is written at once at first, in bytes.
const PIECE: usize = 1 << 20;

/// A file system in memory, there as long as this is.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Puts one of so many mebibytes over a folder that is there.
    ///
    /// # Errors
    ///
    /// What `mount` says where it cannot.
    pub fn over(folder: &Path, mib: u32) -> io::Result<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(folder)
            .output()?;
        if mounted.status.success() {
            return Ok(Self(folder.to_owned()));
        }
        let said = String::from_utf8_lossy(&mounted.stderr);
        Err(io::Error::other(format!(
            "no small disk can be mounted here: {}",
            said.trim()
        )))
    }

    /// Leaves nothing free.
    pub fn fill(&self) {
        let path = self.0.join(BALLAST);
        let mut size = PIECE;
        // Ever smaller pieces, because the last one does not fit as a whole.
        while size >= 1 {
            if append(&path, size).is_err() {
                size /= 2;
            }
        }
    }

    /// Gives the room back that [`Self::fill`] took.
    pub fn empty(&self) {
        // It was not filled, which is as good.
        drop(fs::remove_file(self.0.join(BALLAST)));
    }
}

fn append(path: &Path, size: usize) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(&vec![0_u8; size])
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the process that uses it may end after this.
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}
