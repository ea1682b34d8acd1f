//! Numbers for people: money, latencies, sizes, ages, moments, counts.
//!
//! Rounding is for the eye only; `-o json` has the exact values. A latency is rounded up, as
//! the controller does, so that it never looks within a limit that it breaks.

use std::time::Duration;

use dwcp_types::{
    Bps, Gib, HealthState, Mib, MicroUsd, Micros, Timestamp, VmPhase, VmShape,
};
use serde::Serialize;

/// What is printed where nothing is known.
pub(crate) const UNKNOWN: &str = "n/a";

/// A count with thousands separators: `30,142`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// How many there are of something.
pub(crate) fn len<T>(of: &[T]) -> u64 {
    u64::try_from(of.len()).unwrap_or(u64::MAX)
}

/// Money an hour: `$0.2940/h`; a price under a hundredth of a cent in full.
pub(crate) fn money_per_hour(amount: MicroUsd) -> String {
    format!("{}/h", money(amount))
}

/// Money: `$0.2940`.
pub(crate) fn money(amount: MicroUsd) -> String {
    let micros = amount.get();
    if micros > 0 && micros < 100 {
        return format!("$0.{micros:06}");
    }
    let rounded = micros.saturating_add(50) / 100;
    format!("${}.{:04}", count(rounded / 10_000), rounded % 10_000)
}

/// A latency: `12.3 ms`.
pub(crate) fn latency(latency: Micros) -> String {
    let tenths = latency.get().div_ceil(100);
    format!("{}.{} ms", tenths / 10, tenths % 10)
}

/// A latency that may not be known.
pub(crate) fn latency_or_unknown(known: Option<Micros>) -> String {
    known.map_or_else(|| UNKNOWN.to_owned(), latency)
}

/// Memory: `8 GiB`, `96 MiB`, `59.6 GiB`, `97.7 TiB`.
pub(crate) fn memory(size: Mib) -> String {
    let mib = size.get();
    if mib < 1024 {
        return format!("{mib} MiB");
    }
    if mib < 1 << 20 {
        return format!("{} GiB", tenths(mib, 1 << 10));
    }
    format!("{} TiB", tenths(mib, 1 << 20))
}

/// Storage: `100 GiB`, `1.5 TiB`.
pub(crate) fn storage(size: Gib) -> String {
    let gib = size.get();
    if gib < 1024 {
        return format!("{gib} GiB");
    }
    format!("{} TiB", tenths(gib, 1 << 10))
}

/// A quotient with one decimal where there is one, rounded to the nearest.
fn tenths(part: u64, unit: u64) -> String {
    let tenths = (u128::from(part) * 20 / u128::from(unit)).div_ceil(2);
    let (whole, rest) = (tenths / 10, tenths % 10);
    let whole = count(u64::try_from(whole).unwrap_or(u64::MAX));
    if rest == 0 { whole } else { format!("{whole}.{rest}") }
}

/// A shape: `4 CPU, 8 GiB, 100 GiB disk`.
pub(crate) fn shape(shape: &VmShape) -> String {
    let mut text = format!(
        "{} CPU, {}, {} disk",
        shape.cpu,
        memory(shape.memory),
        storage(shape.storage)
    );
    if shape.bandwidth.get() > 0 {
        text.push_str(&format!(", {}", shape.bandwidth));
    }
    if shape.gpus > 0 {
        text.push_str(&format!(", {} GPU", shape.gpus));
    }
    text
}

/// An age or span: `350ms`, `12s`, `5m`, `3h`, `12d`, in the largest unit of which there are
/// at least two.
pub(crate) fn age(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", count(seconds / 86_400)),
    }
}

/// An age in milliseconds that may not be known.
pub(crate) fn age_ms(age_ms: Option<u64>) -> String {
    age_ms.map_or_else(|| "never heard".to_owned(), |ms| age(Duration::from_millis(ms)))
}

/// A moment in UTC, to the second: `2026-03-01T12:00:00Z`.
pub(crate) fn moment(at: Timestamp) -> String {
    let seconds = i64::try_from(at.as_millis() / 1_000).ok();
    let moment = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    moment.map_or_else(|| format!("{} ms", at.as_millis()), |moment| moment.to_string())
}

/// A score or contribution on the source's scale of 0 to 100: `82.31`.
pub(crate) fn points(share: Bps) -> String {
    format!("{}.{:02}", share.get() / 100, share.get() % 100)
}

/// Microseconds of work: `14 us`, `3.2 ms`, `1.50 s`.
pub(crate) fn span_us(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

/// A plain enum as it is on the wire.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => UNKNOWN.to_owned(),
    }
}

