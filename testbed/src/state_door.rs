//! A region's replica as a test uses it.

use dwcp_api::state::{
    GetReplicas, GetStateKey, KeyParams, PostStateKey, ReadKey, ReplicaReport,
    ReplicaReports, StateEntry, StateLevel, StateUpdate, StateValue, Text, WriteKey,
    Written,
};
use dwcp_api::{CallError, NoParams};

use crate::doors::Door;

/// Sets a content.
#[must_use]
pub fn set(value: &str) -> WriteKey {
    WriteKey::of(StateUpdate::Set { value: Text::Plain(value.to_owned()) })
}

/// Adds to a counter.
#[must_use]
pub fn increment(by: i64) -> WriteKey {
    WriteKey::of(StateUpdate::Increment { by })
}

/// Adds one element to a set.
#[must_use]
pub fn add(element: &str) -> WriteKey {
    WriteKey::of(StateUpdate::Add { elements: vec![Text::Plain(element.to_owned())] })
}

/// Removes one element from a set.
#[must_use]
pub fn remove(element: &str) -> WriteKey {
    WriteKey::of(StateUpdate::Remove { elements: vec![Text::Plain(element.to_owned())] })
}

/// What a content is read as.
#[must_use]
pub fn content(value: &str) -> Option<StateValue> {
    Some(StateValue::Content(Text::Plain(value.to_owned())))
}

/// What a set is read as.
#[must_use]
pub fn elements(elements: &[&str]) -> Option<StateValue> {
    let text = |element: &&str| Text::Plain((*element).to_owned());
    Some(StateValue::Many(elements.iter().map(text).collect()))
}

impl Door {
    /// Changes a key.
    ///
    /// # Errors
    ///
    /// As the client's; so for all below.
    pub async fn write(&self, key: &str, write: &WriteKey) -> Result<Written, CallError> {
        let params = KeyParams { key: key.to_owned() };
        self.call::<PostStateKey>(&params, write).await
    }

    /// Reads a key at the level of its rule.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    pub async fn read(&self, key: &str) -> Result<StateEntry, CallError> {
        self.read_as(ReadKey::of(key)).await
    }

    /// Reads a key at a level.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    pub async fn read_at(
        &self,
        key: &str,
        level: StateLevel,
    ) -> Result<StateEntry, CallError> {
        self.read_as(ReadKey { level: Some(level), ..ReadKey::of(key) }).await
    }

    /// Reads a key in any way.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    pub async fn read_as(&self, ask: ReadKey) -> Result<StateEntry, CallError> {
        self.call::<GetStateKey>(&ask, &()).await
    }

    /// Every region's replica.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    pub async fn replicas(&self) -> Result<ReplicaReports, CallError> {
        self.call::<GetReplicas>(&NoParams {}, &()).await
    }
}

/// The report of one region among all.
#[must_use]
pub fn report_of<'a>(
    reports: &'a ReplicaReports,
    region: &str,
) -> Option<&'a ReplicaReport> {
    reports.items.iter().find(|item| item.region.as_str() == region)
}
