//! Which two faults, where, when, and for how long: drawn from a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use dwcp_sim::Rng;

use super::REGIONS;
use super::fault::{Fault, Kind, Part};

/// Longest time between the first and the second strike, and between the first and the second
/// healing.
const BETWEEN_MAX_MS: u64 = 4_000;
/// Of ten thousand faults so many strike where a protected VM is by then; the others strike any
/// region.
const AT_A_VM: u64 = 6_000;

/// A shortest and a longest time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// In milliseconds.
    pub from_ms: u64,
    /// In milliseconds.
    pub to_ms: u64,
}

impl Span {
    /// Short of what makes a region dead (9 s), and well beyond it.
    pub const USUAL: Self = Self { from_ms: 8_000, to_ms: 20_000 };
    /// For a test of every day.
    pub const SHORT: Self = Self { from_ms: 8_000, to_ms: 12_000 };

    const fn draw(self, rng: &mut Rng) -> Duration {
        Duration::from_millis(rng.between(self.from_ms, self.to_ms))
    }
}

/// What a pair is drawn by, with its own kinds.
#[derive(Clone, Copy, Debug)]
pub struct PairSeed {
    /// Of all rounds.
    pub seed: u64,
    /// Which round, from 1 on.
    pub round: u32,
}

impl PairSeed {
    /// The same whichever pairs are before it.
    fn rng(self, (one, other): (Kind, Kind)) -> Rng {
        let mut rng = Rng::new(self.seed);
        let number = u64::from(self.round) * 256 + (one as u64) * 16 + other as u64;
        Rng::new(rng.next() ^ Rng::new(number).next())
    }
}

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// This region of [`REGIONS`].
    Region(usize),
    /// Wherever the protected VM of this number is.
    Vm(usize),
}

#[derive(Clone, Copy, Debug)]
struct Drawn {
    kind: Kind,
    place: Place,
    part: usize,
    turned: bool,
}

/// Two faults.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Which.
    pub kinds: (Kind, Kind),
    /// What it was drawn by.
    pub seed: PairSeed,
    first: Drawn,
    second: Drawn,
    /// From the first strike to the second.
    pub gap: Duration,
    /// From the second strike to the first healing.
    pub hold: Duration,
    /// From the first healing to the second.
    pub heal_gap: Duration,
}

/// Every pair of different kinds, and each kind with itself.
#[must_use]
pub fn all_pairs() -> Vec<(Kind, Kind)> {
    let all = Kind::ALL.into_iter().enumerate();
    all.flat_map(|(index, one)| {
        Kind::ALL.into_iter().skip(index).map(move |two| (one, two))
    })
    .collect()
}

impl Pair {
    /// Draws all that is chosen.
    #[must_use]
    pub fn drawn(kinds: (Kind, Kind), seed: PairSeed, hold: Span) -> Self {
        let mut rng = seed.rng(kinds);
        let between = Span { from_ms: 0, to_ms: BETWEEN_MAX_MS };
        let first = Drawn::by(kinds.0, &mut rng);
        let second = Drawn::by(kinds.1, &mut rng);
        let (gap, hold) = (between.draw(&mut rng), hold.draw(&mut rng));
        let heal_gap = between.draw(&mut rng);
        // Either may be first.
        let swapped = rng.chance(5_000);
        let (first, second) = if swapped { (second, first) } else { (first, second) };
        Self { kinds, seed, first, second, gap, hold, heal_gap }
    }

    /// Its name on a command line.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}+{}", self.kinds.0, self.kinds.1)
    }

    /// The faults, with the regions in which the protected VMs are now, in the order of their
    /// names. Two that would strike the same, or of which one would leave the other nothing to
    /// strike, strike two regions.
    #[must_use]
    pub fn faults(&self, owners: &BTreeMap<String, String>) -> (Fault, Fault) {
        let first = self.first.at(self.first.region(owners));
        let at = self.second.region(owners);
        let shifted = (0..REGIONS.len()).map(|by| (at + by) % REGIONS.len());
        let mut seconds = shifted.map(|at| self.second.at(at));
        let second = seconds.find(|second| !clash(&first, second));
        (first.clone(), second.unwrap_or_else(|| first.clone()))
    }
}

