//! The four promises of a line, each by random packets and against arithmetic of its own.

use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

use super::*;

const SEED: u64 = 1;

fn at(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

/// Pauses before packets in microseconds, and their lengths in bytes.
fn packets() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((0_u64..2_000, 40_u64..70_000), 1..200)
}

fn shape() -> impl Strategy<Value = Shape> {
    let rate = prop::option::of(8_000_u64..2_000_000_000);
    (0_u64..200_000, 0_u64..50_000, 0_u32..1_000_000, rate, 0_u64..5_000_000).prop_map(
        |(delay_us, jitter_us, loss_ppm, rate, queue_bytes)| Shape {
            delay_us,
            jitter_us,
            loss_ppm,
            rate_bps: rate.and_then(NonZeroU64::new),
            queue_bytes,
        },
    )
}

/// Sends all packets: when each came, and what became of it.
fn send_all(
    line: &mut Line,
    packets: &[(u64, u64)],
) -> Vec<(Duration, Result<Passage, Lost>)> {
    let mut now = 0;
    let send = |(pause, bytes): &(u64, u64)| {
        now += pause;
        (at(now), line.enter(at(now), *bytes))
    };
    packets.iter().map(send).collect()
}

proptest! {
    #[test]
    fn no_packet_overtakes_another_whatever_the_line_becomes(
        phases in prop::collection::vec((shape(), packets()), 1..4),
    ) {
        let mut line = Line::new(Shape::default(), SEED);
        let (mut now, mut last) = (0, Duration::ZERO);
        for (shape, packets) in phases {
            line.reshape(shape);
            for (pause, bytes) in packets {
                now += pause;
                if let Ok(passage) = line.enter(at(now), bytes) {
                    prop_assert!(passage.due >= last);
                    last = passage.due;
                }
            }
        }
    }

    #[test]
    fn every_packet_takes_the_delay_and_never_more_than_the_jitter_besides(
        shape in shape(),
        packets in packets(),
    ) {
        let wide = Shape { rate_bps: None, loss_ppm: 0, ..shape };
        let mut line = Line::new(wide, SEED);
        let mut last = Duration::ZERO;
        for (now, passage) in send_all(&mut line, &packets) {
            let due = passage.map(|passage| passage.due).unwrap();
            let latest = now + at(wide.delay_us + wide.jitter_us);
            prop_assert!(due <= latest.max(last));
            prop_assert!(due >= now + at(wide.delay_us.saturating_sub(wide.jitter_us)));
            last = due;
        }
    }

    #[test]
    fn between_any_two_packets_no_more_leaves_than_the_rate_allows(
        shape in shape(),
        packets in packets(),
        rate in 8_000_u64..2_000_000_000,
    ) {
        let rated = Shape { jitter_us: 0, rate_bps: NonZeroU64::new(rate), ..shape };
        let mut line = Line::new(rated, SEED);
        let sent = send_all(&mut line, &packets);
        let left: Vec<_> = sent.iter().filter_map(|(_, sent)| sent.ok()).collect();
        for first in 0..left.len() {
            let mut bits = 0;
            for later in &left[first + 1..] {
                bits += u128::from(later.bytes) * 8;
                let time = (later.due - left[first].due).as_nanos();
                prop_assert!(bits * 1_000_000_000 <= time * u128::from(rate));
            }
        }
    }

    #[test]
    fn nobody_waits_longer_than_a_full_queue_and_a_free_line_takes_any_packet(
        shape in shape(),
        packets in packets(),
        rate in 8_000_u64..2_000_000_000,
    ) {
        let rated = Shape {
            delay_us: 0,
            jitter_us: 0,
            loss_ppm: 0,
            rate_bps: NonZeroU64::new(rate),
            ..shape
        };
        let mut line = Line::new(rated, SEED);
        let mut busy_until = Duration::ZERO;
        for ((now, sent), (_, bytes)) in send_all(&mut line, &packets).iter().zip(&packets) {
            let Ok(passage) = sent else {
                prop_assert!(busy_until > *now, "a free line lost a packet");
                continue;
            };
            // A byte may be rounded off what waits, and each packet may take a nanosecond more.
            let most = u128::from(rated.queue_bytes.max(*bytes) + 1) * 8_000_000_000;
            let waited = (passage.due - *now).as_nanos();
            prop_assert!(waited <= most / u128::from(rate) + 1 + 200);
            busy_until = passage.due;
        }
    }

    #[test]
    fn the_same_seed_loses_the_same_packets_however_late_they_are(
        seed in any::<u64>(),
        loss_ppm in 0_u32..1_000_000,
        jitter_us in 0_u64..50_000,
        packets in packets(),
    ) {
        let lost = |shape: Shape| {
            let mut line = Line::new(shape.loss_ppm(loss_ppm), seed);
            let sent = send_all(&mut line, &packets);
            sent.into_iter().map(|(_, sent)| sent.is_err()).collect::<Vec<_>>()
        };
        let plain = lost(Shape::default());
        let late = lost(Shape { delay_us: 10_000, jitter_us, ..Shape::default() });
        prop_assert_eq!(plain, late);
    }

    #[test]
    fn a_cut_loses_what_is_under_way_and_what_comes_and_nothing_after_it_heals(
        before in packets(),
        during in packets(),
        after in packets(),
    ) {
        let mut line = Line::new(Shape::delay(at(80_000)), SEED);
        let under_way = send_all(&mut line, &before);
        line.cut();
        for (_, sent) in send_all(&mut line, &during) {
            prop_assert_eq!(sent, Err(Lost::Cut));
        }
        for (_, sent) in under_way {
            prop_assert_eq!(line.leave(sent.unwrap()), Err(Lost::Cut));
        }
        line.heal();
        for (_, sent) in send_all(&mut line, &after) {
            prop_assert_eq!(line.leave(sent.unwrap()), Ok(()));
        }
        let cut = u64::try_from(before.len() + during.len()).unwrap();
        prop_assert_eq!(line.report().cut, cut);
    }
}

#[test]
fn losses_are_as_many_as_were_asked_for() {
    let mut line = Line::new(Shape::default().loss_ppm(10_000), SEED);
    let lost = (0..100_000).filter(|n| line.enter(at(*n), 1_500).is_err()).count();
    // 1,000 expected; four standard deviations are 126.
    assert!((874..=1_126).contains(&lost), "{lost}");
    assert_eq!(line.report().chance, u64::try_from(lost).unwrap());
}

#[test]
fn a_sender_that_nobody_hears_fills_no_memory() {
    let mut line = Line::new(Shape::delay(Duration::from_hours(1)), SEED);
    let packet = 64 << 10;
    let taken = (0..8_192).filter(|_| line.enter(at(0), packet).is_ok()).count();
    assert_eq!(u64::try_from(taken).unwrap() * packet, FLIGHT_BYTES_MAX);
    assert_eq!(line.report().full, 8_192 - u64::try_from(taken).unwrap());
}
