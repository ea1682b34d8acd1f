//! Packets that nobody means well with: none panics, none is answered with more than was agreed.

use domain::base::iana::Rtype;
use proptest::prelude::*;

use super::super::{Asker, Outcome, Transport, UDP_BYTES_MAX, answer};
use super::ground::{Ask, Told, view};

/// Most that an answer by UDP is longer than its question: the zone's SOA or name servers, OPT
/// and a reason. A forger gains no more than that from a packet, and [`super::super::RateLimit`]
/// bounds how often.
const EXTRA_BYTES_MAX: usize = 170;

fn check(packet: &[u8], transport: Transport) -> Result<(), TestCaseError> {
    let asker = Asker { transport, ..Ask::new("web").asker() };
    let mut out = vec![7; 3];
    let outcome = answer(&view(), packet, &asker, &mut out);
    if outcome == Outcome::Ignored {
        prop_assert!(out.is_empty());
        return Ok(());
    }
    prop_assert!(out.len() >= 12);
    prop_assert_eq!(out.get(..2), packet.get(..2));
    // Every record can be read again.
    let told = Told::read(&out, outcome);
    if transport == Transport::Udp {
        prop_assert!(out.len() <= usize::from(UDP_BYTES_MAX));
        // A name may come in compressed and go back whole.
        let longest = packet.len().max(12 + 255 + 4) + EXTRA_BYTES_MAX;
        prop_assert!(
            out.len() <= longest,
            "{} for {}: {:?}",
            out.len(),
            packet.len(),
            told
        );
    }
    Ok(())
}

fn valid() -> impl Strategy<Value = Vec<u8>> {
    let names = prop_oneof![
        Just("web"),
        Just("sticky"),
        Just("@"),
        Just("mars"),
        Just("closed"),
        Just("example.org."),
    ];
    let rtypes = prop_oneof![
        Just(Rtype::A),
        Just(Rtype::AAAA),
        Just(Rtype::NS),
        Just(Rtype::SOA),
        Just(Rtype::ANY),
        Just(Rtype::TXT),
        Just(Rtype::IXFR),
    ];
    (names, rtypes, any::<bool>(), any::<u32>(), 0_u8..=32, any::<u16>()).prop_map(
        |(name, rtype, edns, client, len, size)| {
            let mut ask = Ask::new(name).of(rtype);
            if edns {
                let client = std::net::Ipv4Addr::from(client).to_string();
                ask = ask.for_client(&client, len);
                ask.udp_bytes_max = size;
            }
            ask.packet()
        },
    )
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Udp), Just(Transport::Tcp)]
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600), by in transport()) {
        check(&bytes, by)?;
    }

    #[test]
    fn bytes_behind_the_header_of_a_question(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        counts in prop_oneof![Just([0, 1, 0, 0, 0, 0, 0, 0]), Just([0, 1, 0, 0, 0, 0, 0, 1]),
            Just([0, 1, 0, 0, 0, 0, 0, 4]), any::<[u8; 8]>()],
        by in transport(),
    ) {
        let packet = [&[9, 9, 0, 0][..], &counts, &bytes].concat();
        check(&packet, by)?;
    }

    #[test]
    fn a_question_with_bytes_changed_cut_and_added(
        packet in valid(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::weighted(0.3, any::<prop::sample::Index>()),
        more in proptest::collection::vec(any::<u8>(), 0..40),
        by in transport(),
    ) {
        let mut packet = packet;
        for (at, byte) in changes {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        if let Some(cut) = cut {
            packet.truncate(cut.index(packet.len()));
        }
        packet.extend(more);
        check(&packet, by)?;
    }

    #[test]
    fn a_true_question_is_answered_within_what_its_asker_takes(
        packet in valid(), source in any::<[u8; 16]>(), request in any::<u64>(),
    ) {
        let asker = Asker { source: source.into(), transport: Transport::Udp, request };
        let mut out = Vec::new();
        let outcome = answer(&view(), &packet, &asker, &mut out);
        prop_assert!(outcome != Outcome::Ignored);
        let told = Told::read(&out, outcome);
        // Without EDNS the packet is its header and one question.
        if packet.get(11) == Some(&0) {
            prop_assert!(out.len() <= 512);
        }
        prop_assert!(!told.truncated);
        let question = 12 + packet.iter().skip(12).position(|byte| *byte == 0).unwrap() + 5;
        prop_assert_eq!(out.get(12..question), packet.get(12..question));
    }
}

/// The whole of a packet after its header: counts, then bytes.
fn crafted(counts: [u8; 8], bytes: &[u8]) -> Vec<u8> {
    [&[1, 2, 0, 0][..], &counts, bytes].concat()
}

#[test]
fn names_that_point_at_themselves_end() {
    let one = [0, 1, 0, 0, 0, 0, 0, 0];
    let itself = crafted(one, &[0xc0, 12, 0, 1, 0, 1]);
    let forward = crafted(one, &[0xc0, 14, 0xc0, 12, 0, 1, 0, 1]);
    let header = crafted(one, &[0xc0, 0, 0, 1, 0, 1]);
    let label = crafted(one, &[1, b'a', 0xc0, 12, 0, 1, 0, 1]);
    for packet in [itself, forward, header, label] {
        for by in [Transport::Udp, Transport::Tcp] {
            check(&packet, by).unwrap();
        }
    }
    // A ladder of pointers in the additional section, each to the one before.
    let mut ladder = crafted([0, 1, 0, 0, 0, 0, 0, 4], &[0, 0, 1, 0, 1]);
    for _ in 0..4 {
        let at = u8::try_from(ladder.len() - 10).unwrap_or(12);
        ladder.extend([0xc0, at, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
    check(&ladder, Transport::Udp).unwrap();
}

#[test]
fn an_invitation_to_tcp_is_no_longer_than_its_question_with_the_options_that_answer_it() {
    for ask in [Ask::new("web"), Ask::new("web").for_client("192.0.2.0", 24)] {
        let packet = ask.packet();
        let mut out = Vec::new();
        let outcome = answer::invite(&view(), &packet, &mut out);
        let told = Told::read(&out, outcome);
        assert!(told.truncated && told.answer.is_empty() && out.len() <= packet.len());
    }
}
