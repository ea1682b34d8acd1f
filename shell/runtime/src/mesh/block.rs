//! What is on a connection: blocks, each a tag, its lengths and a body.
//!
//! ```text
//! 0 plain    raw length                frames
//! 1 packed   raw length, body length   zstd of frames
//! 2 packed   the same                  zstd with the dictionary both ends have
//! 3 ping     4 bytes                   4 pong    the same 4 bytes
//! 5 close    reason, text length       text
//! 6 hello    length                    see [`Hello`]
//! 7 confirm  8 bytes
//! 8 large    length of a frame, whose pieces follow as frames
//! ```
//!
//! Frames in a block follow each other, each after its length. Lengths are [`varint`]s.
//!
//! [`decode`] is what a peer can reach with any bytes at all: it says in the header's first
//! bytes whether a block is too large, asks for no more memory than a block may have, and
//! never panics. It is a function of a buffer, without I/O, so that the property tests can feed
//! it everything.

use bytes::{Buf, Bytes, BytesMut};

use super::hello::{HELLO_LEN, Hello};
use super::varint::{self, Read};
use super::{FRAME_LEN_MAX, Reason};

/// Longest frame that is sent whole, and longest piece of a larger one.
pub(super) const PIECE_LEN_MAX: usize = 1 << 20;
/// Most bytes of frames in one block, before compression: one longest piece with its length.
pub(super) const RAW_LEN_MAX: usize = PIECE_LEN_MAX + varint::LEN_MAX;
/// Most frames in one block: each costs a receiver some bytes, also when it is empty.
pub(super) const FRAMES_MAX: usize = 4_096;
/// Longest text of a close.
pub(super) const DETAIL_LEN_MAX: usize = 256;
/// Longest hello, with room for what later versions say.
const HELLO_LEN_MAX: usize = 256;

/// Why bytes are no block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// No block begins like this.
    #[error("no block begins with {0:#04x}")]
    Tag(u8),
    /// A block that may not come now.
    #[error("a block with tag {0} may not come at this point")]
    Unexpected(u8),
    /// A length that is none.
    #[error("a length is malformed")]
    Length,
    /// Larger than allowed.
    #[error("a block announces {len} bytes, and at most {max} are allowed")]
    TooLong {
        /// What it announces.
        len: usize,
        /// What is allowed.
        max: usize,
    },
    /// More frames than allowed.
    #[error("a block holds more than {FRAMES_MAX} frames")]
    TooMany,
    /// It ends too early.
    #[error("a block ends in the middle")]
    Short,
    /// An unknown reason for closing.
    #[error("the reason {0} for closing is unknown")]
    Reason(u8),
    /// The compressed body is damaged, or is not as long as announced.
    #[error("a compressed block cannot be unpacked: {0}")]
    Packed(String),
}

/// How the frames of a block are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// Not at all.
    Plain,
    /// By zstd.
    Zstd,
    /// By zstd with the dictionary.
    Dictionary,
}

/// A block that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// Frames, still packed.
    Frames {
        packing: Packing,
        raw_len: usize,
        body: Bytes,
    },
    /// To be answered by a pong with the same number.
    Ping(u32),
    Pong(u32),
    /// The last block.
    Close {
        reason: Reason,
        detail: String,
    },
    Hello(Hello),
    /// The deciding end has chosen this connection.
    Confirm(u64),
    /// The next frames are pieces of one of this length.
    Large(usize),
}

/// Which blocks may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before the connection is confirmed: nothing large.
    Greeting,
    /// After it.
    Frames,
}

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
const DICTIONARY: u8 = 2;
const PING: u8 = 3;
const PONG: u8 = 4;
const CLOSE: u8 = 5;
const HELLO: u8 = 6;
const CONFIRM: u8 = 7;
const LARGE: u8 = 8;

/// A header that has arrived: how long it is, and how long its body.
struct Header {
    len: usize,
    raw_len: usize,
    body_len: usize,
}

/// Takes the next block off the buffer. `None` when it has not all arrived; then the buffer has
/// room for the rest of it.
pub(super) fn decode(
    buffer: &mut BytesMut,
    stage: Stage,
) -> Result<Option<Block>, BlockError> {
    let Some(tag) = buffer.first().copied() else { return Ok(None) };
    let allowed = match tag {
        CLOSE => true,
        PLAIN | ZSTD | DICTIONARY | PING | PONG | LARGE => stage == Stage::Frames,
        HELLO | CONFIRM => stage == Stage::Greeting,
        _ => return Err(BlockError::Tag(tag)),
    };
    if !allowed {
        return Err(BlockError::Unexpected(tag));
    }
    let Some(header) = header(tag, buffer)? else { return Ok(None) };
    let whole = header.len + header.body_len;
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return Ok(None);
    }
    let mut block = buffer.split_to(whole);
    let code = block.get(1).copied().unwrap_or_default();
    block.advance(header.len);
    body(tag, code, &header, block.freeze()).map(Some)
}

