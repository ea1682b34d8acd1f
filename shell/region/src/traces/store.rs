//! Traces that are kept, on this region's disk: a file an hour, thrown away whole.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Duration;

use dwcp_api::trace::peer::KeptTrace;
use dwcp_api::trace::{TraceFilter, TraceItem};
use dwcp_monitor::trace::{SPANS_MAX, Span, TraceId, Why};
use dwcp_runtime::segments::{Place, Segments};
use dwcp_types::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

/// What traces may take on a region's disk (F87): at 1 KiB a trace a million of them.
pub(super) const BYTES_MAX: u64 = 1 << 30;
/// Of that what is only sampled may take so much, in parts of a hundred: errors are kept first.
const SAMPLED_SHARE: u64 = 80;
/// Traces that are found by a list; some 300 bytes of memory each.
const TRACES_MAX: usize = 50_000;
/// Spans of one trace that are read: what came late, and from other homes.
const READ_MAX: usize = 4 * SPANS_MAX;
const HOUR_MS: u64 = 3_600_000;

/// A record of the files.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    why: Why,
    spans: Vec<Span>,
}

#[derive(Debug)]
struct Entry {
    item: TraceItem,
    places: Vec<Place>,
}

/// See the module. One task writes it.
#[derive(Debug)]
pub(super) struct Store {
    segments: Segments,
    entries: BTreeMap<TraceId, Entry>,
    /// By when they began.
    began: BTreeSet<(u64, TraceId)>,
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

impl Store {
    pub(super) fn open(dir: &Path, bytes_max: u64) -> io::Result<Self> {
        // Lines only: the spans of a week do not fit into memory.
        let mut read: Vec<(Place, TraceItem)> = Vec::new();
        let (segments, cuts) = Segments::open(dir, |place, record| {
            let kept = serde_json::from_slice::<Kept>(&record).ok();
            read.extend(kept.and_then(|kept| Some((place, item(&kept)?))));
        })?;
        for cut in cuts {
            let (hour, bytes) = (cut.segment, cut.bytes);
            warn!(hour, bytes, "the end of a file of traces was damaged and is cut off");
        }
        let (entries, began) = (BTreeMap::new(), BTreeSet::new());
        let mut store = Self { segments, entries, began, bytes_max, refused: false };
        read.sort_by_key(|(place, _)| *place);
        for (place, item) in read {
            store.index(place, item);
        }
        Ok(store)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.bytes()
    }

    /// Keeps spans of a trace. `why` is of the first of them; what comes late follows it.
    pub(super) fn keep(
        &mut self,
        now: Timestamp,
        why: Why,
        spans: Vec<Span>,
    ) -> io::Result<Stored> {
        let sampled_max = self.bytes_max / 100 * SAMPLED_SHARE;
        let is_sampled = matches!(why, Why::Sampled | Why::Rare);
        if is_sampled && self.segments.bytes() > sampled_max {
            return Ok(Stored::NoRoom);
        }
        let kept = Kept { why, spans };
        let record = serde_json::to_vec(&kept)?;
        let added = self.segments.add(now.as_millis() / HOUR_MS, &record);
        if let Err(reason) = &added
            && !self.refused
        {
            warn!(%reason, "the disk does not take traces");
        }
        self.refused = added.is_err();
        if let Some(item) = item(&kept) {
            self.index(added?, item);
        }
        Ok(Stored::Yes)
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
            self.forget(first);
        }
    }

    fn forget(&mut self, segment: u64) {
        let began = &mut self.began;
        self.entries.retain(|trace, entry| {
            entry.places.retain(|place| place.segment != segment);
            let stays = !entry.places.is_empty();
            if !stays {
                began.remove(&(entry.item.start_us, *trace));
            }
            stays
        });
    }

