//! Single bits turned in a store that is not open: never may anything else come out of it than
//! what was put in.
//!
//! A child process opens each damaged copy, because some backends end the process that opens
//! one. What comes out is judged by the oracle.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::{Backend, Fjall, LocalStore, OpenError, StoreError};
use super::Shipped;
use super::child::{End, Named, Task, say};
use super::disk::memory_folder;
use super::model::{self, Random};

/// What the judging child is asked: backend, batches, seed, first and last flip, and where.
const ASKED: &str = "DWCP_TEST_STORE_FLIPS";
/// Bytes that are flipped or left alone together: most of a file is unused.
const CHUNK: usize = 64;

/// What a flipped bit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Everything is as it was, and writing goes on.
    Harmless,
    /// The store does not open, and says where the damage is.
    Refused,
    /// The store opens, and a read says where the damage is.
    Noticed,
    /// The process that opened it or read it ended.
    Died,
    /// Batches that were acknowledged are gone, and nobody says so.
    RolledBack,
    /// Something else came out than was put in.
    Wrong,
    /// Something else happened.
    Odd,
}

const VERDICTS: [Verdict; 7] = [
    Verdict::Harmless,
    Verdict::Refused,
    Verdict::Noticed,
    Verdict::Died,
    Verdict::RolledBack,
    Verdict::Wrong,
    Verdict::Odd,
];

/// How often each verdict fell, by file.
#[derive(Default)]
pub(super) struct Tally(BTreeMap<(String, Verdict), Vec<usize>>);

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((file, verdict), places) in &self.0 {
            let some: Vec<_> = places.iter().take(4).collect();
            writeln!(f, "{file}: {verdict:?} {} times, at {some:?}", places.len())?;
        }
        Ok(())
    }
}

/// A closed store and the bits of it that may be turned.
struct Specimen {
    base: PathBuf,
    /// Each file, and the first byte of each of its chunks that holds something.
    files: Vec<(PathBuf, Vec<usize>)>,
}

impl Specimen {
    fn of(base: &Path) -> Self {
        let mut files = Vec::new();
        for file in files_below(base) {
            let name = file.strip_prefix(base).unwrap().to_owned();
            let bytes = std::fs::read(&file).unwrap();
            let chunks = bytes.chunks(CHUNK).enumerate();
            let held = chunks.filter(|(_, chunk)| chunk.iter().any(|byte| *byte != 0));
            let held: Vec<_> = held.map(|(at, _)| at * CHUNK).collect();
            let is_lock = name.extension().is_some_and(|ending| ending == "lock");
            if !held.is_empty() && !is_lock {
                files.push((name, held));
            }
        }
        Self { base: base.to_owned(), files }
    }

