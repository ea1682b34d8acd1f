//! How processes of a federation end: a guest, a region, all of it. Only by the process ids that
//! it started, or that have a file of its own folder among their arguments.

use std::fs;
use std::process::Command;
use std::time::Duration;

use dwcp_runtime::crash::CRASH_AT;
use rustix::process::Signal;

use super::Federation;
use crate::layout::program;
use crate::plan::member;
use crate::process::arguments_of;

/// How often, and how many times at most, it is looked whether all processes are gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOKS_MAX: u32 = 200;

impl Federation {
    /// Process ids that have a file of this federation among their arguments, guests included.
    ///
    /// # Panics
    ///
    /// When /proc cannot be read.
    #[must_use]
    pub fn living(&self) -> Vec<u32> {
        let mark = self.folder.path().display().to_string();
        let all = fs::read_dir("/proc").expect("there is /proc").flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &u32| arguments_of(*pid).contains(&mark)).collect()
    }

    /// Ends a process and starts it so that it dies at a step; waits until all see it healthy.
    ///
    /// # Panics
    ///
    /// When there is no such process, or it does not come up.
    pub async fn dies_at(&mut self, who: &str, step: &str) {
        self.process(who).kill_9();
        self.process(who).start_with(&[(CRASH_AT, step)]);
        self.healthy().await;
    }

    /// `kill -9` of a guest's process.
    ///
    /// # Panics
    ///
    /// When it is none of this federation.
    pub fn kill_guest(&self, pid: u32) {
        assert!(self.living().contains(&pid), "process {pid} is not of this federation");
        crate::process::kill(pid, Signal::KILL);
    }

    /// A region loses its power: `kill -9` of its daemon, its member of the engine, its agents
    /// and whatever these started, guests included.
    ///
    /// # Panics
    ///
    /// When there is no such region.
    pub fn lose(&mut self, region: &str) {
        self.lose_with(region, Signal::KILL);
    }

    /// The same, but that nobody hears of its guests' end: their processes stop, and their
    /// connections stay open and silent, as when a region's lines are cut too.
    ///
    /// # Panics
    ///
    /// When there is no such region.
    pub fn lose_in_silence(&mut self, region: &str) {
        self.lose_with(region, Signal::STOP);
    }

    fn lose_with(&mut self, region: &str, guests: Signal) {
        let hosts: Vec<_> = self.plan.hosts_of(region).collect();
        let member = Some(member(region)).filter(|it| self.processes.contains_key(it));
        for name in member.iter().map(String::as_str).chain([region]) {
            self.process(name).kill_9();
        }
        let marks: Vec<_> = hosts
            .iter()
            .flat_map(|host| [self.layout.data(host), self.layout.agent_config(host)])
            .map(|path| path.display().to_string())
            .collect();
        for host in &hosts {
            self.process(host).kill_9();
        }
        for pid in self.living() {
            let args = arguments_of(pid);
            if marks.iter().any(|mark| args.contains(mark)) {
                let is_guest = args.contains("qemu-system");
                crate::process::kill(pid, if is_guest { guests } else { Signal::KILL });
            }
        }
    }

    /// Ends everything and checks that no process is left.
    ///
    /// # Panics
    ///
    /// When one is.
    pub fn end(mut self) {
        self.stop();
        let mut left = self.living();
        // A host's watchdog ends by itself once its agent and its guests are gone.
        for _ in 0..LOOKS_MAX {
            if left.is_empty() {
                break;
            }
            std::thread::sleep(LOOK_EVERY);
            left = self.living();
        }
        let told: Vec<_> = left.iter().map(|pid| (*pid, arguments_of(*pid))).collect();
        assert!(left.is_empty(), "processes are left: {told:?}");
    }

    fn stop(&mut self) {
        self.processes.clear();
        if self.plan.driver != "qemu" {
            return;
        }
        if self.plan.qemu.is_some() {
            // Nothing runs in them that would be ended otherwise.
            for pid in self.living() {
                crate::process::kill_if_there(pid);
            }
            return;
        }
        for region in &self.plan.regions {
            for index in 0..region.hosts.len() {
                self.stop_guests(&region.host_id(index));
            }
        }
    }

    /// Real guests outlive their agent on purpose.
    fn stop_guests(&self, host: &str) {
        let stopped = Command::new(program("dwcp-agent"))
            .arg("stop-guests")
            .arg("--config")
            .arg(self.layout.agent_config(host))
            .output();
        match stopped {
            Ok(output) if output.status.success() => {}
            other => complain(&format!("guests of {host} may be left: {other:?}")),
        }
    }

    fn show_logs(&self) {
        for process in self.processes.values() {
            process.show_log();
        }
    }
}

impl Drop for Federation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        self.stop();
    }
}

#[expect(clippy::print_stderr, reason = "what the reader of a failed test needs")]
fn complain(text: &str) {
    eprintln!("{text}");
}