/// Reads a header, if it has all arrived.
fn header(tag: u8, buffer: &[u8]) -> Result<Option<Header>, BlockError> {
    let (len, raw_len, max) = match tag {
        PING | PONG => return Ok(Some(Header { len: 1, raw_len: 0, body_len: 4 })),
        CONFIRM => return Ok(Some(Header { len: 1, raw_len: 0, body_len: 8 })),
        LARGE => {
            let read = length(buffer, 1, FRAME_LEN_MAX)?;
            return Ok(read.map(|(raw_len, took)| Header {
                len: 1 + took,
                raw_len,
                body_len: 0,
            }));
        }
        PLAIN => (1, None, RAW_LEN_MAX),
        HELLO => (1, None, HELLO_LEN_MAX),
        CLOSE => (2, None, DETAIL_LEN_MAX),
        _ => match length(buffer, 1, RAW_LEN_MAX)? {
            // What does not win by packing is sent plain.
            Some((raw_len, len)) => (1 + len, Some(raw_len), raw_len),
            None => return Ok(None),
        },
    };
    Ok(length(buffer, len, max)?.map(|(body_len, took)| Header {
        len: len + took,
        raw_len: raw_len.unwrap_or(body_len),
        body_len,
    }))
}

/// A length at a place of the buffer, and how many bytes it takes.
fn length(
    buffer: &[u8],
    at: usize,
    max: usize,
) -> Result<Option<(usize, usize)>, BlockError> {
    match varint::read(buffer.get(at..).unwrap_or_default()) {
        Read::Number(number, took) => {
            let len = usize::try_from(number).unwrap_or(usize::MAX);
            if len > max {
                return Err(BlockError::TooLong { len, max });
            }
            Ok(Some((len, took)))
        }
        Read::Unfinished => Ok(None),
        Read::Invalid => Err(BlockError::Length),
    }
}

fn body(
    tag: u8,
    code: u8,
    header: &Header,
    mut body: Bytes,
) -> Result<Block, BlockError> {
    let frames =
        |packing, body| Ok(Block::Frames { packing, raw_len: header.raw_len, body });
    match tag {
        PLAIN => frames(Packing::Plain, body),
        ZSTD => frames(Packing::Zstd, body),
        DICTIONARY => frames(Packing::Dictionary, body),
        PING => Ok(Block::Ping(body.get_u32())),
        PONG => Ok(Block::Pong(body.get_u32())),
        CONFIRM => Ok(Block::Confirm(body.get_u64())),
        LARGE => Ok(Block::Large(header.raw_len)),
        HELLO => Hello::decode(&body).map(Block::Hello),
        _ => Ok(Block::Close {
            reason: Reason::of_code(code.into()).ok_or(BlockError::Reason(code))?,
            // For a log: no line breaks or other control characters of a stranger.
            detail: printable(&body),
        }),
    }
}

/// A peer's text, safe for a log.
pub(super) fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.get(..DETAIL_LEN_MAX).unwrap_or(text));
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Appends a hello.
pub(super) fn encode_hello(hello: &Hello, out: &mut Vec<u8>) {
    out.push(HELLO);
    varint::write(small(HELLO_LEN), out);
    out.extend_from_slice(&hello.encode());
}

/// Appends a confirmation.
pub(super) fn encode_confirm(number: u64, out: &mut Vec<u8>) {
    out.push(CONFIRM);
    out.extend_from_slice(&number.to_be_bytes());
}

/// Appends the announcement of a frame in pieces.
pub(super) fn encode_large(len: usize, out: &mut Vec<u8>) {
    out.push(LARGE);
    varint::write(small(len), out);
}

/// Appends a ping.
pub(super) fn encode_ping(number: u32, out: &mut Vec<u8>) {
    out.push(PING);
    out.extend_from_slice(&number.to_be_bytes());
}

/// Appends the answer to a ping.
pub(super) fn encode_pong(number: u32, out: &mut Vec<u8>) {
    out.push(PONG);
    out.extend_from_slice(&number.to_be_bytes());
}

/// Appends the last block; a text that is too long is cut.
pub(super) fn encode_close(reason: Reason, detail: &str, out: &mut Vec<u8>) {
    let detail = detail.as_bytes();
    let detail = detail.get(..DETAIL_LEN_MAX).unwrap_or(detail);
    out.extend_from_slice(&[CLOSE, reason.code()]);
    varint::write(small(detail.len()), out);
    out.extend_from_slice(detail);
}

/// Appends a block of frames that are packed already.
pub(super) fn encode_frames(
    packing: Packing,
    raw_len: usize,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    let tag = match packing {
        Packing::Plain => PLAIN,
        Packing::Zstd => ZSTD,
        Packing::Dictionary => DICTIONARY,
    };
    out.push(tag);
    varint::write(small(raw_len), out);
    if packing != Packing::Plain {
        varint::write(small(body.len()), out);
    }
    out.extend_from_slice(body);
}

/// Appends a frame to the body of a block.
pub(super) fn join(frame: &[u8], raw: &mut Vec<u8>) {
    varint::write(small(frame.len()), raw);
    raw.extend_from_slice(frame);
}

/// The frames of an unpacked body.
pub(super) fn split(mut raw: Bytes) -> Result<Vec<Bytes>, BlockError> {
    let mut frames = Vec::new();
    while !raw.is_empty() {
        if frames.len() == FRAMES_MAX {
            return Err(BlockError::TooMany);
        }
        let (len, took) = length(&raw, 0, PIECE_LEN_MAX)?.ok_or(BlockError::Short)?;
        raw.advance(took);
        if raw.len() < len {
            return Err(BlockError::Short);
        }
        frames.push(raw.split_to(len));
    }
    Ok(frames)
}

/// Lengths are bounded far below 4 GiB by whoever makes them.
fn small(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
