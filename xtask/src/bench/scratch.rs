//! A folder for what a benchmark writes, on the disk that holds the build: a temporary folder
//! may be in memory, where a sync costs nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folder; removed at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Of a benchmark, by its name.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path =
            Path::new("target").join(format!("bench-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| {
            format!("cannot make {}; run this in the workspace", path.display())
        })?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}
