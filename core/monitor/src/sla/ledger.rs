//! What was measured, window by window, for one period and no longer.
//!
//! Written down as runs of equal windows: a month that is kept is one run, and few are needed for
//! one that is not.

use std::collections::VecDeque;
use std::time::Duration;

use dwcp_types::{Timestamp, millis};
use serde::{Deserialize, Serialize};

use super::Definition;

/// What one window has: nothing when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Good ones.
    pub good: u64,
    /// All of them.
    pub total: u64,
}

impl Slice {
    /// One value that keeps its target, or not.
    #[must_use]
    pub const fn of_value(holds: bool) -> Self {
        Self { good: if holds { 1 } else { 0 }, total: 1 }
    }

    /// So many good ones of so many.
    #[must_use]
    pub fn of_counts(good: u64, total: u64) -> Self {
        Self { good: good.min(total), total }
    }

    const fn is_measured(self) -> bool {
        self.total > 0
    }
}

/// What some windows have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Good ones.
    pub good: u64,
    /// All of them.
    pub total: u64,
    /// Windows in which all was good.
    pub windows_good: u64,
    /// Windows in which something was bad.
    pub windows_bad: u64,
    /// Windows of which nothing is known.
    pub windows_unmeasured: u64,
}

impl Sum {
    /// What was bad.
    #[must_use]
    pub const fn bad(&self) -> u64 {
        self.total.saturating_sub(self.good)
    }

    /// Windows that were measured.
    #[must_use]
    pub const fn measured(&self) -> u64 {
        self.windows_good.saturating_add(self.windows_bad)
    }

    /// All windows.
    #[must_use]
    pub const fn windows(&self) -> u64 {
        self.measured().saturating_add(self.windows_unmeasured)
    }
}

/// Equal windows in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// When the first begins.
    pub from: Timestamp,
    /// When the last ends.
    pub until: Timestamp,
    /// What each of them has.
    pub slice: Slice,
}

/// What is no ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has more windows than a period, or more good ones than there are")]
pub struct LedgerError;

/// A ledger as it is stored: runs of good, total, and how many windows.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored {
    window_ms: u64,
    max: u64,
    newest: u64,
    runs: Vec<(u64, u64, u64)>,
}

impl TryFrom<Stored> for Ledger {
    type Error = LedgerError;

    fn try_from(stored: Stored) -> Result<Self, LedgerError> {
        let Stored { window_ms, max, newest, runs } = stored;
        let mut slices = VecDeque::new();
        let count = runs.iter().try_fold(0_u64, |sum, run| sum.checked_add(run.2));
        let bound = max.min(super::WINDOWS_MAX);
        if window_ms == 0
            || count.is_none_or(|count| count > bound || count > newest.saturating_add(1))
            || runs.iter().any(|(good, total, _)| good > total)
        {
            return Err(LedgerError);
        }
        for (good, total, times) in runs {
            slices.extend((0..times).map(|_| Slice { good, total }));
        }
        Ok(Self { window_ms, max: bound, newest, slices })
    }
}

impl From<Ledger> for Stored {
    fn from(ledger: Ledger) -> Self {
        let runs = ledger.equal().into_iter();
        let runs = runs.map(|(Slice { good, total }, times)| (good, total, times));
        let Ledger { window_ms, max, newest, .. } = ledger;
        Self { window_ms, max, newest, runs: runs.collect() }
    }
}

/// The windows of one period; the newest is the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Ledger {
    window_ms: u64,
    max: u64,
    /// The number of the newest window since the epoch.
    newest: u64,
    slices: VecDeque<Slice>,
}

impl Ledger {
    /// An empty one for what is promised.
    #[must_use]
    pub fn new(of: &Definition) -> Self {
        let window_ms = millis(of.window).max(1);
        let max = of.windows().clamp(1, super::WINDOWS_MAX);
        Self { window_ms, max, newest: 0, slices: VecDeque::new() }
    }

    /// Adds what was measured at a moment; says whether its window is still kept. What comes
    /// twice for one window is summed.
    pub fn record(&mut self, at: Timestamp, slice: Slice) -> bool {
        let number = at.as_millis() / self.window_ms;
        if self.slices.is_empty() {
            self.newest = number;
            self.slices.push_back(slice);
            return true;
        }
        while self.newest < number {
            // Nothing that is kept is left when a whole period was missed.
            if number - self.newest > self.max {
                self.slices.clear();
                self.newest = number - 1;
            }
            self.slices.push_back(Slice::default());
            self.newest += 1;
        }
        while self.count() > self.max {
            self.slices.pop_front();
        }
        let back = self.newest - number;
        if back >= self.max {
            return false;
        }
        while self.count() <= back {
            self.slices.push_front(Slice::default());
        }
        let place = usize::try_from(self.count() - 1 - back).unwrap_or(usize::MAX);
        if let Some(kept) = self.slices.get_mut(place) {
            kept.good = kept.good.saturating_add(slice.good);
            kept.total = kept.total.saturating_add(slice.total);
        }
        true
    }

    /// When the newest window that it has ends; nothing when it has none.
    #[must_use]
    pub fn recorded_until(&self) -> Option<Timestamp> {
        let end = self.newest.saturating_add(1).saturating_mul(self.window_ms);
        (!self.slices.is_empty()).then(|| Timestamp::from_millis(end))
    }

    /// Its windows as runs of equal ones, the oldest first.
    #[must_use]
    pub fn runs(&self) -> Vec<Run> {
        let moment = |number: u64| Timestamp::from_millis(number * self.window_ms);
        let mut number = self.oldest();
        let run = |(slice, times): (Slice, u64)| {
            let from = moment(number);
            number += times;
            Run { from, until: moment(number), slice }
        };
        self.equal().into_iter().map(run).collect()
    }

    /// Equal windows in a row, and how many.
    fn equal(&self) -> Vec<(Slice, u64)> {
        let mut runs: Vec<(Slice, u64)> = Vec::new();
        for slice in &self.slices {
            match runs.last_mut() {
                Some((last, times)) if last == slice => *times += 1,
                _ => runs.push((*slice, 1)),
            }
        }
        runs
    }

    /// The last windows up to now that `back` touches, as far as there are any since the first
    /// that was measured.
    #[must_use]
    pub fn sum(&self, now: Timestamp, back: Duration) -> Sum {
        let wanted = millis(back).div_ceil(self.window_ms).clamp(1, self.max);
        let last = now.as_millis() / self.window_ms;
        let first = last.saturating_sub(wanted - 1).max(self.oldest());
        let mut sum = Sum::default();
        if self.slices.is_empty() || first > last {
            return sum;
        }
        for (slice, number) in self.slices.iter().zip(self.oldest()..) {
            if !(first..=last).contains(&number) {
                continue;
            }
            sum.good = sum.good.saturating_add(slice.good);
            sum.total = sum.total.saturating_add(slice.total);
            if slice.is_measured() && slice.good == slice.total {
                sum.windows_good += 1;
            } else if slice.is_measured() {
                sum.windows_bad += 1;
            }
        }
        sum.windows_unmeasured = (last - first + 1).saturating_sub(sum.measured());
        sum
    }

    fn oldest(&self) -> u64 {
        self.newest.saturating_sub(self.count().saturating_sub(1))
    }

    fn count(&self) -> u64 {
        u64::try_from(self.slices.len()).unwrap_or(u64::MAX)
    }
}
