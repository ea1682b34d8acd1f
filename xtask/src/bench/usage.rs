//! What a process costs, as the kernel counts it: resident memory and CPU time from `/proc`.

use std::fs;

use anyhow::Context;

/// What a process uses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// CPU time of all its threads since it began, in seconds.
    pub(super) cpu_s: f64,
    /// Resident memory in MiB.
    pub(super) resident_mib: f64,
}

impl Usage {
    /// Of the process with this pid.
    pub(super) fn of(pid: i32) -> anyhow::Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let stat = read("stat")?;
        let status = read("status")?;
        let cpu_s = cpu_seconds(&stat).context("an unknown form of /proc/PID/stat")?;
        let resident_mib =
            resident_mib(&status).context("an unknown form of /proc/PID/status")?;
        Ok(Self { cpu_s, resident_mib })
    }
}

/// Fields 14 and 15 of `proc_pid_stat(5)`: user and system time.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some((f64::from(user) + f64::from(system)) / f64::from(per_second))
}

fn resident_mib(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u32 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(f64::from(kib) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 9 0 0";
        let seconds = cpu_seconds(stat).unwrap();
        let ticks = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap();
        assert!((seconds - 200.0 / f64::from(ticks)).abs() < 1e-9);
    }

    #[test]
    fn this_process_has_memory() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(Usage::of(pid).unwrap().resident_mib > 0.5);
    }
}
