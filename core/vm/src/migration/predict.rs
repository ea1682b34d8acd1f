//! Whether a guest can be moved within a given halt, said before anything starts (F14).
//!
//! Pre-copy sends all memory, then what changed meanwhile, then what changed during that; it
//! ends when the rest fits into the halt. Each round is shorter than the one before only if the
//! link is faster than the guest writes. Where it is not, QEMU's auto-converge slows the guest
//! down, which is foretold too, because its users feel it.

use serde::{Deserialize, Serialize};

/// The part of its share of the link that memory is sent with, in percent. With more, TCP's
/// send buffer makes QEMU believe in a faster link than there is, and the real halt is up to
/// ten times what was asked for (HYPERVISOR.md section 2: 958 ms against 107 ms).
pub const LINK_PERCENT: u64 = 85;
/// Rounds after which a guest counts as one that never fits: v3's orchestrator allows ten
/// over the internet, and throttling from 20 to 99 percent takes nine of its own.
pub const ROUNDS_MAX: u32 = 30;
/// What deciding costs while the guest is halted, beside the round trips: two agents that
/// notice and write, and one compare-and-set.
pub const SWITCH_MS: u64 = 100;
/// Round trips while the guest is halted: half of one for the promise, one to the engine's
/// leader, one from there to a majority, the last rounded up. The last pages go meanwhile.
pub const SWITCH_TRIPS: u64 = 3;
/// Halts that QEMU is asked for, in milliseconds, the shortest first: it stops the guest as soon
/// as the rest fits, so one that may be halted for 5 s, and is small, would be for as long as all
/// of its memory takes.
const LIMITS_MS: [u64; 6] = [50, 100, 200, 400, 800, 1_600];
/// A halt that is shorter than allowed is asked for when it holds for a guest that changes its
/// memory so many times as fast as was measured.
const SURELY: u64 = 2;
/// How much QEMU slows a guest down at first, and by how much more each time, in percent.
const THROTTLE_FIRST: u64 = 20;
const THROTTLE_STEP: u64 = 10;
const THROTTLE_MAX: u64 = 99;

/// A move that is thought of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The guest's memory in bytes.
    pub memory: u64,
    /// How much of it changes, in bytes a second.
    pub dirty_rate: u64,
    /// What of the disk is to be copied, in bytes.
    pub disk: u64,
    /// The share of the link, in bytes a second.
    pub bandwidth: u64,
    /// The round trip, in milliseconds.
    pub rtt_ms: u64,
    /// The longest halt, in milliseconds.
    pub downtime_ms_max: u64,
    /// The longest time for all of it, in milliseconds.
    pub total_ms_max: Option<u64>,
    /// The guest may be slowed down.
    pub throttle: bool,
    /// It is emulated, so it is halted while all of its memory is sent: QEMU's translator does not
    /// mark a page as changed that it writes by a translation it has cached (seen as lists of a
    /// guest's kernel that were torn; bugs.launchpad.net/bugs/1371130).
    pub emulated: bool,
    /// Its guest is off, and only the disk moves.
    pub cold: bool,
}

/// What is foretold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// All of it, in milliseconds.
    pub total_ms: u64,
    /// The halt, in milliseconds; of a guest that is off, nothing.
    pub downtime_ms: u64,
    /// Rounds of copying memory.
    pub rounds: u32,
    /// How much the guest is slowed down at worst, in percent.
    pub throttle_percent: u64,
    /// What QEMU is to be told as the longest halt for the last pages, in milliseconds.
    pub limit_ms: u64,
    /// What QEMU is to be told as the rate, in bytes a second.
    pub rate: u64,
}

