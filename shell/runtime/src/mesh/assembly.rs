//! Frames above the size of a block: announced with their length, sent in pieces, put together
//! here.
//!
//! Pieces are ordinary frames of the blocks that follow the announcement, so they are bounded
//! and compressed as those are. Memory grows with what has arrived, never with what was
//! announced.

use bytes::{Bytes, BytesMut};

use super::block::{BlockError, PIECE_LEN_MAX};

/// Puts the frames of one connection together.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    large: Option<Large>,
}

#[derive(Debug)]
struct Large {
    len: usize,
    bytes: BytesMut,
}

impl Assembly {
    /// The next pieces are one frame of this length, which must have been checked against its
    /// limit.
    pub(super) fn announce(&mut self, len: usize) -> Result<(), BlockError> {
        if self.large.is_some() || len <= PIECE_LEN_MAX {
            return Err(BlockError::Length);
        }
        self.large = Some(Large { len, bytes: BytesMut::new() });
        Ok(())
    }

    /// The frames that are whole with the pieces of this block.
    pub(super) fn take(&mut self, pieces: Vec<Bytes>) -> Result<Vec<Bytes>, BlockError> {
        if self.large.is_none() {
            return Ok(pieces);
        }
        let mut frames = Vec::new();
        for piece in pieces {
            let Some(mut large) = self.large.take() else {
                frames.push(piece);
                continue;
            };
            large.bytes.extend_from_slice(&piece);
            match large.bytes.len() {
                len if len > large.len => {
                    return Err(BlockError::TooLong { len, max: large.len });
                }
                len if len == large.len => frames.push(large.bytes.freeze()),
                _ => self.large = Some(large),
            }
        }
        Ok(frames)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEN: usize = PIECE_LEN_MAX + 10;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn any_cut_of_a_large_frame_comes_together(
            cuts in prop::collection::vec(0..LEN, 0..6), blocks in 1_usize..4,
        ) {
            let whole: Bytes = (0..LEN).map(|at| at.to_le_bytes()[0]).collect();
            let mut ends = cuts;
            ends.extend([0, LEN]);
            ends.sort_unstable();
            let mut pieces: Vec<Bytes> =
                ends.windows(2).map(|ends| whole.slice(ends[0]..ends[1])).collect();
            pieces.push(Bytes::from_static(b"after"));
            let mut assembly = Assembly::default();
            assembly.announce(LEN).unwrap();
            let mut frames = Vec::new();
            for block in pieces.chunks(pieces.len().div_ceil(blocks)) {
                frames.extend(assembly.take(block.to_vec()).unwrap());
            }
            prop_assert_eq!(frames, [whole, Bytes::from_static(b"after")]);
        }
    }

    #[test]
    fn more_than_announced_is_refused_and_so_is_a_second_announcement() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.announce(PIECE_LEN_MAX), Err(BlockError::Length));
        assembly.announce(LEN).unwrap();
        assert_eq!(assembly.announce(LEN), Err(BlockError::Length));
        let piece = Bytes::from(vec![0; PIECE_LEN_MAX]);
        assert_eq!(assembly.take(vec![piece.clone()]), Ok(vec![]));
        let error = assembly.take(vec![piece]).unwrap_err();
        assert_eq!(error, BlockError::TooLong { len: 2 * PIECE_LEN_MAX, max: LEN });
    }
}
