//! Whether a region announces an address that several regions share (R11 to R13).
//!
//! Every region of a group decides for itself, of what it knows of itself and the others: it
//! announces while it is fit to answer; it leaves the address to another when it is not and another
//! is; and when nobody is known to be, it goes on, because an address that nobody announces helps no
//! client (static stability). A region that comes and goes waits longer each time before it
//! announces again, so that routers elsewhere do not count it as flapping; but only while another
//! has been fit for longer than any wait, or two that wait for each other would leave nobody.
//!
//! What is decided here is told to the routers next to a region. How the Internet follows is not
//! ours (F55).

use std::time::Duration;

/// Waits before an address is announced again: after the first time that it was left, and at most.
pub const HOLD_DOWN: Duration = Duration::from_secs(1);
/// The longest such wait.
pub const HOLD_DOWN_MAX: Duration = Duration::from_mins(1);
/// Who was fit for so long waits no more, as everybody else saw it too: the longest wait, and what
/// regions may learn of each other late.
pub const SURELY_BACK: Duration = Duration::from_secs(70);
/// A region that was fit for so long has not flapped.
pub const SETTLED: Duration = Duration::from_mins(10);

/// How fit a region is to answer what comes to the shared address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fitness {
    /// It answers.
    Fit,
    /// Its endpoint has no weight, or it is being emptied: whoever can is to go elsewhere.
    Draining,
    /// It is disabled.
    Disabled,
    /// The service is reached from it no more.
    Unreachable,
    /// It is not heard, or nothing is known of it yet.
    Unknown,
}

impl Fitness {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fit => "fit",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
            Self::Unreachable => "unreachable",
            Self::Unknown => "unknown",
        }
    }
}

/// Why an address is announced or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The region is fit.
    Fit,
    /// It is not, and nobody else of the group is known to be.
    LastResort(Fitness),
    /// It is not, and another is.
    Elsewhere(Fitness),
    /// It is fit again, and waits because it was not a moment ago.
    HeldDown,
}

impl Why {
    /// Whether the address is announced.
    #[must_use]
    pub const fn announces(self) -> bool {
        match self {
            Self::Fit | Self::LastResort(_) => true,
            Self::Elsewhere(_) | Self::HeldDown => false,
        }
    }
}

/// One group in one region, from look to look.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// Whether it announced at the last look; nothing before the first.
    announced: Option<bool>,
    /// Times that it was left, until it settles.
    left: u32,
    /// Not announced again before this.
    not_before: Duration,
    /// Since when it has announced.
    since: Duration,
    /// Since when each of the others is fit.
    fit_since: Vec<Option<Duration>>,
}

impl Gate {
    /// What to do now. `others` are the other regions of the group, at each look in the same
    /// order; `now` only goes forward.
    pub fn look(&mut self, own: Fitness, others: &[Fitness], now: Duration) -> Why {
        let elsewhere = others.contains(&Fitness::Fit);
        let surely = self.surely_elsewhere(others, now);
        let why = match own {
            Fitness::Fit if surely && now < self.not_before => Why::HeldDown,
            Fitness::Fit => Why::Fit,
            Fitness::Draining
            | Fitness::Disabled
            | Fitness::Unreachable
            | Fitness::Unknown => {
                if elsewhere {
                    Why::Elsewhere(own)
                } else {
                    Why::LastResort(own)
                }
            }
        };
        self.note(why.announces(), now);
        why
    }

    /// Whether another announces, waits or not.
    fn surely_elsewhere(&mut self, others: &[Fitness], now: Duration) -> bool {
        self.fit_since.resize(others.len(), None);
        let mut surely = false;
        for (since, other) in self.fit_since.iter_mut().zip(others) {
            let fit = *other == Fitness::Fit;
            *since = fit.then_some(since.unwrap_or(now));
            surely |= since.is_some_and(|at| now.saturating_sub(at) >= SURELY_BACK);
        }
        surely
    }

