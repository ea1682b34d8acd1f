//! The hard filters: for every region all the reasons that refuse it (F22).
//!
//! Filters on attributes and limits look at every region. Those on hosts, which cost more,
//! look at every region when explaining and only at those still standing when deciding; both
//! by this code, so a region stands in one exactly when it stands in the other.

use super::bits::{Bits, WORD, each, has, pack, words};
use super::fleet::{Fleet, class};
use super::group::RuleView;
use super::lanes::{self, Lanes};
use super::locality::canonical;
use super::query::Query;
use super::reason::ReasonKind;
use super::room::{BANDWIDTH, CPU, GPUS, MEMORY, RESOURCES, Room};

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Hosts of the regions that nothing else refuses.
    Standing,
    /// Hosts of every region.
    Everything,
}

/// Kinds of reasons.
const KINDS: usize = ReasonKind::ALL.len();
/// Kinds that room is made for at first: requests with more are rare.
const KINDS_USUAL: usize = 6;

/// Which regions are refused and why, and which stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Screen {
    words: usize,
    /// For each kind the number of its set in `refused`, from one; zero when it was not looked
    /// for, and then it refuses nothing.
    sets: [u8; KINDS],
    /// Sets of regions, one after the other.
    refused: Vec<u64>,
    standing: Vec<u64>,
}

impl Screen {
    /// Runs every filter.
    pub(crate) fn of(query: &Query<'_>, depth: Depth) -> Self {
        let words = words(query.fleet.len());
        let mut screen = Self {
            words,
            sets: [0; KINDS],
            refused: Vec::with_capacity(words * KINDS_USUAL),
            standing: query.fleet.attributes.all.as_words().to_vec(),
        };
        screen.by_attribute(query);
        screen.by_limit(query);
        screen.settle(0, ReasonKind::Affinity as usize);
        screen.by_host(query, depth);
        screen.settle(ReasonKind::Affinity as usize, KINDS);
        screen
    }

    /// The regions that nothing refuses.
    pub(crate) fn standing(&self) -> &[u64] {
        &self.standing
    }

    /// The regions that a kind of reason refuses; nothing when it was not looked for.
    pub(crate) fn refused(&self, kind: ReasonKind) -> Option<&[u64]> {
        let set = usize::from(self.sets[kind as usize]);
        self.refused.get(set.checked_sub(1)? * self.words..set * self.words)
    }

