//! What a transaction is, and which ones are well formed.
//!
//! The check stands here, before any adapter, so that all adapters refuse the same requests
//! with the same words. One key may be written once in a transaction, as in etcd: otherwise
//! two events of one revision would contradict each other.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};

use super::{
    KEY_LEN_MAX, KeyValue, LeaseId, OPS_MAX, StrongError, TXN_LEN_MAX, VALUE_LEN_MAX,
    bound,
};

/// Longest operation id in bytes: room for a client's token and a prefix.
const OP_ID_LEN_MAX: usize = 128;

/// Names one attempt to change something, so that asking again does not do it again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(String);

/// Why a text is not an operation id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an operation id is 1 to 128 printable ASCII characters without spaces, not {0:?}"
)]
pub struct OpIdError(String);

impl OpId {
    /// Checks and makes one.
    ///
    /// # Errors
    ///
    /// When it is empty, longer than 128 bytes or not printable ASCII.
    pub fn new(text: &str) -> Result<Self, OpIdError> {
        let sound = (1..=OP_ID_LEN_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if sound {
            Ok(Self(text.to_owned()))
        } else {
            Err(OpIdError(text.chars().take(OP_ID_LEN_MAX).collect()))
        }
    }

    /// A new one that no one else has: 128 random bits.
    ///
    /// # Panics
    ///
    /// When the system has no randomness; nothing secure can run then.
    #[must_use]
    pub fn random() -> Self {
        let mut bits = [0; 16];
        SystemRandom::new().fill(&mut bits).expect("the system gives random bytes");
        Self(format!("{:032x}", u128::from_be_bytes(bits)))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What must hold for a transaction to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key was last changed at this revision; zero: it is not there.
    Revision {
        /// The key.
        key: String,
        /// The revision.
        mod_revision: u64,
    },
    /// The key is there and has this value.
    Value {
        /// The key.
        key: String,
        /// The value.
        value: Bytes,
    },
}

impl Compare {
    /// The key is not there.
    #[must_use]
    pub fn absent(key: impl Into<String>) -> Self {
        Self::Revision { key: key.into(), mod_revision: 0 }
    }

    /// The key is as this record says.
    #[must_use]
    pub fn unchanged(record: &KeyValue) -> Self {
        Self::Revision { key: record.key.clone(), mod_revision: record.mod_revision }
    }

    /// The key is as it was found: as this record says, or not there.
    #[must_use]
    pub fn as_found(key: &str, found: Option<&KeyValue>) -> Self {
        found.map_or_else(|| Self::absent(key), Self::unchanged)
    }

    /// The key it looks at.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Revision { key, .. } | Self::Value { key, .. } => key,
        }
    }

    /// Whether it holds for what is there.
    #[must_use]
    pub fn holds(&self, current: Option<&KeyValue>) -> bool {
        match self {
            Self::Revision { mod_revision, .. } => {
                current.map_or(0, |record| record.mod_revision) == *mod_revision
            }
            Self::Value { value, .. } => {
                current.is_some_and(|record| record.value == *value)
            }
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a key.
    Put {
        /// The key.
        key: String,
        /// Its value from now on.
        value: Bytes,
        /// The lease it dies with, in place of any earlier one.
        lease: Option<LeaseId>,
    },
    /// Deletes a key; one that is not there is left alone.
    Delete {
        /// The key.
        key: String,
    },
}

impl Op {
    /// Writes a key that dies with no lease.
    #[must_use]
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: None }
    }

    /// Deletes a key.
    #[must_use]
    pub fn delete(key: impl Into<String>) -> Self {
        Self::Delete { key: key.into() }
    }

    /// The key it changes.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Comparisons and the changes to make when all of them hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must hold.
    pub compare: Vec<Compare>,
    /// What then happens, as one.
    pub then: Vec<Op>,
    /// Makes asking again safe: a transaction that was committed under this id is answered as
    /// it was then. How long an id is remembered is the adapter's: the last 65,536 by the
    /// embedded engine, nine minutes at least by etcd.
    pub op_id: Option<OpId>,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOutcome {
    /// Every comparison held and the changes are durable.
    Committed {
        /// The revision of the changes; the current one when nothing changed.
        revision: u64,
    },
    /// A comparison did not hold and nothing was done.
    Conflict {
        /// What the compared keys are now, in the order of the comparisons.
        current: Vec<(String, Option<KeyValue>)>,
    },
}

impl Txn {
    /// Refuses what no adapter may accept.
    ///
    /// # Errors
    ///
    /// [`StrongError::TooLarge`] above a limit, [`StrongError::Malformed`] when a key is empty
    /// or written twice.
    pub fn check(&self) -> Result<(), StrongError> {
        bound("the number of comparisons", self.compare.len(), OPS_MAX)?;
        bound("the number of operations", self.then.len(), OPS_MAX)?;
        let mut total = 0_usize;
        for key in self.keys() {
            check_key(key)?;
            total = total.saturating_add(key.len());
        }
        for value in self.values() {
            bound("a value's size in bytes", value.len(), VALUE_LEN_MAX)?;
            total = total.saturating_add(value.len());
        }
        bound("the transaction's size in bytes", total, TXN_LEN_MAX)?;
        let mut written = BTreeSet::new();
        match self.then.iter().find(|op| !written.insert(op.key())) {
            Some(op) => Err(StrongError::Malformed {
                reason: format!("key {:?} is written twice", op.key()),
            }),
            None => Ok(()),
        }
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.compare.iter().map(Compare::key).chain(self.then.iter().map(Op::key))
    }

