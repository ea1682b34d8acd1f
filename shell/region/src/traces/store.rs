//! Traces that are kept, on this region's disk: a file an hour, thrown away whole.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_api::trace::TraceItem;
use dwcp_api::trace::peer::KeptTrace;
use dwcp_monitor::trace::{SPANS_MAX, Span, TraceId, Why};
use dwcp_runtime::segments::{Place, Reader, Segments};
use dwcp_types::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::index::{Index, is_sample, item};

/// What traces may take on a region's disk (F87): at 1 KiB a trace a million of them.
pub(super) const BYTES_MAX: u64 = 1 << 30;
/// Of that what is only sampled may take so much, in parts of a hundred: errors are kept first.
const SAMPLED_SHARE: u64 = 80;
/// Spans of one trace that are read: what came late, and from other homes.
const READ_MAX: usize = 4 * SPANS_MAX;
const HOUR_MS: u64 = 3_600_000;

/// A record of the files.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    why: Why,
    spans: Vec<Span>,
}

/// See the module. One thread writes it; all others look at its index.
#[derive(Debug)]
pub(super) struct Store {
    segments: Segments,
    index: Arc<Mutex<Index>>,
    bytes_max: u64,
    /// The disk refused the last record.
    refused: bool,
}

/// What became of a trace that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// It is on the disk.
    Yes,
    /// There is room for what failed or was asked for only.
    NoRoom,
}

/// Looks into an index that others write.
pub(super) fn look(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Reads what there is into the index.
    pub(super) fn open(
        dir: &Path,
        bytes_max: u64,
        index: Arc<Mutex<Index>>,
    ) -> io::Result<Self> {
        // Lines only: the spans of a week do not fit into memory.
        let mut read: Vec<(Place, TraceItem)> = Vec::new();
        let (segments, cuts) = Segments::open(dir, |place, record| {
            let kept = serde_json::from_slice::<Kept>(&record).ok();
            read.extend(kept.and_then(|it| Some((place, item(it.why, &it.spans)?))));
        })?;
        for cut in cuts {
            let (hour, bytes) = (cut.segment, cut.bytes);
            warn!(hour, bytes, "the end of a file of traces was damaged and is cut off");
        }
        read.sort_by_key(|(place, _)| *place);
        let mut found = Index::default();
        found.bytes = segments.bytes();
        for (place, item) in read {
            found.add(place, item);
        }
        *look(&index) = found;
        Ok(Self { segments, index, bytes_max, refused: false })
    }

    /// Keeps spans of a trace. `why` is of the first of them; what comes late follows it.
    pub(super) fn keep(
        &mut self,
        now: Timestamp,
        why: Why,
        spans: Vec<Span>,
    ) -> io::Result<Stored> {
        let sampled_max = self.bytes_max / 100 * SAMPLED_SHARE;
        if is_sample(why) && self.segments.bytes() > sampled_max {
            return Ok(Stored::NoRoom);
        }
        let line = item(why, &spans);
        let record = serde_json::to_vec(&Kept { why, spans })?;
        let added = self.segments.add(now.as_millis() / HOUR_MS, &record);
        if let Err(reason) = &added
            && !self.refused
        {
            warn!(%reason, "the disk does not take traces");
        }
        self.refused = added.is_err();
        let place = added?;
        let mut index = look(&self.index);
        index.bytes = self.segments.bytes();
        if let Some(line) = line {
            index.add(place, line);
        }
        Ok(Stored::Yes)
    }

    /// Why a trace is kept.
    pub(super) fn why(&self, trace: TraceId) -> Option<Why> {
        look(&self.index).why(trace)
    }

    /// Throws away what is older than `retention`, and the oldest hours beyond the room.
    pub(super) fn sweep(&mut self, now: Timestamp, retention: Duration) {
        let retention = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
        let oldest = now.as_millis().saturating_sub(retention) / HOUR_MS;
        while let Some(first) = self.segments.first()
            && (first < oldest || self.segments.bytes() > self.bytes_max)
        {
            if let Err(reason) = self.segments.remove(first) {
                warn!(hour = first, %reason, "an hour of traces cannot be thrown away");
                return;
            }
            info!(hour = first, "an hour of traces is thrown away");
            let mut index = look(&self.index);
            index.forget(first);
            index.bytes = self.segments.bytes();
        }
    }
}

