//! What changed between two values, as a merge patch (RFC 7396): members that are others, the
//! members within objects one by one, arrays whole, and null for what is gone.
//!
//! So nothing that is null can be told: values that are compared have no null members.

use serde_json::{Map, Value};

/// What makes the second of the first; nothing when they are equal.
#[must_use]
pub fn difference(before: &Value, after: &Value) -> Option<Value> {
    if before == after {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return Some(after.clone());
    };
    let mut patch = Map::new();
    for (name, value) in new {
        let changed = match old.get(name) {
            Some(was) => difference(was, value),
            None => Some(value.clone()),
        };
        patch.extend(changed.map(|changed| (name.clone(), changed)));
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    patch.extend(gone.map(|name| (name.clone(), Value::Null)));
    Some(Value::Object(patch))
}

/// Makes the second of the first.
pub fn apply(value: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        value.clone_from(patch);
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(of) = value else { return };
    for (name, change) in members {
        if change.is_null() {
            of.remove(name);
        } else {
            apply(of.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// Values without null members and without empty objects that would hide in a patch.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0_u8..4).prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
            prop::collection::vec(prop::option::of(0_u8..3), 0..3).prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn a_patch_makes_the_second_of_the_first(before in value(), after in value()) {
            let mut made = before.clone();
            match difference(&before, &after) {
                Some(patch) => apply(&mut made, &patch),
                None => prop_assert_eq!(&before, &after),
            }
            prop_assert_eq!(made, after);
        }
    }

    #[test]
    fn only_what_is_another_is_told() {
        let before = json!({ "regions": { "a": { "vms": 1, "up": 2 }, "b": { "vms": 3 } }, "x": 1 });
        let after =
            json!({ "regions": { "a": { "vms": 2, "up": 2 } }, "x": 1, "y": [null] });
        let patch = difference(&before, &after).unwrap();
        let expected =
            json!({ "regions": { "a": { "vms": 2 }, "b": null }, "y": [null] });
        assert_eq!(patch, expected);
        assert_eq!(difference(&after, &after), None);
    }

    /// The cases of RFC 7396, appendix A, that have objects on both sides or arrays.
    #[test]
    fn patches_of_others_are_applied_as_the_standard_says() {
        for (value, patch, expected) in [
            (json!({ "a": "b" }), json!({ "a": "c" }), json!({ "a": "c" })),
            (json!({ "a": "b" }), json!({ "b": "c" }), json!({ "a": "b", "b": "c" })),
            (json!({ "a": "b" }), json!({ "a": null }), json!({})),
            (json!({ "a": ["b"] }), json!({ "a": "c" }), json!({ "a": "c" })),
            (
                json!({ "a": { "b": "c" } }),
                json!({ "a": { "b": "d", "c": null } }),
                json!({ "a": { "b": "d" } }),
            ),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({ "e": null }), json!({ "a": 1 }), json!({ "e": null, "a": 1 })),
            (json!([1, 2]), json!({ "a": "b", "c": null }), json!({ "a": "b" })),
            (
                json!({}),
                json!({ "a": { "bb": { "ccc": null } } }),
                json!({ "a": { "bb": {} } }),
            ),
        ] {
            let mut made = value;
            apply(&mut made, &patch);
            assert_eq!(made, expected);
        }
    }
}
