//! Times as the configuration writes them: `500ms`, `30s`, `5m`, `1h`, `7d` (O39).
//!
//! A bare number is refused: whether 30 means seconds or milliseconds decides whether a region
//! is failed over in half a minute or at once.

use std::time::Duration;

use super::suggest;

/// Milliseconds of each unit, smallest first.
const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Words that people write for the units.
const SPELLINGS: [(&str, &str); 18] = [
    ("msec", "ms"),
    ("millis", "ms"),
    ("milliseconds", "ms"),
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("min", "m"),
    ("mins", "m"),
    ("minute", "m"),
    ("minutes", "m"),
    ("hr", "h"),
    ("hrs", "h"),
    ("hour", "h"),
    ("hours", "h"),
    ("day", "d"),
    ("days", "d"),
    ("week", "d"),
];

/// Reads a time, or says how to write it.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let unit = unit.trim();
    if number.is_empty() {
        return Err(how());
    }
    if unit.is_empty() {
        return Err(no_unit(number));
    }
    let Some((_, millis)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(unknown_unit(number, unit));
    };
    let number: u64 = number.parse().map_err(|_| how())?;
    number.checked_mul(*millis).map(Duration::from_millis).ok_or_else(how)
}

/// Advice for a number without a unit.
pub(super) fn no_unit(number: &str) -> String {
    format!(
        "say what {number} counts: `{number}s` for seconds, `{number}ms` for milliseconds"
    )
}

fn how() -> String {
    "write a whole number and a unit without a space: `500ms`, `30s`, `5m`, `1h` or `7d`"
        .to_owned()
}

fn unknown_unit(number: &str, unit: &str) -> String {
    let lower = unit.to_ascii_lowercase();
    let known = SPELLINGS.iter().map(|(word, _)| *word);
    let word = suggest::nearest(&lower, known);
    let unit = SPELLINGS.iter().find(|(spelled, _)| Some(*spelled) == word);
    match unit {
        Some((word, unit)) if *word != "week" => {
            format!("did you mean `{number}{unit}`? the units are ms, s, m, h and d")
        }
        Some(_) | None => how(),
    }
}

/// A time in the largest unit that leaves nothing over.
pub(super) fn display(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let exact = UNITS.iter().rev().find(|(_, unit)| millis.is_multiple_of(*unit));
    match exact {
        Some((name, unit)) if millis > 0 => format!("{}{name}", millis / unit),
        Some(_) | None => format!("{}s", millis / 1000),
    }
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
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
    }

    #[test]
    fn another_spelling_is_answered_with_ours() {
        assert!(parse("30").unwrap_err().contains("`30s`"));
        assert!(parse("30sec").unwrap_err().contains("`30s`"));
        assert!(parse("2 Hours").unwrap_err().contains("`2h`"));
        assert!(parse("soon").unwrap_err().contains("whole number"));
        assert!(parse("99999999999999999999s").is_err());
        assert!(parse("18446744073709551615d").is_err());
        assert!(parse("1.5s").is_err() && parse("-1s").is_err() && parse("").is_err());
    }

    proptest! {
        #[test]
        fn what_is_displayed_is_read_again(millis in 0u64..=1_000_000_000_000) {
            let span = Duration::from_millis(millis);
            prop_assert_eq!(parse(&display(span)), Ok(span));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,24}") {
            if let Ok(span) = parse(&text) {
                prop_assert!(span <= Duration::from_millis(u64::MAX));
            }
        }
    }
}
