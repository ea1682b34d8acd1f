//! Reception against the rules of RFC 5880, 6.8.6, written apart: on bytes, one after another, with the
//! standard's own names.

use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::{MS, number, settings};

const OWN: u32 = 0x0101_0101;

/// The state variables of 6.8.1 that reception reads or writes.
#[derive(Debug)]
struct Rules {
    session_state: u8,
    local_diag: u8,
    remote_discr: u32,
    remote_session_state: u8,
    remote_min_rx: u32,
    remote_demand: bool,
    detection_us: u64,
}

const ADMIN_DOWN: u8 = 0;
const DOWN: u8 = 1;
const INIT: u8 = 2;
const UP: u8 = 3;
/// What this side requires, in microseconds.
const REQUIRED_MIN_RX: u32 = 300_000;

impl Rules {
    /// Whether a packet with F is owed; nothing when the packet is discarded without a trace.
    fn receive(&mut self, bytes: &[u8]) -> Option<bool> {
        if bytes.len() < 24 || bytes[0] >> 5 != 1 {
            return None;
        }
        let has_a = bytes[1] & 4 != 0;
        let length = usize::from(bytes[3]);
        if length < (if has_a { 26 } else { 24 }) || length > bytes.len() {
            return None;
        }
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let (my, your) = (word(4), word(8));
        if bytes[2] == 0 || bytes[1] & 1 != 0 || my == 0 {
            return None;
        }
        if your != 0 && your != OWN {
            return None;
        }
        let sta = bytes[1] >> 6;
        if your == 0 && sta != DOWN && sta != ADMIN_DOWN {
            return None;
        }
        if has_a {
            return None;
        }
        self.remote_discr = my;
        self.remote_session_state = sta;
        self.remote_demand = bytes[1] & 2 != 0;
        self.remote_min_rx = word(16);
        let interval = REQUIRED_MIN_RX.max(word(12));
        self.detection_us = u64::from(bytes[2]) * u64::from(interval);
        if self.session_state == ADMIN_DOWN {
            return Some(false);
        }
        if sta == ADMIN_DOWN {
            if self.session_state != DOWN {
                self.local_diag = 3;
                self.session_state = DOWN;
            }
        } else if self.session_state == DOWN {
            if sta == DOWN {
                (self.session_state, self.local_diag) = (INIT, 0);
            } else if sta == INIT {
                (self.session_state, self.local_diag) = (UP, 0);
            }
        } else if self.session_state == INIT {
            if sta == INIT || sta == UP {
                (self.session_state, self.local_diag) = (UP, 0);
            }
        } else if sta == DOWN {
            self.local_diag = 3;
            self.session_state = DOWN;
        }
        Some(bytes[1] & 0x20 != 0)
    }
}

fn code(state: State) -> u8 {
    [State::AdminDown, State::Down, State::Init, State::Up]
        .iter()
        .position(|it| *it == state)
        .and_then(|at| u8::try_from(at).ok())
        .unwrap()
}

/// Packets of every kind, most of which count.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let known = prop_oneof![4 => Just(OWN), 2 => Just(0), 1 => Just(OWN + 1)];
    let interval = prop_oneof![Just(0_u32), Just(50_000), Just(300_000), Just(2_000_000)];
    let words = (1..5_u32, known, interval.clone(), interval);
    let damage = prop::option::weighted(0.1, (0..24_usize, any::<u8>()));
    (0..4_u8, 0..64_u8, 1..6_u8, words, damage).prop_map(
        |(sta, flags, multiplier, (my, your, tx, rx), damage)| {
            // Poll, final and demand as they come; the rest by damage.
            let flags = flags & 0x32;
            let mut bytes = vec![0x20, sta << 6 | flags, multiplier, 24];
            for word in [my, your, tx, rx, 0] {
                bytes.extend(word.to_be_bytes());
            }
            if let Some((at, to)) = damage {
                bytes[at] = to;
            }
            bytes
        },
    )
}

proptest! {
    #[test]
    fn what_comes_is_taken_as_the_rules_say(
        all in prop::collection::vec((packets(), prop::bool::weighted(0.02)), 1..60)
    ) {
        let mut session = Session::new(settings(300 * MS, 3), number(OWN), 1);
        let mut rules = Rules {
            session_state: DOWN,
            local_diag: 0,
            remote_discr: 0,
            remote_session_state: DOWN,
            remote_min_rx: 1,
            remote_demand: false,
            detection_us: 0,
        };
        let now = Duration::from_secs(5);
        // Whether there is something that the other side could not be told yet.
        let mut untold = false;
        for (bytes, shut) in all {
            if shut {
                untold |= rules.session_state != ADMIN_DOWN;
                session.shut_down();
                (rules.session_state, rules.local_diag) = (ADMIN_DOWN, 7);
            }
            // What was owed before is not looked at here.
            while session.due(now).is_some() {
                untold = false;
            }
            let before = session.view();
            let heard = Packet::read(&bytes).and_then(|packet| session.hear(&packet, now));
            let state_before = rules.session_state;
            let Some(owed) = rules.receive(&bytes) else {
                prop_assert!(heard.is_err());
                prop_assert_eq!(session.view(), before);
                prop_assert_eq!(session.due(now), None);
                continue;
            };
            prop_assert_eq!(heard.is_ok(), rules.session_state != ADMIN_DOWN);
            let view = session.view();
            prop_assert_eq!(code(view.state), rules.session_state);
            prop_assert_eq!(view.remote.map(code), Some(rules.remote_session_state));
            let detection = Duration::from_micros(rules.detection_us);
            prop_assert_eq!(view.detection, Some(detection));
            let desired = if rules.session_state == UP { 300_000 } else { 1_000_000 };
            let least = u64::from(rules.remote_min_rx.max(desired));
            prop_assert_eq!(view.transmit, Duration::from_micros(least));
            let failed = state_before == UP
                && rules.session_state == DOWN
                && rules.remote_session_state == DOWN;
            prop_assert_eq!(view.failures - before.failures, u64::from(failed));

            let sent = session.due(now);
            untold |= state_before != rules.session_state;
            let tells = untold && rules.remote_min_rx != 0;
            prop_assert_eq!(sent.is_some(), owed || tells);
            if let Some(sent) = sent {
                untold = false;
                let bytes = sent.write();
                prop_assert_eq!(sent.is_final, owed);
                prop_assert!(!(sent.is_final && sent.poll));
                prop_assert_eq!(bytes[1] >> 6, rules.session_state);
                prop_assert_eq!(bytes[0] & 0x1F, rules.local_diag);
                prop_assert_eq!(sent.own.get(), OWN);
                prop_assert_eq!(sent.other.map(|it| it.get()), Some(rules.remote_discr));
            }
            prop_assert_eq!(session.due(now), None, "one packet for one");
        }
    }
}
