//! Sizes are plain whole numbers of one unit a key (F34). Whoever writes `100TB` is told how
//! many MiB that is, because the source itself called 97.66 TiB "100TB".

use std::fmt;

use super::yaml::Content;

/// What a whole number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Things.
    Count,
    /// Mebibytes.
    Mib,
    /// Gibibytes.
    Gib,
    /// Megabits a second.
    Mbps,
}

impl Unit {
    /// ` of MiB`, for a message; nothing for things.
    pub(super) fn of(self) -> String {
        if self == Self::Count { String::new() } else { format!(" of {self}") }
    }

    /// Bytes or bits a second in one of it.
    const fn size(self) -> u128 {
        match self {
            Self::Count => 1,
            Self::Mib => 1 << 20,
            Self::Gib => 1 << 30,
            Self::Mbps => 1_000_000,
        }
    }

    /// The suffixes that can be converted to it, in small letters, with their sizes.
    const fn suffixes(self) -> &'static [(&'static str, u128)] {
        match self {
            Self::Count => &[],
            Self::Mib | Self::Gib => BYTES,
            Self::Mbps => BITS,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "things",
            Self::Mib => "MiB",
            Self::Gib => "GiB",
            Self::Mbps => "Mbit/s",
        })
    }
}

const BYTES: &[(&str, u128)] = &[
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1_000),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("t", 1 << 40),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
    ("p", 1 << 50),
    ("pb", 1_000_000_000_000_000),
    ("pib", 1 << 50),
];

const BITS: &[(&str, u128)] = &[
    ("kbps", 1_000),
    ("kbit/s", 1_000),
    ("mbps", 1_000_000),
    ("mbit/s", 1_000_000),
    ("m", 1_000_000),
    ("gbps", 1_000_000_000),
    ("gbit/s", 1_000_000_000),
    ("g", 1_000_000_000),
    ("tbps", 1_000_000_000_000),
    ("tbit/s", 1_000_000_000_000),
];

/// How many of `unit` a text such as `1.5 TB` is, rounded down, with the text as it is meant.
/// Four decimals are kept; finer ones are below the rounding of any size that matters.
fn convert(text: &str, unit: Unit) -> Option<u128> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, suffix) = text.split_at_checked(split)?;
    let suffix = suffix.trim().to_ascii_lowercase();
    let (_, size) = unit.suffixes().iter().find(|(name, _)| *name == suffix)?;
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let decimals: String = decimals.chars().chain("0000".chars()).take(4).collect();
    let ten_thousandths: u128 = format!("{whole}{decimals}").parse().ok()?;
    Some(ten_thousandths.checked_mul(*size)? / 10_000 / unit.size())
}

/// How the value would be written, when that can be told from what it is.
pub(super) fn advice(name: &str, content: &Content, unit: Unit) -> Option<String> {
    match content {
        Content::Text(text) => {
            let text = text.trim();
            if let Some(number) = convert(text, unit) {
                return Some(format!(
                    "{text} is {number} {unit}; write `{name}: {number}`"
                ));
            }
            let number: u64 = text.parse().ok()?;
            Some(format!("leave out the quotes: `{name}: {number}`"))
        }
        Content::Decimal(number) if (1.0..1e15).contains(number) => {
            let number = number.floor();
            Some(format!("write it as a whole number, for example `{name}: {number:.0}`"))
        }
        Content::Nothing
        | Content::Truth(_)
        | Content::Whole(_)
        | Content::Decimal(_)
        | Content::List(_)
        | Content::Map(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_binary_prefixes_are_kept_apart() {
        assert_eq!(convert("100TB", Unit::Mib), Some(95_367_431));
        assert_eq!(convert("100 TiB", Unit::Mib), Some(104_857_600));
        assert_eq!(convert("1PB", Unit::Gib), Some(931_322));
        assert_eq!(convert("1.5G", Unit::Mib), Some(1_536));
        assert_eq!(convert("10Gbps", Unit::Mbps), Some(10_000));
        assert_eq!(convert("10 apples", Unit::Mib), None);
        assert_eq!(convert("TB", Unit::Mib), None);
        assert_eq!(convert("999999999999999999999999999999999999999PB", Unit::Mib), None);
    }

    #[test]
    fn the_advice_can_be_pasted() {
        let text = |text: &str| Content::Text(text.to_owned());
        let advice = |content| advice("total_memory", &content, Unit::Mib);
        let told = advice(text("100TB")).unwrap();
        assert_eq!(told, "100TB is 95367431 MiB; write `total_memory: 95367431`");
        assert!(advice(text("64")).unwrap().contains("quotes"));
        assert!(advice(Content::Decimal(64.5)).unwrap().contains("`total_memory: 64`"));
        assert_eq!(advice(Content::Decimal(f64::NAN)), None);
    }
}
