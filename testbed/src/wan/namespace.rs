//! Network namespaces of this process, made and configured with the `ip` tool.
//!
//! A namespace is a thread's matter: a thread enters it and whatever it opens or starts is there.
//! So each entering thread is made for that and ends. Names carry the id of the process that made
//! them; whoever comes later removes those of processes that are gone, with what still runs in them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps them.
const FOLDER: &str = "/run/netns";
/// How names of ours begin; the process id follows.
const PREFIX: &str = "dwcp-";

/// Namespaces that this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A network namespace; removed when dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// A new one, whose name ends like this.
    pub(crate) fn create(suffix: &str) -> io::Result<Self> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{suffix}", std::process::id());
        ip(["netns", "add", &name])?;
        match File::open(path(&name)) {
            Ok(file) => Ok(Self { name, file }),
            Err(error) => {
                remove(&name);
                Err(error)
            }
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread into it, for good.
    pub(crate) fn enter(&self) -> io::Result<()> {
        let network = Some(LinkNameSpaceType::Network);
        Ok(move_into_link_name_space(self.file.as_fd(), network)?)
    }

    /// Does something in it, on a thread made for that.
    pub(crate) fn inside<T: Send>(
        &self,
        work: impl FnOnce() -> T + Send,
    ) -> io::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| work()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs commands of `ip` in it, one a line.
    pub(crate) fn ip_batch(&self, commands: &str) -> io::Result<()> {
        let child = Command::new("ip")
            .args(["-netns", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child?;
        // Closed at the end of the statement: `ip` reads to the end.
        let written =
            child.stdin.take().map(|mut input| input.write_all(commands.as_bytes()));
        let output = child.wait_with_output()?;
        written.transpose()?;
        succeeded(&output, commands)
    }

    /// Sets kernel parameters below `/proc/sys/net/`, which shows each thread its own.
    pub(crate) fn set(&self, parameters: &[(&str, &str)]) -> io::Result<()> {
        self.inside(|| {
            for (name, value) in parameters {
                fs::write(Path::new("/proc/sys/net").join(name), value)?;
            }
            Ok(())
        })?
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes the namespaces of processes that are gone, and kills what still runs in them.
pub(crate) fn sweep() {
    let Ok(entries) = fs::read_dir(FOLDER) else { return };
    let names =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| owner(name).is_some_and(is_gone)) {
        for pid in pids(&name) {
            // It may be gone by itself.
            kill_process(pid, Signal::KILL).ok();
        }
        remove(&name);
    }
}

/// The process that made a namespace of ours.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

/// The processes in a namespace.
fn pids(name: &str) -> Vec<Pid> {
    let output = Command::new("ip").args(["netns", "pids", name]).output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Removes a namespace. When that fails it is left to the next sweep.
fn remove(name: &str) {
    ip(["netns", "delete", name]).ok();
}

fn ip<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output()?;
    succeeded(&output, "ip")
}

fn succeeded(output: &std::process::Output, what: &str) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{what}: {}", said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_have_an_owner() {
        assert_eq!(owner("dwcp-4711-0-us-east-1"), Some(4_711));
        assert_eq!(owner("dwcp-x-0"), None);
        assert_eq!(owner("blue"), None);
        assert!(is_gone(u32::MAX));
        assert!(!is_gone(std::process::id()));
    }
}
