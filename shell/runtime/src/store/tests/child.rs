//! The process that is killed, and what it tells before.
//!
//! It opens a store, writes the batches of [`model`], and prints each step as a line. The lines
//! are all that the judge believes: a batch that was said to be acknowledged must be there.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::super::{Backend, Fjall, LocalStore, StoreError};
use super::faults::{Hasty, HastyBehind};
use super::{Shipped, model};

/// What the child is asked: backend, writers, batches of each, how it ends, and where.
const ASKED: &str = "DWCP_TEST_STORE_CHILD";
/// How often a batch that was not written is tried again before the writer gives up.
const TRIES: usize = 2_000;
/// SIGKILL.
const KILLED: i32 = 9;

/// How a child ends when nothing kills it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    /// It closes the store.
    Close,
    /// It leaves the store as it is.
    Leave,
}

/// What the child shall do.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) backend: &'static str,
    pub(super) path: PathBuf,
    pub(super) writers: u32,
    pub(super) batches: u64,
    pub(super) end: End,
}

/// What a child said.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// It came to its end.
    pub(super) ended: bool,
    /// The newest batch of each writer that it began.
    pub(super) asked: BTreeMap<u32, u64>,
    /// The newest batch of each writer that was acknowledged.
    pub(super) acked: BTreeMap<u32, u64>,
    /// Every error, in order.
    pub(super) errors: Vec<String>,
    /// Something was acknowledged after the first error.
    pub(super) acked_after_error: bool,
    /// The store said of itself that it has ended, after it had been opened.
    pub(super) over: bool,
}

/// A backend by the name that tests use.
pub(super) trait Named: Backend {
    const NAME: &'static str;
    /// Operations at which the machine stops, of those there are, when not everything is tried.
    const STOPS: u64;
}

impl Named for Shipped {
    const NAME: &'static str = "shipped";
    const STOPS: u64 = u64::MAX;
}

impl Named for Fjall {
    const NAME: &'static str = "fjall";
    const STOPS: u64 = 30;
}

impl Task {
    pub(super) fn of<B: Named>(folder: &Path) -> Self {
        let path = folder.join("store");
        Self { backend: B::NAME, path, writers: 1, batches: 24, end: End::Close }
    }

    /// Runs the child with some more environment, and hears it out.
    pub(super) fn run(&self, environment: &[(&str, String)]) -> Told {
        let Self { backend, path, writers, batches, end } = self;
        let asked = format!("{backend} {writers} {batches} {end:?} {}", path.display());
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::child::child", "--ignored", "--nocapture"])
            .env(ASKED, asked)
            .envs(environment.iter().map(|(name, value)| (*name, value.as_str())))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut told = Told::default();
        // A line that was cut off says nothing.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'))
        {
            told.hear(line);
        }
        let expected = told.ended || output.status.signal() == Some(KILLED);
        let noise = String::from_utf8_lossy(&output.stderr);
        assert!(expected, "the child failed: {:?}\n{text}\n{noise}", output.status);
        told
    }
}

impl Told {
    fn hear(&mut self, line: &str) {
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
        let mut words = line.split(' ');
        match words.next() {
            Some("error") => self.errors.push(line.to_owned()),
            Some("end") => self.ended = true,
            Some("over") => self.over = true,
            Some(kind @ ("ask" | "ack")) => {
                let (Some(writer), Some(batch)) =
                    (number(words.next()), number(words.next()))
                else {
                    return;
                };
                let writer = u32::try_from(writer).unwrap();
                if kind == "ask" {
                    self.asked.insert(writer, batch);
                } else {
                    self.acked.insert(writer, batch);
                    self.acked_after_error |= !self.errors.is_empty();
                }
            }
            Some(_) | None => {}
        }
    }

    /// The newest batch of a writer that was acknowledged.
    pub(super) fn acked(&self, writer: u32) -> u64 {
        self.acked.get(&writer).copied().unwrap_or_default()
    }

    /// The newest batch of a writer that was begun.
    pub(super) fn asked(&self, writer: u32) -> u64 {
        self.asked.get(&writer).copied().unwrap_or_default().max(self.acked(writer))
    }
}

/// Not a test: the process that is killed.
#[test]
#[ignore = "run by the fault tests as a child process"]
fn child() {
    let Ok(asked) = std::env::var(ASKED) else { return };
    let mut words = asked.splitn(5, ' ');
    let mut word = || words.next().unwrap();
    let (backend, writers, batches) =
        (word(), word().parse().unwrap(), word().parse().unwrap());
    let end = if word() == "Close" { End::Close } else { End::Leave };
    let task = Task { backend: "", path: word().into(), writers, batches, end };
    // The harness has begun a line.
    say("");
    match backend {
        Shipped::NAME => write::<Shipped>(&task),
        Fjall::NAME => write::<Fjall>(&task),
        Hasty::NAME => write::<Hasty>(&task),
        HastyBehind::NAME => write::<HastyBehind>(&task),
        other => panic!("no backend {other}"),
    }
    say("end");
}

/// One write a line: nothing is held back when the process is killed.
pub(super) fn say(line: &str) {
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn write<B: Backend>(task: &Task) {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).build().unwrap();
    let store = match LocalStore::<B>::open_in(&task.path) {
        Ok(store) => Arc::new(store),
        Err(error) => return say(&format!("error {error}")),
    };
    let writers: Vec<_> = (0..task.writers)
        .map(|writer| runtime.spawn(writer_of(Arc::clone(&store), writer, task.batches)))
        .collect();
    let mut stopped = false;
    for writer in writers {
        stopped |= runtime.block_on(writer).unwrap();
    }
    if stopped {
        // What a daemon waits for; that it comes is part of what is judged.
        runtime.block_on(store.ended());
        assert!(matches!(store.get("any"), Err(StoreError::Stopped { .. })));
        say("over");
    }
    match task.end {
        End::Close => drop(store),
        End::Leave => std::mem::forget(store),
    }
}

/// Writes, and answers whether the store has stopped for good.
async fn writer_of<B: Backend>(
    store: Arc<LocalStore<B>>,
    writer: u32,
    batches: u64,
) -> bool {
    let mut complaints = Complaints::default();
    let mut next = match model::last_of(&store, writer) {
        Ok(last) => last + 1,
        Err(error) => {
            complaints.make(&error);
            return complaints.stopped;
        }
    };
    let upto = next + batches;
    while next < upto && complaints.count < TRIES {
        say(&format!("ask {writer} {next}"));
        let written = store.apply(model::batch(writer, next)).await;
        // What a caller does who does not know: it reads, and believes what it reads.
        let there = written.or_else(|error| {
            complaints.make(&error);
            let last = model::last_of(&store, writer)?;
            if last == next { Ok(()) } else { Err(error) }
        });
        match there {
            Ok(()) => {
                say(&format!("ack {writer} {next}"));
                next += 1;
            }
            Err(error) => complaints.make(&error),
        }
    }
    complaints.stopped
}

/// What a writer has complained of; the same is not said twice in a row.
#[derive(Default)]
struct Complaints {
    count: usize,
    stopped: bool,
    last: String,
}

impl Complaints {
    fn make(&mut self, error: &StoreError) {
        self.count += 1;
        if matches!(error, StoreError::Stopped { .. } | StoreError::Corrupt { .. }) {
            self.count = TRIES;
        }
        self.stopped |= matches!(error, StoreError::Stopped { .. });
        let text = format!("{error:?}");
        if text != self.last {
            say(&format!("error {text}"));
            self.last = text;
        }
    }
}