/// Why it cannot be done; nothing was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// There is no link.
    #[error("the link has no bandwidth for it")]
    NoBandwidth,
    /// The decision alone takes longer than the halt may.
    #[error(
        "deciding alone halts the guest for {needs_ms} ms over this link, more than the {max_ms} ms that are allowed; allow more, or move it cold"
    )]
    TooFar {
        /// What it takes.
        needs_ms: u64,
        /// What is allowed.
        max_ms: u64,
    },
    /// The guest changes its memory faster than the link carries it.
    #[error(
        "it does not converge: the guest changes {dirty_rate} bytes/s and the link carries {rate} bytes/s of it; allow a longer halt than {max_ms} ms, more bandwidth, or move it cold"
    )]
    Diverges {
        /// How fast it changes.
        dirty_rate: u64,
        /// How fast it is carried.
        rate: u64,
        /// What is allowed.
        max_ms: u64,
    },
    /// All of its memory is sent in the halt.
    #[error(
        "an emulated guest is halted while all of its memory is sent, {needs_ms} ms over this link, more than the {max_ms} ms that are allowed; allow more, or move it cold"
    )]
    Emulated {
        /// What it takes.
        needs_ms: u64,
        /// What is allowed.
        max_ms: u64,
    },
    /// It takes too long.
    #[error("it takes {needs_ms} ms, more than the {max_ms} ms until the deadline")]
    TooSlow {
        /// What it takes.
        needs_ms: u64,
        /// What is left.
        max_ms: u64,
    },
}

/// Foretells a move, or says why it is not to be started.
///
/// # Errors
///
/// The reason why the move cannot keep to its limits.
pub fn forecast(wish: &Wish) -> Result<Forecast, Reason> {
    let rate = share(wish.bandwidth, LINK_PERCENT);
    if rate == 0 {
        return Err(Reason::NoBandwidth);
    }
    let disk_ms = span_ms(wish.disk, rate);
    let forecast = if wish.cold {
        let total_ms = disk_ms.saturating_add(switch_ms(wish));
        let (rounds, throttle_percent, limit_ms) = (0, 0, wish.downtime_ms_max.max(1));
        Forecast { total_ms, downtime_ms: 0, rounds, throttle_percent, limit_ms, rate }
    } else {
        let mut copied = copy(wish, rate)?;
        copied.total_ms = copied.total_ms.saturating_add(disk_ms);
        copied
    };
    match wish.total_ms_max {
        Some(max_ms) if forecast.total_ms > max_ms => {
            Err(Reason::TooSlow { needs_ms: forecast.total_ms, max_ms })
        }
        _ => Ok(forecast),
    }
}

/// The halt that deciding takes, in milliseconds.
const fn switch_ms(wish: &Wish) -> u64 {
    SWITCH_MS.saturating_add(SWITCH_TRIPS.saturating_mul(wish.rtt_ms))
}

fn copy(wish: &Wish, rate: u64) -> Result<Forecast, Reason> {
    let (switch, max_ms) = (switch_ms(wish), wish.downtime_ms_max);
    let most = max_ms.checked_sub(switch).filter(|limit| *limit > 0);
    let most = most.ok_or(Reason::TooFar { needs_ms: switch, max_ms })?;
    if wish.emulated {
        return halted(wish, rate, most);
    }
    let free = Wish { throttle: false, ..*wish };
    let dirty_rate = wish.dirty_rate.saturating_mul(SURELY);
    let faster = Wish { dirty_rate, ..free };
    let shorter = LIMITS_MS.into_iter().filter(|limit| *limit < most);
    shorter
        .filter(|limit| rounds(&faster, rate, *limit).is_some())
        .find_map(|limit| rounds(&free, rate, limit))
        .or_else(|| rounds(wish, rate, most))
        .ok_or(Reason::Diverges { dirty_rate: wish.dirty_rate, rate, max_ms })
}

/// All of the memory while the guest is halted.
fn halted(wish: &Wish, rate: u64, limit_ms: u64) -> Result<Forecast, Reason> {
    let needs_ms = span_ms(wish.memory, rate).saturating_add(switch_ms(wish));
    let max_ms = wish.downtime_ms_max;
    if needs_ms > max_ms {
        return Err(Reason::Emulated { needs_ms, max_ms });
    }
    let (total_ms, downtime_ms) = (needs_ms, needs_ms);
    let (rounds, throttle_percent) = (1, 0);
    Ok(Forecast { total_ms, downtime_ms, rounds, throttle_percent, limit_ms, rate })
}

