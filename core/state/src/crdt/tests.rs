//! Values against their laws, and against a history that knows no dots.

mod history;
mod laws;
mod world;

use super::Value;

fn joined(a: &Value, b: &Value) -> Value {
    let mut both = a.clone();
    let changed = both.join(b).unwrap();
    assert_eq!(changed, both != *a, "join says whether anything changed");
    both
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}
