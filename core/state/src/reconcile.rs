//! Where two stores differ, found by comparing sums instead of values.
//!
//! Keys fall into [`BUCKETS`] by their hash. The sum of a bucket adds up a number for each key
//! and value in it; it changes with each of them by addition and subtraction, whatever the
//! order. Buckets with equal sums are taken as equal: two of them differ in spite of it once in
//! 2^64 comparisons, and are compared again as soon as anything in them is written.
//!
//! Of buckets that differ, one side sends what it has as pairs of hash and digest, and the
//! other asks for the states that it lacks. Rejected for now: sketches that give the
//! differences themselves (RIBLT), which are smaller for few differences among many keys; and
//! trees, which take a round trip a level.

use crate::frame::Pair;

/// How many buckets there are: some 100 keys in each of 100,000.
pub const BUCKETS: usize = 1 << BUCKET_BITS;
const BUCKET_BITS: u32 = 10;

/// The bucket of a key's hash.
#[must_use]
pub const fn bucket_of(hash: u64) -> usize {
    (hash >> (u64::BITS - BUCKET_BITS)) as usize
}

/// The lowest hash of a bucket.
#[must_use]
pub const fn first_hash(bucket: usize) -> u64 {
    (bucket as u64) << (u64::BITS - BUCKET_BITS)
}

/// A sum for each bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums(Vec<u64>);

impl Default for Sums {
    fn default() -> Self {
        Self::new()
    }
}

impl Sums {
    /// Of no keys.
    #[must_use]
    pub fn new() -> Self {
        Self(vec![0; BUCKETS])
    }

    /// Adds a key's number to its bucket.
    pub fn add(&mut self, bucket: usize, weight: u64) {
        if let Some(sum) = self.0.get_mut(bucket) {
            *sum = sum.wrapping_add(weight);
        }
    }

    /// Takes a key's number out of its bucket.
    pub fn subtract(&mut self, bucket: usize, weight: u64) {
        if let Some(sum) = self.0.get_mut(bucket) {
            *sum = sum.wrapping_sub(weight);
        }
    }

    /// Adds all keys of another.
    pub fn add_all(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            *sum = sum.wrapping_add(*more);
        }
    }

    /// One number for all of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let mixed =
            |total: u64, sum: &u64| crate::shard::mix(total ^ *sum).wrapping_add(1);
        self.0.iter().fold(0, mixed)
    }

    /// The sums from a bucket on.
    #[must_use]
    pub fn from(&self, bucket: usize) -> &[u64] {
        self.0.get(bucket..).unwrap_or(&[])
    }

    /// The buckets from `from` on whose sums are not these.
    pub fn differing<'a>(
        &'a self,
        from: usize,
        theirs: &'a [u64],
    ) -> impl Iterator<Item = usize> + 'a {
        let both = self.from(from).iter().zip(theirs);
        both.zip(from..)
            .filter(|((ours, theirs), _)| ours != theirs)
            .map(|(_, bucket)| bucket)
    }
}

/// The hashes of those pairs that `has` does not know to be here with the same digest.
pub fn lacking(pairs: &[Pair], mut has: impl FnMut(&Pair) -> bool) -> Vec<u64> {
    let mut hashes: Vec<u64> =
        pairs.iter().filter(|pair| !has(pair)).map(|pair| pair.hash).collect();
    hashes.dedup();
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_forget_order_and_what_was_taken_out(
            keys in proptest::collection::vec((0_u64..5_000, any::<u64>()), 0..50),
            gone in proptest::collection::vec((0_u64..5_000, any::<u64>()), 0..20),
        ) {
            let place = |hash: u64| bucket_of(hash.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut one = Sums::new();
            for (hash, weight) in keys.iter().chain(&gone) {
                one.add(place(*hash), *weight);
            }
            for (hash, weight) in &gone {
                one.subtract(place(*hash), *weight);
            }
            let mut other = Sums::new();
            for (hash, weight) in keys.iter().rev() {
                other.add(place(*hash), *weight);
            }
            prop_assert_eq!(one.differing(0, other.from(0)).count(), 0);
            if let Some((hash, _)) = keys.first() {
                other.add(place(*hash), 1);
                let found: Vec<_> = one.differing(0, other.from(0)).collect();
                prop_assert_eq!(found, vec![place(*hash)]);
            }
        }
    }

    #[test]
    fn a_bucket_begins_at_its_first_hash() {
        for bucket in [0, 1, 511, BUCKETS - 1] {
            assert_eq!(bucket_of(first_hash(bucket)), bucket);
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }
}
