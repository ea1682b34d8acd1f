//! etcd's own put, get and compaction over the same connection: what the adapter's benchmark
//! compares with, and how its tests make the past go.
//!
//! Not for records: no operation id, no comparison, no namespace.

use bytes::Bytes;

use super::grpc::Failure;
use super::member::{MemberAddress, describe};
use super::members::{Again, Members};
use super::proto::{
    CompactCall, CompactionRequest, PutCall, PutRequest, RangeCall, RangeRequest, signed,
};

/// A client without the adapter.
#[derive(Debug)]
pub struct Raw {
    members: Members,
}

impl Raw {
    /// On these members, the nearest first.
    #[must_use]
    pub fn new(members: Vec<MemberAddress>) -> Self {
        Self { members: Members::new(members) }
    }

    /// Writes a key.
    ///
    /// # Errors
    ///
    /// What went wrong, in words.
    pub async fn put(&self, key: Bytes, value: Bytes) -> Result<(), String> {
        let request = PutRequest { key, value, lease: 0 };
        let answer = self.members.call::<PutCall>(&request, Again::OnlyIfNotDone).await;
        answer.result.map(|_| ()).map_err(|failure: Failure| describe(&failure))
    }

    /// Reads a key, linearizable.
    ///
    /// # Errors
    ///
    /// What went wrong, in words.
    pub async fn get(&self, key: Bytes) -> Result<Option<Bytes>, String> {
        let request = RangeRequest { key, ..RangeRequest::default() };
        let answer = self.members.call::<RangeCall>(&request, Again::Harmless).await;
        let response = answer.result.map_err(|failure| describe(&failure))?;
        Ok(response.kvs.into_iter().next().map(|kv| kv.value))
    }

    /// Forgets the past before a revision.
    ///
    /// # Errors
    ///
    /// What went wrong, in words.
    pub async fn compact(&self, revision: u64) -> Result<(), String> {
        let request = CompactionRequest { revision: signed(revision) };
        let answer = self.members.call::<CompactCall>(&request, Again::Harmless).await;
        answer.result.map(|_| ()).map_err(|failure| describe(&failure))
    }
}