    fn note(&mut self, announces: bool, now: Duration) {
        match (self.announced, announces) {
            (Some(true), false) => {
                if now.saturating_sub(self.since) >= SETTLED {
                    self.left = 0;
                }
                let doubled = 1_u32.checked_shl(self.left).unwrap_or(u32::MAX);
                let wait = HOLD_DOWN.saturating_mul(doubled).min(HOLD_DOWN_MAX);
                self.not_before = now.saturating_add(wait);
                self.left = self.left.saturating_add(1);
            }
            (None | Some(false), true) => self.since = now,
            (Some(true), true) | (None | Some(false), false) => {}
        }
        self.announced = Some(announces);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Fitness; 5] = [
        Fitness::Fit,
        Fitness::Draining,
        Fitness::Disabled,
        Fitness::Unreachable,
        Fitness::Unknown,
    ];

    fn fitness() -> impl Strategy<Value = Fitness> {
        prop::sample::select(ALL.to_vec())
    }

    proptest! {
        /// Each region sees the others as they are: then somebody announces whatever happens, and
        /// who is not fit only where nobody is.
        #[test]
        fn somebody_always_announces_and_the_unfit_only_where_nobody_is_fit(
            looks in prop::collection::vec(
                (prop::collection::vec(fitness(), 3), 0..30_000_u64), 1..60)
        ) {
            let mut gates = [Gate::default(), Gate::default(), Gate::default()];
            let mut now = Duration::ZERO;
            for (all, passed) in looks {
                now += Duration::from_millis(passed);
                let mut announcing = Vec::new();
                for (own, gate) in gates.iter_mut().enumerate() {
                    let mut others = all.clone();
                    others.remove(own);
                    if gate.look(all[own], &others, now).announces() {
                        announcing.push(all[own]);
                    }
                }
                let fit = all.iter().filter(|it| **it == Fitness::Fit).count();
                prop_assert!(!announcing.is_empty());
                if fit == 0 {
                    prop_assert_eq!(announcing.len(), 3, "all go on when nobody is fit");
                } else {
                    prop_assert!(announcing.iter().all(|it| *it == Fitness::Fit));
                }
            }
        }

        /// However often it comes and goes, it announces again only after a wait that at least
        /// doubles up to a minute.
        #[test]
        fn who_flaps_waits_longer_each_time(goes in prop::collection::vec(0..90_000_u64, 1..40)) {
            let (mut gate, mut now) = (Gate::default(), Duration::ZERO);
            let mut expected = HOLD_DOWN;
            prop_assert_eq!(gate.look(Fitness::Fit, &[Fitness::Fit], now), Why::Fit);
            now += SURELY_BACK;
            for stays in goes {
                now += Duration::from_millis(stays);
                let left = now;
                let others = [Fitness::Fit];
                let why = gate.look(Fitness::Draining, &others, now);
                prop_assert_eq!(why, Why::Elsewhere(Fitness::Draining));
                while !gate.look(Fitness::Fit, &others, now).announces() {
                    now += Duration::from_millis(100);
                }
                prop_assert_eq!(now - left, expected);
                expected = (expected * 2).min(HOLD_DOWN_MAX);
            }
        }
    }

    #[test]
    fn one_that_settled_begins_anew_and_the_last_one_never_waits() {
        let (mut gate, others) = (Gate::default(), [Fitness::Fit]);
        let second = Duration::from_secs;
        assert!(gate.look(Fitness::Fit, &others, second(0)).announces());
        for round in 0..3 {
            gate.look(Fitness::Disabled, &others, second(round));
        }
        // The other has not been fit for long: it may be waiting for this one.
        assert_eq!(gate.look(Fitness::Fit, &others, second(2)), Why::Fit);
        let settled = second(2) + SETTLED;
        gate.look(Fitness::Disabled, &others, settled);
        let soon = settled + HOLD_DOWN;
        assert_eq!(gate.look(Fitness::Fit, &others, soon), Why::Fit);
        gate.look(Fitness::Disabled, &others, soon);
        assert_eq!(gate.look(Fitness::Fit, &others, soon), Why::HeldDown);
        assert_eq!(gate.look(Fitness::Fit, &[Fitness::Unknown], soon), Why::Fit);
        let unknown = [Fitness::Unknown, Fitness::Draining];
        let why = gate.look(Fitness::Unreachable, &unknown, soon);
        assert_eq!(why, Why::LastResort(Fitness::Unreachable));
    }
}
