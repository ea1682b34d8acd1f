//! Single values: durations as everywhere (O39), latencies, scores, money.

use std::time::Duration;

use dwcp_types::MicroUsd;

/// Milliseconds of each unit of O39, smallest first.
const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// The longest duration that means anything to this tool.
const DURATION_MAX: Duration = Duration::from_hours(365 * 24);
/// Redrawing more often than five times a second is more than eyes follow and a federation
/// should be asked.
const WATCH_MIN: Duration = Duration::from_millis(200);
/// Digits after the point of an amount of dollars: the unit is a millionth.
const MONEY_DECIMALS: usize = 6;
/// Decimals of a thousandth.
const THOUSANDTHS_DECIMALS: usize = 3;

/// Reads `500ms`, `30s`, `5m`, `1h` or `7d`.
///
/// # Errors
///
/// How to write it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let how = || "write a whole number and a unit: 500ms, 30s, 5m, 1h or 7d".to_owned();
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(how)?;
    if unit.is_empty() && !number.is_empty() {
        return Err(format!(
            "say what {number} counts: {number}s for seconds, {number}ms for milliseconds"
        ));
    }
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(how)?;
    let number: u64 = number.parse().map_err(|_| how())?;
    let span = number.checked_mul(*millis).map(Duration::from_millis).ok_or_else(how)?;
    if span.is_zero() || span > DURATION_MAX {
        return Err("it must be more than nothing and at most 365d".to_owned());
    }
    Ok(span)
}

/// Reads a share of one, such as `0.1`, in parts per million.
///
/// # Errors
///
/// How to write it.
pub(crate) fn share_ppm(text: &str) -> Result<u32, String> {
    let how = || "write a share from 0 to 1, such as 0.1 for one in ten".to_owned();
    let share: f64 = text.parse().map_err(|_| how())?;
    if !(0.0..=1.0).contains(&share) {
        return Err(how());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 1,000,000 by the check above"
    )]
    let ppm = (share * 1e6).round() as u32;
    Ok(ppm)
}

/// How often a watched answer is asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WatchEvery(pub(crate) Duration);

/// Reads an interval for `--watch`.
///
/// # Errors
///
/// When it is no duration or too short.
pub(crate) fn watch_every(text: &str) -> Result<WatchEvery, String> {
    let every = duration(text)?;
    if every < WATCH_MIN {
        return Err(format!("{text} is too often; 200ms is the shortest interval"));
    }
    Ok(WatchEvery(every))
}

/// Reads a latency limit: whole milliseconds, or a duration.
///
/// # Errors
///
/// When it is neither, zero or negative.
pub(crate) fn milliseconds(text: &str) -> Result<u32, String> {
    if text.starts_with('-') {
        return Err(format!("{text} is negative; ask for at least 1 millisecond"));
    }
    let plain = text.bytes().all(|digit| digit.is_ascii_digit()) && !text.is_empty();
    let span = if plain { duration(&format!("{text}ms"))? } else { duration(text)? };
    u32::try_from(span.as_millis()).map_err(|_| {
        format!("{text} is longer than any latency; leave it out for no limit")
    })
}

/// Reads a health score.
///
/// # Errors
///
/// When it is not a whole number of 0 to 100.
pub(crate) fn health_score(text: &str) -> Result<u8, String> {
    let score = text.trim_end_matches('%').parse().ok().filter(|score| *score <= 100);
    score.ok_or_else(|| {
        format!("{text} is no health score; write a whole number of 0 to 100")
    })
}

/// Reads an amount of US dollars: `0.50`, `$0.50`, `0.50/h`.
///
/// # Errors
///
/// When it is no amount, negative, or finer than a millionth.
pub(crate) fn dollars(text: &str) -> Result<MicroUsd, String> {
    let bare = text.strip_prefix('$').unwrap_or(text);
    let bare = bare.strip_suffix("/h").unwrap_or(bare);
    let how = || format!("{text} is no amount of dollars; write it like 0.50");
    if bare.starts_with('-') {
        return Err(format!("{text} is negative; ask for 0 or more"));
    }
    let (whole, decimals) = bare.split_once('.').unwrap_or((bare, "0"));
    let digits =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) {
        return Err(how());
    }
    if decimals.len() > MONEY_DECIMALS {
        return Err(format!("{text} is finer than a millionth of a dollar; round it"));
    }
    let micros = format!("{whole}{decimals:0<MONEY_DECIMALS$}");
    micros.parse().map(MicroUsd::new).map_err(|_| how())
}

/// Reads a number with up to three decimals, as thousandths: `100`, `99.95`, `0.1%`.
///
/// # Errors
///
/// When it is no number, negative, or finer than a thousandth.
pub(crate) fn thousandths(text: &str) -> Result<u64, String> {
    let bare = text.trim_end_matches('%');
    if bare.starts_with('-') {
        return Err(format!("{text} is negative; ask for 0 or more"));
    }
    let how = || format!("{text} is no number; write it like 100 or 99.95");
    let (whole, decimals) = bare.split_once('.').unwrap_or((bare, "0"));
    let digits =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) {
        return Err(how());
    }
    if decimals.len() > THOUSANDTHS_DECIMALS {
        return Err(format!("{text} is finer than a thousandth; round it"));
    }
    let milli = format!("{whole}{decimals:0<THOUSANDTHS_DECIMALS$}");
    milli.parse().map_err(|_| how())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_durations_of_the_source_are_read() {
        for (text, seconds) in
            [("5s", 5), ("5m", 300), ("1h", 3_600), ("7d", 604_800), ("30s", 30)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert!(duration("30").unwrap_err().contains("30s"));
        assert!(duration("0s").is_err() && duration("366d").is_err());
        assert!(watch_every("100ms").is_err() && watch_every("1s").is_ok());
    }

    #[test]
    fn limits_are_read_with_and_without_their_unit() {
        assert_eq!(milliseconds("50"), Ok(50));
        assert_eq!(milliseconds("50ms"), Ok(50));
        assert_eq!(milliseconds("1s"), Ok(1_000));
        assert!(milliseconds("-1").unwrap_err().contains("negative"));
        assert!(milliseconds("0").is_err() && milliseconds("50 parsecs").is_err());
        assert_eq!(health_score("80"), Ok(80));
        assert!(health_score("101").is_err() && health_score("-1").is_err());
        assert_eq!(thousandths("100"), Ok(100_000));
        assert_eq!(thousandths("99.95%"), Ok(99_950));
        for wrong in ["-1", "", "1.", ".5", "1.0001", "NaN", "1e3", "1ms"] {
            assert!(thousandths(wrong).is_err(), "{wrong}");
        }
        assert_eq!(dollars("0.50"), Ok(MicroUsd::new(500_000)));
        assert_eq!(dollars("$1/h"), Ok(MicroUsd::new(1_000_000)));
        assert!(dollars("-1").unwrap_err().contains("negative"));
        assert!(dollars("0.0000001").unwrap_err().contains("millionth"));
        assert!(
            dollars("").is_err() && dollars("1.").is_err() && dollars("1e3").is_err()
        );
    }

    proptest! {
        #[test]
        fn money_is_exact(micros in 0_u64..1 << 53) {
            let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
            prop_assert_eq!(dollars(&text), Ok(MicroUsd::new(micros)));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,24}", near in "[0-9.$-]{0,26}[a-z/]{0,3}") {
            for text in [&text, &near] {
                drop((duration(text), milliseconds(text), health_score(text), dollars(text)));
            }
        }
    }
}