fn clash(one: &Fault, other: &Fault) -> bool {
    let both_cut = one.kind.cuts() && other.kind.cuts();
    if one.kind == other.kind || both_cut {
        return one.region == other.region;
    }
    let ends = |kind| matches!(kind, Kind::Kill | Kind::Freeze);
    ends(one.kind) && ends(other.kind) && one.process() == other.process()
}

impl Drawn {
    fn by(kind: Kind, rng: &mut Rng) -> Self {
        let place = if rng.chance(AT_A_VM) {
            Place::Vm(rng.index(usize::MAX))
        } else {
            Place::Region(rng.index(REGIONS.len()))
        };
        Self { kind, place, part: rng.index(usize::MAX), turned: rng.chance(5_000) }
    }

    fn region(&self, owners: &BTreeMap<String, String>) -> usize {
        let of = |region: &String| REGIONS.iter().position(|it| it == region);
        match self.place {
            Place::Region(at) => at,
            Place::Vm(number) => {
                let owner = owners.values().nth(number % owners.len().max(1));
                owner.and_then(of).unwrap_or(0)
            }
        }
    }

    fn at(&self, region: usize) -> Fault {
        let parts = self.kind.parts();
        let part = parts.get(self.part % parts.len().max(1)).copied();
        Fault {
            kind: self.kind,
            region: REGIONS[region % REGIONS.len()].to_owned(),
            part: part.unwrap_or(Part::Daemon),
            turned: self.turned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(kinds: (Kind, Kind), round: u32) -> Pair {
        Pair::drawn(kinds, PairSeed { seed: 7, round }, Span::USUAL)
    }

    #[test]
    fn there_are_all_pairs_once() {
        let all = all_pairs();
        assert_eq!(all.len(), 28);
        assert_eq!(all.iter().filter(|(one, two)| one == two).count(), Kind::ALL.len());
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), 28);
    }

    #[test]
    fn a_seed_draws_the_same_again_and_another_round_another() {
        let texts = |round| {
            let owners = BTreeMap::from([("p".to_owned(), "eu-west-1".to_owned())]);
            let pairs = all_pairs().into_iter().map(|kinds| drawn(kinds, round));
            let text = |pair: Pair| {
                let (first, second) = pair.faults(&owners);
                format!("{first}, {:?}, {second}, {:?}", pair.gap, pair.hold)
            };
            pairs.map(text).collect::<Vec<_>>()
        };
        assert_eq!(texts(1), texts(1));
        assert_ne!(texts(1), texts(2));
    }

    /// Wherever the VMs are, over many rounds.
    #[test]
    fn two_faults_never_leave_each_other_nothing_to_strike() {
        for round in 0..200 {
            for kinds in all_pairs() {
                for owner in REGIONS {
                    let owners = BTreeMap::from([("p".to_owned(), owner.to_owned())]);
                    let (one, two) = drawn(kinds, round).faults(&owners);
                    assert!(!clash(&one, &two), "{one} and {two}");
                    let mut both = [one.kind, two.kind];
                    both.sort_unstable();
                    assert_eq!((both[0], both[1]), kinds);
                }
            }
        }
    }

    #[test]
    fn faults_last_short_of_and_beyond_what_makes_a_region_dead() {
        let holds = (0..50).map(|round| drawn((Kind::Kill, Kind::Slow), round).hold);
        let holds: Vec<_> = holds.collect();
        let nine = Duration::from_secs(9);
        assert!(
            holds.iter().any(|it| *it < nine) && holds.iter().any(|it| *it > 2 * nine)
        );
        let usual = Duration::from_secs(8)..=Duration::from_secs(20);
        assert!(holds.iter().all(|it| usual.contains(it)));
    }
}
