//! Whose turn it is to move (F16): by urgency, within what links and hosts bear.
//!
//! Every region's daemon follows the logs of all moves and asks the same function, so they
//! agree on the order without a coordinator. One that has not heard of the newest start yet
//! may start one move too many; that costs speed, never a VM.

use std::collections::{BTreeMap, BTreeSet};

use dwcp_types::{HostId, MigrationId, RegionId, Timestamp};

use super::{Migration, Step};

/// What is borne at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Moves in the whole federation (`max_concurrent_migrations`); at least one.
    pub at_once: usize,
    /// Moves that leave or reach one host; at least one.
    pub per_host: usize,
}

/// A move as far as its turn depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrant {
    /// Which.
    pub id: MigrationId,
    /// How urgent, 1 to 10; the most urgent goes first.
    pub priority: u8,
    /// When it was asked for; of equally urgent ones the oldest goes first.
    pub at: Timestamp,
    /// It has had its turn and is not over.
    pub started: bool,
    /// From where.
    pub source: (RegionId, HostId),
    /// To where.
    pub target: RegionId,
    /// The host there, once it is chosen.
    pub target_host: Option<HostId>,
    /// What it may take of the link, in bytes a second.
    pub rate: u64,
}

impl Entrant {
    /// A move by its log; nothing for one that is over, or whose guest has arrived: what is left
    /// to be removed at a source that is lost would keep others waiting until that one is back.
    #[must_use]
    pub fn of(migration: &Migration) -> Option<Self> {
        let ask = &migration.ask;
        let goes = !migration.is_done() && migration.step != Step::Arrived;
        goes.then(|| Self {
            id: migration.id.clone(),
            priority: ask.priority,
            at: ask.at,
            started: migration.step != Step::Queued,
            source: (ask.source.region.clone(), ask.source.host.clone()),
            target: ask.target.clone(),
            target_host: migration.site.as_ref().map(|site| site.host.clone()),
            rate: ask.bandwidth,
        })
    }

    /// Between which regions; both directions share a link's limit.
    fn link(&self) -> (RegionId, RegionId) {
        let (one, other) = (self.source.0.clone(), self.target.clone());
        if one <= other { (one, other) } else { (other, one) }
    }

    fn hosts(&self) -> impl Iterator<Item = (RegionId, HostId)> {
        let target = self.target_host.clone().map(|host| (self.target.clone(), host));
        [Some(self.source.clone()), target].into_iter().flatten()
    }
}

/// What those that go take.
#[derive(Debug, Default)]
struct Load {
    moves: usize,
    hosts: BTreeMap<(RegionId, HostId), usize>,
    links: BTreeMap<(RegionId, RegionId), u64>,
    /// Links that a more urgent move waits for: nobody overtakes it there, or a wide move would
    /// wait for ever behind narrow ones.
    awaited: BTreeSet<(RegionId, RegionId)>,
}

impl Load {
    fn add(&mut self, entrant: &Entrant) {
        self.moves += 1;
        for host in entrant.hosts() {
            *self.hosts.entry(host).or_default() += 1;
        }
        let link = self.links.entry(entrant.link()).or_default();
        *link = link.saturating_add(entrant.rate);
    }

    /// Whether one more fits. One that is wider than its link goes when it has it for itself.
    fn bears(
        &mut self,
        entrant: &Entrant,
        limits: Limits,
        width: &impl Fn(&RegionId, &RegionId) -> u64,
    ) -> bool {
        let held =
            |host: &(RegionId, HostId)| self.hosts.get(host).copied().unwrap_or_default();
        let free = self.moves < limits.at_once.max(1)
            && entrant.hosts().all(|host| held(&host) < limits.per_host.max(1));
        if !free {
            return false;
        }
        let link = entrant.link();
        if self.awaited.contains(&link) {
            return false;
        }
        let used = self.links.get(&link).copied().unwrap_or_default();
        let fits =
            used == 0 || used.saturating_add(entrant.rate) <= width(&link.0, &link.1);
        if !fits {
            self.awaited.insert(link);
        }
        fits
    }
}

fn in_order(entrants: &[Entrant]) -> Vec<&Entrant> {
    let mut order: Vec<_> = entrants.iter().collect();
    order.sort_by_key(|it| {
        (!it.started, std::cmp::Reverse(it.priority), it.at, it.id.clone())
    });
    order
}

/// The moves that may go on now: those that have begun, and those whose turn it is. `width`
/// gives how much a link between two regions bears, in bytes a second.
#[must_use]
pub fn going(
    entrants: &[Entrant],
    limits: Limits,
    width: impl Fn(&RegionId, &RegionId) -> u64,
) -> BTreeSet<MigrationId> {
    let mut load = Load::default();
    let mut going = BTreeSet::new();
    for entrant in in_order(entrants) {
        if entrant.started || load.bears(entrant, limits, &width) {
            load.add(entrant);
            going.insert(entrant.id.clone());
        }
    }
    going
}

