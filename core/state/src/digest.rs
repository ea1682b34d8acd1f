//! Sixty-four bits that stand for a state: replicas compare these instead of values.
//!
//! A small hash of our own, because it is part of the protocol: it must be the same in every
//! version and on every machine, and no crate promises that. Words of eight bytes are mixed by a
//! widening multiplication whose halves are folded together. It is no defence against someone
//! who looks for collisions: peers are authenticated, and one who could forge a digest could
//! as well send no value. A collision by chance hides a difference until the next write.

use crate::codec::Sink;

// Odd, with bits set evenly: the fractional parts of the golden ratio and of the root of three.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const SEED: u64 = 0xbb67_ae85_84ca_a73b;

/// Takes bytes in any portions and gives their digest.
#[derive(Debug)]
pub(crate) struct Mixer {
    state: u64,
    word: [u8; 8],
    len: u64,
}

impl Mixer {
    pub(crate) const fn new() -> Self {
        Self { state: SEED, word: [0; 8], len: 0 }
    }

    pub(crate) fn finish(mut self) -> u64 {
        if self.used() > 0 {
            let used = self.used();
            self.word[used..].fill(0);
            self.mix(u64::from_le_bytes(self.word));
        }
        self.mix(self.len);
        fold(self.state ^ SEED, MULTIPLIER)
    }

    fn used(&self) -> usize {
        usize::from(self.len.to_le_bytes()[0] & 7)
    }

    fn mix(&mut self, word: u64) {
        // The rotated state is added, so that no single word can wipe out what came before it.
        let folded = fold(self.state ^ word ^ SEED, MULTIPLIER);
        self.state = self.state.rotate_left(23).wrapping_add(folded);
    }
}

impl Sink for Mixer {
    fn put(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.used() == 0
                && let Some((word, rest)) = bytes.split_first_chunk::<8>()
            {
                self.mix(u64::from_le_bytes(*word));
                self.len = self.len.wrapping_add(8);
                bytes = rest;
                continue;
            }
            let used = self.used();
            self.word[used] = *first;
            self.len = self.len.wrapping_add(1);
            if self.used() == 0 {
                self.mix(u64::from_le_bytes(self.word));
            }
            bytes = rest;
        }
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let wide = (u128::from(a) * u128::from(b)).to_le_bytes();
    let (low, high) = wide.split_at(8);
    let half = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    half(low) ^ half(high)
}

#[cfg(test)]
mod tests;
