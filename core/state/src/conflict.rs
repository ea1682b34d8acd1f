//! Rules that make one value of several that were written concurrently (S14.3).
//!
//! The other two strategies are kinds: last-writer-wins is [`crate::Lww`], causality with
//! siblings is [`crate::Mv`]. A rule works on the siblings of an `Mv`: the reader sees what it
//! makes of them, and whoever writes that back replaces exactly what was read. The siblings stay
//! what is replicated, so a rule cannot make replicas diverge, only readers; that is why it is held
//! to the laws of a join before it is taken.

mod rules;

pub use rules::{Greatest, Lines, Ranked};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::bytes::Bytes;

/// Most rules of a program: one for each type of record, with room.
pub const RULES_MAX: usize = 256;
/// Most samples that a rule is tried on: every three of them are, so a million at most.
pub const SAMPLES_MAX: usize = 100;

/// Makes one value of two. Pure: the same two always make the same one.
pub trait Resolver: fmt::Debug + Send + Sync {
    /// What policies call it.
    fn name(&self) -> &str;

    /// The value that stands for both. It must not matter which is which, in which order several
    /// are resolved, or whether one comes twice.
    fn resolve(&self, local: &[u8], remote: &[u8]) -> Bytes;

    /// Values that show what the rule does: the laws are tried on every three of them.
    fn samples(&self) -> Vec<Bytes>;
}

/// Why a rule is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Readers of the same siblings would see different values.
    #[error(
        "the rule {rule} is not {law} for {values:?}; a rule must be, or readers differ"
    )]
    Unlawful {
        /// The rule.
        rule: String,
        /// Which law it breaks.
        law: &'static str,
        /// What it breaks it on.
        values: Vec<Bytes>,
    },
    /// Two rules have one name.
    #[error("there is a rule {rule} already; give this one another name")]
    NameTaken {
        /// The name.
        rule: String,
    },
    /// There is nothing, or too much, to try it on.
    #[error("the rule {rule} has {samples} samples; give it 2 to {SAMPLES_MAX}")]
    Samples {
        /// The rule.
        rule: String,
        /// How many it has.
        samples: usize,
    },
    /// There are too many rules.
    #[error("there are {RULES_MAX} rules already; use one of them")]
    TooMany,
}

/// The rules that policies can name.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: BTreeMap<String, Arc<dyn Resolver>>,
}

impl Rules {
    /// No rules.
    #[must_use]
    pub const fn new() -> Self {
        Self { rules: BTreeMap::new() }
    }

    /// Takes a rule that keeps the laws on its samples.
    ///
    /// # Errors
    ///
    /// When it breaks one, its name is taken, or there is too much of something.
    pub fn register(&mut self, rule: Arc<dyn Resolver>) -> Result<(), RuleError> {
        let name = rule.name().to_owned();
        if self.rules.contains_key(&name) {
            return Err(RuleError::NameTaken { rule: name });
        }
        if self.rules.len() >= RULES_MAX {
            return Err(RuleError::TooMany);
        }
        check_laws(rule.as_ref())?;
        self.rules.insert(name, rule);
        Ok(())
    }

    /// The rule of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&dyn Resolver> {
        self.rules.get(name).map(AsRef::as_ref)
    }
}

/// What a rule makes of siblings; nothing where there are none.
#[must_use]
pub fn resolve(rule: &dyn Resolver, siblings: &[Bytes]) -> Option<Bytes> {
    let (first, rest) = siblings.split_first()?;
    Some(rest.iter().fold(first.clone(), |one, other| rule.resolve(&one, other)))
}

fn check_laws(rule: &dyn Resolver) -> Result<(), RuleError> {
    let samples = rule.samples();
    let name = || rule.name().to_owned();
    if !(2..=SAMPLES_MAX).contains(&samples.len()) {
        return Err(RuleError::Samples { rule: name(), samples: samples.len() });
    }
    let broken = |law, values: &[&Bytes]| {
        let values = values.iter().map(|value| (*value).clone()).collect();
        Err(RuleError::Unlawful { rule: name(), law, values })
    };
    for a in &samples {
        if rule.resolve(a, a) != *a {
            return broken("idempotent", &[a]);
        }
        for b in &samples {
            let both = rule.resolve(a, b);
            if both != rule.resolve(b, a) {
                return broken("commutative", &[a, b]);
            }
            for c in &samples {
                if rule.resolve(&both, c) != rule.resolve(a, &rule.resolve(b, c)) {
                    return broken("associative", &[a, b, c]);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