/// A health state as people say it.
pub(crate) const fn health_word(state: HealthState) -> &'static str {
    match state {
        HealthState::Unknown => "unknown",
        HealthState::Unhealthy => "unhealthy",
        HealthState::Degraded => "degraded",
        HealthState::Healthy => "healthy",
        HealthState::Maintenance => "maintenance",
    }
}

/// A phase as it is on the wire.
pub(crate) const fn phase_word(phase: VmPhase) -> &'static str {
    match phase {
        VmPhase::Pending => "pending",
        VmPhase::Starting => "starting",
        VmPhase::Running => "running",
        VmPhase::Paused => "paused",
        VmPhase::Stopping => "stopping",
        VmPhase::Stopped => "stopped",
        VmPhase::Failed => "failed",
        VmPhase::Fenced => "fenced",
        VmPhase::Unknown => "unknown",
    }
}

/// Yes or no.
pub(crate) const fn yes(truth: bool) -> &'static str {
    if truth { "yes" } else { "no" }
}

/// Words with commas between, or a dash for none.
pub(crate) fn listed<T: ToString>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| word.to_string()).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

/// Text on one line: names and messages come from far away, and what they may hold must not
/// steer a terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The same for text of several lines.
pub(crate) fn lines_plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// Thousandths of a unit as a number: `99.95`, `100`.
pub(crate) fn thousandths(milli: u64) -> String {
    let (whole, rest) = (milli / 1_000, milli % 1_000);
    if rest == 0 {
        return whole.to_string();
    }
    let number = format!("{whole}.{rest:03}");
    number.trim_end_matches('0').to_owned()
}

/// Thousandths of a unit with it, or a dash: `99.95 %`.
pub(crate) fn measured(milli: Option<u64>, unit: &str) -> String {
    milli.map_or_else(
        || "-".to_owned(),
        |milli| format!("{} {unit}", thousandths(milli)).trim_end().to_owned(),
    )
}

/// Parts per million as per cent, to a thousandth of one: `99.652 %`. Rounded down, so that
/// what is not all never looks like all.
pub(crate) fn percent_ppm(ppm: u64) -> String {
    format!("{} %", thousandths(ppm / 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(30_142), "30,142");
        assert_eq!(count(125_000_000), "125,000,000");
        assert_eq!(money_per_hour(MicroUsd::new(293_698)), "$0.2937/h");
        assert_eq!(money(MicroUsd::new(1_234_567_890)), "$1,234.5679");
        assert_eq!(money(MicroUsd::new(7)), "$0.000007");
        assert_eq!(latency(Micros::new(12_301)), "12.4 ms");
        assert_eq!(memory(Mib::new(8_192)), "8 GiB");
        assert_eq!(memory(Mib::new(96)), "96 MiB");
        assert_eq!(memory(Mib::new(102_400_000)), "97.7 TiB");
        assert_eq!(storage(Gib::new(1_536)), "1.5 TiB");
        assert_eq!(points(Bps::new(8_205).unwrap()), "82.05");
        assert_eq!(span_us(3_240), "3.2 ms");
        assert_eq!(
            moment(Timestamp::from_millis(1_772_366_400_999)),
            "2026-03-01T12:00:00Z"
        );
    }

    #[test]
    fn ages_keep_two_digits_where_they_can() {
        let of = |seconds| age(Duration::from_secs(seconds));
        assert_eq!(age(Duration::from_millis(350)), "350ms");
        assert_eq!(
            [of(1), of(119), of(120), of(7_199), of(7_200), of(172_800)],
            ["1s", "119s", "2m", "119m", "2h", "2d"]
        );
    }

    #[test]
    fn what_could_steer_a_terminal_is_blanked() {
        assert_eq!(plain("a\x1b[31mb\r\nc"), "a [31mb  c");
        assert_eq!(lines_plain("a\nb\x07"), "a\nb ");
    }

    proptest! {
        #[test]
        fn separators_change_no_digit(number: u64) {
            let grouped = count(number);
            prop_assert_eq!(grouped.replace(',', ""), number.to_string());
            let groups: Vec<_> = grouped.split(',').collect();
            prop_assert!(groups[0].len() <= 3 && groups[1..].iter().all(|g| g.len() == 3));
        }

        #[test]
        fn a_size_is_within_half_a_tenth_of_its_unit(mib in 1_u64..1 << 40) {
            let text = memory(Mib::new(mib)).replace(',', "");
            let (number, unit) = text.split_once(' ').unwrap();
            let unit: f64 = match unit { "MiB" => 1.0, "GiB" => 1024.0, _ => 1_048_576.0 };
            let shown = number.parse::<f64>().unwrap() * unit;
            #[expect(clippy::cast_precision_loss, reason = "2^40 is exact in a double")]
            let exact = mib as f64;
            prop_assert!((shown - exact).abs() <= 0.0501 * unit, "{text} for {mib}");
        }
    }
}
