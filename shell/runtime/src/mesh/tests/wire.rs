//! Blocks: whatever goes in comes out, and whatever else arrives does no harm.

use std::fs;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::super::block::{
    Block, BlockError, FRAMES_MAX, PIECE_LEN_MAX, Packing, RAW_LEN_MAX, Stage, decode,
    encode_close, encode_confirm, encode_frames, encode_hello, encode_large, encode_ping,
    encode_pong, join, split,
};
use super::super::hello::Hello;
use super::super::pack::{Packer, Unpacker};
use super::super::{ClusterId, Dictionary, FRAME_LEN_MAX, Reason, varint};

/// Frames as they are sent: a few repeated words, so that packing sometimes wins.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        prop::collection::vec(
            prop::sample::select(vec!["vm/eu-west-1/", "status", "running"]),
            0..40
        )
        .prop_map(|words| words.concat().into_bytes()),
    ]
}

fn dictionary() -> impl Strategy<Value = Dictionary> {
    prop_oneof![Just(Dictionary::built_in()), Just(Dictionary::none())]
}

fn packed(frames: &[Vec<u8>], packer: &mut Packer) -> Vec<u8> {
    let mut raw = Vec::new();
    for frame in frames {
        join(frame, &mut raw);
    }
    let mut out = Vec::new();
    packer.pack(&raw, &mut out);
    out
}

