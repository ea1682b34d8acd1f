//! Guests that are real processes and run nothing: what the bed and its stand-in for QEMU
//! (`dwcp-stand-in`) agree upon, and the journal of what ran where.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The environment's name of the folder with the locks and the journal.
pub const GUESTS: &str = "DWCP_STAND_IN_GUESTS";
/// The journal, one line for each thing that happened to a guest.
pub const JOURNAL: &str = "journal";
/// The version of QEMU that it answers like.
pub const VERSION: &str = "7.2.22";

/// The lock that whoever runs a VM holds.
#[must_use]
pub fn lock_of(folder: &Path, vm: &str) -> PathBuf {
    folder.join(format!("{vm}.lock"))
}

/// What the journal says by now. Its lines are in the order of what happened: a guest that
/// halts says so before it gives the VM's lock up, one that runs after it has it.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    path: PathBuf,
    read: usize,
    began: BTreeMap<String, u32>,
    twice: Vec<String>,
}

impl Journal {
    /// The one in this folder.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self { path: folder.join(JOURNAL), ..Self::default() }
    }

    /// Reads on.
    pub fn look(&mut self) {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let new = text.get(self.read..).unwrap_or_default();
        // Lines are added whole.
        for line in new.lines() {
            let mut words = line.splitn(5, ' ');
            let vm = words.nth(1).unwrap_or_default();
            let what = words.nth(2).unwrap_or_default();
            if what == "began" {
                *self.began.entry(vm.to_owned()).or_default() += 1;
            }
            if what.starts_with("twice") {
                self.twice.push(line.to_owned());
            }
        }
        self.read = text.len();
    }

    /// How many processes a VM has had.
    #[must_use]
    pub fn began(&self, vm: &str) -> u32 {
        self.began.get(vm).copied().unwrap_or(0)
    }

    /// The lines of guests that ran while another of their VM did.
    #[must_use]
    pub fn twice(&self) -> &[String] {
        &self.twice
    }

    /// The lines about one VM.
    #[must_use]
    pub fn lines_of(&self, vm: &str) -> Vec<String> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let of_it = |line: &&str| line.split(' ').nth(1) == Some(vm);
        text.lines().filter(of_it).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_read_on_and_who_ran_beside_another_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(JOURNAL);
        let mut journal = Journal::of(folder.path());
        journal.look();
        assert!(journal.twice().is_empty());
        fs::write(&path, "1 web eu-h1 7 began\n2 web eu-h1 7 runs\n").unwrap();
        journal.look();
        let text = fs::read_to_string(&path).unwrap();
        let more = "3 web us-h1 9 began\n4 web us-h1 9 twice, beside eu-h1 7\n";
        fs::write(&path, format!("{text}{more}")).unwrap();
        journal.look();
        assert_eq!((journal.began("web"), journal.began("db")), (2, 0));
        assert_eq!(journal.twice(), ["4 web us-h1 9 twice, beside eu-h1 7"]);
        assert_eq!(journal.lines_of("web").len(), 4);
    }
}