    fn index(&mut self, place: Place, item: TraceItem) {
        let trace = item.trace;
        match self.entries.get_mut(&trace) {
            Some(entry) => {
                self.began.remove(&(entry.item.start_us, trace));
                merge(&mut entry.item, item);
                entry.places.push(place);
                self.began.insert((entry.item.start_us, trace));
            }
            None => {
                self.began.insert((item.start_us, trace));
                self.entries.insert(trace, Entry { item, places: vec![place] });
            }
        }
        while self.entries.len() > TRACES_MAX
            && let Some((_, oldest)) = self.began.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }

    /// Why a trace is kept.
    pub(super) fn why(&self, trace: TraceId) -> Option<Why> {
        self.entries.get(&trace).map(|entry| entry.item.why)
    }

    /// The newest first, one more than `limit` when there are more.
    pub(super) fn list(&self, filter: &TraceFilter, limit: usize) -> Vec<TraceItem> {
        let all = self.began.iter().rev();
        let items = all.filter_map(|(_, trace)| Some(&self.entries.get(trace)?.item));
        items.filter(|item| fits(item, filter)).take(limit + 1).cloned().collect()
    }

    /// What there is of a trace.
    pub(super) fn read(&self, trace: TraceId) -> KeptTrace {
        let Some(entry) = self.entries.get(&trace) else { return KeptTrace::default() };
        let mut spans = Vec::new();
        for place in &entry.places {
            let record = self.segments.read(*place);
            match record.and_then(|record| Ok(serde_json::from_slice::<Kept>(&record)?)) {
                Ok(kept) => spans.extend(kept.spans),
                Err(reason) => warn!(%trace, %reason, "a part of a trace cannot be read"),
            }
        }
        spans.truncate(READ_MAX);
        KeptTrace { why: Some(entry.item.why), spans }
    }
}

/// Whether a list asks for a trace.
fn fits(item: &TraceItem, filter: &TraceFilter) -> bool {
    let TraceFilter { operation, region, vm, failed, min_ms, since, limit: _ } = filter;
    operation.as_ref().is_none_or(|operation| item.operation == *operation)
        && region.as_ref().is_none_or(|region| item.regions.contains(region))
        && vm.as_ref().is_none_or(|vm| item.vm.as_ref() == Some(vm))
        && (!failed || item.failed.is_some())
        && min_ms.is_none_or(|min| item.took_us >= min.saturating_mul(1_000))
        && since
            .is_none_or(|since| item.start_us >= since.as_millis().saturating_mul(1_000))
}

/// The line about some spans of one trace.
fn item(kept: &Kept) -> Option<TraceItem> {
    let head = |span: &&Span| (!span.entry, span.parent.is_some(), span.start_us);
    let first = kept.spans.iter().min_by_key(head)?;
    let failed = kept.spans.iter().find_map(|span| span.failed.clone());
    Some(TraceItem {
        trace: first.trace,
        operation: first.name.clone(),
        region: first.region.clone(),
        vm: kept.spans.iter().find_map(|span| span.tags.get("vm").cloned()),
        start_us: first.start_us,
        took_us: first.took_us,
        spans: u32::try_from(kept.spans.len()).unwrap_or(u32::MAX),
        regions: kept.spans.iter().map(|span| span.region.clone()).collect(),
        failed: first.failed.clone().or(failed),
        why: kept.why,
        headless: !first.entry,
    })
}

/// What two parts of a trace say together.
pub(super) fn merge(item: &mut TraceItem, other: TraceItem) {
    let takes_head = item.headless && !other.headless;
    if takes_head || (item.headless == other.headless && other.took_us > item.took_us) {
        item.operation = other.operation;
        item.region = other.region;
        item.start_us = other.start_us;
        item.took_us = other.took_us;
        item.headless = other.headless;
    }
    item.vm = item.vm.take().or(other.vm);
    item.failed = item.failed.take().or(other.failed);
    item.spans = item.spans.saturating_add(other.spans);
    item.regions.extend(other.regions);
    item.why = item.why.min(other.why);
}

