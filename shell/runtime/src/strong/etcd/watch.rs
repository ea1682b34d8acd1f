//! Following changes: one stream, and the next one where it broke off.
//!
//! A batch is handed out when its last revision is whole. What is handed out moves `next`, and
//! a new stream begins there, at whatever member works, so a member that dies is not noticed
//! above. etcd's word on progress is believed only when the server gives it by itself: asked
//! for, 3.4.23 gives it before the events that it covers.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;

use super::super::{Event, EventBatch, StrongError, Watch};
use super::grpc::{Failure, Messages};
use super::keys::KeySpace;
use super::pages::{Past, probe};
use super::proto::{self, WatchCall, WatchCreateRequest, WatchRequest, WatchResponse};
use super::proto::{revision, signed, unsigned};
use super::{Shared, read_error};

/// Streams that may break in a row without a batch between them, before the watch ends: a
/// member that takes streams and never serves them must not be asked for ever.
const BREAKS_MAX: u32 = 8;

/// Starts a watch.
pub(super) async fn watch(
    shared: Arc<Shared>,
    prefix: &str,
    from_revision: u64,
) -> Result<Watch, StrongError> {
    let (key, range_end) = shared.keys.span(prefix, None);
    let now = remembered(&shared, from_revision, (&key, &range_end)).await?;
    let from = if from_revision == 0 { now + 1 } else { from_revision };
    let mut follower = Follower {
        shared,
        key,
        range_end,
        next: from,
        messages: None,
        unfinished: Vec::new(),
        ready: VecDeque::new(),
        breaks: 0,
    };
    // Opened at once, so that whoever cannot be watched is known before anything is missed.
    follower.open().await?;
    let batches = stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        match follower.next().await {
            Ok(batch) => Some((Ok(batch), Some(follower))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(Watch::new(from, Box::pin(batches)))
}

/// The current revision, when everything since `from` is remembered.
async fn remembered(
    shared: &Shared,
    from: u64,
    span: (&Bytes, &Bytes),
) -> Result<u64, StrongError> {
    // At a compaction's own revision deletions are forgotten already: the past must be
    // readable as of the revision before.
    let then = if from <= 1 { from } else { from - 1 };
    match probe(shared, then).await? {
        Past::Readable(now) => Ok(now),
        // It is waited for.
        Past::Future => Ok(from),
        Past::Compacted => Err(compacted(shared, from, span).await?),
    }
}

/// Where the past begins; only a watch is told.
async fn compacted(
    shared: &Shared,
    from: u64,
    (key, range_end): (&Bytes, &Bytes),
) -> Result<StrongError, StrongError> {
    let from = from.saturating_sub(1).max(1);
    let request = create(key, range_end, from);
    let opened = shared.members.open::<WatchCall>(&request).await;
    let mut messages = opened.map_err(|failure| read_error(&failure))?;
    loop {
        let message: Result<WatchResponse, Failure> = messages.next().await;
        let message = message.map_err(|failure| read_error(&failure))?;
        if message.compact_revision > 0 {
            let oldest = unsigned(message.compact_revision) + 1;
            return Ok(StrongError::Compacted { oldest });
        }
        if message.canceled {
            return Err(StrongError::Unavailable { reason: message.cancel_reason });
        }
    }
}

fn create(key: &Bytes, range_end: &Bytes, from: u64) -> WatchRequest {
    WatchRequest {
        create: Some(WatchCreateRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            start_revision: signed(from),
            progress_notify: true,
            fragment: true,
        }),
    }
}

struct Follower {
    shared: Arc<Shared>,
    key: Bytes,
    range_end: Bytes,
    /// The first revision that was not handed out.
    next: u64,
    messages: Option<Messages>,
    /// Events of a revision that may have more.
    unfinished: Vec<Event>,
    ready: VecDeque<EventBatch>,
    breaks: u32,
}

impl Follower {
    async fn next(&mut self) -> Result<EventBatch, StrongError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                self.next = self.next.max(batch.revision + 1);
                self.breaks = 0;
                return Ok(batch);
            }
            let Some(messages) = &mut self.messages else {
                self.reopen().await?;
                continue;
            };
            match messages.next().await {
                Ok(message) => self.take(message)?,
                Err(failure) => self.broken(&failure)?,
            }
        }
    }

    /// Opens the stream where the last one broke off, if the past since is remembered.
    async fn reopen(&mut self) -> Result<(), StrongError> {
        remembered(&self.shared, self.next, (&self.key, &self.range_end)).await?;
        self.open().await
    }

    async fn open(&mut self) -> Result<(), StrongError> {
        self.unfinished.clear();
        let request = create(&self.key, &self.range_end, self.next);
        let opened = self.shared.members.open::<WatchCall>(&request).await;
        self.messages = Some(opened.map_err(|failure| read_error(&failure))?);
        Ok(())
    }

    fn broken(&mut self, failure: &Failure) -> Result<(), StrongError> {
        self.messages = None;
        self.breaks += 1;
        if self.breaks > BREAKS_MAX { Err(read_error(failure)) } else { Ok(()) }
    }

    fn take(&mut self, message: WatchResponse) -> Result<(), StrongError> {
        if message.compact_revision > 0 {
            let oldest = unsigned(message.compact_revision) + 1;
            return Err(StrongError::Compacted { oldest });
        }
        if message.canceled {
            return self.broken(&Failure::Unknown(message.cancel_reason));
        }
        if message.created {
            return Ok(());
        }
        let more = message.fragment;
        let progress = revision(message.header);
        let empty = message.events.is_empty() && self.unfinished.is_empty();
        for event in message.events {
            self.unfinished.push(parse(&self.shared.keys, event)?);
        }
        if empty {
            // The header of a batch of events may be ahead of them; this one stands for itself.
            self.push(progress, Vec::new());
        } else if let Some((last, events)) = whole(&mut self.unfinished, more) {
            self.push(last, events);
        }
        Ok(())
    }

    fn push(&mut self, revision: u64, mut events: Vec<Event>) {
        // After a new stream, what was handed out may come once more.
        events.retain(|event| event.mod_revision() >= self.next);
        if revision >= self.next {
            self.ready.push_back(EventBatch { revision, events });
        }
    }
}

