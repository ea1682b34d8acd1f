//! Service levels (M7, M8): how much of what was measured kept its target, how much of the budget
//! is left, and how fast it goes.
//!
//! A sample is one measurement window, or the counts of one (F67): *compliance* is good by
//! measured, and what was not measured is neither good nor bad but lowers the *coverage*. Counts
//! are summed and never averaged, so a busy window weighs what it served (F68). The *budget* is
//! what may be bad over a whole period; a *burn rate* of 1 spends it exactly in one. One evaluator
//! gives every figure, and [`Report::explain`] prints the arithmetic that made it.
//!
//! Everything is whole numbers: shares in parts per million, rates in thousandths.

mod ledger;
mod report;
#[cfg(test)]
mod tests;

pub use ledger::{Ledger, LedgerError, Run, Slice, Sum};
pub use report::{Burn, Report, Standing, report};

use self::report::{hours, thousandths};

use std::fmt;
use std::time::Duration;

use dwcp_types::{RegionId, millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::history::Window;
use crate::incident::Severity;
use crate::metric::Metric;

/// Windows of a period that are kept: 90 days of 5 minutes are 25,920, and 16 bytes each.
pub const WINDOWS_MAX: u64 = 32_768;
/// All of something, in parts per million.
pub const WHOLE_PPM: u32 = 1_000_000;
/// Shortest window: one collection (M6).
const WINDOW_MIN: Duration = Duration::from_secs(10);
/// Longest period.
const PERIOD_MAX: Duration = Duration::from_hours(90 * 24);
/// Longest id and name: as other identifiers, and a line of a table.
const ID_LEN_MAX: usize = 63;
const NAME_LEN_MAX: usize = 100;

/// How a value is held against its target (DETAILS 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// It must be less.
    LessThan,
    /// It must be more.
    GreaterThan,
    /// It must be exactly so.
    Equals,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counting {
    /// Windows whose value keeps the target.
    Windows,
    /// Requests, good ones and all.
    Occurrences,
}

/// What is promised (M7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name for machines, such as `sla-latency-001`.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// What is measured.
    pub metric: Metric,
    /// Of which region it is promised; of each when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// How the value is held against the target.
    pub operator: Operator,
    /// The target, in thousandths of the metric's unit.
    pub target_milli: u64,
    /// What is counted.
    pub counting: Counting,
    /// Over what one value is measured.
    pub window: Duration,
    /// Over what compliance is promised.
    pub period: Duration,
    /// How much must be good, in parts per million: 99.9 % is 999,000.
    pub compliance_ppm: u32,
    /// How bad a breach is.
    pub severity: Severity,
}

/// Why a definition is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It has no name, or one that is none.
    #[error(
        "its id must be 1 to {ID_LEN_MAX} small letters, digits and hyphens, and its name 1 to \
         {NAME_LEN_MAX} characters"
    )]
    Name,
    /// No value can ever keep or break it.
    #[error("nothing can be less than 0")]
    Target,
    /// The window is too short, or longer than the period.
    #[error("the window must be whole tens of seconds and no longer than the period")]
    Window,
    /// The period is too long.
    #[error("the period must be 90 days at most, and have {WINDOWS_MAX} windows at most")]
    Period,
    /// All or nothing.
    #[error(
        "the compliance must be more than 0 % and less than 100 %: with all of it there is nothing that may ever fail"
    )]
    Compliance,
}

impl Definition {
    /// Says what is wrong with it.
    ///
    /// # Errors
    ///
    /// See [`Wrong`].
    pub fn check(&self) -> Result<(), Wrong> {
        let of_id = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let name = self.name.trim().chars().count();
        if !(1..=ID_LEN_MAX).contains(&self.id.len())
            || !self.id.chars().all(of_id)
            || !(1..=NAME_LEN_MAX).contains(&name)
            || self.name.chars().any(char::is_control)
        {
            return Err(Wrong::Name);
        }
        if self.operator == Operator::LessThan && self.target_milli == 0 {
            return Err(Wrong::Target);
        }
        let step = millis(WINDOW_MIN);
        if !millis(self.window).is_multiple_of(step) {
            return Err(Wrong::Window);
        }
        if self.window < WINDOW_MIN || self.window > self.period {
            return Err(Wrong::Window);
        }
        if self.period > PERIOD_MAX || self.windows() > WINDOWS_MAX {
            return Err(Wrong::Period);
        }
        if self.compliance_ppm == 0 || self.compliance_ppm >= WHOLE_PPM {
            return Err(Wrong::Compliance);
        }
        Ok(())
    }

    /// Whether a value keeps the target.
    #[must_use]
    pub const fn holds(&self, value_milli: u64) -> bool {
        match self.operator {
            Operator::LessThan => value_milli < self.target_milli,
            Operator::GreaterThan => value_milli > self.target_milli,
            Operator::Equals => value_milli == self.target_milli,
        }
    }

    /// Whether it is promised of this region.
    #[must_use]
    pub fn is_of(&self, region: &RegionId) -> bool {
        self.region.as_ref().is_none_or(|it| it == region)
    }

    /// What one window has: one value that keeps the target or not, or nothing.
    #[must_use]
    pub fn slice(&self, window: &Window) -> Slice {
        let value = window.value_milli(self.metric);
        value.map_or_else(Slice::default, |it| Slice::of_value(self.holds(it)))
    }

    /// A value against the target, in words.
    #[must_use]
    pub fn held(&self, value_milli: u64) -> String {
        let unit = self.metric.unit();
        let number =
            |milli: u64| format!("{} {unit}", thousandths(milli)).trim().to_owned();
        format!(
            "{} {} over {}; promised {} {}",
            self.metric,
            number(value_milli),
            hours(self.window),
            self.operator,
            number(self.target_milli)
        )
    }

    /// Whether what was measured for another promise is what would be measured for this one: a new
    /// name, severity or share does not change what was.
    #[must_use]
    pub fn measures_as(&self, other: &Self) -> bool {
        let terms = |of: &Self| {
            let Self { metric, operator, target_milli, counting, window, period, .. } =
                of;
            (*metric, *operator, *target_milli, *counting, *window, *period)
        };
        terms(self) == terms(other)
    }

    /// Windows of one period.
    #[must_use]
    pub fn windows(&self) -> u64 {
        millis(self.period).div_ceil(millis(self.window).max(1))
    }

    /// What may be bad, in parts per million; 1 at least.
    const fn allowed_ppm(&self) -> u32 {
        let left = WHOLE_PPM.saturating_sub(self.compliance_ppm);
        if left == 0 { 1 } else { left }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LessThan => "<",
            Self::GreaterThan => ">",
            Self::Equals => "=",
        })
    }
}