    fn values(&self) -> impl Iterator<Item = &Bytes> {
        let compared = self.compare.iter().filter_map(|compare| match compare {
            Compare::Value { value, .. } => Some(value),
            Compare::Revision { .. } => None,
        });
        compared.chain(self.then.iter().filter_map(|op| match op {
            Op::Put { value, .. } => Some(value),
            Op::Delete { .. } => None,
        }))
    }

    /// A fingerprint of everything but the id, to notice an id used for something else.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut field = |tag: u8, bytes: &[u8]| {
            context.update(&[tag]);
            context.update(&bytes.len().to_le_bytes());
            context.update(bytes);
        };
        for compare in &self.compare {
            field(0, compare.key().as_bytes());
            match compare {
                Compare::Revision { mod_revision, .. } => {
                    field(1, &mod_revision.to_le_bytes());
                }
                Compare::Value { value, .. } => field(2, value),
            }
        }
        for op in &self.then {
            field(3, op.key().as_bytes());
            if let Op::Put { value, lease, .. } = op {
                field(4, value);
                field(5, &lease.map_or(0, LeaseId::get).to_le_bytes());
            }
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        out
    }
}

/// Whether the comparisons that failed could hold at another time. A revision that has passed
/// never comes back; absence and values do. For adapters that lost an answer: what they lost
/// may still be on its way, and may yet succeed.
#[must_use]
pub fn may_hold_later(
    compare: &[Compare],
    current: &[(String, Option<KeyValue>)],
) -> bool {
    let failed = compare
        .iter()
        .zip(current)
        .filter(|(compare, (_, record))| !compare.holds(record.as_ref()));
    !failed.into_iter().any(|(compare, _)| {
        matches!(compare, Compare::Revision { mod_revision, .. } if *mod_revision != 0)
    })
}

/// Refuses keys that are empty or too long.
pub(crate) fn check_key(key: &str) -> Result<(), StrongError> {
    if key.is_empty() {
        return Err(StrongError::Malformed { reason: "a key is empty".to_owned() });
    }
    bound("a key's size in bytes", key.len(), KEY_LEN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_or_contradicts_itself_is_refused_by_name() {
        let put = |key: &str, size: usize| Op::put(key, vec![0; size]);
        let cases = [
            (vec![put("", 1)], "empty"),
            (vec![put(&"k".repeat(513), 1)], "a key's size in bytes is 513"),
            (vec![put("k", VALUE_LEN_MAX + 1)], "a value's size"),
            (
                vec![put("k", VALUE_LEN_MAX), put("l", VALUE_LEN_MAX)],
                "transaction's size",
            ),
            (vec![put("k", 1), Op::delete("k")], "written twice"),
            (
                (0..129).map(|i| put(&i.to_string(), 1)).collect(),
                "129, more than the 128",
            ),
        ];
        for (then, expected) in cases {
            let error = Txn { then, ..Txn::default() }.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        Txn { then: vec![put(&"k".repeat(512), VALUE_LEN_MAX)], ..Txn::default() }
            .check()
            .unwrap();
    }

    #[test]
    fn different_transactions_have_different_fingerprints() {
        let of = |compare, then| Txn { compare, then, op_id: None }.digest();
        let all = [
            of(vec![], vec![]),
            of(vec![Compare::absent("a")], vec![]),
            of(
                vec![Compare::Value { key: "a".into(), value: Bytes::from(vec![0; 8]) }],
                vec![],
            ),
            of(vec![], vec![Op::put("a", "b")]),
            of(vec![], vec![Op::put("a", "bc")]),
            of(vec![], vec![Op::delete("a")]),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn an_operation_id_is_short_and_printable() {
        assert!(OpId::new("").is_err());
        assert!(OpId::new("a b").is_err());
        assert!(OpId::new(&"x".repeat(129)).is_err());
        assert_ne!(OpId::random(), OpId::random());
        assert!(OpId::new(OpId::random().as_str()).is_ok());
    }
}
