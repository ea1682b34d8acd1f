//! One value of the file, read as the type that is wanted, or refused with what was found, what
//! is wanted and how it is written.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use dwcp_types::MicroUsd;

use super::problem::{Position, Report};
use super::quantity::{self, Unit};
use super::yaml::{Content, Node, quote};
use super::{duration, suggest};

/// Longest name or description, in characters: one line of a table.
const TEXT_LEN_MAX: usize = 200;
/// Highest price of anything, in US dollars: far over any, and no sum of prices overflows.
const PRICE_USD_MAX: f64 = 1_000_000.0;

/// The value of a key, or one item of the list that is the value of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'n> {
    pub(super) name: &'n str,
    pub(super) key_at: Position,
    pub(super) node: &'n Node,
}

impl<'n> Field<'n> {
    pub(super) const fn at(&self) -> Position {
        self.node.at
    }

    /// Refuses the value: what it must be, and how to write it.
    pub(super) fn refuse<T>(
        &self,
        wanted: impl Display,
        help: impl Into<String>,
        report: &mut Report<'_>,
    ) -> Option<T> {
        let reason = format!("`{}` must be {wanted}, not {}", self.name, self.node);
        report.error(self.at(), reason, help);
        None
    }

    /// A whole number that counts something without a unit.
    pub(super) fn count(
        &self,
        range: RangeInclusive<u64>,
        report: &mut Report<'_>,
    ) -> Option<u64> {
        self.amount(Unit::Count, range, report)
    }

    /// A whole number of a unit, written without it.
    pub(super) fn amount(
        &self,
        unit: Unit,
        range: RangeInclusive<u64>,
        report: &mut Report<'_>,
    ) -> Option<u64> {
        let (low, high) = (*range.start(), *range.end());
        let of = unit.of();
        let wanted = if low == high {
            format!("{low}")
        } else {
            format!("a whole number{of}, {low} to {high}")
        };
        if let Content::Whole(number) = self.node.content {
            let number = u64::try_from(number).ok();
            if let Some(number) = number.filter(|number| range.contains(number)) {
                return Some(number);
            }
        }
        let help =
            quantity::advice(self.name, &self.node.content, unit).unwrap_or_else(|| {
                match low == high {
                    true => format!("write `{}: {low}`", self.name),
                    false => format!("write a number from {low} to {high}"),
                }
            });
        self.refuse(wanted, help, report)
    }

    /// A number that may have decimals.
    pub(super) fn decimal(
        &self,
        what: &str,
        range: RangeInclusive<f64>,
        report: &mut Report<'_>,
    ) -> Option<f64> {
        let number = match self.node.content {
            Content::Decimal(number) => Some(number),
            // Numbers in range are far below 2^53; what is not is refused by the range.
            Content::Whole(number) => i32::try_from(number).ok().map(f64::from),
            Content::Nothing
            | Content::Truth(_)
            | Content::Text(_)
            | Content::List(_)
            | Content::Map(_) => None,
        };
        if let Some(number) = number.filter(|number| range.contains(number)) {
            return Some(number);
        }
        let (low, high) = (range.start(), range.end());
        let meant = self.plain_number().filter(|number| range.contains(number));
        let help = meant.map_or_else(
            || format!("write a plain number from {low} to {high}"),
            |number| format!("leave out quotes and unit: `{}: {number}`", self.name),
        );
        self.refuse(format!("{what}, {low} to {high}"), help, report)
    }

    /// The number in a text that names the unit which is meant anyway.
    fn plain_number(&self) -> Option<f64> {
        let Content::Text(text) = &self.node.content else { return None };
        let number = text.trim().trim_start_matches('$');
        let number = ["ms", "USD"].iter().find_map(|unit| number.strip_suffix(unit));
        number.unwrap_or_else(|| text.trim().trim_start_matches('$')).trim().parse().ok()
    }

