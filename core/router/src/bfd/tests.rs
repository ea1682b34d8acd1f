//! The codec by bytes written by hand, reception by the rules of the standard written down once more,
//! and two sessions over a wire that loses, delays and is cut.

mod reception;
mod wire;

use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn number(of: u32) -> NonZeroU32 {
    NonZeroU32::new(of).unwrap()
}

fn settings(interval: Duration, multiplier: u8) -> Settings {
    Settings { interval, multiplier: NonZeroU8::new(multiplier).unwrap() }
}

/// As RFC 5880, 4.1, draws it.
const BYTES: [u8; PACKET_LEN] = [
    0x21, 0xE2, 3, 24, // version 1, expired; up, poll, demand
    0, 0, 0, 7, // the sender's number
    0, 0, 1, 0, // the receiver's
    0, 4, 0x93, 0xE0, // 300 ms
    0, 0x0F, 0x42, 0x40, // 1 s
    0, 0, 0, 0,
];

#[test]
fn packets_are_those_of_the_standard() {
    let packet = Packet {
        state: State::Up,
        diagnostic: Diagnostic::EXPIRED,
        poll: true,
        is_final: false,
        demand: true,
        multiplier: NonZeroU8::new(3).unwrap(),
        own: number(7),
        other: Some(number(256)),
        tx_min: 300 * MS,
        rx_min: 1_000 * MS,
    };
    assert_eq!(packet.write(), BYTES);
    assert_eq!(Packet::read(&BYTES), Ok(packet));
    let is_final = Packet { poll: false, is_final: true, demand: false, ..packet };
    assert_eq!(is_final.write()[1], 0xD0);
    let long = Packet { tx_min: Duration::from_secs(10_000), ..packet };
    assert_eq!(long.write()[12..16], [0xFF; 4]);
}

#[test]
fn each_rule_discards_what_it_is_for() {
    let changed = |at: usize, to: u8| {
        let mut bytes = BYTES;
        bytes[at] = to;
        Packet::read(&bytes).unwrap_err()
    };
    assert_eq!(changed(0, 0x01), Discarded::Version);
    assert_eq!(changed(3, 23), Discarded::Short);
    assert_eq!(changed(3, 25), Discarded::Short);
    assert_eq!(changed(2, 0), Discarded::Multiplier);
    assert_eq!(changed(1, 0xC1), Discarded::Multipoint);
    assert_eq!(changed(7, 0), Discarded::Nameless);
    assert_eq!(changed(10, 0), Discarded::Sessionless);
    assert_eq!(changed(1, 0xC4), Discarded::Short, "it has no room for its proof");
    let authenticated = [&BYTES[..], &[1, 4, 0, 0]].concat();
    let mut authenticated: Vec<u8> = authenticated;
    (authenticated[1], authenticated[3]) = (0xC4, 28);
    assert_eq!(Packet::read(&authenticated), Err(Discarded::Authenticated));
    assert_eq!(Packet::read(&BYTES[..23]), Err(Discarded::Short));
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_discarded(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        Packet::read(&bytes).ok();
    }

    /// What is read is written as it came, but for what is not kept: independence of the control
    /// plane, the echo, and what follows.
    #[test]
    fn what_is_read_is_written_again(
        changes in prop::collection::vec((0..PACKET_LEN, any::<u8>()), 0..6),
        more in prop::collection::vec(any::<u8>(), 0..4)
    ) {
        let mut bytes = BYTES;
        for (at, to) in changes {
            bytes[at] = to;
        }
        if let Ok(packet) = Packet::read(&[&bytes[..], &more].concat()) {
            bytes[1] &= !0x08;
            bytes[3] = 24;
            bytes[20..].fill(0);
            prop_assert_eq!(packet.write(), bytes);
        }
    }
}
