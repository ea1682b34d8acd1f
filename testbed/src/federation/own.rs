//! What a daemon or agent of a federation has to itself where its plan says so: a small disk, a
//! wall clock, and guests that stand in for real ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Federation;
use crate::disk::SmallDisk;
use crate::process::{Process, arguments_of};
use crate::stepped::{self, SteppedClock};

impl Federation {
    /// Gives a daemon or agent what the plan says that it has to itself.
    pub(super) fn equip(&mut self, process: Process) -> Process {
        let name = process.name().to_owned();
        if let Some(mib) = self.plan.disk_mib {
            let data = self.layout.data(&name);
            fs::create_dir_all(&data).expect("the folder can be written");
            let disk = SmallDisk::over(&data, mib);
            let disk = disk.unwrap_or_else(|error| panic!("{error}; run as root"));
            self.disks.insert(name.clone(), disk);
        }
        if !self.plan.own_clocks {
            return process;
        }
        let library = stepped::library().unwrap_or_else(|missing| panic!("{missing}"));
        let clock = SteppedClock::in_file(&self.layout.clock(&name));
        let clock = clock.expect("the test's folder can be written");
        let process = process.with_env(clock.environment(&library));
        self.clocks.insert(name, clock);
        process
    }

    /// What agents look for before they start a guest, and where stand-ins tell of themselves.
    pub(super) fn furnish_stand_ins(&mut self) {
        self.plan.image = self.layout.image();
        for folder in [self.layout.image(), self.guests_folder()] {
            fs::create_dir_all(&folder).expect("the test's folder can be written");
        }
        for file in ["kernel", "initrd"] {
            let path = self.layout.image().join(file);
            fs::write(path, b"").expect("the test's folder can be written");
        }
    }

    /// Where guests that stand in tell of themselves ([`crate::stand_in::Journal`]).
    #[must_use]
    pub fn guests_folder(&self) -> PathBuf {
        self.folder.path().join("guests")
    }

    /// The small disk that a daemon or agent has to itself.
    ///
    /// # Panics
    ///
    /// When it has none.
    #[must_use]
    pub fn disk(&self, who: &str) -> &SmallDisk {
        self.disks.get(who).unwrap_or_else(|| panic!("{who} has no disk to itself"))
    }

    /// The wall clock that a daemon or agent has to itself.
    ///
    /// # Panics
    ///
    /// When it has none.
    #[must_use]
    pub fn clock(&self, who: &str) -> &SteppedClock {
        self.clocks.get(who).unwrap_or_else(|| panic!("{who} has no clock to itself"))
    }

    /// The names of all processes.
    #[must_use]
    pub fn process_names(&self) -> Vec<String> {
        self.processes.keys().cloned().collect()
    }

    /// Every guest that stands in, by its VM, with the hosts of its processes.
    ///
    /// # Panics
    ///
    /// When /proc cannot be read.
    #[must_use]
    pub fn stand_ins(&self) -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pid in self.living() {
            let args = arguments_of(pid);
            let after = |flag: &str| args.split('\0').skip_while(|it| *it != flag).nth(1);
            let vm = after("-name").and_then(|name| name.strip_prefix("guest="));
            // DATA/HOST/guests/VM/PID
            let host =
                after("-pidfile").map(Path::new).and_then(|it| it.ancestors().nth(3));
            if let (Some(vm), Some(host)) = (vm, host.and_then(Path::file_name)) {
                let host = host.to_string_lossy().into_owned();
                all.entry(vm.to_owned()).or_default().push(host);
            }
        }
        all
    }
}
