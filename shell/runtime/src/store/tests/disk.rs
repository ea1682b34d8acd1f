//! The disk of a child process: where it lies, and how it fails (`disk.c`).
//!
//! Everything is in memory where there is a memory file system: whether something is durable
//! is what the failing disk decides, not the machine's.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Classes of operations that `disk.c` counts.
pub(super) const WRITE: u32 = 1;
pub(super) const SYNC: u32 = 2;
pub(super) const NAME: u32 = 4;
pub(super) const READ: u32 = 8;
/// Everything that changes a disk.
pub(super) const CHANGE: u32 = WRITE | SYNC | NAME;

/// Input/output error.
pub(super) const EIO: i32 = 5;
/// No space left.
pub(super) const ENOSPC: i32 = 28;

/// Where memory file systems are, on Linux.
const MEMORY: &str = "/dev/shm";

/// What happens at the operation that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    /// It fails, and nothing of it is done.
    Fail = 1,
    /// The machine stops before it.
    Before = 2,
    /// The machine stops in the middle of it.
    Torn = 3,
    /// The machine stops before it is answered.
    After = 4,
}

/// What is left of what was not synced, when the machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keep {
    /// Nothing.
    Nothing = 0,
    /// Some sectors and names, by chance.
    Some = 1,
    /// All: only the process was killed.
    All = 2,
}

/// How a disk fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// The classes of operations that are counted.
    pub(super) watch: u32,
    /// Which of them fails; 0 is none.
    pub(super) at: u64,
    /// How many fail from then on.
    pub(super) times: u64,
    pub(super) act: Act,
    /// What it fails with.
    pub(super) errno: i32,
    pub(super) keep: Keep,
    /// Whether the power goes when the process ends by itself.
    pub(super) cut: bool,
    pub(super) seed: u64,
}

impl Plan {
    /// Nothing fails; operations are counted.
    pub(super) const NONE: Self = Self {
        watch: CHANGE,
        at: 0,
        times: 1,
        act: Act::Fail,
        errno: EIO,
        keep: Keep::All,
        cut: false,
        seed: 1,
    };
}

/// A folder on a disk that can fail.
pub(super) struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// Builds the library that fails. None, with the reason on standard output, where a
    /// process cannot be stood between and its disk.
    pub(super) fn new() -> Option<Self> {
        let disk = Self { folder: memory_folder() };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/tests/disk.c");
        let built = Command::new("cc")
            .args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
            .args([disk.library(), source])
            .output();
        if !built.as_ref().is_ok_and(|output| output.status.success()) {
            println!("skipped: the failing disk cannot be built: {built:?}");
            return None;
        }
        let root = disk.fresh();
        let probe = Command::new("true").envs(disk.environment(&Plan::NONE)).status();
        if !probe.is_ok_and(|status| status.success()) {
            println!("skipped: system calls cannot be caught here (seccomp)");
            return None;
        }
        assert_eq!(disk.counted(), 0, "{}", root.display());
        Some(disk)
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("disk.so")
    }

    /// The folder that fails.
    pub(super) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Empties the folder.
    pub(super) fn fresh(&self) -> PathBuf {
        let root = self.root();
        std::fs::remove_dir_all(&root).ok();
        std::fs::create_dir(&root).unwrap();
        root
    }

    /// What a process on this disk is started with.
    pub(super) fn environment(&self, plan: &Plan) -> Vec<(&'static str, String)> {
        let below = |name: &str| self.folder.path().join(name).display().to_string();
        let trash = below("trash");
        std::fs::remove_dir_all(&trash).ok();
        std::fs::create_dir(&trash).unwrap();
        vec![
            ("LD_PRELOAD", below("disk.so")),
            ("DWCP_DISK_ROOT", below("root")),
            ("DWCP_DISK_TRASH", trash),
            ("DWCP_DISK_TALLY", below("tally")),
            ("DWCP_DISK_WATCH", plan.watch.to_string()),
            ("DWCP_DISK_AT", plan.at.to_string()),
            ("DWCP_DISK_TIMES", plan.times.to_string()),
            ("DWCP_DISK_ACT", (plan.act as u32).to_string()),
            ("DWCP_DISK_ERRNO", plan.errno.to_string()),
            ("DWCP_DISK_KEEP", (plan.keep as u32).to_string()),
            ("DWCP_DISK_CUT", u32::from(plan.cut).to_string()),
            ("DWCP_DISK_SEED", plan.seed.to_string()),
        ]
    }

    /// How many operations the last process made that came to its end.
    pub(super) fn counted(&self) -> u64 {
        let tally = std::fs::read_to_string(self.folder.path().join("tally")).unwrap();
        tally.trim().parse().unwrap()
    }
}

/// A folder in memory, or where temporary files are.
pub(super) fn memory_folder() -> tempfile::TempDir {
    tempfile::tempdir_in(MEMORY).or_else(|_| tempfile::tempdir()).unwrap()
}
