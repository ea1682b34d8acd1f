//! Compression of blocks: zstd level 1 for large ones, with the dictionary for small ones, and
//! only when it wins.
//!
//! Both ends know the lengths from the block's header, so zstd's own frame header is cut to what
//! it needs: no content size, no checksum (TLS has one), no dictionary id, and the four magic
//! bytes are not sent. That is 12 bytes of a block that often has 50.
//!
//! Unpacking writes into a buffer of exactly the announced length, which is bounded: a body
//! that would unpack to more fails there.

use std::fmt;
use std::io;

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, compress_bound};

use super::block::{BlockError, Packing, encode_frames, join};
use super::dictionary::Dictionary;

/// How every frame of zstd begins.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Level 3 makes blocks 3 % smaller and costs half as much again (docs/adr/0010).
const LEVEL: i32 = 1;
/// Up to here the dictionary is used; beyond, a block has repetitions enough of its own.
const SMALL_LEN_MAX: usize = 16 << 10;
/// Below this not even the dictionary wins over the header.
const PACKED_LEN_MIN: usize = 16;

/// Bytes that batches of frames take on a connection whose ends have this dictionary: what
/// [`super::Traffic::wire_bytes`] would count. For measuring.
///
/// # Errors
///
/// When zstd has no memory.
pub fn wire_len(batches: &[Vec<Bytes>], dictionary: &Dictionary) -> io::Result<usize> {
    let mut packer = Packer::new(dictionary)?;
    let (mut raw, mut out, mut len) = (Vec::new(), Vec::new(), 0);
    for batch in batches {
        raw.clear();
        out.clear();
        batch.iter().for_each(|frame| join(frame, &mut raw));
        packer.pack(&raw, &mut out);
        len += out.len();
    }
    Ok(len)
}

/// Packs blocks of one connection.
pub(super) struct Packer {
    plain: Compressor<'static>,
    small: Option<Compressor<'static>>,
    packed: Vec<u8>,
}

impl Packer {
    /// With a dictionary that both ends have, or none.
    pub(super) fn new(dictionary: &Dictionary) -> io::Result<Self> {
        let small = dictionary.bytes();
        Ok(Self {
            plain: compressor(LEVEL, &[])?,
            small: small.map(|bytes| compressor(LEVEL, bytes)).transpose()?,
            packed: Vec::new(),
        })
    }

    /// Appends a block with these frames.
    pub(super) fn pack(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        let (packing, compressor) = match &mut self.small {
            Some(small) if raw.len() <= SMALL_LEN_MAX => (Packing::Dictionary, small),
            _ => (Packing::Zstd, &mut self.plain),
        };
        self.packed.clear();
        self.packed.reserve(compress_bound(raw.len()));
        let packed = raw.len() >= PACKED_LEN_MIN
            && compressor.compress_to_buffer(raw, &mut self.packed).is_ok();
        let body = self.packed.strip_prefix(&MAGIC).filter(|_| packed);
        // One byte for the second length of a packed block, two for a large one.
        match body.filter(|body| body.len() + 2 < raw.len()) {
            Some(body) => encode_frames(packing, raw.len(), body, out),
            None => encode_frames(Packing::Plain, raw.len(), raw, out),
        }
    }
}

fn compressor(level: i32, dictionary: &[u8]) -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::with_dictionary(level, dictionary)?;
    for flag in [
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
        CParameter::DictIdFlag(false),
    ] {
        compressor.set_parameter(flag)?;
    }
    Ok(compressor)
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let small = self.small.is_some();
        f.debug_struct("Packer").field("small", &small).finish_non_exhaustive()
    }
}

/// Unpacks blocks of one connection.
pub(super) struct Unpacker {
    plain: Decompressor<'static>,
    small: Option<Decompressor<'static>>,
    packed: Vec<u8>,
}

impl Unpacker {
    /// With the dictionary of this end.
    pub(super) fn new(dictionary: &Dictionary) -> io::Result<Self> {
        let small = dictionary.bytes();
        Ok(Self {
            plain: Decompressor::new()?,
            small: small.map(Decompressor::with_dictionary).transpose()?,
            packed: Vec::new(),
        })
    }

    /// The frames of a block, joined. `raw_len` must have been checked against its limit.
    pub(super) fn unpack(
        &mut self,
        packing: Packing,
        raw_len: usize,
        body: Bytes,
    ) -> Result<Bytes, BlockError> {
        let unpacker = match packing {
            Packing::Plain => return Ok(body),
            Packing::Zstd => &mut self.plain,
            Packing::Dictionary => self.small.as_mut().ok_or_else(no_dictionary)?,
        };
        self.packed.clear();
        self.packed.extend_from_slice(&MAGIC);
        self.packed.extend_from_slice(&body);
        let mut raw = Vec::with_capacity(raw_len);
        let len = unpacker
            .decompress_to_buffer(&self.packed, &mut raw)
            .map_err(|error| BlockError::Packed(error.to_string()))?;
        if len != raw_len || raw.len() != raw_len {
            return Err(BlockError::Packed(format!(
                "it has {len} bytes, and {raw_len} were announced"
            )));
        }
        Ok(Bytes::from(raw))
    }
}

fn no_dictionary() -> BlockError {
    BlockError::Packed("it needs a dictionary that was not agreed upon".to_owned())
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let small = self.small.is_some();
        f.debug_struct("Unpacker").field("small", &small).finish_non_exhaustive()
    }
}
