//! Values against their laws, against a history that knows no dots, against another
//! implementation, and against hostile bytes.

mod bounded;
mod bytes;
mod history;
mod laws;
mod limits;
mod peer;
mod world;

use super::{Reading, Update, Value, Writer};
use crate::clock::{Actor, Hlc, ReplicaId};

fn actor(replica: u16, incarnation: u32) -> Actor {
    Actor::new(ReplicaId::new(replica), incarnation)
}

fn writer(replica: u16, seq: u64) -> Writer {
    Writer { actor: actor(replica, 1), seq, stamp: Hlc::from_bits(seq) }
}

/// Updates a value in place; the delta.
fn apply(value: &mut Value, update: &Update, by: &Writer) -> Value {
    let delta = value.update(update, by).unwrap();
    value.join(&delta).unwrap();
    delta
}

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

fn siblings(value: &Value) -> usize {
    let Reading::Siblings { values, .. } = value.read() else { return 0 };
    values.len()
}