/// Takes out the events of whole revisions: all, or all but the last when more may follow.
fn whole(unfinished: &mut Vec<Event>, more: bool) -> Option<(u64, Vec<Event>)> {
    let last = unfinished.last()?.mod_revision();
    let rest = if more {
        let first = unfinished.iter().position(|event| event.mod_revision() == last)?;
        unfinished.split_off(first)
    } else {
        Vec::new()
    };
    let events = std::mem::replace(unfinished, rest);
    let revision = events.last()?.mod_revision();
    Some((revision, events))
}

fn parse(keys: &KeySpace, event: proto::Event) -> Result<Event, StrongError> {
    let kv = event.kv.unwrap_or_default();
    if event.kind == 0 {
        return keys.parse(kv).map(Event::Put);
    }
    let mod_revision = unsigned(kv.mod_revision);
    Ok(Event::Delete { key: keys.parse_key(&kv.key)?, mod_revision })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(mod_revision: u64) -> Event {
        Event::Delete { key: "k".to_owned(), mod_revision }
    }

    #[test]
    fn a_revision_is_handed_out_only_whole() {
        let mut unfinished = vec![event(3), event(4), event(4)];
        let (revision, events) = whole(&mut unfinished, true).unwrap();
        assert_eq!((revision, events.len(), unfinished.len()), (3, 1, 2));
        assert_eq!(whole(&mut unfinished, true), None, "its last event may be to come");
        unfinished.push(event(4));
        let (revision, events) = whole(&mut unfinished, false).unwrap();
        assert_eq!((revision, events.len(), unfinished.len()), (4, 3, 0));
        assert_eq!(whole(&mut unfinished, false), None);
    }
}
