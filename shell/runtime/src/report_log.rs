//! What changed since you last asked: a table whose readers poll for the difference.
//!
//! A host tells its region about guests this way, a region tells its peers. Every change gets
//! the next sequence number and replaces the older change of the same key, so a reader that
//! was away long gets each row once, and one that asks every second gets only news. A reader
//! keeps a [`Cursor`]; a restarted writer has another incarnation, and then the reader begins
//! from nothing. Rows are levels, not edges: applying one twice does no harm.
//!
//! Removed keys are remembered for a while only. Whether a reader may have missed one is judged
//! by when it began, not by where it stands: one that reads everything page by page passes old
//! rows on the way.
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

/// Where a reader stands; the default knows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The writer's life.
    pub incarnation: u64,
    /// It hears of every removal since this.
    pub begun: u64,
    /// It has every row up to this.
    pub after: u64,
}

/// A part of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<K, V> {
    /// Ask with this the next time.
    pub cursor: Cursor,
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
    removed_max: usize,
    rows: Mutex<Rows<K, V>>,
    latest: watch::Sender<u64>,
}

impl<K: Clone + Ord, V: Clone + PartialEq> ReportLog<K, V> {
    /// An empty table. `incarnation` must differ from that of every earlier life.
    #[must_use]
    pub fn new(incarnation: u64) -> Self {
        Self::remembering(incarnation, REMOVED_MAX)
    }

    /// The same, remembering another number of removed keys.
    #[must_use]
    pub fn remembering(incarnation: u64, removed_max: usize) -> Self {
        let rows = Rows {
            // One, so that zero is a reader who knows nothing, also of an empty table.
            seq: 1,
            rows: BTreeMap::new(),
            order: BTreeMap::new(),
            removed: 0,
            forgotten: 0,
        };
        let rows = Mutex::new(rows);
        Self { incarnation, removed_max, rows, latest: watch::Sender::new(1) }
    }

    /// Sets a row; says whether it is different now.
    pub fn put(&self, key: &K, value: V) -> bool {
        let mut rows = self.lock();
        if let Some((_, Some(old))) = rows.rows.get(key)
            && *old == value
        {
            return false;
        }
        rows.set(key, Some(value), self.removed_max);
        self.latest.send_replace(rows.seq);
        true
    }

    /// Removes a row; says whether there was one.
    pub fn remove(&self, key: &K) -> bool {
        let mut rows = self.lock();
        if !matches!(rows.rows.get(key), Some((_, Some(_)))) {
            return false;
        }
        rows.set(key, None, self.removed_max);
        self.latest.send_replace(rows.seq);
        true
    }

    /// What a reader does not know yet, at most `limit` rows.
    pub fn since(&self, cursor: Cursor, limit: usize) -> Page<K, V> {
        let rows = self.lock();
        let known = self.knows(cursor)
            && cursor.begun >= rows.forgotten
            && cursor.after <= rows.seq;
        let begun = if known { cursor.begun } else { rows.seq };
        let after = if known { cursor.after } else { 0 };
        let mut page = Page {
            cursor: Cursor { incarnation: self.incarnation, begun, after },
            reset: !known,
            more: false,
            changed: Vec::new(),
            removed: Vec::new(),
        };
        for (taken, (seq, key)) in rows.order.range(after + 1..).enumerate() {
            if taken == limit {
                page.more = true;
                return page;
            }
            page.cursor.after = *seq;
            match rows.rows.get(key) {
                Some((_, Some(value))) => page.changed.push(value.clone()),
                _ => page.removed.push(key.clone()),
            }
        }
        page.cursor = Cursor { begun: rows.seq, after: rows.seq, ..page.cursor };
        page
    }

    /// Waits until there is something that a reader does not know, or for `patience`.
    pub async fn changed(&self, cursor: Cursor, patience: Duration) {
        if !self.knows(cursor) {
            return;
        }
        let mut latest = self.latest.subscribe();
        let news = latest.wait_for(|seq| *seq > cursor.after);
        // Running out of patience is the ordinary case: nothing changed.
        tokio::time::timeout(patience, news).await.map(drop).unwrap_or_default();
    }

    /// Whether the cursor is of this life of the table.
    const fn knows(&self, cursor: Cursor) -> bool {
        cursor.incarnation == self.incarnation && cursor.begun > 0
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
    fn set(&mut self, key: &K, value: Option<V>, removed_max: usize) {
        self.seq += 1;
        self.removed += usize::from(value.is_none());
        if let Some((old_seq, old)) = self.rows.insert(key.clone(), (self.seq, value)) {
            self.order.remove(&old_seq);
            self.removed -= usize::from(old.is_none());
        }
        self.order.insert(self.seq, key.clone());
        while self.removed > removed_max {
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
        cursor: Cursor,
        known: BTreeMap<u8, (u8, u16)>,
    }

    impl Reader {
        fn poll(&mut self, log: &ReportLog<u8, (u8, u16)>, limit: usize) {
            loop {
                let page = log.since(self.cursor, limit);
                if page.reset {
                    self.known.clear();
                }
                self.cursor = page.cursor;
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
            let mut log = ReportLog::remembering(1, 3);
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
                        log = ReportLog::remembering(log.incarnation() + 1, 3);
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
        let log = ReportLog::remembering(7, 2);
        log.put(&0u32, 0u32);
        let first = log.since(Cursor::default(), 10);
        for key in 1..=3 {
            log.put(&key, key);
            log.remove(&key);
        }
        let page = log.since(first.cursor, 10);
        assert!(page.reset);
        assert_eq!(page.changed, vec![0]);
    }

    #[test]
    fn a_reader_that_reads_all_page_by_page_gets_past_what_was_forgotten_before() {
        let log = ReportLog::remembering(7, 0);
        for key in 0..4u8 {
            log.put(&key, key);
        }
        log.put(&9, 9);
        log.remove(&9);
        let first = log.since(Cursor::default(), 2);
        assert!(first.reset && first.more);
        let second = log.since(first.cursor, 2);
        assert!(!second.reset);
        assert_eq!(second.changed, vec![2, 3]);
    }

    #[tokio::test]
    async fn a_change_wakes_a_waiting_reader_also_of_an_empty_table() {
        let log = std::sync::Arc::new(ReportLog::new(1));
        let at = log.since(Cursor::default(), 10).cursor;
        let other = log.clone();
        let waiting = tokio::spawn(async move {
            other.changed(at, Duration::from_secs(600)).await;
            other.since(at, 10).changed
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "there is nothing to know yet");
        log.put(&2u8, 2u8);
        assert_eq!(waiting.await.unwrap(), vec![2]);
    }
}