    /// The kinds of reasons that refuse a region.
    pub(crate) fn kinds(&self, region: usize) -> impl Iterator<Item = ReasonKind> + '_ {
        let refuses = move |kind: &ReasonKind| {
            self.refused(*kind).is_some_and(|set| has(set, region))
        };
        ReasonKind::ALL.iter().copied().filter(refuses)
    }

    fn set(&mut self, kind: ReasonKind) -> &mut [u64] {
        let set = &mut self.sets[kind as usize];
        if *set == 0 {
            self.refused.resize(self.refused.len() + self.words, 0);
            *set = u8::try_from(self.refused.len() / self.words.max(1)).unwrap_or(0);
        }
        let last = usize::from(*set) * self.words;
        &mut self.refused[last - self.words..last]
    }

    fn refuse(&mut self, kind: ReasonKind, region: usize) {
        if let Some(word) = self.set(kind).get_mut(region / WORD) {
            *word |= 1 << (region % WORD);
        }
    }

    /// Takes what these kinds refuse out of what stands.
    fn settle(&mut self, first: usize, last: usize) {
        for set in self.sets[first..last].iter().filter(|set| **set > 0) {
            let last = usize::from(*set) * self.words;
            let refused = &self.refused[last - self.words..last];
            let pairs = self.standing.iter_mut().zip(refused);
            pairs.for_each(|(standing, refused)| *standing &= !refused);
        }
    }

    /// Refuses every region that is not in a set; all of them when there is no set.
    fn refuse_outside(
        &mut self,
        kind: ReasonKind,
        query: &Query<'_>,
        set: Option<&[u64]>,
    ) {
        let all = query.fleet.attributes.all.as_words();
        for (at, word) in self.set(kind).iter_mut().enumerate() {
            *word |= all[at] & !set.map_or(0, |set| set[at]);
        }
    }

    fn by_attribute(&mut self, query: &Query<'_>) {
        let limits = &query.request.constraints;
        let attributes = &query.fleet.attributes;
        self.refuse_outside(
            ReasonKind::Disabled,
            query,
            Some(attributes.enabled.as_words()),
        );
        self.refuse_outside(
            ReasonKind::Health,
            query,
            Some(attributes.accepting.as_words()),
        );
        if !limits.allowed_regions.is_empty() {
            let mut allowed = Bits::none(query.fleet.len());
            let known = limits.allowed_regions.iter();
            for region in known.filter_map(|id| query.fleet.region_ix(id)) {
                allowed.set(region, true);
            }
            self.refuse_outside(ReasonKind::NotAllowed, query, Some(allowed.as_words()));
        }
        for id in &limits.forbidden_regions {
            if let Some(region) = query.fleet.region_ix(id) {
                self.refuse(ReasonKind::Forbidden, region);
            }
        }
        if limits.require_edge {
            let edge = attributes.edge.as_words();
            self.refuse_outside(ReasonKind::NotEdge, query, Some(edge));
        }
        for law in &limits.required_compliance {
            let under = attributes.compliance.get(law).map(Bits::as_words);
            self.refuse_outside(ReasonKind::Compliance, query, under);
        }
        if let Some(place) = &limits.data_locality {
            let within = attributes.jurisdiction.get(&canonical(place));
            let within = within.map(Bits::as_words);
            self.refuse_outside(ReasonKind::DataLocality, query, within);
        }
    }

    fn by_limit(&mut self, query: &Query<'_>) {
        let regions = query.fleet.len();
        let limits = &query.request.constraints;
        let all = query.fleet.attributes.all.as_words();
        if let Some(limit) = query.latency_limit() {
            let sums = &query.latency;
            sums.near.unknown(self.set(ReasonKind::LatencyUnknown));
            let far = self.set(ReasonKind::Latency);
            sums.near.above(limit, (all, far), |region| sums.get(region));
        }
        if let Some(limit) = limits.min_health_score {
            let health = &query.fleet.hot.health;
            pack(self.set(ReasonKind::MinHealth), regions, |region| {
                health[region] < limit
            });
        }
        if let Some(limit) = limits.cost_limit {
            let dear = self.set(ReasonKind::Cost);
            query.costs.above(limit.get(), (all, dear), |region| query.cost(region));
        }
    }

    fn by_host(&mut self, query: &Query<'_>, depth: Depth) {
        let attributes = &query.fleet.attributes;
        let kept = query.required.iter().all(RuleView::holds_untouched);
        // Bandwidth and GPUs are reasons of their own.
        let plain_need = query.need.0[BANDWIDTH] == 0 && query.need.0[GPUS] == 0;
        let class = class(query.need.0[CPU]);
        let touch = Touch::of(query);
        for at in 0..self.words {
            let looked_at = match depth {
                Depth::Standing => self.standing[at],
                Depth::Everything => attributes.all.as_words()[at],
            };
            let mut unsure = looked_at;
            if kept && looked_at != 0 {
                let touched = query.touched.as_ref().map_or(0, |set| set.as_words()[at]);
                let free = &query.fleet.hot.free[at][class];
                unsure &= touched | !touch.fits(free);
                if plain_need && unsure & !touched != 0 {
                    let hosted = attributes.hosted.as_words()[at];
                    let none = unsure & !touched & hosted & touch.short_of_memory(free);
                    self.set(ReasonKind::Capacity)[at] |= none;
                    unsure &= !none;
                }
            }
            each(&[unsure], |bit| self.by_hosts_of(query, at * WORD + bit));
        }
    }

    fn by_hosts_of(&mut self, query: &Query<'_>, region: usize) {
        if query.fleet.regions[region].schedulable == 0 {
            self.refuse(ReasonKind::NoHost, region);
            return;
        }
        let lack = Lack::of(query, region);
        if lack.bandwidth {
            self.refuse(ReasonKind::Bandwidth, region);
        }
        if lack.gpu {
            self.refuse(ReasonKind::Gpu, region);
        }
        if lack.rest {
            self.refuse(ReasonKind::Capacity, region);
        }
        if !query.required.is_empty() && breaks_rules(query, region, lack.nothing()) {
            self.refuse(ReasonKind::Affinity, region);
        }
    }
}

