//! The engine's types as JSON. Values are base64: they are bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dwcp_runtime::strong::{
    Compare, Event, KeyValue, LeaseId, Op, OpId, Page, StrongError, Txn, TxnOutcome,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiError, ErrorCode};

/// Bytes in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct WireBytes(Bytes);

impl TryFrom<String> for WireBytes {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, base64::DecodeError> {
        STANDARD.decode(text).map(|bytes| Self(bytes.into()))
    }
}

impl From<WireBytes> for String {
    fn from(bytes: WireBytes) -> Self {
        STANDARD.encode(&bytes.0)
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WireRecord {
    /// Its key.
    pub key: String,
    /// Its value in base64.
    pub value: WireBytes,
    /// The revision at which the key came to be.
    pub create_revision: u64,
    /// The revision of its last change.
    pub mod_revision: u64,
    /// The lease it dies with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<u64>,
}

impl From<KeyValue> for WireRecord {
    fn from(record: KeyValue) -> Self {
        Self {
            key: record.key,
            value: WireBytes(record.value),
            create_revision: record.create_revision,
            mod_revision: record.mod_revision,
            lease: record.lease.map(LeaseId::get),
        }
    }
}

impl From<WireRecord> for KeyValue {
    fn from(record: WireRecord) -> Self {
        Self {
            key: record.key,
            value: record.value.0,
            create_revision: record.create_revision,
            mod_revision: record.mod_revision,
            lease: record.lease.map(LeaseId::new),
        }
    }
}

/// What must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum WireCompare {
    /// The key was last changed at this revision; zero: it is not there.
    Revision {
        /// The key.
        key: String,
        /// The revision.
        mod_revision: u64,
    },
    /// The key has this value.
    Value {
        /// The key.
        key: String,
        /// The value in base64.
        value: WireBytes,
    },
}

/// What is then done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum WireOp {
    /// Writes a key.
    Put {
        /// The key.
        key: String,
        /// The value in base64.
        value: WireBytes,
        /// The lease it dies with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<u64>,
    },
    /// Deletes a key.
    Delete {
        /// The key.
        key: String,
    },
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WireTxn {
    /// What must hold.
    pub compare: Vec<WireCompare>,
    /// What is then done.
    pub then: Vec<WireOp>,
    /// Makes asking again safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op_id: Option<String>,
}

impl From<Txn> for WireTxn {
    fn from(txn: Txn) -> Self {
        let compare = |compare| match compare {
            Compare::Revision { key, mod_revision } => {
                WireCompare::Revision { key, mod_revision }
            }
            Compare::Value { key, value } => {
                WireCompare::Value { key, value: WireBytes(value) }
            }
        };
        let op = |op| match op {
            Op::Put { key, value, lease } => WireOp::Put {
                key,
                value: WireBytes(value),
                lease: lease.map(LeaseId::get),
            },
            Op::Delete { key } => WireOp::Delete { key },
        };
        Self {
            compare: txn.compare.into_iter().map(compare).collect(),
            then: txn.then.into_iter().map(op).collect(),
            op_id: txn.op_id.map(|id| id.as_str().to_owned()),
        }
    }
}

impl TryFrom<WireTxn> for Txn {
    type Error = dwcp_runtime::strong::OpIdError;

    fn try_from(txn: WireTxn) -> Result<Self, Self::Error> {
        let compare = |compare| match compare {
            WireCompare::Revision { key, mod_revision } => {
                Compare::Revision { key, mod_revision }
            }
            WireCompare::Value { key, value } => Compare::Value { key, value: value.0 },
        };
        let op = |op| match op {
            WireOp::Put { key, value, lease } => {
                Op::Put { key, value: value.0, lease: lease.map(LeaseId::new) }
            }
            WireOp::Delete { key } => Op::Delete { key },
        };
        Ok(Self {
            compare: txn.compare.into_iter().map(compare).collect(),
            then: txn.then.into_iter().map(op).collect(),
            op_id: txn.op_id.as_deref().map(OpId::new).transpose()?,
        })
    }
}

/// A compared key and what it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WireCurrent {
    /// The key.
    pub key: String,
    /// Its record, if it is there.
    pub record: Option<WireRecord>,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WireOutcome {
    /// It happened.
    Committed {
        /// At this revision.
        revision: u64,
    },
    /// A comparison did not hold and nothing was done.
    Conflict {
        /// What the compared keys are.
        current: Vec<WireCurrent>,
    },
}

impl From<TxnOutcome> for WireOutcome {
    fn from(outcome: TxnOutcome) -> Self {
        match outcome {
            TxnOutcome::Committed { revision } => Self::Committed { revision },
            TxnOutcome::Conflict { current } => {
                let current = current.into_iter().map(|(key, record)| WireCurrent {
                    key,
                    record: record.map(WireRecord::from),
                });
                Self::Conflict { current: current.collect() }
            }
        }
    }
}

impl From<WireOutcome> for TxnOutcome {
    fn from(outcome: WireOutcome) -> Self {
        match outcome {
            WireOutcome::Committed { revision } => Self::Committed { revision },
            WireOutcome::Conflict { current } => {
                let current = current
                    .into_iter()
                    .map(|current| (current.key, current.record.map(KeyValue::from)));
                Self::Conflict { current: current.collect() }
            }
        }
    }
}

/// Some records, as of one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WirePage {
    /// The records.
    pub items: Vec<WireRecord>,
    /// The revision they are as of.
    pub revision: u64,
    /// Whether there are more.
    pub more: bool,
}