/// Lists of several regions as one, the newest first; whether there are more than `limit`.
pub(super) fn together(lists: Vec<TraceItem>, limit: usize) -> (Vec<TraceItem>, bool) {
    let mut all: BTreeMap<TraceId, TraceItem> = BTreeMap::new();
    for item in lists {
        match all.get_mut(&item.trace) {
            Some(known) => merge(known, item),
            None => {
                all.insert(item.trace, item);
            }
        }
    }
    let mut items: Vec<TraceItem> = all.into_values().collect();
    items.sort_by_key(|item| (std::cmp::Reverse(item.start_us), item.trace));
    let more = items.len() > limit;
    items.truncate(limit);
    (items, more)
}

#[cfg(test)]
mod tests {
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

    fn ids(store: &Store, filter: &TraceFilter) -> Vec<u128> {
        store.list(filter, 10).iter().map(|item| item.trace.get()).collect()
    }

    #[test]
    fn what_is_kept_is_found_and_read_also_by_the_next_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), BYTES_MAX).unwrap();
        store.keep(at(1), Why::Failed, vec![span(1, 2, 1)]).unwrap();
        let mut broken = span(2, 1, 0);
        broken.failed = Some("it broke".to_owned());
        broken.tags.insert("vm".to_owned(), "web-1".to_owned());
        store.keep(at(1), Why::Failed, vec![broken]).unwrap();
        let mut head = span(1, 1, 0);
        head.name = "migrate".to_owned();
        head.region = RegionId::new("us-east-1").unwrap();
        store.keep(at(2), Why::Asked, vec![head]).unwrap();
        for store in [store, Store::open(dir.path(), BYTES_MAX).unwrap()] {
            let any = TraceFilter::default();
            assert_eq!(ids(&store, &any), [2, 1]);
            let item = &store.list(&any, 10)[1];
            assert_eq!((item.operation.as_str(), item.spans), ("migrate", 2));
            assert_eq!(item.regions.len(), 2);
            assert!(!item.headless);
            assert_eq!(item.why, Why::Failed);
            assert_eq!(store.read(TraceId::new(1).unwrap()).spans.len(), 2);
            assert_eq!(store.read(TraceId::new(3).unwrap()), KeptTrace::default());
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
        let mut store = Store::open(dir.path(), BYTES_MAX).unwrap();
        for hour in 1..=5 {
            let it = vec![span(u128::from(hour), 1, 0)];
            store.keep(at(hour), Why::Sampled, it).unwrap();
        }
        // A trace with a part in an hour that stays.
        store.keep(at(5), Why::Sampled, vec![span(1, 2, 1)]).unwrap();
        store.sweep(at(6), 3 * HOUR);
        assert_eq!(ids(&store, &TraceFilter::default()), [5, 4, 3, 1]);
        assert_eq!(store.read(TraceId::new(1).unwrap()).spans.len(), 1);
        assert_eq!(Store::open(dir.path(), BYTES_MAX).unwrap().len(), 4);
    }

    #[test]
    fn what_failed_has_room_when_what_is_sampled_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), 4_000).unwrap();
        let mut kept = 0;
        for number in 1..=60 {
            let it = vec![span(number, 1, 0)];
            let now = at(u64::try_from(number).unwrap());
            if store.keep(now, Why::Sampled, it).unwrap() == Stored::NoRoom {
                break;
            }
            kept += 1;
        }
        assert!((5..60).contains(&kept), "{kept}");
        for number in 61..=90 {
            let it = vec![span(number, 1, 0)];
            let now = at(u64::try_from(number).unwrap());
            assert_eq!(store.keep(now, Why::Failed, it).unwrap(), Stored::Yes);
            store.sweep(now, 1_000 * HOUR);
        }
        assert!(store.bytes() <= 4_000, "the oldest hours went");
        assert_eq!(ids(&store, &TraceFilter::default())[0], 90);
    }
}
