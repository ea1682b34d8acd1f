//! What came of pairs, for people.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::pair::Pair;

/// Files that are kept of a broken promise are below this folder of the workspace.
pub(super) const KEPT: &str = "target/nemesis";

/// Letters of what was waited for: enough to say what it is.
const WAITED_FOR_MAX: usize = 200;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: &'static str,
    /// What was seen.
    pub found: String,
}

impl Violation {
    pub(super) fn new(promise: &'static str, found: impl Into<String>) -> Self {
        Self { promise, found: found.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.found)
    }
}

/// What came of a pair.
#[derive(Clone, Debug)]
pub struct PairReport {
    /// It.
    pub pair: Pair,
    /// Its faults as they struck, in this order.
    pub faults: (String, String),
    /// What happened meanwhile, in a few words each.
    pub happened: Vec<String>,
    /// From the last healing until all was whole again; absent when that was not seen.
    pub whole_after: Option<Duration>,
    /// What was waited for longest until then, and how long.
    pub waited_for: Option<(Duration, String)>,
    /// Promises that were broken.
    pub violations: Vec<Violation>,
    /// Where logs and the journal of guests were put, if promises were broken.
    pub kept: Option<PathBuf>,
}

impl PairReport {
    /// One line, and one more for each violation.
    #[must_use]
    pub fn line(&self, round: u32, rounds: u32) -> String {
        let Self { pair, faults: (first, second), .. } = self;
        let seconds = |span: Duration| format!("{:.1} s", span.as_secs_f64());
        let happened = if self.happened.is_empty() {
            "nothing else happened".to_owned()
        } else {
            self.happened.join(", ")
        };
        let whole = self.whole_after.map_or_else(
            || "NOT whole".to_owned(),
            |after| format!("whole after {}", seconds(after)),
        );
        let longest = self.waited_for.as_ref().map_or_else(String::new, |(span, why)| {
            let why: String = why.chars().take(WAITED_FOR_MAX).collect();
            format!(" ({} of it: {why})", seconds(*span))
        });
        let mut line = format!(
            "round {round}/{rounds} {}: {first}; {} later {second}; held {}; {happened}; {whole}{longest}",
            pair.name(),
            seconds(pair.gap),
            seconds(pair.hold),
        );
        for violation in &self.violations {
            line += &format!("\n  VIOLATION {violation}");
        }
        if !self.violations.is_empty() {
            line += &format!("\n  again: {}", self.again(round));
        }
        if let Some(kept) = &self.kept {
            line += &format!("\n  files: {}", kept.display());
        }
        line
    }

    /// The command that strikes the same again: all rounds up to this one draw the same.
    fn again(&self, round: u32) -> String {
        let seed = self.pair.seed.seed;
        format!(
            "cargo xtask nemesis --seed {seed} --first {round} --rounds 1 --pairs {}",
            self.pair.name()
        )
    }
}

/// What came of all.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What all was drawn by.
    pub seed: u64,
    /// Rounds that were run to their end.
    pub rounds: u32,
    /// Pairs that were played.
    pub pairs: u32,
    /// All violations.
    pub violations: Vec<Violation>,
    /// The longest that it took to be whole again.
    pub whole_after_max: Duration,
}

impl Summary {
    pub(super) const fn of(seed: u64) -> Self {
        let violations = Vec::new();
        Self { seed, rounds: 0, pairs: 0, violations, whole_after_max: Duration::ZERO }
    }

    pub(super) fn add(&mut self, report: PairReport) {
        self.pairs += 1;
        self.violations.extend(report.violations);
        let whole_after = report.whole_after.unwrap_or_default();
        self.whole_after_max = self.whole_after_max.max(whole_after);
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { seed, rounds, pairs, violations, whole_after_max } = self;
        format!(
            "seed {seed}: {rounds} rounds, {pairs} pairs, {} violations, whole again within \
             {:.1} s",
            violations.len(),
            whole_after_max.as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::{Kind, PairSeed, Span};

    fn report(violations: Vec<Violation>) -> PairReport {
        let seed = PairSeed { seed: 9, round: 3 };
        PairReport {
            pair: Pair::drawn((Kind::Kill, Kind::OneWay), seed, Span::SHORT),
            faults: ("kill x".to_owned(), "none hears y".to_owned()),
            happened: Vec::new(),
            waited_for: None,
            whole_after: violations.is_empty().then_some(Duration::from_millis(3_500)),
            violations,
            kept: None,
        }
    }

    #[test]
    fn a_violation_says_how_to_strike_the_same_again() {
        let whole = report(Vec::new()).line(3, 20);
        assert!(whole.starts_with("round 3/20 kill+one-way: kill x; "), "{whole}");
        assert!(whole.ends_with("; whole after 3.5 s"), "{whole}");
        let broken = report(vec![Violation::new("one at a time", "web ran twice")]);
        let line = broken.line(3, 20);
        assert!(line.contains("NOT whole\n  VIOLATION one at a time: web ran twice"));
        assert!(line.contains("--seed 9 --first 3 --rounds 1 --pairs kill+one-way"));
        let mut summary = Summary::of(9);
        summary.add(broken);
        summary.add(report(Vec::new()));
        assert_eq!(
            summary.text(),
            "seed 9: 0 rounds, 2 pairs, 1 violations, whole again within 3.5 s"
        );
    }
}