impl From<Page> for WirePage {
    fn from(page: Page) -> Self {
        Self {
            items: page.items.into_iter().map(WireRecord::from).collect(),
            revision: page.revision,
            more: page.more,
        }
    }
}

impl From<WirePage> for Page {
    fn from(page: WirePage) -> Self {
        Self {
            items: page.items.into_iter().map(KeyValue::from).collect(),
            revision: page.revision,
            more: page.more,
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WireEvent {
    /// A key was written.
    Put {
        /// Its record.
        record: WireRecord,
    },
    /// A key was deleted.
    Delete {
        /// The key.
        key: String,
        /// The revision at which it went.
        mod_revision: u64,
    },
}

impl From<Event> for WireEvent {
    fn from(event: Event) -> Self {
        match event {
            Event::Put(record) => Self::Put { record: record.into() },
            Event::Delete { key, mod_revision } => Self::Delete { key, mod_revision },
        }
    }
}

impl From<WireEvent> for Event {
    fn from(event: WireEvent) -> Self {
        match event {
            WireEvent::Put { record } => Self::Put(record.into()),
            WireEvent::Delete { key, mod_revision } => Self::Delete { key, mod_revision },
        }
    }
}

/// Events of a prefix, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WireEvents {
    /// The events.
    pub events: Vec<WireEvent>,
    /// The first revision that these events do not cover.
    pub next_revision: u64,
}

/// Why the engine refuses, as the details of an [`ApiError`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WireError {
    /// Nothing was done.
    Unavailable {
        /// Why.
        reason: String,
    },
    /// It may or may not have been done.
    Indeterminate {
        /// Why.
        reason: String,
    },
    /// The revision is no longer remembered.
    Compacted {
        /// The first one that is.
        oldest: u64,
    },
    /// The lease is not there.
    LeaseNotFound {
        /// Which.
        lease: u64,
    },
    /// The request is malformed or too large.
    Malformed {
        /// How.
        reason: String,
    },
}

impl WireError {
    /// The error of the port that it stands for.
    #[must_use]
    pub fn into_strong(self, op_id: Option<OpId>) -> StrongError {
        match self {
            Self::Unavailable { reason } => StrongError::Unavailable { reason },
            Self::Indeterminate { reason } => {
                StrongError::Indeterminate { op_id, reason }
            }
            Self::Compacted { oldest } => StrongError::Compacted { oldest },
            Self::LeaseNotFound { lease } => {
                StrongError::LeaseNotFound { lease: LeaseId::new(lease) }
            }
            Self::Malformed { reason } => StrongError::Malformed { reason },
        }
    }
}

/// An error of the engine as the API shows it.
#[must_use]
pub(super) fn api_error(error: StrongError) -> ApiError {
    let message = error.to_string();
    let (code, details) = match error {
        StrongError::Unavailable { reason } => {
            (ErrorCode::Unavailable, WireError::Unavailable { reason })
        }
        StrongError::Indeterminate { reason, .. } => {
            (ErrorCode::Indeterminate, WireError::Indeterminate { reason })
        }
        StrongError::Compacted { oldest } => {
            (ErrorCode::Conflict, WireError::Compacted { oldest })
        }
        StrongError::LeaseNotFound { lease } => {
            (ErrorCode::NotFound, WireError::LeaseNotFound { lease: lease.get() })
        }
        // A client checks sizes itself before it sends, so it never needs them back.
        StrongError::TooLarge { .. } => {
            (ErrorCode::Invalid, WireError::Malformed { reason: message.clone() })
        }
        StrongError::Malformed { reason } => {
            (ErrorCode::Invalid, WireError::Malformed { reason })
        }
    };
    ApiError::new(code, message).with_details(&details)
}