/// A need in coarse units, as it is compared with what is free on the witnesses.
struct Touch {
    /// Rounded up; nothing when something is beyond coarse units.
    high: Option<[u16; RESOURCES]>,
    /// Of memory, rounded down.
    memory: u16,
}

impl Touch {
    fn of(query: &Query<'_>) -> Self {
        let scales = &query.fleet.hot.scales;
        let mut high = Some([0; RESOURCES]);
        for lane in 0..RESOURCES {
            let need = scales.high(lane, query.need.0[lane]);
            high = high.zip(need).map(|(mut high, need)| {
                high[lane] = need;
                high
            });
        }
        Self { high, memory: scales.low(MEMORY, query.need.0[MEMORY]) }
    }

    /// The regions whose witness surely has room.
    fn fits(&self, free: &[Lanes; RESOURCES]) -> u64 {
        let Some(high) = &self.high else { return 0 };
        let mut short = [0; WORD];
        for (free, need) in free.iter().zip(high).filter(|(_, need)| **need > 0) {
            lanes::fall_short(&mut short, free, *need);
        }
        lanes::pack(&short, |short| short == 0)
    }

    /// The regions whose witness surely has too little memory, so that no host has enough.
    fn short_of_memory(&self, free: &[Lanes; RESOURCES]) -> u64 {
        lanes::pack(&free[MEMORY], |free| free < self.memory)
    }
}

/// What no host of a region has enough of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    pub(crate) bandwidth: bool,
    pub(crate) gpu: bool,
    /// All the rest together, on one host.
    pub(crate) rest: bool,
}

impl Lack {
    /// Looks at a region's hosts. Bandwidth and GPUs are named apart when no host has enough
    /// of them alone; the rest is then judged without them.
    pub(crate) fn of(query: &Query<'_>, region: usize) -> Self {
        let hot = &query.fleet.hot;
        let most = &hot.most[region];
        let mut need = query.need;
        let bandwidth = need.0[BANDWIDTH] > most.0[BANDWIDTH];
        let gpu = need.0[GPUS] > most.0[GPUS];
        if bandwidth {
            need.0[BANDWIDTH] = 0;
        }
        if gpu {
            need.0[GPUS] = 0;
        }
        let rest = !most.fits(&need) || !some_host_fits(query, region, &need);
        Self { bandwidth, gpu, rest }
    }

    /// Whether some host has room.
    pub(crate) const fn nothing(self) -> bool {
        !(self.bandwidth || self.gpu || self.rest)
    }
}

fn some_host_fits(query: &Query<'_>, region: usize, need: &Room) -> bool {
    let zones = query.fleet.regions[region].zones.clone();
    query.fleet.zones[zones].iter().any(|zone| zone.fits(&query.fleet.rooms, need))
}

/// Whether the rules refuse a region: some rule is broken by every host with room (by every
/// host, when none has room), or each is kept somewhere and all nowhere.
fn breaks_rules(query: &Query<'_>, region: usize, roomy: bool) -> bool {
    if !query.touches(region) {
        return query.required.iter().any(|rule| !rule.holds_untouched());
    }
    let rules = query.required.len();
    let kept = |rule: usize, host: usize| keeps(query, rule, region, host);
    let mut base = base_hosts(query, region, roomy);
    if roomy && base.any(|host| (0..rules).all(|rule| kept(rule, host))) {
        return false;
    }
    let broken =
        |rule: usize| base_hosts(query, region, roomy).all(|host| !kept(rule, host));
    roomy || (0..rules).any(broken)
}

/// Whether a host keeps a required rule.
pub(crate) fn keeps(query: &Query<'_>, rule: usize, region: usize, host: usize) -> bool {
    let zone = query.fleet.hosts[host].zone;
    query.required.get(rule).is_none_or(|rule| rule.holds(region, zone, host))
}

/// The hosts that rules are judged on: those of a region with room, or when there are none,
/// all that take VMs.
pub(crate) fn base_hosts<'a>(
    query: &'a Query<'_>,
    region: usize,
    roomy: bool,
) -> impl Iterator<Item = usize> + 'a {
    let Fleet { regions, rooms, hosts, .. } = query.fleet;
    regions[region].hosts.clone().filter(move |host| {
        if roomy { rooms[*host].fits(&query.need) } else { hosts[*host].schedulable }
    })
}
