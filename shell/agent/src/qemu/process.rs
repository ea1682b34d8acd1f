//! Finds and ends a guest's process, and says what it uses.
//!
//! A process id alone proves nothing: it may have been given to another program since. It is
//! trusted only while a pid descriptor holds the process and its command line names this
//! guest's own pid file, checked after the descriptor was opened, so that the signal goes to
//! the very process that was checked.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use dwcp_types::{Mib, VmId};
use dwcp_vm::launch;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::Child;
use tokio::time::sleep;

use crate::hypervisor::{HypervisorError, Usage};

/// How guests and storage daemons are told where to write their pid.
const PID_FLAGS: [&str; 2] = ["-pidfile", "--pidfile"];
/// SIGKILL works at once unless the disk hangs.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// A guest's process, surely.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    descriptor: OwnedFd,
}

/// The process of the guest whose folder this is, if it lives.
pub(crate) fn find(folder: &Path) -> Option<Process> {
    of_pid_file(&folder.join(launch::file::PID))
}

/// The process whose command line names this very pid file, if it lives.
pub(crate) fn of_pid_file(pid_file: &Path) -> Option<Process> {
    let number = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    told(number, |_, argument| argument == pid_file)
}

/// All that were told to write a pid file below one of these folders, also those that start just
/// now and have not written it yet.
pub(crate) fn told_below(folders: &[impl AsRef<Path>]) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_told = |flag: &Path, path: &Path| {
        PID_FLAGS.iter().any(|it| flag == Path::new(it))
            && folders.iter().any(|folder| path.starts_with(folder))
    };
    numbers.filter_map(|number| told(number, is_told)).collect()
}

/// The process of this number, if an argument and the one before it are such.
fn told(number: i32, is_such: impl Fn(&Path, &Path) -> bool) -> Option<Process> {
    if number <= 0 {
        return None; // `Pid::from_raw` panics on a negative number
    }
    let descriptor = pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()?;
    // A zombie has an empty command line and is no process any more.
    let command_line = fs::read(format!("/proc/{number}/cmdline")).ok()?;
    let path = |argument| Path::new(OsStr::from_bytes(argument));
    let arguments = command_line.split(|byte| *byte == 0).map(path);
    let mut pairs = arguments.clone().zip(arguments.skip(1));
    let ours = pairs.any(|(before, argument)| is_such(before, argument));
    ours.then_some(Process { pid: u32::try_from(number).ok()?, descriptor })
}

/// Waits until a process that was just started is ready, for so long at most; else how it ended,
/// or the words for one that is late, which is ended.
pub(crate) async fn ready(
    mut child: Child,
    ready: impl Future<Output = ()> + Send,
    (limit, late): (Duration, &str),
) -> Result<Child, String> {
    tokio::select! {
        ended = child.wait() => {
            Err(ended.map_or_else(|error| error.to_string(), |status| status.to_string()))
        }
        () = ready => Ok(child),
        () = sleep(limit) => {
            if let Err(error) = child.kill().await {
                tracing::debug!(%error, "the process was gone already");
            }
            Err(late.to_owned())
        }
    }
}

/// The process of a guest of the agent with this data folder, if it lives.
pub(crate) fn of(data: &Path, vm: &VmId) -> Option<Process> {
    find(&data.join(super::GUESTS).join(vm.as_str()))
}

impl Process {
    /// Ends it at once.
    pub(crate) fn kill(&self) {
        // It may be gone by now, which is as good.
        let _gone = pidfd_send_signal(&self.descriptor, Signal::KILL);
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let _gone = pidfd_send_signal(&self.descriptor, Signal::TERM);
    }

