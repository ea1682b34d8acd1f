//! A wall clock that one process and what it starts have to themselves, and that is stepped
//! while they run, by libfaketime (Debian: `faketime`). The clocks that leases and deadlines go
//! by, monotonic and boot time, are the machine's.
//!
//! What it cannot do: step the clock of a program that asks the kernel without the C library,
//! as the members of etcd do.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where Debian has it, below the folder of each architecture.
const LIBRARIES: &str = "/usr/lib";
/// For programs with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
/// Seconds until a step is seen at the latest; to read the file at every look at the clock
/// would be the most that a process does.
const SEEN_WITHIN_S: &str = "1";

/// The library; else what is missing, and what to do.
///
/// # Errors
///
/// When it is not installed.
pub fn library() -> Result<PathBuf, String> {
    let architectures = fs::read_dir(LIBRARIES).into_iter().flatten().flatten();
    let mut found = architectures.map(|folder| folder.path().join(LIBRARY));
    found.find(|path| path.is_file()).ok_or_else(|| {
        format!(
            "libfaketime is missing, so no clock can be stepped for one process; \
             apt-get install faketime ({LIBRARIES}/*/{LIBRARY} is looked for)"
        )
    })
}

/// A process's own wall clock.
#[derive(Clone, Debug)]
pub struct SteppedClock(PathBuf);

impl SteppedClock {
    /// One that shows the machine's time; its offset is kept in this file.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn in_file(file: &Path) -> io::Result<Self> {
        let clock = Self(file.to_owned());
        clock.step(0)?;
        Ok(clock)
    }

    /// Lets it be so many seconds before (or, if negative, behind) the machine's clock: within a
    /// second all that have it show that.
    ///
    /// # Errors
    ///
    /// When its file cannot be written.
    pub fn step(&self, seconds: i64) -> io::Result<()> {
        let part = self.0.with_extension("part");
        fs::write(&part, format!("{seconds:+}\n"))?;
        // Whoever reads it finds the one or the other.
        fs::rename(&part, &self.0)
    }

    /// What a process must be started with to have it.
    #[must_use]
    pub fn environment(&self, library: &Path) -> Vec<(String, OsString)> {
        [
            ("LD_PRELOAD", library.as_os_str()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.as_os_str()),
            ("FAKETIME_CACHE_DURATION", SEEN_WITHIN_S.as_ref()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".as_ref()),
            ("FAKETIME_DISABLE_SHM", "1".as_ref()),
            // Times of files are the file system's.
            ("NO_FAKE_STAT", "1".as_ref()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use dwcp_runtime::clock::{Clock, SystemClock};

    /// A program that runs on and tells the time, over and over.
    const TELLS: &str =
        "$| = 1; while (1) { print time, qq(\\n); select(undef, undef, undef, 0.05) }";

    #[test]
    fn a_program_that_runs_sees_its_clock_stepped_and_the_machine_does_not() {
        let library = match library() {
            Ok(library) => library,
            Err(missing) => return eprintln!("skipped: {missing}"),
        };
        let folder = tempfile::tempdir().unwrap();
        let clock = SteppedClock::in_file(&folder.path().join("clock")).unwrap();
        let mut program = Command::new("perl")
            .args(["-e", TELLS])
            .envs(clock.environment(&library))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(program.stdout.take().unwrap()).lines();
        let mut told = lines.map(|line| line.unwrap().parse::<i64>().unwrap());
        let off = |told: i64| {
            let now = SystemClock::new().now().as_millis() / 1_000;
            told - i64::try_from(now).unwrap()
        };
        let mut comes = |seconds: i64| {
            let near = |told: i64| (off(told) - seconds).abs() < 1_000;
            assert!(told.any(near), "it ended before its clock was {seconds} s off");
        };
        comes(0);
        for seconds in [3_600, -3_600, 0] {
            clock.step(seconds).unwrap();
            comes(seconds);
        }
        program.kill().unwrap();
        program.wait().unwrap();
    }
}
