//! What a ledger says of a promise, and the arithmetic of it in words.

use std::time::Duration;

use dwcp_types::{Timestamp, millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Counting, Definition, Ledger, Sum, WHOLE_PPM};

/// Pairs of a long and a short look, and the share of a budget, in parts per million, that the
/// long one may spend before it is told: 2 % in an hour and 5 % in six page, 10 % in three days
/// make a ticket (the usual pairs; their rates follow from the period).
const LOOKS: [(Duration, Duration, u64); 3] = [
    (Duration::from_hours(1), Duration::from_mins(5), 20_000),
    (Duration::from_hours(6), Duration::from_mins(30), 50_000),
    (Duration::from_hours(72), Duration::from_hours(6), 100_000),
];
/// Requests in a short look that are too few to speak of a rate: one that failed at night is no
/// outage.
const OCCURRENCES_MIN: u64 = 100;
/// A burn rate of one, in thousandths.
const ONE: u64 = 1_000;
/// More than this share of the budget spent is worth a look, in parts per million.
const WARNING_PPM: u64 = 500_000;

/// Whether a promise is kept (DETAILS 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nothing was measured.
    Unmeasured,
    /// It is kept.
    Compliant,
    /// It is kept, and more than half of the budget is spent.
    Warning,
    /// It is broken: more was bad than a period may have.
    Breach,
}

/// How fast the budget goes, in a long look and a short one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burn {
    /// The long look.
    pub long: Duration,
    /// The short look, which ends the alarm soon after the trouble.
    pub short: Duration,
    /// The rate from which on it is told, in thousandths.
    pub threshold_milli: u64,
    /// The rate in the long look, in thousandths; absent when nothing was measured.
    pub long_milli: Option<u64>,
    /// The rate in the short look.
    pub short_milli: Option<u64>,
    /// Both are over the threshold, and there was enough to speak of a rate.
    pub fires: bool,
}

/// What is true of a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What the period has.
    pub sum: Sum,
    /// Good by measured, in parts per million, rounded down; absent when nothing was measured.
    pub compliance_ppm: Option<u32>,
    /// Measured by all windows since the first, in parts per million, rounded down.
    pub coverage_ppm: u32,
    /// What is spent of the budget of a whole period, in parts per million; over a million when
    /// it is overdrawn.
    pub spent_ppm: u64,
    /// How fast it goes.
    pub burns: Vec<Burn>,
    /// At the rate of the last hour the budget is gone after this; absent when nothing is spent
    /// now.
    pub gone_in: Option<Duration>,
    /// Whether the promise is kept.
    pub standing: Standing,
}

/// What a ledger says of a promise.
#[must_use]
pub fn report(of: &Definition, ledger: &Ledger, now: Timestamp) -> Report {
    let sum = ledger.sum(now, of.period);
    let compliance_ppm = share_ppm(sum.good, sum.total);
    let coverage_ppm = share_ppm(sum.measured(), sum.windows()).unwrap_or(0);
    let spent_ppm = spent_ppm(of, &sum);
    let looks = LOOKS.into_iter().filter(|(long, _, _)| *long <= of.period);
    let burns: Vec<Burn> = looks.map(|look| burn(of, ledger, now, look)).collect();
    let standing = match (sum.total, spent_ppm) {
        (0, _) => Standing::Unmeasured,
        (_, spent) if spent > u64::from(WHOLE_PPM) => Standing::Breach,
        (_, spent) if spent > WARNING_PPM => Standing::Warning,
        _ => Standing::Compliant,
    };
    let rate = rate_milli(of, &ledger.sum(now, LOOKS[0].0)).unwrap_or(0);
    let gone_in = gone_in(of, spent_ppm, rate);
    Report { sum, compliance_ppm, coverage_ppm, spent_ppm, burns, gone_in, standing }
}

impl Report {
    /// The arithmetic, a line for each figure.
    #[must_use]
    pub fn explain(&self, of: &Definition) -> Vec<String> {
        let Sum { good, total, .. } = self.sum;
        let what = match of.counting {
            Counting::Windows => "windows",
            Counting::Occurrences => "requests",
        };
        let target = percent(u64::from(of.compliance_ppm));
        let mut lines = vec![format!(
            "promised: {} {} {} in {target} of {what} over {}",
            of.metric,
            of.operator,
            thousandths(of.target_milli),
            days(of.period)
        )];
        lines.push(match self.compliance_ppm {
            None => "compliance: nothing was measured".to_owned(),
            Some(share) => format!(
                "compliance: {good} good of {total} {what} = {}",
                percent(u64::from(share))
            ),
        });
        lines.push(format!(
            "coverage: {} of {} windows measured = {}",
            self.sum.measured(),
            self.sum.windows(),
            percent(u64::from(self.coverage_ppm))
        ));
        lines.push(format!(
            "budget: {} bad of what may be bad in {} = {} spent",
            self.sum.bad(),
            days(of.period),
            percent(self.spent_ppm)
        ));
        for burn in &self.burns {
            let rate = |milli: Option<u64>| {
                milli.map_or_else(|| "-".to_owned(), |rate| thousandths(rate) + "x")
            };
            lines.push(format!(
                "burn: {} in {}, {} in {}; told from {}x in both{}",
                rate(burn.long_milli),
                hours(burn.long),
                rate(burn.short_milli),
                hours(burn.short),
                thousandths(burn.threshold_milli),
                if burn.fires { ": it is" } else { "" }
            ));
        }
        if let Some(gone_in) = self.gone_in {
            let left = hours(gone_in);
            lines.push(format!("at the rate of the last hour it is gone in {left}"));
        }
        lines
    }
}