/// In which wave each move that waits is to go: 1 when its turn has come, 2 when it comes once
/// all of the wave before are over, and so on. Moves end one by one, so most go sooner.
#[must_use]
pub fn waves(
    entrants: &[Entrant],
    limits: Limits,
    width: impl Fn(&RegionId, &RegionId) -> u64,
) -> BTreeMap<MigrationId, usize> {
    let mut left = entrants.to_vec();
    let mut waves = BTreeMap::new();
    for wave in 1..=entrants.len() {
        let turn = going(&left, limits, &width);
        left.retain(|it| !turn.contains(&it.id));
        waves.extend(turn.into_iter().map(|id| (id, wave)));
    }
    for begun in entrants.iter().filter(|it| it.started) {
        waves.remove(&begun.id);
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { at_once: 4, per_host: 2 };

    fn entrant(number: usize, (from, host, to, priority, rate): Drawn) -> Entrant {
        let region = |number: u8| RegionId::new(&format!("r{number}")).unwrap();
        Entrant {
            id: MigrationId::new(&format!("m-{number:03}")).unwrap(),
            priority,
            at: Timestamp::from_millis(0),
            started: false,
            source: (region(from), HostId::new(&format!("h{host}")).unwrap()),
            target: region((from + to) % 4),
            target_host: None,
            rate,
        }
    }

    type Drawn = (u8, u8, u8, u8, u64);

    fn drawn() -> impl Strategy<Value = Vec<Entrant>> {
        let one = (0..4_u8, 0..3_u8, 1..4_u8, 1..=10_u8, 1..15_u64);
        prop::collection::vec(one, 1..24).prop_map(|all| {
            all.into_iter().enumerate().map(|(n, it)| entrant(n, it)).collect()
        })
    }

    fn width(_: &RegionId, _: &RegionId) -> u64 {
        10
    }

    fn check(going: &[&Entrant]) {
        assert!(going.len() <= LIMITS.at_once);
        let mut hosts: BTreeMap<_, usize> = BTreeMap::new();
        let mut links: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for it in going {
            *hosts.entry(it.source.clone()).or_default() += 1;
            links.entry(it.link()).or_default().push(it.rate);
        }
        assert!(hosts.values().all(|moves| *moves <= LIMITS.per_host));
        for rates in links.values() {
            assert!(rates.len() == 1 || rates.iter().sum::<u64>() <= 10, "{rates:?}");
        }
    }

    proptest! {
        #[test]
        fn no_wave_takes_more_than_is_borne_and_every_move_has_its_wave(all in drawn()) {
            let waves = waves(&all, LIMITS, width);
            prop_assert_eq!(waves.len(), all.len());
            let last = waves.values().copied().max().unwrap_or_default();
            for wave in 1..=last {
                let of: Vec<_> = all.iter().filter(|it| waves[&it.id] == wave).collect();
                prop_assert!(!of.is_empty(), "wave {} of {} is empty", wave, last);
                check(&of);
            }
        }

        /// Whoever is more urgent on the same way is never behind one that asks for as much.
        #[test]
        fn nobody_is_overtaken_on_its_own_way(all in drawn()) {
            let waves = waves(&all, LIMITS, width);
            for one in &all {
                for other in &all {
                    let same = (&one.source, &one.target) == (&other.source, &other.target);
                    if same && one.priority > other.priority {
                        prop_assert!(waves[&one.id] <= waves[&other.id]);
                    }
                }
            }
        }

        /// What has begun goes on whatever the limits say, and counts against them.
        #[test]
        fn what_has_begun_goes_on(mut all in drawn(), begun in 0..24_usize) {
            for it in all.iter_mut().take(begun) {
                it.started = true;
            }
            let going = going(&all, LIMITS, width);
            let fresh = all.iter().filter(|it| !it.started && going.contains(&it.id)).count();
            let old = all.iter().filter(|it| it.started).count();
            prop_assert!(all.iter().all(|it| !it.started || going.contains(&it.id)));
            prop_assert!(fresh == 0 || fresh + old <= LIMITS.at_once);
        }
    }

    #[test]
    fn a_wide_move_is_not_starved_by_narrow_ones_and_goes_alone() {
        let wide = entrant(0, (0, 0, 1, 9, 99));
        let narrow = |number| entrant(number, (0, 1, 1, 5, 1));
        let mut first = narrow(1);
        first.started = true;
        let all = [wide.clone(), first.clone(), narrow(2)];
        assert_eq!(going(&all, LIMITS, width), BTreeSet::from([first.id.clone()]));
        assert_eq!(going(&all[..1], LIMITS, width), BTreeSet::from([wide.id.clone()]));
        let waves = waves(&all, LIMITS, width);
        assert_eq!((waves[&wide.id], waves.get(&first.id)), (2, None));
    }
}