    /// Which bit the flip of this number turns. Files take turns, so that small ones count.
    fn bit(&self, seed: u64, number: u64) -> (&Path, usize, u8) {
        let mut random = Random(seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let turn = usize::try_from(number).unwrap() % self.files.len();
        let (name, chunks) = &self.files[turn];
        let mut below = |bound: usize| {
            let bound = u64::try_from(bound).unwrap();
            usize::try_from(random.below(bound)).unwrap()
        };
        let at = chunks[below(chunks.len())] + below(CHUNK);
        (name, at, 1 << below(8))
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Flips so many bits of a store that was closed, or left.
pub(super) fn flip<B: Named>(end: End, flips: u64, seed: u64) -> Tally {
    let folder = memory_folder();
    let base = folder.path().join("base");
    std::fs::create_dir(&base).unwrap();
    let task = Task { end, ..Task::of::<B>(&base) };
    let batches = task.run(&[]).acked(0);
    let specimen = Specimen::of(&base);
    let mut tally = Tally::default();
    let mut next = 0;
    while next < flips {
        let asked = format!(
            "{} {batches} {seed} {next} {flips} {}",
            B::NAME,
            folder.path().display()
        );
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::flips::flipper", "--ignored", "--nocapture"])
            .env(ASKED, asked)
            .stderr(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = text.lines().filter_map(|line| line.strip_prefix("verdict "));
        let mut verdicts: Vec<_> = said.map(verdict_of).collect();
        if u64::try_from(verdicts.len()).unwrap() < flips - next {
            verdicts.push(Verdict::Died);
        }
        for verdict in verdicts {
            let (file, at, _) = specimen.bit(seed, next);
            let key = (file.display().to_string(), verdict);
            tally.0.entry(key).or_default().push(at);
            next += 1;
        }
    }
    tally
}

fn verdict_of(name: &str) -> Verdict {
    let known = VERDICTS.into_iter().find(|verdict| format!("{verdict:?}") == name);
    known.unwrap_or_else(|| panic!("no verdict {name}"))
}

/// Not a test: the process that opens damaged stores.
#[test]
#[ignore = "run by the flip tests as a child process"]
fn flipper() {
    let Ok(asked) = std::env::var(ASKED) else { return };
    let mut words = asked.splitn(6, ' ');
    let mut word = || words.next().unwrap();
    let backend = word();
    let mut number = || word().parse::<u64>().unwrap();
    let (batches, seed, from, to) = (number(), number(), number(), number());
    let folder = PathBuf::from(word());
    let specimen = Specimen::of(&folder.join("base"));
    say("");
    for number in from..to {
        let scratch = folder.join("scratch");
        copy_with_flip(&specimen, &scratch, specimen.bit(seed, number));
        let path = scratch.join("store");
        let verdict = match backend {
            Shipped::NAME => judge::<Shipped>(&path, batches),
            _ => judge::<Fjall>(&path, batches),
        };
        say(&format!("verdict {verdict:?}"));
    }
}

fn copy_with_flip(specimen: &Specimen, to: &Path, (name, at, bit): (&Path, usize, u8)) {
    std::fs::remove_dir_all(to).ok();
    let sparse = ["--recursive", "--sparse=always"];
    let status = Command::new("cp").args(sparse).arg(&specimen.base).arg(to).status();
    assert!(status.unwrap().success());
    let file = std::fs::OpenOptions::new().read(true).write(true).open(to.join(name));
    let file = file.unwrap();
    let at = u64::try_from(at).unwrap();
    let mut byte = [0];
    if file.read_at(&mut byte, at).unwrap() == 1 {
        file.write_all_at(&[byte[0] ^ bit], at).unwrap();
    }
}

fn judge<B: Backend>(path: &Path, batches: u64) -> Verdict {
    let store = match LocalStore::<B>::open_in(path) {
        Ok(store) => store,
        Err(error) => return refusal(path, &error),
    };
    match compare(&store, batches) {
        Ok(Verdict::Harmless) => {}
        Ok(verdict) => return verdict,
        Err(StoreError::Corrupt { reason }) if names(path, &reason) => {
            return Verdict::Noticed;
        }
        Err(_) => return Verdict::Odd,
    }
    // It looks well; then it must also take more, and open again.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let next = batches + 1;
    match runtime.block_on(store.apply(model::batch(0, next))) {
        Ok(()) => {}
        Err(StoreError::Corrupt { reason }) if names(path, &reason) => {
            return Verdict::Noticed;
        }
        Err(_) => return Verdict::Odd,
    }
    drop(store);
    match LocalStore::<B>::open_in(path) {
        Ok(store) => compare(&store, next).unwrap_or(Verdict::Odd),
        Err(error) => refusal(path, &error),
    }
}

fn names(path: &Path, reason: &str) -> bool {
    reason.contains(&path.display().to_string())
}

fn refusal(path: &Path, error: &OpenError) -> Verdict {
    let told = names(path, &error.to_string());
    if told { Verdict::Refused } else { Verdict::Odd }
}

fn compare<B: Backend>(
    store: &LocalStore<B>,
    batches: u64,
) -> Result<Verdict, StoreError> {
    let found: model::Map = store.scan("")?.into_iter().collect();
    let expected = model::rows(0, batches);
    if found != expected {
        let older = (0..batches).any(|batches| model::rows(0, batches) == found);
        return Ok(if older { Verdict::RolledBack } else { Verdict::Wrong });
    }
    for (key, value) in &expected {
        if store.get(key)?.as_ref() != Some(value) {
            return Ok(Verdict::Wrong);
        }
    }
    Ok(Verdict::Harmless)
}

/// Flips that are tried without `DWCP_STORE_FAULTS=all`, and with it.
const FLIPS: u64 = 200;
const FLIPS_OF_ALL: u64 = 20_000;

fn flips() -> u64 {
    if super::all() { FLIPS_OF_ALL } else { FLIPS }
}

fn only_good(tally: &Tally) {
    println!("{tally}");
    let good = [Verdict::Harmless, Verdict::Refused, Verdict::Noticed];
    assert!(tally.0.keys().all(|(_, verdict)| good.contains(verdict)), "{tally}");
    let noticed = tally.0.keys().any(|(_, verdict)| *verdict != Verdict::Harmless);
    assert!(noticed, "no flip hit anything:\n{tally}");
}

#[test]
fn no_flipped_bit_of_a_closed_store_goes_unnoticed() {
    only_good(&flip::<Shipped>(End::Close, flips(), 1));
}

#[test]
fn no_flipped_bit_of_a_store_that_was_not_closed_goes_unnoticed() {
    only_good(&flip::<Shipped>(End::Leave, flips(), 2));
}

/// Not a test: what docs/adr/0008 says of fjall.
#[test]
#[ignore = "prints a table for the decision between backends"]
fn flipped_bits_in_fjall() {
    for end in [End::Close, End::Leave] {
        println!("{end:?}\n{}", flip::<Fjall>(end, 4 * flips(), 3));
    }
}
