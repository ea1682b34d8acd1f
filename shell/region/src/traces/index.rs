//! What is kept of traces, as lists find it: in memory, and never locked over a disk's answer.

use std::collections::{BTreeMap, BTreeSet};

use dwcp_api::trace::{TraceFilter, TraceItem};
use dwcp_monitor::trace::{Span, TraceId, Why};
use dwcp_runtime::segments::Place;

/// Traces that are found by a list; some 300 bytes of memory each.
const TRACES_MAX: usize = 50_000;

/// By when a trace began.
type Began = BTreeSet<(u64, TraceId)>;

#[derive(Debug)]
struct Entry {
    item: TraceItem,
    places: Vec<Place>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: BTreeMap<TraceId, Entry>,
    began: Began,
    /// Those of them that are there because a few are kept of all: the first to be forgotten.
    sampled: Began,
    /// What the files take.
    pub(super) bytes: u64,
}

/// Whether a trace is kept as one of many, and not for what it is.
pub(super) const fn is_sample(why: Why) -> bool {
    matches!(why, Why::Sampled | Why::Rare)
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn add(&mut self, place: Place, item: TraceItem) {
        let trace = item.trace;
        let entry = match self.entries.remove(&trace) {
            Some(mut entry) => {
                self.unlist(&entry.item);
                merge(&mut entry.item, item);
                entry.places.push(place);
                entry
            }
            None => Entry { item, places: vec![place] },
        };
        self.began.insert((entry.item.start_us, trace));
        if is_sample(entry.item.why) {
            self.sampled.insert((entry.item.start_us, trace));
        }
        self.entries.insert(trace, entry);
        while self.entries.len() > TRACES_MAX
            && let Some((_, oldest)) =
                self.sampled.first().or_else(|| self.began.first()).copied()
            && let Some(gone) = self.entries.remove(&oldest)
        {
            self.unlist(&gone.item);
        }
    }

    /// Forgets what lies in a file.
    pub(super) fn forget(&mut self, segment: u64) {
        let (began, sampled) = (&mut self.began, &mut self.sampled);
        self.entries.retain(|trace, entry| {
            entry.places.retain(|place| place.segment != segment);
            let stays = !entry.places.is_empty();
            if !stays {
                began.remove(&(entry.item.start_us, *trace));
                sampled.remove(&(entry.item.start_us, *trace));
            }
            stays
        });
    }

    fn unlist(&mut self, item: &TraceItem) {
        let listed = (item.start_us, item.trace);
        self.began.remove(&listed);
        self.sampled.remove(&listed);
    }

    /// Why a trace is kept.
    pub(super) fn why(&self, trace: TraceId) -> Option<Why> {
        self.entries.get(&trace).map(|entry| entry.item.why)
    }

    /// Why a trace is kept, and where its parts lie.
    pub(super) fn places(&self, trace: TraceId) -> Option<(Why, Vec<Place>)> {
        let entry = self.entries.get(&trace)?;
        Some((entry.item.why, entry.places.clone()))
    }

    /// The newest first, one more than `limit` when there are more.
    pub(super) fn list(&self, filter: &TraceFilter, limit: usize) -> Vec<TraceItem> {
        let all = self.began.iter().rev();
        let items = all.filter_map(|(_, trace)| Some(&self.entries.get(trace)?.item));
        items.filter(|item| fits(item, filter)).take(limit + 1).cloned().collect()
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
pub(super) fn item(why: Why, spans: &[Span]) -> Option<TraceItem> {
    let head = |span: &&Span| (!span.entry, span.parent.is_some(), span.start_us);
    let first = spans.iter().min_by_key(head)?;
    let failed = spans.iter().find_map(|span| span.failed.clone());
    Some(TraceItem {
        trace: first.trace,
        operation: first.name.clone(),
        region: first.region.clone(),
        vm: spans.iter().find_map(|span| span.tags.get("vm").cloned()),
        start_us: first.start_us,
        took_us: first.took_us,
        spans: u32::try_from(spans.len()).unwrap_or(u32::MAX),
        regions: spans.iter().map(|span| span.region.clone()).collect(),
        failed: first.failed.clone().or(failed),
        why,
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
    use dwcp_runtime::segments::Segments;
    use dwcp_types::RegionId;

    use super::*;

    #[test]
    fn what_failed_is_found_when_a_flood_of_samples_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (mut segments, _) = Segments::open(dir.path(), |_, _| {}).unwrap();
        let place = segments.add(1, b"anywhere").unwrap();
        let mut index = Index::default();
        let line = |number: usize, why| TraceItem {
            trace: TraceId::new(u128::try_from(number).unwrap()).unwrap(),
            operation: "place_vm".to_owned(),
            region: RegionId::new("eu-west-1").unwrap(),
            vm: None,
            start_us: u64::try_from(number).unwrap(),
            took_us: 1,
            spans: 1,
            regions: std::iter::once(RegionId::new("eu-west-1").unwrap()).collect(),
            failed: None,
            why,
            headless: false,
        };
        index.add(place, line(1, Why::Failed));
        // A sample that turns out to have failed is none any more.
        index.add(place, line(2, Why::Sampled));
        index.add(place, line(2, Why::Failed));
        for number in 3..=TRACES_MAX + 100 {
            index.add(place, line(number, Why::Sampled));
        }
        assert_eq!(index.len(), TRACES_MAX);
        let kept = |number| index.why(TraceId::new(number).unwrap());
        assert_eq!([1, 2, 3].map(kept), [Some(Why::Failed), Some(Why::Failed), None]);
        let all = index.list(&TraceFilter::default(), TRACES_MAX);
        assert_eq!(all.len(), TRACES_MAX);
        index.forget(1);
        assert_eq!((index.len(), index.list(&TraceFilter::default(), 9).len()), (0, 0));
    }
}
