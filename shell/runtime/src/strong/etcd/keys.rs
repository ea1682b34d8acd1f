//! Where a federation's keys lie in etcd.
//!
//! Everything of one federation begins with its namespace: `NAMESPACE/r/` are records,
//! `NAMESPACE/o/` are operation ids. Two federations on one cluster, and records and ids, can
//! so never meet, and a watch of all records sees no id.

use bytes::{BufMut, Bytes, BytesMut};

use super::super::{KeyValue, LeaseId, OpId, StrongError};
use super::proto::{self, unsigned};

/// Longest namespace in bytes.
const NAMESPACE_LEN_MAX: usize = 63;

/// A federation's part of the key space.
#[derive(Clone, Debug)]
pub(super) struct KeySpace {
    records: Bytes,
    ops: Bytes,
}

impl KeySpace {
    /// Nothing when the namespace is empty, too long, or not of letters, digits and `-`.
    pub(super) fn new(namespace: &str) -> Option<Self> {
        let sound = (1..=NAMESPACE_LEN_MAX).contains(&namespace.len())
            && namespace.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        sound.then(|| Self {
            records: format!("{namespace}/r/").into(),
            ops: format!("{namespace}/o/").into(),
        })
    }

    /// A record's key.
    pub(super) fn record(&self, key: &str) -> Bytes {
        joined(&self.records, key.as_bytes())
    }

    /// An operation id's key.
    pub(super) fn op(&self, id: &OpId) -> Bytes {
        joined(&self.ops, id.as_str().as_bytes())
    }

    /// The keys of a prefix from the first after `after`, as first and end.
    pub(super) fn span(&self, prefix: &str, after: Option<&str>) -> (Bytes, Bytes) {
        let first = self.record(prefix);
        let end = end_of(&first);
        let next = after.map(|after| joined(&self.record(after), &[0]));
        let next = next.unwrap_or_default();
        (next.max(first), end)
    }

    /// A record as callers know it.
    pub(super) fn parse(&self, kv: proto::KeyValue) -> Result<KeyValue, StrongError> {
        Ok(KeyValue {
            key: self.parse_key(&kv.key)?,
            value: kv.value,
            create_revision: unsigned(kv.create_revision),
            mod_revision: unsigned(kv.mod_revision),
            lease: (kv.lease != 0).then(|| LeaseId::new(unsigned(kv.lease))),
        })
    }

    /// A record's key as callers know it.
    pub(super) fn parse_key(&self, key: &[u8]) -> Result<String, StrongError> {
        let own = key.strip_prefix(self.records.as_ref());
        let own = own.and_then(|key| std::str::from_utf8(key).ok());
        own.map(str::to_owned).ok_or_else(|| StrongError::Unavailable {
            reason: format!(
                "etcd gave the key {:?}, which this federation never wrote; \
                 nobody else may write below its namespace",
                String::from_utf8_lossy(key)
            ),
        })
    }
}

fn joined(prefix: &[u8], rest: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(prefix.len() + rest.len());
    key.put(prefix);
    key.put(rest);
    key.freeze()
}

/// The first key that does not begin with this. There is one: a namespace is ASCII.
fn end_of(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            break;
        }
    }
    end.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn space() -> KeySpace {
        KeySpace::new("t1").unwrap()
    }

    #[test]
    fn a_namespace_is_a_plain_word() {
        for text in ["", "a/b", "a b", "\u{fc}", &"x".repeat(64)] {
            assert!(KeySpace::new(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_key_of_somebody_else_is_an_error_and_not_a_panic() {
        for key in [&b"t1/o/x"[..], b"t2/r/x", b"t1/r/\xff", b""] {
            assert!(space().parse_key(key).is_err(), "{key:?}");
        }
    }

    proptest! {
        /// The oracle is the definition: begins with the prefix, lies after `after`.
        #[test]
        fn a_span_holds_exactly_what_begins_with_the_prefix(
            prefix in "[a-c\u{7f}\u{10ffff}]{0,3}",
            after in proptest::option::of("[a-c\u{7f}\u{10ffff}]{0,4}"),
            key in "[a-c\u{7f}\u{10ffff}]{1,4}",
        ) {
            let (first, end) = space().span(&prefix, after.as_deref());
            let stored = space().record(&key);
            let inside = first <= stored && stored < end;
            let wanted = key.starts_with(&prefix)
                && after.as_deref().is_none_or(|after| key.as_str() > after);
            prop_assert_eq!(inside, wanted);
            prop_assert_eq!(space().parse_key(&stored).unwrap(), key);
        }
    }
}
