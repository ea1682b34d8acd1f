//! What this replica wrote and some member may still have to hear: the queue of every peer.
//!
//! Positions rise, over all incarnations. Nothing is handed to a peer before it is durable
//! here, so no peer ever has more of a log than its author finds after a crash.

use std::collections::VecDeque;

use crate::clock::Hlc;
use crate::frame::{Delta, Held};
use crate::frontier::Position;
use crate::replica::input::Key;
use crate::replica::view::ClassId;

/// One mutation.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) position: Position,
    pub(crate) key: Key,
    pub(crate) value: Held,
    pub(crate) stamp: Hlc,
    /// Whether the key lives for a time, so that peers need the stamp.
    pub(crate) timed: bool,
    pub(crate) class: ClassId,
    /// Bytes, about.
    pub(crate) len: usize,
}

impl Record {
    pub(crate) fn delta(&self) -> Delta {
        Delta {
            key: Key::clone(&self.key),
            value: self.value.clone(),
            stamp: self.timed.then_some(self.stamp),
        }
    }
}

/// The records after a position.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    start: Position,
    end: Position,
    durable: Position,
    records: VecDeque<Record>,
    bytes: usize,
}

impl Log {
    /// The log as its rows have it: everything durable, and the end at least `end`.
    pub(crate) fn recover(start: Position, end: Position, records: Vec<Record>) -> Self {
        let last = records.last().map_or(start, |record| record.position);
        let end = end.max(last).max(start);
        let bytes = records.iter().map(|record| record.len).sum();
        Self { start, end, durable: end, records: records.into(), bytes }
    }

    /// Everything after this is here.
    pub(crate) const fn start(&self) -> Position {
        self.start
    }

    /// The last position, durable or not.
    pub(crate) const fn end(&self) -> Position {
        self.end
    }

    /// The last position that is durable.
    pub(crate) const fn durable(&self) -> Position {
        self.durable
    }

    /// The position of the next mutation.
    pub(crate) const fn next(&self) -> Position {
        Position::new(self.end.incarnation, self.end.seq + 1)
    }

    pub(crate) fn append(&mut self, record: Record) {
        self.end = record.position;
        self.bytes += record.len;
        self.records.push_back(record);
    }

    /// Everything up to a position is durable.
    pub(crate) fn persisted(&mut self, upto: Position) {
        self.durable = self.durable.max(upto);
    }

    /// Goes on under another incarnation.
    pub(crate) fn begin(&mut self, position: Position) {
        self.end = self.end.max(position);
    }

    fn index_after(&self, position: Position) -> usize {
        self.records.partition_point(|record| record.position <= position)
    }

    /// The records after a position, in order.
    pub(crate) fn after(&self, position: Position) -> impl Iterator<Item = &Record> {
        self.records.range(self.index_after(position)..)
    }

    /// Drops everything up to a position, which every member has, and gives its positions.
    pub(crate) fn truncate(&mut self, upto: Position) -> Vec<Position> {
        let upto = upto.min(self.durable);
        if upto <= self.start {
            return Vec::new();
        }
        self.start = upto;
        let count = self.index_after(upto);
        let gone: Vec<_> = self.records.drain(..count).collect();
        self.bytes -= gone.iter().map(|record| record.len).sum::<usize>();
        gone.into_iter().map(|record| record.position).collect()
    }

    /// How far to truncate so that no more than `max` bytes are kept, whoever misses them.
    pub(crate) fn overflow(&self, max: usize) -> Option<Position> {
        let mut bytes = self.bytes;
        let mut upto = None;
        for record in &self.records {
            if bytes <= max {
                break;
            }
            bytes -= record.len;
            upto = Some(record.position);
        }
        upto.filter(|upto| *upto <= self.durable)
    }

    /// Finds the class of every key again; keys without one keep theirs.
    pub(crate) fn reclassify(&mut self, class_of: impl Fn(&str) -> Option<ClassId>) {
        for record in &mut self.records {
            // No class is class `MAX`, which nobody holds: nothing of it is sent.
            record.class = class_of(&record.key).unwrap_or(ClassId::MAX);
        }
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}
