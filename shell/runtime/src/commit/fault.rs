//! What a database says when it fails, by what can be done about it.
//!
//! Every adapter has errors of its own; whoever keeps rows or records sees these. They are told
//! apart by what follows: free space, restore a backup, or start again from the disk.

/// Why a database does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no space; the same may be tried again once there is.
    #[error("{0}")]
    Full(String),
    /// What is stored is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// It was written by a version that this one cannot read.
    #[error("{0}")]
    Foreign(String),
    /// A sync failed. Linux drops the pages that it could not write and says so once: nothing
    /// that was written since the last sync may be trusted until it is read from the disk.
    #[error("{0}")]
    Unsynced(String),
    /// Anything else; the same may be tried again.
    #[error("{0}")]
    Io(String),
}

impl Fault {
    /// Sorts an error of the system.
    #[must_use]
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            Self::Full(error.to_string())
        } else {
            Self::Io(error.to_string())
        }
    }

    /// What to do when a database that was in use fails.
    pub(crate) const fn remedy(&self) -> &'static str {
        match self {
            Self::Full(_) => "free space there; writes resume by themselves",
            Self::Damaged(_) => "restore it from a backup",
            Self::Foreign(_) => "use the version that wrote it",
            Self::Unsynced(_) => {
                "check the disk and start the process again; it reads back what the disk has"
            }
            Self::Io(_) => "check the disk; writes resume by themselves once it works",
        }
    }

    /// What to do when a database cannot be opened.
    pub(crate) const fn remedy_at_open(&self) -> &'static str {
        match self {
            Self::Full(_) => "free space there",
            Self::Damaged(_) => "restore it from a backup",
            Self::Foreign(_) => "use the version that wrote it",
            Self::Unsynced(_) => "check the disk, then start again",
            Self::Io(_) => "check that the directory exists, is writable and has space",
        }
    }
}
