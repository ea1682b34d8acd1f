//! Sizes: a plain number counts the resource's own unit, a number with a unit is converted.
//!
//! Memory counts MiB and storage GiB (C10). `64GB` is decimal and `64GiB` is not; whoever
//! writes the first is told what came of it, because the source itself confused the two
//! (F34). What does not come out whole is rounded up: nobody gets less than they asked for.

use std::fmt;

/// What a number without a unit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// CPUs.
    Cpus,
    /// Memory in MiB.
    Mib,
    /// Storage in GiB.
    Gib,
    /// Bandwidth in Mbit/s.
    Mbps,
    /// GPUs.
    Gpus,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpus => "CPUs",
            Self::Mib => "MiB",
            Self::Gib => "GiB",
            Self::Mbps => "Mbit/s",
            Self::Gpus => "GPUs",
        })
    }
}

/// Suffixes in small letters, with bytes and whether they are powers of ten.
const BYTES: &[(&str, u128, bool)] = &[
    ("m", 1 << 20, false),
    ("mib", 1 << 20, false),
    ("mb", 1_000_000, true),
    ("g", 1 << 30, false),
    ("gib", 1 << 30, false),
    ("gb", 1_000_000_000, true),
    ("t", 1 << 40, false),
    ("tib", 1 << 40, false),
    ("tb", 1_000_000_000_000, true),
    ("p", 1 << 50, false),
    ("pib", 1 << 50, false),
    ("pb", 1_000_000_000_000_000, true),
];
/// Suffixes in small letters, with bits a second. Network speeds are always decimal.
const BITS: &[(&str, u128, bool)] = &[
    ("mbps", 1_000_000, false),
    ("mbit/s", 1_000_000, false),
    ("m", 1_000_000, false),
    ("gbps", 1_000_000_000, false),
    ("gbit/s", 1_000_000_000, false),
    ("g", 1_000_000_000, false),
    ("tbps", 1_000_000_000_000, false),
    ("tbit/s", 1_000_000_000_000, false),
];
/// Decimals that are read; more cannot change a result by a whole unit of what fits.
const DECIMALS_MAX: usize = 6;

impl Unit {
    const fn suffixes(self) -> &'static [(&'static str, u128, bool)] {
        match self {
            Self::Cpus | Self::Gpus => &[],
            Self::Mib | Self::Gib => BYTES,
            Self::Mbps => BITS,
        }
    }

    const fn size(self) -> u128 {
        match self {
            Self::Cpus | Self::Gpus => 1,
            Self::Mib => 1 << 20,
            Self::Gib => 1 << 30,
            Self::Mbps => 1_000_000,
        }
    }

    /// Whether a VM may have none of it.
    const fn may_be_zero(self) -> bool {
        matches!(self, Self::Mbps | Self::Gpus)
    }

    /// How an amount is written.
    pub(crate) fn how(self) -> String {
        match self {
            Self::Cpus | Self::Gpus => "write a whole number without a unit".to_owned(),
            Self::Mib | Self::Gib => {
                format!("write a whole number of {self}, or a unit: 512MiB, 8GiB, 1.5TiB")
            }
            Self::Mbps => {
                format!("write a whole number of {self}, or a unit: 100Mbps, 10Gbps")
            }
        }
    }
}

/// An amount in its resource's own unit, with a note when it was converted from another kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quantity {
    /// How many.
    pub(crate) amount: u64,
    /// What came of a decimal unit.
    pub(crate) note: Option<String>,
}

impl Quantity {
    /// Reads an amount.
    ///
    /// # Errors
    ///
    /// What is wrong and how to write it.
    pub(crate) fn parse(text: &str, unit: Unit) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err(format!("there is no number; {}", unit.how()));
        }
        if text.starts_with('-') {
            let least = u8::from(!unit.may_be_zero());
            return Err(format!("{text} is negative; ask for at least {least}"));
        }
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, suffix) =
            split.and_then(|at| text.split_at_checked(at)).unwrap_or((text, ""));
        let suffix = suffix.trim();
        let parsed = if suffix.is_empty() {
            plain(number, unit).map(|amount| Self { amount, note: None })
        } else {
            converted(text, number, suffix, unit)
        }?;
        if parsed.amount == 0 && !unit.may_be_zero() {
            return Err(format!("a VM with 0 {unit} cannot run; ask for at least 1"));
        }
        Ok(parsed)
    }
}

fn huge(text: &str) -> String {
    let text: String = text.chars().take(40).collect();
    format!("{text} is larger than any machine; check the unit")
}

fn plain(number: &str, unit: Unit) -> Result<u64, String> {
    if !number.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(format!("{number} is not whole; {}", unit.how()));
    }
    number.parse().map_err(|_| huge(number))
}

