//! What is on a disk: there and back, cut, flipped, and of somebody else.

use dwcp_types::RegionId;
use proptest::prelude::*;

use super::tests::{Shelf, TEN_S, at, digest, region};
use super::*;

/// Two hours of digests, written by the minute.
fn filled(latencies: &[u64]) -> Shelf {
    let mut shelf = Shelf::default();
    for step in 0..720 {
        shelf.history.record(at(step * TEN_S), &digest(latencies, 0, 3));
        if step % 6 == 5 {
            shelf.write(at(step * TEN_S));
        }
    }
    shelf
}

fn one_file() -> impl Strategy<Value = (SegmentId, Vec<u8>)> {
    let frames = prop::collection::vec(
        (prop::collection::vec(1_u64..90_000, 0..20), 0_u64..40),
        1..6,
    );
    frames.prop_map(|frames| {
        let mut shelf = Shelf::default();
        for (latencies, step) in frames {
            shelf.history.record(at(step * TEN_S), &digest(&latencies, 0, 3));
            shelf.write(at(step * TEN_S));
        }
        shelf.files.pop_first().unwrap()
    })
}

proptest! {
    #[test]
    fn any_cut_or_flipped_byte_is_a_gap_and_never_another_value(
        (id, bytes) in one_file(),
        place in any::<prop::sample::Index>(),
        flip in 1_u8..,
        cut in any::<bool>(),
    ) {
        let whole = Segment::decode(&region(), id, &bytes);
        prop_assert!(!whole.is_damaged);
        prop_assert_eq!(whole.sound_len, u64::try_from(bytes.len()).unwrap());
        let place = place.index(bytes.len());
        let mut broken = bytes.clone();
        if cut {
            broken.truncate(place);
        } else {
            broken[place] ^= flip;
        }
        let read = Segment::decode(&region(), id, &broken);
        let sound = usize::try_from(read.sound_len).unwrap();
        prop_assert!(sound <= place, "nothing is read from the frame that is broken on");
        prop_assert_eq!(read.is_damaged, sound < broken.len());
        // What is read is what those frames alone say.
        let mut before = Segment::decode(&region(), id, &bytes[..sound]);
        before.is_damaged = read.is_damaged;
        prop_assert_eq!(read, before);
    }

    #[test]
    fn no_bytes_are_too_odd_to_be_no_segment(
        bytes in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        let id = SegmentId { grain: Grain::Minute, number: 7 };
        let read = Segment::decode(&region(), id, &bytes);
        prop_assert!(read.slots.is_empty());
        prop_assert_eq!(read.is_damaged, !bytes.is_empty());
    }

    #[test]
    fn a_body_that_somebody_made_up_is_never_a_panic(
        body in prop::collection::vec(any::<u8>(), 0..120)
    ) {
        // As if its checksum were right.
        let mut bytes = body.as_slice();
        if let Some(slot) = Slot::read(&mut bytes) {
            let mut window = Window::default();
            slot.add_to(&mut window);
            for metric in Metric::ALL {
                let _value = window.value_milli(metric);
            }
        }
    }

    #[test]
    fn names_of_segments_go_there_and_back(number in any::<u64>(), odd in "[0-9a-z-]{0,16}") {
        for grain in Grain::ALL {
            let id = SegmentId { grain, number };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
        if let Ok(id) = odd.parse::<SegmentId>() {
            prop_assert_eq!(id.to_string(), odd);
        }
    }

    #[test]
    fn the_furthest_from_now_are_too_many_and_no_more(
        there in prop::collection::btree_set(0_u64..200, 0..60), now in 0_u64..200,
    ) {
        let moment = Timestamp::from_millis(now * 3_600_000);
        let all: Vec<u64> = there.iter().copied().collect();
        let gone = Grain::TenSeconds.surplus(all.clone(), moment);
        prop_assert_eq!(gone.len(), all.len().saturating_sub(4));
        let gone: Vec<u64> = gone.iter().map(|id| id.number).collect();
        let far = |number: &u64| number.abs_diff(now);
        let nearest_gone = gone.iter().map(far).min().unwrap_or(u64::MAX);
        let left = all.iter().filter(|number| !gone.contains(number));
        prop_assert!(left.map(far).all(|far| far <= nearest_gone));
    }
}

#[test]
fn a_segment_of_another_region_or_under_another_name_is_a_gap() {
    let shelf = filled(&[1_000]);
    let (id, bytes) = shelf.files.first_key_value().unwrap();
    let other = RegionId::new("two").unwrap();
    assert!(Segment::decode(&other, *id, bytes).slots.is_empty());
    let renamed = SegmentId { number: id.number + 1, ..*id };
    assert!(Segment::decode(&region(), renamed, bytes).slots.is_empty());
}

#[test]
fn memory_holds_two_hours_and_the_rest_is_read() {
    let shelf = filled(&[1_000, 2_000, 3_000]);
    let now = at(719 * TEN_S);
    let day = Query::last(Duration::from_hours(24), now);
    let all = shelf.history.window(&day, &shelf.past(&day));
    assert_eq!(all.digests(), 720);
    // Six hours later memory has nothing of it.
    let mut later = shelf;
    let now = at(719 * TEN_S + 6 * 3_600_000);
    later.history.record(now, &digest(&[], 0, 3));
    later.write(now);
    let day = Query::last(Duration::from_hours(24), now);
    assert_eq!(later.history.window(&day, &Past::default()).digests(), 1);
    assert_eq!(later.last(Duration::from_hours(24), now).digests(), 721);
    let month = later.chart(Metric::Vms, Duration::from_hours(720), now);
    assert_eq!(month.points.iter().filter_map(|it| it.value_milli).max(), Some(3_000));
}

#[test]
fn a_digest_that_comes_late_is_in_the_place_that_was_written() {
    let mut shelf = filled(&[1_000]);
    // As late as a digest may be.
    let now = at(719 * TEN_S + 300_000);
    shelf.history.record(at(719 * TEN_S), &digest(&[1_000], 0, 3));
    shelf.write(now);
    shelf.restart(now);
    assert_eq!(shelf.last(Duration::from_hours(2), now).digests(), 692);
    assert_eq!(shelf.last(Duration::from_hours(3), now).digests(), 721);
}

#[test]
fn a_piece_that_could_not_be_written_is_written_the_next_time() {
    let mut shelf = Shelf::default();
    for step in 0..360 {
        shelf.history.record(at(step * TEN_S), &digest(&[1_000], 0, 3));
    }
    let now = at(359 * TEN_S);
    let refused = shelf.history.pieces(None, now);
    assert_eq!(refused.len(), 3, "one of each step");
    assert!(shelf.history.pieces(None, now).is_empty());
    refused.clone().into_iter().for_each(|piece| shelf.history.take_back(piece));
    assert_eq!(shelf.history.pieces(None, now), refused);
}

#[test]
fn up_to_which_digest_it_reaches_is_told_first_and_comes_back() {
    let mut history = History::default();
    // Two segments of the finest step.
    for step in [0, 359, 360] {
        history.record(at(step * TEN_S), &digest(&[1_000], 0, 3));
    }
    let cursor = Cursor { life: 7, seq: 3, at: at(360 * TEN_S) };
    let pieces = history.pieces(Some(cursor), at(360 * TEN_S));
    let first = &pieces[0];
    assert!(first.segment > pieces[1].segment, "the newest is written first");
    let read = Segment::decode(&region(), first.segment, &first.encode(&region(), 0));
    assert_eq!(History::default().restore(first.segment, &read), Some(cursor));
    // A coarser one is written later, and what the finest has since would be told again.
    let coarse = pieces.iter().find(|it| it.segment.grain != Grain::TenSeconds).unwrap();
    let read = Segment::decode(&region(), coarse.segment, &coarse.encode(&region(), 0));
    assert_eq!(History::default().restore(coarse.segment, &read), None);
}
