//! One daemon or agent as a child process: killed, frozen, thawed and restarted by its id.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::until;
use crate::wan::Bed;

/// What is shown of a log when a test fails.
const LOG_LINES_SHOWN: usize = 15;

/// How a process ended, with what it wrote.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// All it wrote, standard error included.
    pub log: String,
}

/// A program with its arguments, running or not.
#[derive(Debug)]
pub struct Process {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    env: Vec<(String, OsString)>,
    region: Option<(Arc<Bed>, String)>,
    child: Option<Child>,
}

impl Process {
    /// One that does not run yet.
    #[must_use]
    pub fn new(name: &str, program: &Path, args: Vec<String>, log: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            args,
            log,
            env: Vec::new(),
            region: None,
            child: None,
        }
    }

    /// Finds programs in this folder first.
    #[must_use]
    pub(crate) fn finding_in(mut self, folder: &Path) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders =
            std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
        let path = std::env::join_paths(folders).expect("folders without a colon");
        self.env.push(("PATH".to_owned(), path));
        self
    }

    /// Has these environment variables at every start.
    #[must_use]
    pub(crate) fn with_env(
        mut self,
        env: impl IntoIterator<Item = (String, OsString)>,
    ) -> Self {
        self.env.extend(env);
        self
    }

    /// Runs in a region of an emulated WAN.
    #[must_use]
    pub(crate) fn in_region(mut self, bed: &Arc<Bed>, region: &str) -> Self {
        self.region = Some((Arc::clone(bed), region.to_owned()));
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts it.
    ///
    /// # Panics
    ///
    /// When it runs already or cannot be started.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts it with these environment variables besides.
    ///
    /// # Panics
    ///
    /// As [`Self::start`].
    pub fn start_with(&mut self, env: &[(&str, &str)]) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.expect("the test's own log can be opened");
        let errors = log.try_clone().expect("a file handle can be copied");
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.env.iter().cloned())
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let child = match &self.region {
            None => command.spawn(),
            Some((bed, region)) => bed.run_in(region, &mut command),
        };
        self.child = Some(child.unwrap_or_else(|error| {
            panic!("cannot start {} ({}): {error}", self.name, self.program.display())
        }));
    }

    /// Its process id.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map(Child::id).expect("it was started")
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// When it was not started.
    pub fn kill_9(&mut self) {
        self.signal(Signal::KILL);
        let mut child = self.child.take().expect("it was started");
        child.wait().expect("a child can be waited for");
    }

    /// Asks it to end, as a supervisor does (SIGTERM).
    ///
    /// # Panics
    ///
    /// When it was not started.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops it from running without ending it: its connections stay open and silent.
    ///
    /// # Panics
    ///
    /// When it was not started.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    ///
    /// When it was not started.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// `kill -9` and start.
    ///
    /// # Panics
    ///
    /// When it was not started or cannot be.
    pub fn crash_and_restart(&mut self) {
        self.kill_9();
        self.start();
    }

    /// Waits until it ended by itself.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub async fn ended(&mut self) -> Ended {
        let child = self.child.as_mut().expect("it was started");
        let status = until(&format!("{} ends", self.name), || {
            let ended = child.try_wait();
            async move { ended.ok().flatten().ok_or("it runs") }
        })
        .await;
        self.child = None;
        Ended { status, log: self.log() }
    }

    /// Whether it was started and nobody ended it since.
    #[must_use]
    pub const fn was_started(&self) -> bool {
        self.child.is_some()
    }

    /// Takes note that it has ended by itself: it can be started again.
    ///
    /// # Panics
    ///
    /// When it runs.
    pub fn forget_ended(&mut self) {
        assert!(self.has_ended() || !self.was_started(), "{} runs", self.name);
        self.child = None;
    }

    /// Whether it has ended without being asked to.
    pub fn has_ended(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()))
    }

    /// All it wrote so far, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Shows the end of what it wrote, for the reader of a failed test.
    #[expect(clippy::print_stderr, reason = "what the reader of a failed test needs")]
    pub(crate) fn show_log(&self) {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
        eprintln!("--- {}\n{}", self.name, lines[from..].join("\n"));
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }
}

/// Signals a process that is known to be the test's own.
pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), signal).expect("the process is there");
}

/// What a process was started with, a NUL after each; nothing of one that is gone.
#[must_use]
pub fn arguments_of(pid: u32) -> String {
    let args = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&args).into_owned()
}

/// Ends a process that is known to be the test's own, and may be gone.
pub(crate) fn kill_if_there(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::KILL).ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
