//! What changed since you last asked: a table whose readers poll for the difference.
//!
//! A host tells its region about guests this way, a region tells its peers. Every change gets
//! the next sequence number and replaces the older change of the same key, so a reader that
//! was away long gets each row once, and one that asks every second gets only news. A reader
//! remembers (incarnation, sequence); a restarted writer has another incarnation, and then the
//! reader begins from nothing. Rows are levels, not edges: applying one twice does no harm.
//!
//! Rejected: sending the whole table each time (a region of 10,000 VMs sends megabytes a
//! second) and sending events (a lost one is never repaired).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Removed keys that are remembered, so that readers hear of them; a reader that is further
/// behind begins from nothing.
const REMOVED_MAX: usize = 10_000;

/// A part of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<K, V> {
    /// Which life of the writer this is.
    pub incarnation: u64,
    /// Ask for what came after this the next time.
    pub seq: u64,
    /// The reader must forget all that it knew before it applies this.
    pub reset: bool,
    /// Whether there is more already; ask again at once.
    pub more: bool,
    /// Rows that are new or changed.
    pub changed: Vec<V>,
    /// Rows that went.
    pub removed: Vec<K>,
}

#[derive(Debug)]
struct Rows<K, V> {
    seq: u64,
    rows: BTreeMap<K, (u64, Option<V>)>,
    order: BTreeMap<u64, K>,
    removed: usize,
    /// Removals up to this sequence number may have been forgotten.
    forgotten: u64,
}

/// The table.
#[derive(Debug)]
pub struct ReportLog<K, V> {
    incarnation: u64,
    rows: Mutex<Rows<K, V>>,
    latest: watch::Sender<u64>,
}

impl<K: Clone + Ord, V: Clone + PartialEq> ReportLog<K, V> {
    /// An empty table. `incarnation` must differ from that of every earlier life.
    #[must_use]
    pub fn new(incarnation: u64) -> Self {
        let rows = Rows {
            seq: 0,
            rows: BTreeMap::new(),
            order: BTreeMap::new(),
            removed: 0,
            forgotten: 0,
        };
        Self { incarnation, rows: Mutex::new(rows), latest: watch::Sender::new(0) }
    }

    /// Sets a row; says whether it is different now.
    pub fn put(&self, key: &K, value: V) -> bool {
        let mut rows = self.lock();
        if let Some((_, Some(old))) = rows.rows.get(key)
            && *old == value
        {
            return false;
        }
        rows.set(key, Some(value));
        self.latest.send_replace(rows.seq);
        true
    }

    /// Removes a row; says whether there was one.
    pub fn remove(&self, key: &K) -> bool {
        let mut rows = self.lock();
        if !matches!(rows.rows.get(key), Some((_, Some(_)))) {
            return false;
        }
        rows.set(key, None);
        self.latest.send_replace(rows.seq);
        true
    }

    /// Keeps only rows whose key is wanted.
    pub fn retain(&self, wanted: impl Fn(&K) -> bool) {
        let unwanted: Vec<K> = {
            let rows = self.lock();
            let present = rows.rows.iter().filter(|(_, (_, value))| value.is_some());
            present.map(|(key, _)| key).filter(|key| !wanted(key)).cloned().collect()
        };
        for key in unwanted {
            self.remove(&key);
        }
    }

    /// One row.
    pub fn get(&self, key: &K) -> Option<V> {
        self.lock().rows.get(key).and_then(|(_, value)| value.clone())
    }

    /// What a reader that stands at (`incarnation`, `after`) does not know yet, at most
    /// `limit` rows.
    pub fn since(&self, incarnation: u64, after: u64, limit: usize) -> Page<K, V> {
        let rows = self.lock();
        let known = incarnation == self.incarnation
            && after <= rows.seq
            && (after == 0 || after >= rows.forgotten);
        let after = if known { after } else { 0 };
        let mut page = Page {
            incarnation: self.incarnation,
            seq: rows.seq,
            reset: !known || after == 0,
            more: false,
            changed: Vec::new(),
            removed: Vec::new(),
        };
        for (taken, (seq, key)) in rows.order.range(after + 1..).enumerate() {
            if taken == limit {
                page.more = true;
                break;
            }
            page.seq = *seq;
            match rows.rows.get(key) {
                Some((_, Some(value))) => page.changed.push(value.clone()),
                _ => page.removed.push(key.clone()),
            }
        }
        page
    }

    /// Waits until there is something that such a reader does not know, or for `patience`.
    pub async fn changed(&self, incarnation: u64, after: u64, patience: Duration) {
        // A reader that stands at zero waits too: a table that was never written to would else
        // answer at once, for ever, and its readers would spin.
        if incarnation != self.incarnation {
            return;
        }
        let mut latest = self.latest.subscribe();
        let news = latest.wait_for(|seq| *seq > after);
        // Running out of patience is the ordinary case: nothing changed.
        tokio::time::timeout(patience, news).await.map(drop).unwrap_or_default();
    }

