//! Child processes of the local federation: started in their own process group, so that
//! Ctrl-C reaches only their supervisor, which then stops them in order; restarted when they
//! die; recorded on disk, so that `down` finds them even when the supervisor was killed.
//!
//! A recorded pid is only believed while the process that has it started at the recorded time:
//! a pid that was reused belongs to somebody else and is left alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

/// How long a process may take to end by itself after SIGTERM.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// How often a process that is ending is looked at.
const POLL: Duration = Duration::from_millis(25);

/// A program of the local federation.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// Its name for people and files, for example `dwcpd-us-east-1`.
    pub(super) name: String,
    /// The executable.
    pub(super) path: PathBuf,
    /// Its arguments.
    pub(super) args: Vec<String>,
    /// Where its output goes; appended to.
    pub(super) log: PathBuf,
}

/// A process that was started, as it is recorded on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Started {
    /// The program's name.
    pub(super) name: String,
    /// Its pid.
    pub(super) pid: i32,
    /// When the kernel says it started, in clock ticks after boot.
    pub(super) start_ticks: u64,
}

impl Program {
    /// Starts it in a process group of its own.
    ///
    /// # Errors
    ///
    /// When the log cannot be opened or the program cannot be started.
    pub(super) fn start(&self) -> io::Result<Child> {
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        Command::new(&self.path)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
            })
    }
}

impl Started {
    /// Describes a process that runs now, or nothing when there is none with this pid.
    pub(super) fn of(name: &str, pid: i32) -> Option<Self> {
        let start_ticks = start_ticks(pid)?;
        Some(Self { name: name.to_owned(), pid, start_ticks })
    }

    /// Whether the very process that was recorded still runs.
    pub(super) fn runs(&self) -> bool {
        start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// Sends a signal, if the process still runs.
    pub(super) fn signal(&self, signal: Signal) {
        if self.runs()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            // It may have ended since; that is what was wanted.
            kill_process(pid, signal).unwrap_or_default();
        }
    }

    /// Asks it to end, waits, and ends it.
    pub(super) async fn stop(&self) {
        self.signal(Signal::TERM);
        let ended = tokio::time::timeout(GRACE, self.ended()).await;
        if ended.is_err() {
            self.signal(Signal::KILL);
            self.ended().await;
        }
    }

    async fn ended(&self) {
        while self.runs() {
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The start time of a live process from `/proc`; a zombie counts as ended.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may itself contain any of them: take the last one.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if state == "Z" {
        return None;
    }
    // Field 22 of the whole line (proc_pid_stat(5)); the state was field 3.
    fields.nth(18)?.parse().ok()
}

/// Writes which processes run.
///
/// # Errors
///
/// When the file cannot be written.
pub(super) fn record(path: &Path, started: &[Started]) -> io::Result<()> {
    let text = serde_json::to_string_pretty(started)?;
    let draft = path.with_extension("draft");
    fs::write(&draft, text)?;
    fs::rename(draft, path)
}

/// Reads which processes were started; none when there is no record.
///
/// # Errors
///
/// When the record is there and cannot be read.
pub(super) fn recorded(path: &Path) -> io::Result<Vec<Started>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path) -> Program {
        Program {
            name: "sleeper".to_owned(),
            path: PathBuf::from("/bin/sleep"),
            args: vec!["600".to_owned()],
            log: folder.join("log"),
        }
    }

    #[tokio::test]
    async fn a_started_process_is_found_by_its_record_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper(folder.path()).start().unwrap();
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        let started = Started::of("sleeper", pid).unwrap();
        let file = folder.path().join("processes.json");
        record(&file, std::slice::from_ref(&started)).unwrap();
        let found = recorded(&file).unwrap();
        assert_eq!(found, vec![started]);
        found[0].stop().await;
        assert!(!found[0].runs());
        assert!(!child.wait().await.unwrap().success());
    }

    #[tokio::test]
    async fn a_pid_that_belongs_to_somebody_else_now_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper(folder.path()).start().unwrap();
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        let mut other = Started::of("sleeper", pid).unwrap();
        other.start_ticks += 1;
        other.stop().await;
        assert!(Started::of("sleeper", pid).unwrap().runs());
        child.kill().await.unwrap();
    }

    #[test]
    fn no_record_means_no_process() {
        assert_eq!(recorded(Path::new("/nonexistent/x.json")).unwrap(), Vec::new());
    }
}
