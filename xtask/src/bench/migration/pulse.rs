//! A guest that says a number 100 times a second, and somebody outside who notes when the numbers
//! come: at the source, and then at the target. The longest silence between two of them is what
//! a client of the guest would have waited.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

/// Between two numbers.
pub(super) const EVERY: Duration = Duration::from_millis(10);
/// How often is looked; the error of what is told.
pub(super) const LOOK: Duration = Duration::from_millis(1);

/// What a guest does beside its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Nothing.
    Idle,
    /// It writes 4 MiB of its memory twice a second.
    Dirtying,
}

impl Load {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Dirtying => "dirtying",
        }
    }

    /// The script that the guest runs. The shell's own `read` waits, because a process for each
    /// wait would cost an emulated guest half of its time.
    fn script(self) -> String {
        let dirtying = match self {
            Self::Idle => "",
            Self::Dirtying => {
                "busybox dd if=/dev/urandom of=/seed bs=1M count=4 2>/dev/null\n\
                 (while :; do busybox dd if=/seed of=/dirt bs=64k conv=notrunc 2>/dev/null; \
                 read -r -t 0.5 none <&3; done) &\n"
            }
        };
        format!(
            "busybox mkfifo /never\nexec 3<>/never\n{dirtying}n=0\n\
             while :; do read -r -t 0.01 none <&3; n=$((n + 1)); echo \"pulse $n\"; done\n"
        )
    }
}

/// The guest image with such a load in it.
pub(super) fn image(base: &Path, to: &Path, load: Load) -> anyhow::Result<PathBuf> {
    let tree = to.join("tree");
    fs::create_dir_all(&tree)?;
    fs::write(tree.join("also"), load.script())?;
    let mut cpio = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc"])
        .current_dir(&tree)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cpio is missing (apt-get install cpio)")?;
    cpio.stdin.take().context("cpio takes names")?.write_all(b"also\n")?;
    let also = cpio.wait_with_output()?;
    ensure!(also.status.success(), "cpio failed: {}", also.status);
    // The kernel unpacks one archive after the other, if each begins at a multiple of 4.
    let mut initrd = fs::read(base.join("initrd"))?;
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    initrd.extend(also.stdout);
    fs::write(to.join("initrd"), initrd)?;
    symlink(base.join("kernel"), to.join("kernel"))?;
    Ok(to.to_owned())
}

/// What was seen of a move from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    /// The silence between the last number at the source and the first at the target.
    pub(super) silent: Duration,
    /// Numbers that came at neither.
    pub(super) lost: u64,
}

/// Watches two consoles until it is told to stop.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Seen, Seen)>,
}

/// The numbers of one console.
struct Seen {
    path: PathBuf,
    file: Option<File>,
    /// What follows its last whole line.
    text: String,
    /// Its first line, which another console may have begun.
    head: Option<String>,
    first: Option<(Instant, u64)>,
    last: Option<(Instant, u64)>,
}

impl Seen {
    /// From now on: what is there already is passed over.
    fn new(path: PathBuf) -> Self {
        let mut file = File::open(&path).ok();
        if let Some(file) = &mut file {
            file.seek(SeekFrom::End(0)).ok();
        }
        Self { path, file, text: String::new(), head: None, first: None, last: None }
    }

    fn look(&mut self) {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else { return };
        let mut bytes = Vec::new();
        if file.read_to_end(&mut bytes).is_err() {
            return;
        }
        self.take(&String::from_utf8_lossy(&bytes));
    }

    fn take(&mut self, text: &str) {
        self.text.push_str(text);
        let Some((whole, rest)) = self.text.rsplit_once('\n') else { return };
        let now = Instant::now();
        if self.head.is_none() {
            self.head = whole.split('\n').next().map(str::to_owned);
        }
        for number in whole.lines().filter_map(pulse) {
            self.first.get_or_insert((now, number));
            self.last = Some((now, number));
        }
        self.text = rest.to_owned();
    }
}

fn pulse(line: &str) -> Option<u64> {
    line.trim().strip_prefix("pulse ")?.parse().ok()
}

/// Whether a number came half at one console and half at the other.
fn is_split(from: &Seen, to: &Seen) -> bool {
    let head = to.head.as_deref().unwrap_or_default();
    !from.text.is_empty() && pulse(&format!("{}{head}", from.text)).is_some()
}

impl Watch {
    /// Begins to watch the consoles of source and target.
    pub(super) fn begin(source: PathBuf, target: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut from, mut to) = (Seen::new(source), Seen::new(target));
            while !told.load(Ordering::Relaxed) {
                from.look();
                to.look();
                sleep(LOOK);
            }
            from.look();
            to.look();
            (from, to)
        });
        Self { stop, thread }
    }

    /// What was seen, once the guest speaks at the target.
    pub(super) fn end(self) -> anyhow::Result<Gap> {
        self.stop.store(true, Ordering::Relaxed);
        let (from, to) = self.thread.join().map_err(|_| anyhow::anyhow!("no watch"))?;
        let (left, last) = from.last.context("it said nothing at the source")?;
        let (came, first) = to.first.context("it said nothing at the target")?;
        ensure!(first > last, "the target says {first} after {last}: it began anew");
        let between = first.saturating_sub(last).saturating_sub(1);
        Ok(Gap {
            silent: came.saturating_duration_since(left),
            lost: between.saturating_sub(u64::from(is_split(&from, &to))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Seen {
        let mut seen = Seen::new(PathBuf::from("/nowhere/console.log"));
        seen.take(text);
        seen
    }

    #[test]
    fn a_number_whose_line_is_cut_in_two_is_not_lost() {
        let (from, to) = (said("pulse 7\npulse 1"), said("8\npulse 19\n"));
        assert_eq!((from.last.unwrap().1, to.first.unwrap().1), (7, 19));
        assert!(is_split(&from, &to));
        assert!(!is_split(&said("pulse 7\n"), &said("pulse 9\n")), "8 is lost");
        assert!(!is_split(&said("pulse 7\npul"), &said("pulse 9\n")), "8 is lost");
    }
}
