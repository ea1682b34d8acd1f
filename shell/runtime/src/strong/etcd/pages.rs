//! Reading pages that are bounded in bytes.
//!
//! etcd bounds a page only by the number of its records, which may be 1 MiB each. So a page is
//! read in parts, all as of the revision of the first: few records first, then as many as fit
//! by their size so far.

use bytes::Bytes;

use super::super::{PAGE_ITEMS_MAX, PAGE_LEN_MAX, Page, Range, StrongError};
use super::grpc::{Failure, is_too_long};
use super::members::Again;
use super::proto::{RangeCall, RangeRequest, revision, signed};
use super::{Shared, read_error};

/// Records of the first part: 16 MiB at most.
const FIRST_PART: usize = 16;
/// The code of gRPC for a revision that is not there.
const OUT_OF_RANGE: i32 = 11;
/// Tries at a page that is compacted away while it is read.
const TRIES_MAX: u32 = 3;

/// Reads one page.
pub(super) async fn read(
    shared: &Shared,
    range: &Range<'_>,
) -> Result<Page, StrongError> {
    let span = shared.keys.span(range.prefix, range.after);
    for _ in 0..TRIES_MAX {
        // Compacted when minutes passed within one page; it is begun anew.
        if let Some(page) = read_once(shared, &span, range.limit).await? {
            return Ok(page);
        }
    }
    Err(StrongError::Unavailable {
        reason: "a page is forgotten faster than it can be read; \
                 let etcd keep its past longer (--auto-compaction-retention)"
            .to_owned(),
    })
}

/// What is known of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// It can be read; this is the current one.
    Readable(u64),
    /// It is no longer remembered.
    Compacted,
    /// It is still to come.
    Future,
}

/// Whether a revision can be read; zero: the current one.
pub(super) async fn probe(shared: &Shared, then: u64) -> Result<Past, StrongError> {
    let (key, range_end) = shared.keys.span("", None);
    let request = RangeRequest {
        key,
        range_end,
        revision: signed(then),
        limit: 1,
        count_only: true,
    };
    let answer = shared.members.call::<RangeCall>(&request, Again::Harmless).await;
    match answer.result {
        Ok(response) => Ok(Past::Readable(revision(response.header))),
        Err(failure) if out_of_range(&failure, "compacted") => Ok(Past::Compacted),
        Err(failure) if out_of_range(&failure, "future") => Ok(Past::Future),
        Err(failure) => Err(read_error(&failure)),
    }
}

/// The current revision.
pub(super) async fn now(shared: &Shared) -> Result<u64, StrongError> {
    match probe(shared, 0).await? {
        Past::Readable(revision) => Ok(revision),
        Past::Compacted | Past::Future => Err(StrongError::Unavailable {
            reason: "etcd does not know its own revision".to_owned(),
        }),
    }
}

fn out_of_range(failure: &Failure, word: &str) -> bool {
    matches!(failure, Failure::Refused(status)
        if status.code == OUT_OF_RANGE && status.message.contains(word))
}

/// A page; nothing when its revision was compacted meanwhile.
async fn read_once(
    shared: &Shared,
    (first, end): &(Bytes, Bytes),
    limit: usize,
) -> Result<Option<Page>, StrongError> {
    let limit = limit.clamp(1, PAGE_ITEMS_MAX);
    let mut page = Page { items: Vec::new(), revision: 0, more: false };
    if first >= end {
        page.revision = now(shared).await?;
        return Ok(Some(page));
    }
    let (mut key, mut size, mut part) = (first.clone(), 0_usize, FIRST_PART);
    loop {
        let wanted = part.min(limit - page.items.len());
        let request = RangeRequest {
            key: key.clone(),
            range_end: end.clone(),
            limit: signed(u64::try_from(wanted).unwrap_or(u64::MAX)),
            revision: signed(page.revision),
            count_only: false,
        };
        let answer = shared.members.call::<RangeCall>(&request, Again::Harmless).await;
        let response = match answer.result {
            Ok(response) => response,
            Err(failure) if wanted > 1 && is_too_long(&failure) => {
                part = wanted / 2;
                continue;
            }
            Err(failure) if out_of_range(&failure, "compacted") => return Ok(None),
            Err(failure) => return Err(read_error(&failure)),
        };
        if page.revision == 0 {
            page.revision = revision(response.header);
        }
        page.more = response.more;
        for kv in response.kvs {
            size = size.saturating_add(kv.key.len() + kv.value.len());
            key = after(&kv.key);
            page.items.push(shared.keys.parse(kv)?);
        }
        if !page.more || page.items.len() >= limit || size >= PAGE_LEN_MAX {
            return Ok(Some(page));
        }
        part = fitting(PAGE_LEN_MAX - size, size, page.items.len());
    }
}

/// How many records more fit, going by those so far.
fn fitting(room: usize, size: usize, items: usize) -> usize {
    let each = (size / items.max(1)).max(1);
    (room / each).clamp(1, PAGE_ITEMS_MAX)
}

/// The key that follows.
fn after(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}