/// Round after round until the rest fits into this halt, if it ever does.
fn rounds(wish: &Wish, rate: u64, limit_ms: u64) -> Option<Forecast> {
    let switch = switch_ms(wish);
    let (mut left, mut spent, mut throttle) = (wish.memory, 0u64, 0);
    for round in 1..=ROUNDS_MAX {
        let took = span_ms(left, rate);
        // The first round is always sent while the guest runs.
        if round > 1 && took <= limit_ms {
            let downtime_ms = took.saturating_add(switch);
            return Some(Forecast {
                total_ms: spent.saturating_add(downtime_ms),
                downtime_ms,
                rounds: round - 1,
                throttle_percent: throttle,
                limit_ms,
                rate,
            });
        }
        spent = spent.saturating_add(took);
        let changes = share(wish.dirty_rate, 100 - throttle);
        let next = volume(changes, took).min(wish.memory);
        if !wish.throttle && round > 1 && next >= left {
            break;
        }
        // QEMU slows the guest down when more than half of what was sent has changed.
        if wish.throttle && round > 1 && next > left / 2 {
            throttle = match throttle {
                0 => THROTTLE_FIRST,
                some => (some + THROTTLE_STEP).min(THROTTLE_MAX),
            };
        }
        left = next;
    }
    None
}