/// Reads all blocks of some bytes that arrive in pieces; the largest buffer that it took.
fn read_all(
    bytes: &[u8],
    pieces: &[usize],
    stage: Stage,
) -> (Vec<Block>, Option<BlockError>, usize) {
    let mut buffer = BytesMut::new();
    let mut blocks = Vec::new();
    let mut rest = bytes;
    let mut pieces = pieces.iter().cycle();
    let mut capacity = 0;
    while !rest.is_empty() {
        let len = pieces.next().map_or(1, |len| *len).clamp(1, rest.len());
        let (piece, others) = rest.split_at(len);
        rest = others;
        buffer.extend_from_slice(piece);
        loop {
            match decode(&mut buffer, stage) {
                Ok(Some(block)) => blocks.push(block),
                Ok(None) => break,
                Err(error) => return (blocks, Some(error), capacity),
            }
        }
        capacity = capacity.max(buffer.capacity());
    }
    (blocks, None, capacity)
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in(
        batches in prop::collection::vec(prop::collection::vec(frame(), 1..20), 1..5),
        pieces in prop::collection::vec(1_usize..500, 1..6),
        dictionary in dictionary(),
    ) {
        let mut packer = Packer::new(&dictionary).unwrap();
        let mut unpacker = Unpacker::new(&dictionary).unwrap();
        let bytes: Vec<u8> =
            batches.iter().flat_map(|frames| packed(frames, &mut packer)).collect();
        let (blocks, error, _) = read_all(&bytes, &pieces, Stage::Frames);
        prop_assert_eq!(error, None);
        let mut arrived = Vec::new();
        for block in blocks {
            let Block::Frames { packing, raw_len, body } = block else {
                return Err(TestCaseError::fail("not frames"));
            };
            arrived.extend(split(unpacker.unpack(packing, raw_len, body).unwrap()).unwrap());
        }
        let sent: Vec<Bytes> = batches.concat().into_iter().map(Bytes::from).collect();
        prop_assert_eq!(arrived, sent);
    }

    #[test]
    fn any_bytes_are_blocks_or_an_error_within_bounded_memory(
        bytes in prop::collection::vec(any::<u8>(), 0..2_000),
        pieces in prop::collection::vec(1_usize..200, 1..6),
        greeting: bool,
    ) {
        let stage = if greeting { Stage::Greeting } else { Stage::Frames };
        let (blocks, _, capacity) = read_all(&bytes, &pieces, stage);
        prop_assert!(capacity <= 2 * RAW_LEN_MAX + 4_096, "{}", capacity);
        let mut unpacker = Unpacker::new(&Dictionary::built_in()).unwrap();
        for block in blocks {
            if let Block::Frames { packing, raw_len, body } = block {
                prop_assert!(raw_len <= RAW_LEN_MAX);
                if let Ok(raw) = unpacker.unpack(packing, raw_len, body) {
                    prop_assert_eq!(raw.len(), raw_len);
                    let count = split(raw).map_or(0, |frames| frames.len());
                    prop_assert!(count <= FRAMES_MAX);
                }
            }
        }
    }

    /// Damage as an attacker with a good certificate could do it; TLS lets no other through.
    #[test]
    fn damaged_blocks_never_unpack_to_more_than_they_announce(
        frames in prop::collection::vec(frame(), 1..20),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..4),
        cut in any::<prop::sample::Index>(),
        dictionary in dictionary(),
    ) {
        let mut bytes = packed(&frames, &mut Packer::new(&dictionary).unwrap());
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        bytes.truncate(1 + cut.index(bytes.len()));
        let (blocks, _, capacity) = read_all(&bytes, &[64], Stage::Frames);
        prop_assert!(capacity <= 2 * RAW_LEN_MAX + 4_096);
        let mut unpacker = Unpacker::new(&dictionary).unwrap();
        for block in blocks {
            if let Block::Frames { packing, raw_len, body } = block
                && let Ok(raw) = unpacker.unpack(packing, raw_len, body)
                && let Ok(frames) = split(raw)
            {
                let sum: usize = frames.iter().map(Bytes::len).sum();
                prop_assert!(sum <= raw_len);
            }
        }
    }

    #[test]
    fn control_blocks_come_back_at_their_stage_and_at_no_other(
        number: u32, confirmed: u64, cluster: [u8; 16], instance: u64, detail in ".{0,80}",
    ) {
        let mut control = Vec::new();
        encode_ping(number, &mut control);
        encode_pong(number, &mut control);
        let len = PIECE_LEN_MAX + usize::from(cluster[0]);
        encode_large(len, &mut control);
        let running = vec![Block::Ping(number), Block::Pong(number), Block::Large(len)];
        let (blocks, error, _) = read_all(&control, &[3], Stage::Frames);
        prop_assert_eq!((blocks, error), (running, None));
        let refused = read_all(&control, &[3], Stage::Greeting).1;
        prop_assert_eq!(refused, Some(BlockError::Unexpected(3)));

        let hello = Hello { cluster: ClusterId(cluster), instance, seen: 7, dictionary: number };
        let mut greeting = Vec::new();
        encode_hello(&hello, &mut greeting);
        encode_confirm(confirmed, &mut greeting);
        encode_close(Reason::Busy, &detail, &mut greeting);
        let (blocks, error, _) = read_all(&greeting, &[5], Stage::Greeting);
        prop_assert_eq!(error, None);
        prop_assert_eq!(&blocks[..2], &[Block::Hello(hello), Block::Confirm(confirmed)]);
        let closed = matches!(&blocks[2], Block::Close { reason: Reason::Busy, detail }
            if !detail.chars().any(char::is_control));
        prop_assert!(closed);
        let refused = read_all(&greeting, &[5], Stage::Frames).1;
        prop_assert_eq!(refused, Some(BlockError::Unexpected(6)));
    }
}

#[test]
fn what_is_too_large_is_refused_by_its_header_alone() {
    for tag in [0_u8, 1, 2] {
        let mut bytes = vec![tag];
        varint::write(u32::try_from(RAW_LEN_MAX).unwrap() + 1, &mut bytes);
        let (_, error, capacity) = read_all(&bytes, &[1], Stage::Frames);
        assert!(matches!(error, Some(BlockError::TooLong { .. })), "{error:?}");
        assert!(capacity < 1_024, "{capacity}");
    }
    // A body that is larger than what it unpacks to.
    let mut bytes = vec![1];
    varint::write(10, &mut bytes);
    varint::write(11, &mut bytes);
    let (_, error, _) = read_all(&bytes, &[1], Stage::Frames);
    assert_eq!(error, Some(BlockError::TooLong { len: 11, max: 10 }));
    // A frame in pieces.
    let mut bytes = vec![8];
    varint::write(u32::try_from(FRAME_LEN_MAX).unwrap() + 1, &mut bytes);
    let (_, error, _) = read_all(&bytes, &[1], Stage::Frames);
    assert!(matches!(error, Some(BlockError::TooLong { .. })), "{error:?}");
    // A hello and a farewell.
    for (head, stage) in [(&[6][..], Stage::Greeting), (&[5, 1], Stage::Frames)] {
        let mut bytes = head.to_vec();
        varint::write(257, &mut bytes);
        let (_, error, _) = read_all(&bytes, &[1], stage);
        assert_eq!(error, Some(BlockError::TooLong { len: 257, max: 256 }));
    }
}

