//! Everything that happened: a hash of it, and the lines when somebody wants to read them.
//!
//! Lines are only made when they are kept, because making them would take longer than what they
//! tell of; the hash is over the numbers that they are made of.

use super::history::Moment;

/// The hash, and the lines when they are wanted.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) hash: u64,
    pub(super) lines: Option<Vec<String>>,
}

impl Trace {
    pub(super) fn new(keep: bool) -> Self {
        Self { hash: 0x9E37_79B9_7F4A_7C15, lines: keep.then(Vec::new) }
    }

    /// Notes what happened: in numbers, and in words for who wants them.
    pub(super) fn note(
        &mut self,
        at: Moment,
        numbers: [u64; 3],
        words: impl FnOnce() -> String,
    ) {
        for number in [at.us, numbers[0], numbers[1], numbers[2]] {
            // Multiplication and rotation carry every bit everywhere within a few numbers.
            self.hash =
                (self.hash.rotate_left(23) ^ number).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!(
                "{}.{:06} {}",
                at.us / 1_000_000,
                at.us % 1_000_000,
                words()
            ));
        }
    }
}
