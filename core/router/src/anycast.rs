//! Whether a region announces an address that several regions share (R11 to R13).
//!
//! Every region of a group decides for itself, of what it knows of itself and what the others say:
//! it announces while it is fit to answer; it leaves the address to another when it is not and
//! another is, and does announce; and when none is, it goes on, because an address that nobody
//! announces helps no client (static stability). A region that comes and goes waits longer each time
//! before it announces again, so that routers elsewhere do not count it as flapping; but only while
//! another does announce, and once it does announce it stays.
//!
//! What is decided here is told to the routers next to a region. How the Internet follows is not
//! ours (F55).
//!
//! Rejected: to judge the others by their health. Whether a region can be reached by its own router,
//! or waits itself, is known to nobody but it, and two that wait for each other leave nobody.

use std::time::Duration;

/// Waits before an address is announced again: after the first time that it was left, and at most.
pub const HOLD_DOWN: Duration = Duration::from_secs(1);
/// The longest such wait.
pub const HOLD_DOWN_MAX: Duration = Duration::from_mins(1);
/// A region that was fit for so long has not flapped.
pub const SETTLED: Duration = Duration::from_mins(10);
/// How long a region that is not fit listens for others, when it has just begun to look, before it
/// announces because there is none.
pub const LISTENS_FOR: Duration = Duration::from_secs(10);

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
        }
    }
}

/// Why an address is announced or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The region is fit.
    Fit,
    /// It is not, and nobody else of the group that is fit announces.
    LastResort(Fitness),
    /// It is not, and another that is announces.
    Elsewhere(Fitness),
    /// It is not, and has not listened for long enough to know of others.
    Listens(Fitness),
    /// It is fit again, and waits because it was not a moment ago, while another announces.
    HeldDown,
}

impl Why {
    /// Whether the address is announced.
    #[must_use]
    pub const fn announces(self) -> bool {
        match self {
            Self::Fit | Self::LastResort(_) => true,
            Self::Elsewhere(_) | Self::Listens(_) | Self::HeldDown => false,
        }
    }

    /// Whether the region is fit: what others are told.
    #[must_use]
    pub const fn is_fit(self) -> bool {
        match self {
            Self::Fit | Self::HeldDown => true,
            Self::LastResort(_) | Self::Elsewhere(_) | Self::Listens(_) => false,
        }
    }
}

/// One group in one region, from look to look.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// When it looked first.
    begun: Option<Duration>,
    /// Whether it announced at the last look.
    announced: bool,
    /// Times that it was left, until it settles.
    left: u32,
    /// Not announced again before this.
    not_before: Duration,
    /// Since when it has announced.
    since: Duration,
}

impl Gate {
    /// What to do now. `elsewhere`: whether another region of the group says that it is fit and that
    /// its router was told; `now` only goes forward.
    pub fn look(&mut self, own: Fitness, elsewhere: bool, now: Duration) -> Why {
        let begun = *self.begun.get_or_insert(now);
        let listens = !self.announced && now.saturating_sub(begun) < LISTENS_FOR;
        let why = match own {
            // One that announces because nobody did goes on when another does too: two that hear of
            // each other late would else leave together, and come together, for ever.
            Fitness::Fit if elsewhere && !self.announced && now < self.not_before => {
                Why::HeldDown
            }
            Fitness::Fit => Why::Fit,
            Fitness::Draining | Fitness::Disabled | Fitness::Unreachable => {
                if elsewhere {
                    Why::Elsewhere(own)
                } else if listens {
                    Why::Listens(own)
                } else {
                    Why::LastResort(own)
                }
            }
        };
        self.note(why.announces(), now);
        why
    }

    fn note(&mut self, announces: bool, now: Duration) {
        match (self.announced, announces) {
            (true, false) => {
                if now.saturating_sub(self.since) >= SETTLED {
                    self.left = 0;
                }
                let doubled = 1_u32.checked_shl(self.left).unwrap_or(u32::MAX);
                let wait = HOLD_DOWN.saturating_mul(doubled).min(HOLD_DOWN_MAX);
                self.not_before = now.saturating_add(wait);
                self.left = self.left.saturating_add(1);
            }
            (false, true) => self.since = now,
            (true, true) | (false, false) => {}
        }
        self.announced = announces;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Fitness; 4] =
        [Fitness::Fit, Fitness::Draining, Fitness::Disabled, Fitness::Unreachable];
    const UNFIT: Fitness = Fitness::Draining;

    /// Three regions that hear of each other what was so up to two seconds ago.
    struct World {
        gates: [Gate; 3],
        /// Whether its router listens.
        routers: [bool; 3],
        fitness: [Fitness; 3],
        /// What each said, every 100 ms: that it is fit and its router was told.
        said: Vec<[bool; 3]>,
        late: [usize; 3],
    }

    impl World {
        /// 100 ms go by; who is announced.
        fn tick(&mut self) -> Vec<usize> {
            let now =
                Duration::from_millis(100 * u64::try_from(self.said.len()).unwrap());
            let mut says = [false; 3];
            let mut announced = Vec::new();
            for (place, says) in says.iter_mut().enumerate() {
                let heard = self.said.len().checked_sub(1 + self.late[place]);
                let heard = heard.map_or([false; 3], |at| self.said[at]);
                let elsewhere = (0..3).any(|other| other != place && heard[other]);
                let why = self.gates[place].look(self.fitness[place], elsewhere, now);
                let told = why.announces() && self.routers[place];
                *says = told && why.is_fit();
                if told {
                    announced.push(place);
                }
            }
            self.said.push(says);
            announced
        }
    }