/// Good by all, rounded down; nothing of nothing.
fn share_ppm(part: u64, whole: u64) -> Option<u32> {
    let whole = u128::from(whole);
    let share = (u128::from(part) * u128::from(WHOLE_PPM)).checked_div(whole)?;
    Some(u32::try_from(share).unwrap_or(WHOLE_PPM))
}

/// What was bad, of what may be bad in a whole period if all of it were as what was measured.
fn spent_ppm(of: &Definition, sum: &Sum) -> u64 {
    let whole = u128::from(WHOLE_PPM);
    let bad = u128::from(sum.bad()) * whole * u128::from(sum.measured()) * whole;
    let budget =
        u128::from(sum.total) * u128::from(of.windows()) * u128::from(of.allowed_ppm());
    capped(bad.checked_div(budget))
}

/// Bad by measured, of what may be: 1,000 spends the budget exactly in a period.
fn rate_milli(of: &Definition, sum: &Sum) -> Option<u64> {
    let bad = u128::from(sum.bad()) * u128::from(WHOLE_PPM) * u128::from(ONE);
    let rate = bad.checked_div(u128::from(sum.total) * u128::from(of.allowed_ppm()))?;
    Some(capped(Some(rate)))
}

fn burn(
    of: &Definition,
    ledger: &Ledger,
    now: Timestamp,
    (long, short, share_ppm): (Duration, Duration, u64),
) -> Burn {
    let [long_sum, short_sum] = [long, short].map(|back| ledger.sum(now, back));
    let [long_milli, short_milli] = [long_sum, short_sum].map(|sum| rate_milli(of, &sum));
    let period = u128::from(share_ppm) * u128::from(millis(of.period)) * u128::from(ONE);
    let per = u128::from(millis(long)) * u128::from(WHOLE_PPM);
    let threshold_milli = capped(period.checked_div(per)).max(1);
    let enough = match of.counting {
        Counting::Windows => true,
        Counting::Occurrences => short_sum.total >= OCCURRENCES_MIN,
    };
    let over = |rate: Option<u64>| rate.is_some_and(|rate| rate >= threshold_milli);
    let fires = enough && over(long_milli) && over(short_milli);
    Burn { long, short, threshold_milli, long_milli, short_milli, fires }
}

fn gone_in(of: &Definition, spent_ppm: u64, rate_milli: u64) -> Option<Duration> {
    if rate_milli == 0 {
        return None;
    }
    let left = u128::from(u64::from(WHOLE_PPM).saturating_sub(spent_ppm));
    let time = left * u128::from(millis(of.period)) * u128::from(ONE);
    let per = u128::from(rate_milli) * u128::from(WHOLE_PPM);
    Some(Duration::from_millis(capped(time.checked_div(per))))
}

/// Within 64 bits, and nothing as zero.
fn capped(number: Option<u128>) -> u64 {
    u64::try_from(number.unwrap_or(0)).unwrap_or(u64::MAX)
}

/// Parts per million as per cent: `99.9 %`.
fn percent(ppm: u64) -> String {
    let (whole, rest) = (ppm / 10_000, ppm % 10_000);
    format!("{} %", with_decimals(whole, &format!("{rest:04}")))
}

/// Thousandths as a number: `14.4`.
pub(super) fn thousandths(milli: u64) -> String {
    with_decimals(milli / 1_000, &format!("{:03}", milli % 1_000))
}

fn with_decimals(whole: u64, decimals: &str) -> String {
    let decimals = decimals.trim_end_matches('0');
    if decimals.is_empty() { whole.to_string() } else { format!("{whole}.{decimals}") }
}

fn days(span: Duration) -> String {
    let hours_in = span.as_secs() / 3_600;
    let day = 24;
    if hours_in > 0 && hours_in.is_multiple_of(day) {
        return format!("{} d", hours_in / day);
    }
    hours(span)
}

/// `2 h 5 min`.
pub(super) fn hours(span: Duration) -> String {
    let minutes = span.as_secs() / 60;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{} s", span.as_secs()),
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}