    /// The incarnation.
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    fn lock(&self) -> MutexGuard<'_, Rows<K, V>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Ord, V> Rows<K, V> {
    fn set(&mut self, key: &K, value: Option<V>) {
        self.seq += 1;
        self.removed += usize::from(value.is_none());
        if let Some((old_seq, old)) = self.rows.insert(key.clone(), (self.seq, value)) {
            self.order.remove(&old_seq);
            self.removed -= usize::from(old.is_none());
        }
        self.order.insert(self.seq, key.clone());
        while self.removed > REMOVED_MAX {
            self.forget_oldest_removed();
        }
    }

    fn forget_oldest_removed(&mut self) {
        let oldest = self
            .order
            .iter()
            .find(|(_, key)| matches!(self.rows.get(*key), Some((_, None))))
            .map(|(seq, key)| (*seq, key.clone()));
        let Some((seq, key)) = oldest else {
            self.removed = 0;
            return;
        };
        self.order.remove(&seq);
        self.rows.remove(&key);
        self.removed -= 1;
        self.forgotten = seq;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A reader as both users of the table write it.
    #[derive(Default)]
    struct Reader {
        incarnation: u64,
        seq: u64,
        known: BTreeMap<u8, (u8, u16)>,
    }

    impl Reader {
        fn poll(&mut self, log: &ReportLog<u8, (u8, u16)>, limit: usize) {
            loop {
                let page = log.since(self.incarnation, self.seq, limit);
                if page.reset {
                    self.known.clear();
                }
                (self.incarnation, self.seq) = (page.incarnation, page.seq);
                for key in page.removed {
                    self.known.remove(&key);
                }
                for row in page.changed {
                    self.known.insert(row.0, row);
                }
                if !page.more {
                    return;
                }
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, u16),
        Remove(u8),
        Poll(usize),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..20, 0u16..3).prop_map(|(key, value)| Step::Put(key, value)),
            2 => (0u8..20).prop_map(Step::Remove),
            2 => (1usize..5).prop_map(Step::Poll),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn a_reader_that_polls_knows_what_a_plain_map_knows(
            steps in prop::collection::vec(step(), 1..120)
        ) {
            let mut oracle: BTreeMap<u8, (u8, u16)> = BTreeMap::new();
            let mut log = ReportLog::new(1);
            let mut reader = Reader::default();
            for step in steps {
                match step {
                    Step::Put(key, value) => {
                        oracle.insert(key, (key, value));
                        log.put(&key, (key, value));
                    }
                    Step::Remove(key) => {
                        prop_assert_eq!(log.remove(&key), oracle.remove(&key).is_some());
                    }
                    Step::Poll(limit) => {
                        reader.poll(&log, limit);
                        prop_assert_eq!(&reader.known, &oracle);
                    }
                    Step::Restart => {
                        log = ReportLog::new(log.incarnation() + 1);
                        for (key, row) in &oracle {
                            log.put(key, *row);
                        }
                    }
                }
            }
            reader.poll(&log, 3);
            prop_assert_eq!(reader.known, oracle);
        }
    }

    #[test]
    fn a_reader_too_far_behind_begins_from_nothing() {
        let log = ReportLog::new(7);
        log.put(&0u32, 0u32);
        let first = log.since(0, 0, 10);
        for key in 1..=u32::try_from(REMOVED_MAX).unwrap() + 1 {
            log.put(&key, key);
            log.remove(&key);
        }
        let page = log.since(first.incarnation, first.seq, 10);
        assert!(page.reset);
        assert_eq!(page.changed, vec![0]);
    }

    #[tokio::test]
    async fn a_change_wakes_a_waiting_reader() {
        let log = std::sync::Arc::new(ReportLog::new(1));
        log.put(&1u8, 1u8);
        let other = log.clone();
        let waiting = tokio::spawn(async move {
            other.changed(1, 1, Duration::from_secs(600)).await;
            other.since(1, 1, 10).changed
        });
        log.put(&2u8, 2u8);
        assert_eq!(waiting.await.unwrap(), vec![2]);
    }

    #[tokio::test]
    async fn a_reader_of_an_empty_table_waits_for_the_first_row() {
        let log: ReportLog<u8, u8> = ReportLog::new(7);
        let page = log.since(0, 0, 10);
        let patience = Duration::from_secs(60);
        let mut waits = std::pin::pin!(log.changed(7, page.seq, patience));
        let early = futures_util::FutureExt::now_or_never(&mut waits);
        assert!(early.is_none(), "there is nothing to tell");
        log.put(&1, 1);
        waits.await;
        assert_eq!(log.since(7, page.seq, 10).changed, vec![1]);
    }
}
