//! Rules that are provided keep the laws on anything; rules that break them are refused.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Greatest, Lines, Ranked, Resolver, RuleError, Rules, check_laws, resolve};
use crate::bytes::Bytes;
use crate::clock::{Actor, DottedVersion, Hlc, ReplicaId};
use crate::crdt::{Kind, Reading, Update, Value, Writer};

/// A rule made of a function, with samples of its own.
#[derive(Debug)]
struct Rule<'a> {
    samples: Vec<Bytes>,
    of: fn(&[u8], &[u8]) -> Bytes,
    name: &'a str,
}

impl Resolver for Rule<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn resolve(&self, local: &[u8], remote: &[u8]) -> Bytes {
        (self.of)(local, remote)
    }

    fn samples(&self) -> Vec<Bytes> {
        self.samples.clone()
    }
}

fn provided() -> [Arc<dyn Resolver>; 3] {
    [Arc::new(Greatest), Arc::new(Ranked::power_state()), Arc::new(Lines)]
}

fn made(rule: &dyn Resolver, one: &str, other: &str) -> Bytes {
    rule.resolve(one.as_bytes(), other.as_bytes())
}

proptest! {
    #[test]
    fn order_does_not_matter(mut texts in vec("(running|paused|[0-9]{0,3}|[a-c\n]{0,6})", 2..6)) {
        for rule in provided() {
            let siblings: Vec<Bytes> = texts.iter().map(|text| text.as_str().into()).collect();
            let forth = resolve(rule.as_ref(), &siblings);
            let twice = resolve(rule.as_ref(), &[&siblings[..], &siblings[..]].concat());
            prop_assert_eq!(&forth, &twice, "{}", rule.name());
            texts.reverse();
            let siblings: Vec<Bytes> = texts.iter().map(|text| text.as_str().into()).collect();
            prop_assert_eq!(&resolve(rule.as_ref(), &siblings), &forth, "{}", rule.name());
        }
    }
}

#[test]
fn the_provided_rules_do_what_vms_need() {
    let power = Ranked::power_state();
    assert_eq!(made(&power, "stopped", "running"), "running".into());
    assert_eq!(made(&power, "paused", "stopped"), "paused".into());
    assert_eq!(made(&power, "stopped", "unheard-of"), "stopped".into());
    assert_eq!(made(&Greatest, "9", "10"), "10".into());
    assert_eq!(made(&Greatest, "x", "0"), "0".into());
    assert_eq!(made(&Lines, "vdb\nvda", "vdc"), "vda\nvdb\nvdc".into());
}

#[test]
fn rules_are_found_by_name_and_a_name_is_given_once() {
    let mut rules = Rules::new();
    for rule in provided() {
        rules.register(rule).unwrap();
    }
    assert_eq!(rules.get("power-state").unwrap().name(), "power-state");
    assert!(rules.get("unheard-of").is_none());
    let again = rules.register(Arc::new(Lines));
    assert_eq!(again, Err(RuleError::NameTaken { rule: "lines".to_owned() }));
}

#[test]
fn a_rule_that_breaks_a_law_is_refused_with_the_values_that_show_it() {
    let refused = |of| {
        let samples = ["a", "b", "c"].map(Bytes::from).into();
        match check_laws(&Rule { samples, of, name: "broken" }) {
            Err(RuleError::Unlawful { law, values, .. }) => (law, values.len()),
            other => panic!("{other:?}"),
        }
    };
    let first = |one: &[u8], _: &[u8]| one.into();
    assert_eq!(refused(first), ("commutative", 2));
    let longer =
        |one: &[u8], other: &[u8]| [one.min(other), one.max(other)].concat().into();
    assert_eq!(refused(longer), ("idempotent", 1));
    // Each beats the one before it, in a ring.
    let ring = |one: &[u8], other: &[u8]| match (one, other) {
        (b"a", b"c") | (b"c", b"a") => b"a"[..].into(),
        _ => one.max(other).into(),
    };
    assert_eq!(refused(ring), ("associative", 3));
    let none = Rule { samples: Vec::new(), of: first, name: "none" };
    assert!(matches!(check_laws(&none), Err(RuleError::Samples { samples: 0, .. })));
}

#[test]
fn what_a_rule_made_replaces_the_siblings_that_were_read() {
    let by = |replica, seq| {
        let actor = Actor::new(ReplicaId::new(replica), 1);
        Writer { actor, seq, stamp: Hlc::ZERO }
    };
    let write = |text: &str, seen| Update::Write { value: Some(text.into()), seen };
    let mut register = Value::bottom(Kind::Mv);
    for (replica, text) in [(1, "paused"), (2, "running")] {
        let nothing = DottedVersion::new();
        let bottom = Value::bottom(Kind::Mv);
        let delta = bottom.update(&write(text, nothing), &by(replica, 1)).unwrap();
        register.join(&delta).unwrap();
    }
    let Reading::Siblings { values, seen } = register.read() else {
        unreachable!("siblings")
    };
    let merged = resolve(&Ranked::power_state(), &values).unwrap();
    let update = Update::Write { value: Some(merged), seen };
    let delta = register.update(&update, &by(1, 2)).unwrap();
    register.join(&delta).unwrap();
    let Reading::Siblings { values, .. } = register.read() else {
        unreachable!("siblings")
    };
    assert_eq!(values, ["running".into()]);
}