fn clamp(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn share(value: u64, percent: u64) -> u64 {
    clamp(u128::from(value) * u128::from(percent) / 100)
}

/// How long these bytes take, rounded up.
fn span_ms(bytes: u64, rate: u64) -> u64 {
    clamp((u128::from(bytes) * 1000).div_ceil(u128::from(rate.max(1))))
}

fn volume(rate: u64, span_ms: u64) -> u64 {
    clamp(u128::from(rate) * u128::from(span_ms) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn wish() -> impl Strategy<Value = Wish> {
        let sizes = (16..16_384u64, 0..400u64, 2..1_200u64);
        (sizes, 0..300u64, 500..10_000u64).prop_map(|(sizes, rtt_ms, downtime)| {
            let (memory, dirty, bandwidth) = sizes;
            Wish {
                memory: memory * MIB,
                dirty_rate: dirty * MIB,
                disk: 0,
                bandwidth: bandwidth * MIB,
                rtt_ms,
                downtime_ms_max: downtime,
                total_ms_max: None,
                throttle: false,
                emulated: false,
                cold: false,
            }
        })
    }

    /// Pre-copy as a process in time, written apart from the rounds above: each millisecond
    /// some of the queue leaves and some memory changes; when the queue is empty, what changed
    /// is the next queue. Gives the time spent and the last queue, if that ever fits.
    fn simulated(wish: &Wish, limit_ms: u64) -> Option<(u64, u64)> {
        let rate_ms = wish.bandwidth * 85 / 100 / 1000;
        let dirty_ms = wish.dirty_rate / 1000;
        let (mut queue, mut dirty, mut now) = (wish.memory, 0u64, 0u64);
        // The last round that counts is the halt.
        for _ in 1..ROUNDS_MAX {
            while queue > 0 {
                queue = queue.saturating_sub(rate_ms);
                dirty = (dirty + dirty_ms).min(wish.memory);
                now += 1;
            }
            if dirty.div_ceil(rate_ms) <= limit_ms {
                return Some((now, dirty.div_ceil(rate_ms)));
            }
            queue = std::mem::take(&mut dirty);
            if now > 10_000_000 {
                return None;
            }
        }
        None
    }

    fn near(one: u64, other: u64) -> bool {
        one.abs_diff(other) <= 40 + one.max(other) / 20
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn what_is_foretold_is_what_a_simulation_sees(wish in wish()) {
            let switch = SWITCH_MS + SWITCH_TRIPS * wish.rtt_ms;
            match forecast(&wish) {
                Ok(told) => {
                    prop_assert!(told.downtime_ms <= wish.downtime_ms_max);
                    // No shorter halt would have been as sure.
                    let faster = Wish { dirty_rate: 2 * wish.dirty_rate, ..wish };
                    for shorter in LIMITS_MS.into_iter().filter(|it| *it < told.limit_ms) {
                        let surely = (shorter * 9 / 10).saturating_sub(5);
                        prop_assert_eq!(simulated(&faster, surely), None, "{}", shorter);
                    }
                    // What is on the edge may fall either way: a tenth more room is sure.
                    let limit = told.limit_ms + told.limit_ms / 10 + 5;
                    let (total, halt) = simulated(&wish, limit).expect("it converges");
                    if let Some((sure, _)) = simulated(&wish, told.limit_ms)
                        && sure == total {
                        prop_assert!(near(told.total_ms, total + halt + switch),
                            "{told:?} {total} {halt}");
                    }
                }
                Err(Reason::TooFar { .. }) => prop_assert!(wish.downtime_ms_max <= switch),
                Err(Reason::Diverges { .. }) => {
                    let limit = (wish.downtime_ms_max - switch) * 9 / 10;
                    prop_assert_eq!(simulated(&wish, limit.saturating_sub(5)), None);
                }
                Err(reason) => prop_assert!(false, "{}", reason),
            }
        }

        #[test]
        fn more_bandwidth_or_a_longer_halt_never_makes_it_impossible(
            wish in wish(), more in 0..2_000u64,
        ) {
            if forecast(&wish).is_ok() {
                let faster = Wish { bandwidth: wish.bandwidth + more * MIB, ..wish };
                prop_assert!(forecast(&faster).is_ok());
                let longer = Wish { downtime_ms_max: wish.downtime_ms_max + more, ..wish };
                prop_assert!(forecast(&longer).is_ok());
            }
        }
    }

    const EIGHT_GIB: Wish = Wish {
        memory: 8 << 30,
        dirty_rate: 0,
        disk: 0,
        bandwidth: 125_000_000,
        rtt_ms: 76,
        downtime_ms_max: 5_000,
        total_ms_max: None,
        throttle: true,
        emulated: false,
        cold: false,
    };

    #[test]
    fn eight_gib_over_a_gigabit_take_the_minute_that_arithmetic_says() {
        let told = forecast(&EIGHT_GIB).unwrap();
        // 8 GiB * 8 / 0.85 Gbit/s.
        assert_eq!(told.total_ms, 80_847 + 328);
        assert_eq!((told.downtime_ms, told.rounds), (328, 1));
    }

    #[test]
    fn an_emulated_guest_is_halted_for_as_long_as_its_memory_takes() {
        let emulated = Wish { memory: 96 << 20, emulated: true, ..EIGHT_GIB };
        let told = forecast(&emulated).unwrap();
        assert_eq!((told.downtime_ms, told.total_ms), (948 + 328, 948 + 328));
        let large = forecast(&Wish { emulated: true, ..EIGHT_GIB }).unwrap_err();
        assert_eq!(large, Reason::Emulated { needs_ms: 80_847 + 328, max_ms: 5_000 });
    }

    /// 96 MiB are sent in less than the 4.7 s that are left of the halt that is allowed.
    #[test]
    fn a_small_guest_is_not_halted_for_as_long_as_it_may_be() {
        let small = Wish { memory: 96 << 20, dirty_rate: 4_000_000, ..EIGHT_GIB };
        let told = forecast(&small).unwrap();
        assert_eq!(told.limit_ms, 50);
        assert!(told.downtime_ms < 328 + 50, "{told:?}");
        let busy = forecast(&Wish { dirty_rate: 100_000_000, ..small }).unwrap();
        // All of its memory takes 948 ms, however fast it changes.
        assert_eq!(busy.limit_ms, 1_600);
        let large = Wish { memory: 1 << 30, dirty_rate: 100_000_000, ..EIGHT_GIB };
        assert_eq!(forecast(&large).unwrap().limit_ms, 5_000 - 328, "all that it may");
    }

    #[test]
    fn a_guest_that_writes_faster_than_the_link_is_slowed_down_or_refused() {
        let busy = Wish { dirty_rate: 130_000_000, ..EIGHT_GIB };
        let told = forecast(&busy).unwrap();
        assert!(told.throttle_percent >= 20, "{told:?}");
        let refused = forecast(&Wish { throttle: false, ..busy }).unwrap_err();
        assert!(refused.to_string().contains("does not converge"), "{refused}");
    }

    #[test]
    fn limits_that_cannot_be_kept_are_named() {
        let short = forecast(&Wish { downtime_ms_max: 300, ..EIGHT_GIB }).unwrap_err();
        assert_eq!(short, Reason::TooFar { needs_ms: 328, max_ms: 300 });
        let soon = Wish { total_ms_max: Some(60_000), ..EIGHT_GIB };
        assert!(matches!(forecast(&soon), Err(Reason::TooSlow { .. })));
        let none = Wish { bandwidth: 1, ..EIGHT_GIB };
        assert_eq!(forecast(&none), Err(Reason::NoBandwidth));
        let cold = Wish { cold: true, downtime_ms_max: 1, disk: 1 << 30, ..EIGHT_GIB };
        assert_eq!(forecast(&cold).unwrap().downtime_ms, 0);
    }
}
