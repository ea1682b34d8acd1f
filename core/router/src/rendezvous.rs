//! A client's own region among several, in proportion to their shares.
//!
//! Weighted rendezvous: each region draws a number for the client, and the least of
//! `-log(number) / share` wins. When a share changes or a region goes, only clients whose
//! winner it changes move, and every plane that knows shares and client comes to the same
//! region. In whole numbers, so that every machine does.

/// Fixed-point bits of a logarithm.
const FRACTION: u32 = 16;
/// Entries of the table of logarithms, by the bits after the leading one.
const TABLE_BITS: u32 = 8;
const TABLE: [u32; 1 << TABLE_BITS] = table();

/// `log2(1 + (index + 1/2) / 256)`, by squaring.
const fn table() -> [u32; 1 << TABLE_BITS] {
    let mut table = [0; 1 << TABLE_BITS];
    let mut at = 0;
    while at < table.len() {
        // In 1.31 fixed point: the middle of what the index stands for.
        let mut number: u64 = (1 << 31) + ((2 * at as u64 + 1) << (31 - TABLE_BITS - 1));
        let mut bits = 0;
        let mut left = FRACTION;
        while left > 0 {
            number = (number * number) >> 31;
            bits <<= 1;
            if number >> 32 != 0 {
                bits |= 1;
                number >>= 1;
            }
            left -= 1;
        }
        table[at] = bits;
        at += 1;
    }
    table
}

/// `-log2(number / 2^64)` in fixed point; at most 64.
#[inline]
fn cost(number: u64) -> u32 {
    let number = number | 1;
    let zeros = number.leading_zeros();
    let rest = (number << zeros) << 1;
    let index = (rest >> (64 - TABLE_BITS)) as usize;
    ((zeros + 1) << FRACTION) - TABLE[index]
}

/// Spreads what is near (the finaliser of SplitMix64).
#[inline]
pub(crate) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A number of a name, the same everywhere (FNV-1a, mixed).
pub(crate) fn salt(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash)
}

/// Whether one that drew for `client` with `share` goes before another. Shares are more than 0.
#[inline]
pub(crate) fn draw(client: u64, salt: u64) -> u32 {
    cost(mix(client ^ salt))
}

/// Whether the first goes before the second.
#[inline]
pub(crate) fn before((cost_a, share_a): (u32, u8), (cost_b, share_b): (u32, u8)) -> bool {
    u64::from(cost_a) * u64::from(share_b) < u64::from(cost_b) * u64::from(share_a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_near_enough() {
        for number in [1_u64, 2, 3, 1 << 20, 12_345_678_901_234, u64::MAX / 3, u64::MAX] {
            #[expect(clippy::cast_precision_loss, reason = "a test of nearness")]
            let exact = 64.0 - ((number | 1) as f64).log2();
            let got = f64::from(cost(number)) / f64::from(1 << FRACTION);
            assert!((got - exact).abs() < 0.004, "{number}: {got} for {exact}");
        }
    }

    /// A million clients over shares of 10, 45 and 200 of 255.
    #[test]
    fn shares_are_kept_within_a_hundredth() {
        let regions = [("a", 10_u8), ("b", 45), ("c", 200)];
        let mut counts = [0_u32; 3];
        for client in 0..1_000_000_u64 {
            let draws =
                regions.map(|(name, share)| (draw(mix(client), salt(name)), share));
            let best =
                (1..3).fold(
                    0,
                    |best, at| {
                        if before(draws[at], draws[best]) { at } else { best }
                    },
                );
            counts[best] += 1;
        }
        for ((_, share), count) in regions.iter().zip(counts) {
            let wanted = f64::from(*share) / 255.0;
            let got = f64::from(count) / 1e6;
            assert!((got - wanted).abs() < 0.005, "{got} for {wanted}");
        }
    }

    #[test]
    fn who_is_added_takes_and_moves_nobody_else() {
        let winner = |client: u64, regions: &[(&str, u8)]| {
            let draws: Vec<_> =
                regions.iter().map(|(n, s)| (draw(mix(client), salt(n)), *s)).collect();
            (1..draws.len()).fold(0, |best, at| {
                if before(draws[at], draws[best]) { at } else { best }
            })
        };
        for client in 0..10_000 {
            let few = winner(client, &[("a", 100), ("b", 100)]);
            let more = winner(client, &[("a", 100), ("b", 100), ("c", 55)]);
            assert!(more == few || more == 2);
        }
    }
}