    impl World {
        fn new() -> Self {
            Self {
                gates: Default::default(),
                routers: [true; 3],
                fitness: [Fitness::Fit; 3],
                said: Vec::new(),
                late: [0; 3],
            }
        }

        /// What is so from now on, and for so many ticks.
        fn goes_on(
            &mut self,
            (fitness, routers, late): ([Fitness; 3], [bool; 3], [usize; 3]),
            ticks: usize,
        ) {
            (self.fitness, self.routers, self.late) = (fitness, routers, late);
            for _ in 0..ticks {
                self.tick();
            }
        }

        /// Who is announced after the longest wait and what is under way.
        fn settled(&mut self) -> Vec<usize> {
            let settled = (HOLD_DOWN_MAX + LISTENS_FOR).as_millis() / 100 + 100;
            (0..settled).map(|_| self.tick()).last().unwrap()
        }
    }

    /// Found at random: both were held down when the third left, came together half a second later
    /// because nobody announced, heard of each other, left together, and so on.
    #[test]
    fn two_that_hear_of_each_other_late_do_not_leave_together_for_ever() {
        use Fitness::{Draining, Fit};
        let mut world = World::new();
        let now = [0; 3];
        let none = [false; 3];
        let third = [false, false, true];
        world.goes_on(([Fit; 3], none, now), 57);
        world.goes_on(([Fit; 3], third, now), 30);
        world.goes_on(([Draining, Fit, Fit], none, now), 5);
        world.goes_on(([Fit, Draining, Fit], third, [0, 8, 0]), 9);
        world.goes_on(([Fit; 3], third, now), 21);
        world.goes_on(([Draining, Draining, Fit], none, now), 12);
        world.goes_on(([Fit, Fit, Draining], [true, true, false], [5, 5, 0]), 35);
        assert_eq!(world.settled(), [0, 1]);
    }

    proptest! {
        /// Whatever each is fit for, whoever's router listens, however late they hear of each other:
        /// when that has been so for the longest wait and what is under way, an address is announced
        /// by somebody whose router listens, and by nobody who is not fit where one is that can.
        #[test]
        fn somebody_announces_and_the_unfit_only_where_nobody_fit_can(
            events in prop::collection::vec(
                (prop::array::uniform3(prop::sample::select(ALL.to_vec())),
                 prop::array::uniform3(any::<bool>()),
                 prop::array::uniform3(0..20_usize), 1..80_usize), 1..12)
        ) {
            let mut world = World::new();
            for (fitness, routers, late, ticks) in events {
                world.goes_on((fitness, routers, late), ticks);
            }
            let announced = world.settled();
            let can: Vec<usize> = (0..3).filter(|it| world.routers[*it]).collect();
            prop_assert_eq!(announced.is_empty(), can.is_empty());
            let fit: Vec<usize> =
                can.into_iter().filter(|it| world.fitness[*it] == Fitness::Fit).collect();
            if !fit.is_empty() {
                prop_assert_eq!(announced, fit);
            }
        }

        /// However often it comes and goes, it announces again only after a wait that doubles up to a
        /// minute.
        #[test]
        fn who_flaps_waits_longer_each_time(goes in prop::collection::vec(0..90_000_u64, 1..40)) {
            let (mut gate, mut now) = (Gate::default(), Duration::ZERO);
            let mut expected = HOLD_DOWN;
            prop_assert_eq!(gate.look(Fitness::Fit, true, now), Why::Fit);
            for stays in goes {
                now += Duration::from_millis(stays);
                let left = now;
                prop_assert_eq!(gate.look(UNFIT, true, now), Why::Elsewhere(UNFIT));
                while !gate.look(Fitness::Fit, true, now).announces() {
                    now += Duration::from_millis(100);
                }
                prop_assert_eq!(now - left, expected);
                expected = (expected * 2).min(HOLD_DOWN_MAX);
            }
        }
    }

    #[test]
    fn one_that_settled_begins_anew_and_one_that_is_alone_never_waits() {
        let mut gate = Gate::default();
        let second = Duration::from_secs;
        assert_eq!(gate.look(Fitness::Fit, false, second(0)), Why::Fit);
        for round in 0..3 {
            gate.look(UNFIT, true, second(round));
        }
        assert_eq!(
            gate.look(Fitness::Fit, false, second(2)),
            Why::Fit,
            "nobody else does"
        );
        let settled = second(2) + SETTLED;
        gate.look(UNFIT, true, settled);
        let soon = settled + HOLD_DOWN;
        assert_eq!(gate.look(Fitness::Fit, true, soon), Why::Fit);
        gate.look(UNFIT, true, soon);
        assert_eq!(gate.look(Fitness::Fit, true, soon), Why::HeldDown);
        assert_eq!(gate.look(Fitness::Fit, false, soon), Why::Fit, "nobody else does");
        let unreachable = Fitness::Unreachable;
        let why = gate.look(unreachable, false, soon);
        assert_eq!(why, Why::LastResort(unreachable));
    }

    #[test]
    fn one_that_starts_unfit_listens_before_it_is_the_last_resort() {
        let mut gate = Gate::default();
        let start = Duration::from_secs(100);
        assert_eq!(gate.look(UNFIT, false, start), Why::Listens(UNFIT));
        let later = start + LISTENS_FOR;
        assert_eq!(gate.look(UNFIT, true, later), Why::Elsewhere(UNFIT));
        assert_eq!(gate.look(UNFIT, false, later), Why::LastResort(UNFIT));
        assert!(gate.look(Fitness::Fit, false, later).announces());
        assert_eq!(gate.look(UNFIT, false, later), Why::LastResort(UNFIT));
    }
}