/// What there is of a trace. Reads the disk.
pub(super) fn read(reader: &Reader, index: &Mutex<Index>, trace: TraceId) -> KeptTrace {
    let found = look(index).places(trace);
    let Some((why, places)) = found else { return KeptTrace::default() };
    let mut spans = Vec::new();
    for place in places {
        let record = reader.read(place);
        match record.and_then(|record| Ok(serde_json::from_slice::<Kept>(&record)?)) {
            Ok(kept) => spans.extend(kept.spans),
            Err(reason) => warn!(%trace, %reason, "a part of a trace cannot be read"),
        }
    }
    spans.truncate(READ_MAX);
    KeptTrace { why: Some(why), spans }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dwcp_api::trace::TraceFilter;
    use dwcp_monitor::trace::{Kind, SpanId};
    use dwcp_types::RegionId;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn span(trace: u128, id: u64, parent: u64) -> Span {
        Span {
            trace: TraceId::new(trace).unwrap(),
            id: SpanId::new(id).unwrap(),
            parent: SpanId::new(parent),
            entry: parent == 0,
            keep: false,
            name: "place_vm".to_owned(),
            kind: Kind::Server,
            region: RegionId::new("eu-west-1").unwrap(),
            process: "dwcpd".to_owned(),
            start_us: u64::try_from(trace).unwrap() * 1_000_000,
            took_us: 2_000,
            failed: None,
            tags: BTreeMap::new(),
        }
    }

    fn at(hours: u64) -> Timestamp {
        Timestamp::from_millis(hours * HOUR_MS)
    }

    fn open(dir: &Path, bytes_max: u64) -> Store {
        Store::open(dir, bytes_max, Arc::default()).unwrap()
    }

    fn list(store: &Store, filter: &TraceFilter) -> Vec<TraceItem> {
        look(&store.index).list(filter, 10)
    }

    fn ids(store: &Store, filter: &TraceFilter) -> Vec<u128> {
        list(store, filter).iter().map(|item| item.trace.get()).collect()
    }

    fn kept(store: &Store, dir: &Path, trace: u128) -> KeptTrace {
        read(&Reader::new(dir), &store.index, TraceId::new(trace).unwrap())
    }

    #[test]
    fn what_is_kept_is_found_and_read_also_by_the_next_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path(), BYTES_MAX);
        store.keep(at(1), Why::Failed, vec![span(1, 2, 1)]).unwrap();
        let mut broken = span(2, 1, 0);
        broken.failed = Some("it broke".to_owned());
        broken.tags.insert("vm".to_owned(), "web-1".to_owned());
        store.keep(at(1), Why::Failed, vec![broken]).unwrap();
        let mut head = span(1, 1, 0);
        head.name = "migrate".to_owned();
        head.region = RegionId::new("us-east-1").unwrap();
        store.keep(at(2), Why::Asked, vec![head]).unwrap();
        for store in [store, open(dir.path(), BYTES_MAX)] {
            let any = TraceFilter::default();
            assert_eq!(ids(&store, &any), [2, 1]);
            let item = &list(&store, &any)[1];
            assert_eq!((item.operation.as_str(), item.spans), ("migrate", 2));
            assert_eq!(item.regions.len(), 2);
            assert!(!item.headless);
            assert_eq!(item.why, Why::Failed);
            assert_eq!(kept(&store, dir.path(), 1).spans.len(), 2);
            assert_eq!(kept(&store, dir.path(), 3), KeptTrace::default());
            let failed = TraceFilter { failed: true, ..TraceFilter::default() };
            assert_eq!(ids(&store, &failed), [2]);
            let vm = Some("web-1".to_owned());
            assert_eq!(ids(&store, &TraceFilter { vm, ..any.clone() }), [2]);
            let operation = Some("migrate".to_owned());
            assert_eq!(ids(&store, &TraceFilter { operation, ..any.clone() }), [1]);
            let slow = TraceFilter { min_ms: Some(3), ..any };
            assert!(ids(&store, &slow).is_empty());
        }
    }

    #[test]
    fn what_is_old_goes_by_the_hour() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path(), BYTES_MAX);
        for hour in 1..=5 {
            let it = vec![span(u128::from(hour), 1, 0)];
            store.keep(at(hour), Why::Sampled, it).unwrap();
        }
        // A trace with a part in an hour that stays.
        store.keep(at(5), Why::Sampled, vec![span(1, 2, 1)]).unwrap();
        store.sweep(at(6), 3 * HOUR);
        assert_eq!(ids(&store, &TraceFilter::default()), [5, 4, 3, 1]);
        assert_eq!(kept(&store, dir.path(), 1).spans.len(), 1);
        assert_eq!(look(&open(dir.path(), BYTES_MAX).index).len(), 4);
    }

    #[test]
    fn what_failed_has_room_when_what_is_sampled_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path(), 4_000);
        let mut stored = 0;
        for number in 1..=60 {
            let it = vec![span(number, 1, 0)];
            let now = at(u64::try_from(number).unwrap());
            if store.keep(now, Why::Sampled, it).unwrap() == Stored::NoRoom {
                break;
            }
            stored += 1;
        }
        assert!((5..60).contains(&stored), "{stored}");
        for number in 61..=90 {
            let it = vec![span(number, 1, 0)];
            let now = at(u64::try_from(number).unwrap());
            assert_eq!(store.keep(now, Why::Failed, it).unwrap(), Stored::Yes);
            store.sweep(now, 1_000 * HOUR);
        }
        assert!(look(&store.index).bytes <= 4_000, "the oldest hours went");
        assert_eq!(ids(&store, &TraceFilter::default())[0], 90);
    }
}