#[test]
fn a_bomb_unpacks_to_nothing_beyond_its_announcement() {
    let zeros = vec![0; 64 << 20];
    let bomb = zstd::bulk::compress(&zeros, 19).unwrap();
    assert!(bomb.len() < 16 << 10, "a small body of {} bytes", bomb.len());
    let mut unpacker = Unpacker::new(&Dictionary::none()).unwrap();
    let body = Bytes::copy_from_slice(&bomb[4..]);
    for raw_len in [bomb.len(), RAW_LEN_MAX] {
        let error = unpacker.unpack(Packing::Zstd, raw_len, body.clone()).unwrap_err();
        assert!(matches!(error, BlockError::Packed(_)), "{error}");
    }
    // And it still works afterwards.
    let mut packer = Packer::new(&Dictionary::none()).unwrap();
    let frames = vec![b"running".repeat(50)];
    let (blocks, _, _) = read_all(&packed(&frames, &mut packer), &[9], Stage::Frames);
    let Some(Block::Frames { packing, raw_len, body }) = blocks.into_iter().next() else {
        panic!("not frames");
    };
    assert_eq!(packing, Packing::Zstd);
    let raw = unpacker.unpack(packing, raw_len, body).unwrap();
    assert_eq!(split(raw).unwrap(), frames);
}

#[test]
fn the_largest_piece_fits_and_more_frames_than_allowed_do_not() {
    let mut raw = Vec::new();
    join(&vec![7; PIECE_LEN_MAX], &mut raw);
    assert!(raw.len() <= RAW_LEN_MAX);
    let mut bytes = Vec::new();
    encode_frames(Packing::Plain, raw.len(), &raw, &mut bytes);
    let (blocks, error, _) = read_all(&bytes, &[40_000], Stage::Frames);
    assert_eq!((blocks.len(), error), (1, None));

    let empty = Bytes::from(vec![0; FRAMES_MAX]);
    assert_eq!(split(empty).unwrap().len(), FRAMES_MAX);
    let more = Bytes::from(vec![0; FRAMES_MAX + 1]);
    assert_eq!(split(more), Err(BlockError::TooMany));
    assert_eq!(split(Bytes::from(vec![3, 1, 1])), Err(BlockError::Short));
}

#[test]
fn the_built_in_dictionary_is_one_and_saves_a_third_of_a_small_push() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/mesh/frames.dict");
    let dictionary = Dictionary::built_in();
    assert_ne!(dictionary.id(), 0);
    assert_eq!(Dictionary::from_bytes(&fs::read(path).unwrap()), dictionary);
    assert_eq!(Dictionary::from_bytes(b"no dictionary").id(), 0);

    let push = b"\x01\x00vm/eu-west-1/vm-web-00417/statusrunning host-031".to_vec();
    let push = std::slice::from_ref(&push);
    let with = packed(push, &mut Packer::new(&dictionary).unwrap());
    let without = packed(push, &mut Packer::new(&Dictionary::none()).unwrap());
    assert!(3 * with.len() < 2 * without.len(), "{} and {}", with.len(), without.len());
}

#[test]
fn what_needs_a_dictionary_that_this_end_lacks_is_refused() {
    let frames = vec![b"vm/eu-west-1/vm-web-00417/status".to_vec()];
    let bytes = packed(&frames, &mut Packer::new(&Dictionary::built_in()).unwrap());
    let (blocks, _, _) = read_all(&bytes, &[9], Stage::Frames);
    let Some(Block::Frames { packing, raw_len, body }) = blocks.into_iter().next() else {
        panic!("not frames");
    };
    assert_eq!(packing, Packing::Dictionary);
    let mut without = Unpacker::new(&Dictionary::none()).unwrap();
    without.unpack(packing, raw_len, body).unwrap_err();
}
