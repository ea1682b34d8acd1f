//! A block of keys: which keys it may have, each once, and which it must have.
//!
//! A key that is not known is refused and never skipped (F81): a limit that is misspelled and
//! therefore not there is the mistake that is noticed last.

use super::field::Field;
use super::problem::{Position, Related, Report};
use super::suggest;
use super::yaml::{Content, Key, Node, quote};

/// A block of keys, with the keys that are known.
#[derive(Debug)]
pub(super) struct Section<'n> {
    what: &'static str,
    pub(super) at: Position,
    entries: Vec<(&'n Key, &'n Node)>,
}

impl<'n> Section<'n> {
    /// Opens a block, telling of every key that is unknown or there twice. `what` is its name
    /// in messages: `a region`.
    pub(super) fn open(
        node: &'n Node,
        what: &'static str,
        keys: &'static [&'static str],
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let Content::Map(map) = &node.content else {
            report.error(
                node.at,
                format!("{what} is a block of keys, not {node}"),
                format!("its keys are: {}", keys.join(", ")),
            );
            return None;
        };
        let mut entries: Vec<(&Key, &Node)> = Vec::new();
        for (key, value) in map {
            if let Some((first, _)) = entries.iter().find(|(k, _)| k.name == key.name) {
                let what = format!("first `{}`", key.name);
                report.clash(
                    key.at,
                    Related { at: first.at, what },
                    format!("the key `{}` is there twice", key.name),
                    "keep one of the two",
                );
            } else if keys.contains(&key.name.as_str()) {
                entries.push((key, value));
            } else {
                unknown_key(key, what, keys, report);
            }
        }
        Some(Self { what, at: node.at, entries })
    }

    /// The value of a key, when it is there.
    pub(super) fn get(&self, name: &str) -> Option<Field<'n>> {
        let (key, node) = self.entries.iter().find(|(key, _)| key.name == name)?;
        Some(Field { name: &key.name, key_at: key.at, node })
    }

    /// The value of a key that must be there; `example` shows how it is written.
    pub(super) fn need(
        &self,
        name: &str,
        example: &str,
        report: &mut Report<'_>,
    ) -> Option<Field<'n>> {
        let field = self.get(name);
        if field.is_none() {
            report.error(
                self.at,
                format!("{} needs the key `{name}`", self.what),
                format!("add it, for example `{name}: {example}`"),
            );
        }
        field
    }
}

fn unknown_key(key: &Key, what: &str, keys: &[&str], report: &mut Report<'_>) {
    if key.name == "<<" {
        report.error(
            key.at,
            "merging blocks with `<<` is not supported",
            "write the keys out, or share a whole block with an anchor and an alias",
        );
        return;
    }
    let advice = if report.is_full() {
        String::new()
    } else {
        suggest::advice(&key.name, "known keys", keys.iter().copied())
    };
    report.error(key.at, format!("{what} has no key {}", quote(&key.name)), advice);
}

/// Reads every item and refuses what clashes with one before.
pub(super) fn each<T>(
    items: &[Field<'_>],
    mut read: impl FnMut(&Field<'_>, &mut Report<'_>) -> Option<T>,
    report: &mut Report<'_>,
    clash: impl Fn(&T, &T) -> Option<String>,
) -> Option<Vec<T>> {
    let mut all: Vec<T> = Vec::new();
    let mut right = true;
    for item in items {
        let Some(one) = read(item, report) else {
            right = false;
            continue;
        };
        match all.iter().find_map(|other| clash(&one, other)) {
            Some(reason) => {
                report.error(item.at(), reason, "keep one of the two");
                right = false;
            }
            None => all.push(one),
        }
    }
    right.then_some(all)
}