    /// Lets the group of its session stand back too, by so much of `nice`: where the kernel
    /// shares out by sessions first (`sched_autogroup_enabled`), a process's own says nothing to
    /// other sessions, and all daemons of a host together had as much as one guest.
    pub(crate) fn group_stands_back(&self, nice: &str) {
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", self.pid)) else {
            return;
        };
        // Only a session of its own: another one's may be the agent's.
        let own = stat_field(&stat, 6) == Some(u64::from(self.pid));
        let group = format!("/proc/{}/autogroup", self.pid);
        if own
            && Path::new(&group).exists()
            && let Err(error) = fs::write(group, nice)
        {
            tracing::debug!(pid = self.pid, %error, "its session does not stand back");
        }
    }

    /// Ends it at once and waits until it is gone.
    pub(crate) async fn end(&self) -> Result<(), HypervisorError> {
        self.kill();
        if self.gone_within(KILL_LIMIT).await {
            return Ok(());
        }
        let (pid, seconds) = (self.pid, KILL_LIMIT.as_secs());
        Err(HypervisorError::Unkillable { pid, seconds })
    }

    /// Waits until it is gone, at most this long; says whether it is.
    pub(crate) async fn gone_within(&self, span: Duration) -> bool {
        let Ok(descriptor) = self.descriptor.try_clone() else { return false };
        let waiting = tokio::task::spawn_blocking(move || {
            let span = Timespec::try_from(span).ok();
            let mut watched = [PollFd::new(&descriptor, PollFlags::IN)];
            poll(&mut watched, span.as_ref()).is_ok_and(|ready| ready == 1)
        });
        waiting.await.unwrap_or(false)
    }

    /// What it uses; nothing where it cannot be read.
    pub(crate) fn usage(&self) -> Usage {
        usage_of(self.pid).unwrap_or_default()
    }
}

/// What a process uses, from /proc.
pub(crate) fn usage_of(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let page = rustix::param::page_size() as u64;
    parse_usage(&stat, &uptime, rustix::param::clock_ticks_per_second(), page)
}

/// A field of /proc/PID/stat by its number in proc(5), from 3 on; the second one, the program's
/// name, may hold spaces and parentheses, so counting begins behind its last parenthesis.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn parse_usage(stat: &str, uptime: &str, hertz: u64, page: u64) -> Option<Usage> {
    let field = |number| stat_field(stat, number);
    let (user, system, started, pages) = (field(14)?, field(15)?, field(22)?, field(24)?);
    let millis = |ticks: u64| ticks.saturating_mul(1000) / hertz.max(1);
    let (seconds, hundredths) = uptime.split_whitespace().next()?.split_once('.')?;
    let up_ms =
        seconds.parse::<u64>().ok()? * 1000 + hundredths.parse::<u64>().ok()? * 10;
    Some(Usage {
        uptime: Duration::from_millis(up_ms.saturating_sub(millis(started))),
        cpu: Duration::from_millis(millis(user + system)),
        resident: Mib::new(pages.saturating_mul(page) / (1024 * 1024)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_as_proc_5_says() {
        let stat =
            "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 9000 777 2560 0";
        let usage = parse_usage(stat, "100.50 7.00\n", 100, 4096).unwrap();
        assert_eq!(usage.cpu, Duration::from_secs(3));
        assert_eq!(usage.uptime, Duration::from_millis(10_500));
        assert_eq!(usage.resident, Mib::new(10));
        assert!(parse_usage("", "", 100, 4096).is_none());
    }

    #[test]
    fn a_session_is_read_behind_the_programs_name() {
        let stat = "42 (a) b (c) S 1 2 42 4 5";
        assert_eq!((stat_field(stat, 6), stat_field(stat, 4)), (Some(42), Some(1)));
        assert_eq!((stat_field(stat, 2), stat_field(stat, 60)), (None, None));
    }

    #[test]
    fn a_living_process_that_is_not_the_guests_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::process::id().to_string();
        fs::write(folder.path().join(launch::file::PID), own).unwrap();
        assert!(find(folder.path()).is_none());
    }

    /// One that was started just before its agent died is not missed when a host is cleared.
    #[test]
    fn a_process_is_found_before_it_has_written_its_pid_file() {
        let folder = tempfile::tempdir().unwrap();
        let started = |flag: &str| {
            let mut command = std::process::Command::new("sh");
            let pid_file = folder.path().join("vm/qemu.pid");
            command.args(["-c", "read line", "sh", flag]).arg(pid_file);
            command.stdin(std::process::Stdio::piped()).spawn().unwrap()
        };
        // The other one only reads it.
        let (mut guest, mut other) = (started("-pidfile"), started("-f"));
        // While it becomes another program it has no command line for a moment.
        let found = loop {
            let found = told_below(&[folder.path()]);
            if !found.is_empty() {
                break found;
            }
            std::thread::yield_now();
        };
        assert_eq!(found.iter().map(|it| it.pid).collect::<Vec<_>>(), [guest.id()]);
        found[0].terminate();
        assert!(!guest.wait().unwrap().success());
        drop(other.stdin.take());
        other.wait().unwrap();
    }

    #[test]
    fn a_pid_file_of_nonsense_is_no_process() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "-1", "0", "99999999999", "4194304", "x"] {
            fs::write(folder.path().join(launch::file::PID), text).unwrap();
            assert!(find(folder.path()).is_none(), "{text}");
        }
    }
}
