//! Frames as bytes: what is written is read, and nothing that is read does harm.

use proptest::prelude::*;

use super::net::{Net, bytes, id, key, membership};
use crate::crdt::Update;
use crate::frame::{FRAME_VERSION, Frame, FrameError};
use crate::level::Level;
use crate::replica::{Input, Op};

/// Frames of every kind, as replicas send them.
fn traffic() -> Vec<Vec<u8>> {
    let mut net = Net::new(1, membership(&["a", "b", "c"]));
    net.nodes.get_mut(&id(1)).unwrap().config.log_bytes_max = 100;
    net.crash(id(1));
    net.start(id(1));
    (net.record, net.loss) = (true, 1_000);
    for number in 0..20 {
        net.set(id(1), &format!("lww/{}", number % 3), "some bytes");
        net.update(id(2), "reg/x", Update::Set(bytes("some bytes")), None)
            .unwrap_or_else(|refused| panic!("{refused}"));
        if number == 5 {
            net.cut_off(id(3));
        }
        if number == 10 {
            net.heal();
        }
    }
    let op = Op::Get { key: key("lww/1"), max_staleness: None };
    net.ask(id(3), op, Some(Level::Quorum), None);
    net.run_secs(8);
    net.sent.into_iter().map(|(_, _, bytes)| bytes).collect()
}

#[test]
fn what_is_written_is_read() {
    let mut kinds = std::collections::BTreeSet::new();
    for bytes in traffic() {
        let frame = Frame::decode(&bytes).unwrap();
        assert_eq!(frame.encode(), bytes);
        let shown = format!("{:?}", frame.body);
        kinds.insert(shown.split(['(', ' ']).next().unwrap_or_default().to_owned());
    }
    for kind in [
        "Beat", "Push", "Ack", "Gap", "Ask", "Tell", "Compare", "Differ", "Want",
        "States",
    ] {
        assert!(kinds.contains(kind), "no {kind} among {kinds:?}");
    }
}

#[test]
fn another_version_is_told_apart() {
    let mut bytes = traffic().swap_remove(0);
    bytes[0] = FRAME_VERSION + 1;
    let error = Frame::decode(&bytes).unwrap_err();
    assert_eq!(
        error,
        FrameError::Version { theirs: FRAME_VERSION + 1, ours: FRAME_VERSION }
    );
    assert_eq!(Frame::decode(&[]).unwrap_err(), FrameError::Empty);
    bytes[0] = FRAME_VERSION;
    bytes.push(0);
    assert!(matches!(Frame::decode(&bytes), Err(FrameError::Malformed { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Spoiled frames are refused or taken, and the replica lives on.
    #[test]
    fn hostile_bytes_never_stop_a_replica(
        seed in any::<u64>(),
        changes in proptest::collection::vec((any::<usize>(), any::<usize>(), any::<u8>()), 1..200),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let frames = traffic();
        let mut net = Net::new(seed, membership(&["a", "b", "c"]));
        net.run_secs(1);
        let mut give = |bytes: &[u8]| {
            if let Ok(frame) = Frame::decode(bytes) {
                net.give(id(2), Input::Frame { from: id(1), frame });
            }
        };
        give(&noise);
        for (which, at, byte) in changes {
            let mut bytes = frames[which % frames.len()].clone();
            let at = at % bytes.len();
            bytes[at] = byte;
            give(&bytes);
            bytes.truncate(at);
            give(&bytes);
        }
        net.run_secs(2);
        prop_assert_eq!(net.replica(id(2)).actor().replica, id(2));
    }
}