    /// A price in US dollars.
    pub(super) fn price(&self, report: &mut Report<'_>) -> Option<MicroUsd> {
        let usd = self.decimal("a price in US dollars", 0.0..=PRICE_USD_MAX, report)?;
        let micros = (usd * 1e6).round();
        if usd > 0.0 && micros < 1.0 {
            return self.refuse(
                "zero or at least a millionth of a US dollar",
                "prices are accounted in millionths of a dollar; write `0` if it is free",
                report,
            );
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole and within 0 to 10^12 by the checks above"
        )]
        let micros = micros as u64;
        Some(MicroUsd::new(micros))
    }

    /// `true` or `false`.
    pub(super) fn truth(&self, report: &mut Report<'_>) -> Option<bool> {
        match &self.node.content {
            Content::Truth(truth) => Some(*truth),
            Content::Nothing
            | Content::Whole(_)
            | Content::Decimal(_)
            | Content::Text(_)
            | Content::List(_)
            | Content::Map(_) => self.refuse(
                "`true` or `false`",
                "yes, no, on, off, 0 and 1 and words in quotes are not read as truth values",
                report,
            ),
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&self, report: &mut Report<'_>) -> Option<&'n str> {
        match &self.node.content {
            Content::Text(text)
                if !text.trim().is_empty() && text.chars().count() <= TEXT_LEN_MAX =>
            {
                Some(text)
            }
            Content::Whole(_) | Content::Decimal(_) | Content::Truth(_) => self.refuse(
                "a text",
                format!("put it in quotes: `{}: \"{}\"`", self.name, self.node),
                report,
            ),
            Content::Text(_) | Content::Nothing | Content::List(_) | Content::Map(_) => {
                self.refuse(
                    format!("a text of 1 to {TEXT_LEN_MAX} characters"),
                    format!("write one, for example `{}: some-name`", self.name),
                    report,
                )
            }
        }
    }

    /// A text that is checked by the type that it becomes, such as an identifier.
    pub(super) fn parsed<T>(&self, report: &mut Report<'_>) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        let text = self.text(report)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                let error: String = error.to_string();
                let (reason, help) = error.split_once("; ").unwrap_or((&error, ""));
                report.error(self.at(), format!("`{}`: {reason}", self.name), help);
                None
            }
        }
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(
        &self,
        words: &[(&'static str, T)],
        report: &mut Report<'_>,
    ) -> Option<T> {
        let names = words.iter().map(|(word, _)| *word);
        let Content::Text(text) = &self.node.content else {
            let help = suggest::advice("", "valid values", names);
            return self.refuse("a word", help, report);
        };
        let found = words.iter().find(|(word, _)| word == text);
        if found.is_none() {
            let list: Vec<String> = names.clone().map(|n| format!("`{n}`")).collect();
            let list = list.join(", ");
            let help = match suggest::nearest(text, names) {
                Some(word) => format!("did you mean `{word}`? valid values: {list}"),
                None => format!("valid values: {list}"),
            };
            let reason = format!("{} is no value of `{}`", quote(text), self.name);
            report.error(self.at(), reason, help);
        }
        found.map(|(_, value)| *value)
    }

    /// A time with its unit (O39).
    pub(super) fn duration(
        &self,
        range: RangeInclusive<Duration>,
        report: &mut Report<'_>,
    ) -> Option<Duration> {
        let (low, high) =
            (duration::display(*range.start()), duration::display(*range.end()));
        let read = match &self.node.content {
            Content::Text(text) => duration::parse(text),
            Content::Whole(number) => Err(duration::no_unit(&number.to_string())),
            Content::Decimal(number) => Err(duration::no_unit(&number.to_string())),
            Content::Nothing | Content::Truth(_) | Content::List(_) | Content::Map(_) => {
                Err(format!("write a time such as `{low}`"))
            }
        };
        let help = match read {
            Ok(span) if range.contains(&span) => return Some(span),
            Ok(_) => format!("write a time from {low} to {high}"),
            Err(help) => help,
        };
        self.refuse(format!("a time with its unit, {low} to {high}"), help, report)
    }

    /// The items of a list, each as a field of the same name.
    pub(super) fn list(
        &self,
        len: RangeInclusive<usize>,
        report: &mut Report<'_>,
    ) -> Option<Vec<Field<'n>>> {
        let (least, most) = (*len.start(), *len.end());
        match &self.node.content {
            Content::List(items) if len.contains(&items.len()) => {
                let field = |node| Field { name: self.name, key_at: self.key_at, node };
                Some(items.iter().map(field).collect())
            }
            Content::List(items) => {
                let reason = format!(
                    "`{}` has {} items; it must have {least} to {most}",
                    self.name,
                    items.len()
                );
                let help = if items.len() < least {
                    "add what is missing, one item a line, each with `- ` before it"
                } else {
                    "split the federation, or remove what is not needed"
                };
                report.error(self.at(), reason, help);
                None
            }
            Content::Nothing
            | Content::Truth(_)
            | Content::Whole(_)
            | Content::Decimal(_)
            | Content::Text(_)
            | Content::Map(_) => self.refuse(
                "a list",
                "write one item a line, each with `- ` before it",
                report,
            ),
        }
    }
}