fn converted(
    text: &str,
    number: &str,
    suffix: &str,
    unit: Unit,
) -> Result<Quantity, String> {
    let lower = suffix.to_ascii_lowercase();
    let known = unit.suffixes().iter().find(|(name, _, _)| *name == lower);
    let Some((_, size, decimal)) = known else {
        let suffix: String = suffix.chars().take(20).collect();
        return Err(format!("{suffix:?} is no unit for it; {}", unit.how()));
    };
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > DECIMALS_MAX {
        return Err(format!("{number:?} is no number; {}", unit.how()));
    }
    let scale = 10_u128.pow(u32::try_from(decimals.len()).unwrap_or(0));
    let amount = format!("{whole}{decimals}").parse::<u128>().ok().and_then(|digits| {
        let amount = digits.checked_mul(*size)?.div_ceil(scale * unit.size());
        u64::try_from(amount).ok()
    });
    let amount = amount.ok_or_else(|| huge(text))?;
    let note = decimal.then(|| {
        let binary = lower.replace('b', "ib").to_uppercase().replace("IB", "iB");
        format!("{text} is decimal and makes {amount} {unit}, rounded up; write {number}{binary} for powers of two")
    });
    Ok(Quantity { amount, note })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn amount(text: &str, unit: Unit) -> u64 {
        Quantity::parse(text, unit).unwrap().amount
    }

    #[test]
    fn a_plain_number_counts_the_own_unit_and_units_are_converted() {
        assert_eq!(amount("8192", Unit::Mib), 8_192);
        assert_eq!(amount("8GiB", Unit::Mib), 8_192);
        assert_eq!(amount("1.5 tib", Unit::Gib), 1_536);
        assert_eq!(amount("10Gbps", Unit::Mbps), 10_000);
        assert_eq!(amount("0", Unit::Gpus), 0);
    }

    #[test]
    fn a_decimal_unit_is_converted_and_told() {
        let quantity = Quantity::parse("64GB", Unit::Mib).unwrap();
        assert_eq!(quantity.amount, 61_036);
        let note = quantity.note.unwrap();
        assert_eq!(
            note,
            "64GB is decimal and makes 61036 MiB, rounded up; write 64GiB for powers of two"
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_how_to_write_it() {
        for (text, unit, part) in [
            ("", Unit::Mib, "no number"),
            ("-5", Unit::Mib, "negative; ask for at least 1"),
            ("-5", Unit::Gpus, "negative; ask for at least 0"),
            ("0", Unit::Mib, "cannot run"),
            ("0.5", Unit::Cpus, "not whole"),
            ("4GiB", Unit::Cpus, "no unit"),
            ("8apples", Unit::Mib, "\"apples\" is no unit"),
            ("1.2.3GiB", Unit::Mib, "no number"),
            (".GiB", Unit::Mib, "no number"),
            ("99999999999999999999", Unit::Mib, "larger than any machine"),
            ("99999999999999999PiB", Unit::Mib, "larger than any machine"),
        ] {
            let error = Quantity::parse(text, unit).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    proptest! {
        /// The least amount whose bytes reach what was asked for, found from the other side:
        /// by checking the two neighbours instead of dividing.
        #[test]
        fn a_converted_size_is_the_least_that_reaches_what_was_asked(
            whole in 1_u64..1_000_000,
            cents in 0_u64..100,
            power in 2_u32..=5,
            decimal: bool,
            gib: bool,
        ) {
            let letter = ["M", "G", "T", "P"][power as usize - 2];
            let suffix = if decimal { "B" } else { "iB" };
            let base: u128 = if decimal { 1_000 } else { 1_024 };
            let asked_cents =
                (u128::from(whole) * 100 + u128::from(cents)) * base.pow(power);
            let unit = if gib { Unit::Gib } else { Unit::Mib };
            let own_cents = 100 * 1_024_u128.pow(if gib { 3 } else { 2 });
            let got = u128::from(amount(&format!("{whole}.{cents:02}{letter}{suffix}"), unit));
            prop_assert!(got * own_cents >= asked_cents);
            prop_assert!((got - 1) * own_cents < asked_cents);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}", near in "-?[0-9.]{0,30}[a-zA-Z/]{0,6}") {
            for unit in [Unit::Cpus, Unit::Mib, Unit::Gib, Unit::Mbps, Unit::Gpus] {
                for text in [&text, &near] {
                    if let Ok(quantity) = Quantity::parse(text, unit) {
                        prop_assert!(quantity.amount > 0 || unit.may_be_zero());
                    }
                }
            }
        }
    }
}
