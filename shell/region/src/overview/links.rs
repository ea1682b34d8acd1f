//! The matrix of round trips: always full, so that a region that is not heard keeps its row.
//!
//! A line has two ends, and each measures it. What was seen lately counts before what was seen long
//! ago; of what was, an end that finds no line counts before one that still remembers a time, and
//! the longer time before the shorter.

use std::collections::BTreeMap;
use std::time::Duration;

use dwcp_api::overview::{LINK_STALE_S, LinkRow};
use dwcp_types::RegionId;

use super::build::{RegionFacts, steps_s};
use crate::world::Trip;

/// Microseconds of a tenth of a millisecond.
const TENTH_US: u32 = 100;
/// A time that differs by no more than a tenth, or half a millisecond, is still the one that was
/// shown: jitter is no news.
const JITTER_PARTS: u32 = 10;
const JITTER_TENTHS: u32 = 5;

/// One cell: tenths of a millisecond while there is a line, and how old that is.
type Cell = (Option<u32>, Option<u32>);

/// Every pair once, in the row of the region that comes first by name.
pub(super) fn links(
    regions: &[RegionFacts],
    now: Duration,
) -> BTreeMap<RegionId, LinkRow> {
    let mut rows = BTreeMap::new();
    for (at, one) in regions.iter().enumerate() {
        let after = regions.iter().skip(at + 1);
        let cells: Vec<Cell> = after.map(|other| cell(one, other, now)).collect();
        if !cells.is_empty() {
            rows.insert(one.id.clone(), row(&cells));
        }
    }
    rows
}

fn row(cells: &[Cell]) -> LinkRow {
    let all_new = cells.iter().all(|cell| matches!(cell, (Some(_), Some(0))));
    let mut age_s: Vec<_> = cells.iter().map(|(_, age)| *age).collect();
    if all_new {
        age_s.clear();
    } else if age_s.iter().all(|age| *age == age_s[0]) {
        age_s.truncate(1);
    }
    LinkRow { rtt: cells.iter().map(|(rtt, _)| *rtt).collect(), age_s }
}

fn cell(one: &RegionFacts, other: &RegionFacts, now: Duration) -> Cell {
    let ends = [one.trips.get(&other.id), other.trips.get(&one.id)];
    let seen = ends.into_iter().flatten().max_by_key(|trip| {
        let age = now.saturating_sub(trip.at);
        let stale = Duration::from_secs(u64::from(LINK_STALE_S));
        // Of two that are both of now the worse; else the newer.
        let lately = age < stale;
        (lately, if lately { Duration::ZERO } else { trip.at }, !trip.up, trip.rtt)
    });
    seen.map_or((None, None), |trip| told(trip, now))
}

fn told(trip: &Trip, now: Duration) -> Cell {
    let age = u32::try_from(steps_s(now.saturating_sub(trip.at))).unwrap_or(u32::MAX);
    let rtt = trip.up.then(|| trip.rtt.get().div_ceil(TENTH_US));
    (rtt, Some(age))
}

/// The times that were shown before, where they are still about the same.
pub(super) fn steady(before: &LinkRow, after: &mut LinkRow) {
    if before.rtt.len() != after.rtt.len() {
        return;
    }
    for (was, is) in before.rtt.iter().zip(&mut after.rtt) {
        if let (Some(was), Some(now)) = (was, &is) {
            let jitter = (was / JITTER_PARTS).max(JITTER_TENTHS);
            if was.abs_diff(*now) <= jitter {
                *is = Some(*was);
            }
        }
    }
}
