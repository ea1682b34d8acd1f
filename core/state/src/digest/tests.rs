//! The digest is part of the protocol: it stays what it is, and it mixes well.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::Mixer;
use crate::codec::Sink;

fn digest(bytes: &[u8]) -> u64 {
    let mut mixer = Mixer::new();
    mixer.put(bytes);
    mixer.finish()
}

proptest! {
    #[test]
    fn portions_do_not_matter(bytes in any::<Vec<u8>>(), cuts in any::<Vec<u8>>()) {
        let mut mixer = Mixer::new();
        let mut rest = bytes.as_slice();
        for cut in cuts {
            let (portion, after) = rest.split_at(usize::from(cut % 11).min(rest.len()));
            mixer.put(portion);
            rest = after;
        }
        mixer.put(rest);
        prop_assert_eq!(mixer.finish(), digest(&bytes));
    }

    #[test]
    fn zeroes_at_the_end_count(bytes in any::<Vec<u8>>()) {
        let longer = [bytes.as_slice(), &[0]].concat();
        prop_assert_ne!(digest(&bytes), digest(&longer));
    }
}

/// A changed digest would make every two versions of the program repair each other for ever. The
/// numbers come from the same rule written down once more in another language.
#[test]
fn digests_never_change() {
    assert_eq!(digest(b""), 0x86ba_a671_6df9_02dc);
    assert_eq!(digest(b"a"), 0x1a5f_a84a_179b_db2b);
    assert_eq!(digest(b"federated state"), 0x7508_1db1_805f_ecb2);
}

#[test]
fn each_bit_of_what_goes_in_changes_about_half_of_what_comes_out() {
    let mut flips = [0_u32; 64];
    let mut rounds = 0;
    for len in [1, 7, 8, 9, 24] {
        for sample in 0..64_u8 {
            let bytes: Vec<_> = (0..len).map(|at| sample.wrapping_mul(37) ^ at).collect();
            for bit in 0..usize::from(len) * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let difference = digest(&bytes) ^ digest(&changed);
                for (out, flips) in flips.iter_mut().enumerate() {
                    *flips += u32::from(difference >> out & 1 == 1);
                }
                rounds += 1;
            }
        }
    }
    // Of 25,088 coins, one in 10^9 is further from half than 3 %.
    let (least, most) = (rounds * 47 / 100, rounds * 53 / 100);
    assert!(
        flips.iter().all(|flips| (least..=most).contains(flips)),
        "{rounds}: {flips:?}"
    );
}

/// Half of the digest is enough to tell small numbers apart; a weak hash would not manage.
#[test]
fn small_numbers_do_not_meet_even_in_half_of_the_bits() {
    let halves = |shift: u32| {
        let half = |n: u32| (digest(&n.to_le_bytes()) >> shift) & 0xffff_ffff;
        (0..4_096).map(half).collect::<BTreeSet<_>>().len()
    };
    assert_eq!((halves(0), halves(32)), (4_096, 4_096));
}
