//! The agent's records of guests that are bound to the lease, without reading all of them at
//! every look.
//!
//! A record is replaced by renaming another file over it. So one whose file is the same as
//! before is not read again, and while nothing was renamed in the folder not even that is looked
//! at. A file system's clock ticks in milliseconds: a folder counts as untouched only when two
//! looks found it so, the later of which saw all that came in the tick of the earlier.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::store::{self, Stored};

/// What tells one state of a file or folder from another: when it was changed, which it is, and
/// how long.
type Mark = (i64, i64, u64, u64);

/// What is known of the records in a data folder.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// By file name; of what is not bound, or cannot be read, only the mark is kept.
    files: BTreeMap<OsString, (Mark, Option<Stored>)>,
    folder: Option<Mark>,
    untouched: bool,
    #[cfg(test)]
    reads: usize,
}

impl Bound {
    /// The bound records as they are now.
    pub(super) fn look(&mut self, folder: &Path) -> impl Iterator<Item = &Stored> {
        let records = store::records(folder);
        let mark = fs::metadata(&records).ok().map(|it| mark(&it));
        let same = mark.is_some() && mark == self.folder;
        if !(same && self.untouched) {
            self.untouched = same;
            self.folder = mark;
            self.read(&records);
        }
        self.files.values().filter_map(|(_, record)| record.as_ref())
    }

    fn read(&mut self, records: &Path) {
        let mut before = std::mem::take(&mut self.files);
        let entries = fs::read_dir(records).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        for path in paths.filter(|path| path.extension().is_some_and(|it| it == "json")) {
            // It may be replaced or removed meanwhile; the next look sees that.
            let Ok(mark) = fs::metadata(&path).map(|it| mark(&it)) else { continue };
            let name = path.file_name().unwrap_or_default().to_owned();
            let known = before.remove(&name).filter(|(known, _)| *known == mark);
            let file = known.unwrap_or_else(|| (mark, self.bound(&path)));
            self.files.insert(name, file);
        }
    }

    /// A record that cannot be read is left out: its guest is ended by the agent, or by hand.
    fn bound(&mut self, path: &PathBuf) -> Option<Stored> {
        #[cfg(test)]
        {
            self.reads += 1;
        }
        let read: Stored = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let record = read.record.as_ref()?;
        (record.instruction.guest.lease_bound && !record.buried).then_some(read)
    }
}

fn mark(it: &Metadata) -> Mark {
    (it.mtime(), it.mtime_nsec(), it.ino(), it.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use dwcp_types::{Epoch, Generation, Power, Timestamp, VmId};
    use dwcp_vm::{GuestSpec, Instruction, Record};

    fn stored(vm: &str, lease_bound: bool) -> Stored {
        let guest = GuestSpec { lease_bound, ..GuestSpec::default() };
        let (epoch, generation, power) =
            (Epoch::FIRST, Generation::FIRST, Power::Running);
        Stored {
            vm: VmId::new(vm).unwrap(),
            record: Some(Record::new(Instruction { epoch, generation, power, guest })),
            moving: None,
            address: None,
            copy_begun: None,
            at: Timestamp::default(),
        }
    }

    fn names(bound: &mut Bound, folder: &Path) -> Vec<String> {
        bound.look(folder).map(|it| it.vm.to_string()).collect()
    }

    #[test]
    fn a_record_is_read_once_until_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let mut bound = Bound::default();
        assert!(names(&mut bound, folder.path()).is_empty(), "no agent was here yet");
        let store = Store::open(folder.path()).unwrap();
        for (vm, lease_bound) in [("a", true), ("b", false), ("c", true)] {
            store.save(&stored(vm, lease_bound)).unwrap();
        }
        for _ in 0..5 {
            assert_eq!(names(&mut bound, folder.path()), ["a", "c"]);
        }
        assert_eq!(bound.reads, 3);
        store.save(&stored("b", true)).unwrap();
        store.forget(&VmId::new("c").unwrap()).unwrap();
        for _ in 0..5 {
            assert_eq!(names(&mut bound, folder.path()), ["a", "b"]);
        }
        assert_eq!(bound.reads, 4);
    }

    #[test]
    fn what_cannot_be_read_is_left_out_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.save(&stored("a", true)).unwrap();
        fs::write(folder.path().join("records/b.json"), b"{").unwrap();
        let mut bound = Bound::default();
        assert_eq!(names(&mut bound, folder.path()), ["a"]);
        store.save(&stored("b", true)).unwrap();
        assert_eq!(names(&mut bound, folder.path()), ["a", "b"]);
    }
}
