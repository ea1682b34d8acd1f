//! `key:value,key:value`, split with the place of each part.
//!
//! A key that is misspelt, named twice or empty is refused where it stands: a constraint that
//! is dropped silently places a VM where it must not be.

/// Why a list cannot be read: where, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} (character {at}): {reason}")]
pub(crate) struct ListError {
    /// Which character, from 1.
    pub(crate) at: usize,
    /// The key, or the part as it is written.
    pub(crate) place: String,
    /// What is wrong and how to write it.
    pub(crate) reason: String,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// Where it begins, in characters from 1.
    pub(crate) at: usize,
    /// Its key.
    pub(crate) key: &'a str,
    /// Its value, if it has one.
    pub(crate) value: Option<&'a str>,
}

impl Part<'_> {
    /// A refusal of this part.
    pub(crate) fn refuse(&self, reason: impl Into<String>) -> ListError {
        let place = self.key.chars().take(40).collect();
        ListError { at: self.at, place, reason: reason.into() }
    }

    /// Its value.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub(crate) fn value(&self) -> Result<&str, ListError> {
        let value = self.value.filter(|value| !value.is_empty());
        value.ok_or_else(|| {
            self.refuse(format!("it has no value; write {}:VALUE", self.key))
        })
    }

    /// Reads its value by a function that says what is wrong.
    ///
    /// # Errors
    ///
    /// When there is none or the function refuses it.
    pub(crate) fn read<T>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ListError> {
        parse(self.value()?).map_err(|reason| self.refuse(reason))
    }
}

/// Splits a list whose keys are among `known`.
///
/// # Errors
///
/// At the first part that is empty, unknown or there twice.
pub(crate) fn parts<'a>(
    text: &'a str,
    known: &[&str],
) -> Result<Vec<Part<'a>>, ListError> {
    let mut found: Vec<Part<'a>> = Vec::new();
    let mut at = 1;
    for piece in text.split(',') {
        let blanks = piece.chars().take_while(|c| c.is_whitespace()).count();
        let (key, value) = match piece.split_once(':') {
            Some((key, value)) => (key.trim(), Some(value.trim())),
            None => (piece.trim(), None),
        };
        let part = Part { at: at + blanks, key, value };
        check(&part, known, &found)?;
        found.push(part);
        at += piece.chars().count() + 1;
    }
    Ok(found)
}

fn check(part: &Part<'_>, known: &[&str], before: &[Part<'_>]) -> Result<(), ListError> {
    let all = || known.join(", ");
    if part.key.is_empty() {
        let place = "empty part".to_owned();
        let reason = format!("write KEY:VALUE with a key of {}", all());
        return Err(ListError { at: part.at, place, reason });
    }
    if !known.contains(&part.key) {
        let reason = if known.contains(&part.key.replace('_', "-").as_str()) {
            format!("write it with a dash: {}", part.key.replace('_', "-"))
        } else {
            format!("there is no such key; there are {}", all())
        };
        return Err(part.refuse(reason));
    }
    if let Some(first) = before.iter().find(|other| other.key == part.key) {
        return Err(part.refuse(format!(
            "it is there twice, first at character {}; keep one",
            first.at
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KNOWN: &[&str] = &["cpu", "max-latency"];

    #[test]
    fn each_mistake_is_told_where_it_stands() {
        for (text, at, part) in [
            ("", 1, "KEY:VALUE"),
            ("cpu:4,", 7, "KEY:VALUE"),
            ("cpu:4,  ram:5", 9, "no such key"),
            ("cpu:4,cpu:5", 7, "first at character 1"),
            ("max_latency:5", 1, "max-latency"),
            ("ü:1", 1, "no such key"),
        ] {
            let error = parts(text, KNOWN).unwrap_err();
            assert_eq!(error.at, at, "{text:?}: {error}");
            assert!(error.reason.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_value_may_hold_colons() {
        let parts = parts("cpu: a:b ", KNOWN).unwrap();
        assert_eq!(parts[0].value, Some("a:b"));
        assert!(Part { at: 1, key: "cpu", value: None }.value().is_err());
    }

    proptest! {
        #[test]
        fn the_place_points_at_the_key(text in "[ a-zé:,]{0,30}") {
            if let Err(error) = parts(&text, &["a"]) {
                let rest: String = text.chars().skip(error.at - 1).collect();
                if error.place != "empty part" {
                    prop_assert!(rest.starts_with(&error.place), "{error} in {text:?}");
                }
            }
        }
    }
}
