//! What is written to a store under test, and what must be in it then.
//!
//! A batch is a function of who writes it and its number, so that a process that was killed
//! and the one that judges what it left agree without having spoken. The oracle is a
//! `BTreeMap`.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::{Backend, Change, LocalStore, StoreError};

/// Log rows that stay; older ones are deleted.
const LOG_LEN: u64 = 6;
/// How often the log is cut.
const CUT_EVERY: u64 = 5;
/// Keys that are written again and again.
const KEYS: u64 = 24;
/// Longest value of most rows, and of some: more than a page, so that a value can be torn in
/// its middle.
const VALUE_LEN: u64 = 500;
const LONG_VALUE_LEN: u64 = 6_000;

/// Rows by key.
pub(super) type Map = BTreeMap<String, Bytes>;

/// The changes of a writer's batch.
pub(super) fn batch(writer: u32, number: u64) -> Vec<Change> {
    let mut random = Random(u64::from(writer) << 32 | number);
    let mut changes = Vec::new();
    for _ in 0..=random.below(4) {
        let key = format!("{}s/{:02}", prefix(writer), random.below(KEYS));
        changes.push(match random.below(5) {
            0 => Change::Delete { key },
            1 => Change::Put { key, value: random.bytes(LONG_VALUE_LEN) },
            _ => Change::Put { key, value: random.bytes(VALUE_LEN) },
        });
    }
    changes.push(Change::Put { key: log(writer, number), value: random.bytes(60) });
    if number.is_multiple_of(CUT_EVERY) {
        let end = number.saturating_sub(LOG_LEN);
        let cut = end.saturating_sub(CUT_EVERY)..end;
        changes.extend(cut.map(|number| Change::Delete { key: log(writer, number) }));
    }
    let value = Bytes::from(number.to_string());
    changes.push(Change::Put { key: last(writer), value });
    changes
}

/// What a writer's rows are after so many of its batches.
pub(super) fn rows(writer: u32, batches: u64) -> Map {
    let mut map = Map::new();
    for number in 1..=batches {
        apply(&mut map, batch(writer, number));
    }
    map
}

/// Does to a map what a store does.
pub(super) fn apply(map: &mut Map, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put { key, value } => {
                map.insert(key, value);
            }
            Change::Delete { key } => {
                map.remove(&key);
            }
        }
    }
}

/// The number of the last batch of a writer that a store has.
pub(super) fn last_of<B: Backend>(
    store: &LocalStore<B>,
    writer: u32,
) -> Result<u64, StoreError> {
    let stored = store.get(&last(writer))?;
    Ok(stored.map_or(0, |text| {
        let text = std::str::from_utf8(&text).unwrap();
        text.parse().unwrap()
    }))
}

/// The beginning of all keys of a writer.
pub(super) fn prefix(writer: u32) -> String {
    format!("w{writer}/")
}

fn last(writer: u32) -> String {
    format!("{}last", prefix(writer))
}

fn log(writer: u32, number: u64) -> String {
    format!("{}d/{number:016x}", prefix(writer))
}

/// A small generator (splitmix64): the same everywhere, and good enough to vary a test.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, len_max: u64) -> Bytes {
        let len = self.below(len_max);
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}
