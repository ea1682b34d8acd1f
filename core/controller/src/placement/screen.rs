//! The hard filters: for every region all the reasons that refuse it (F22).
//!
//! Filters on attributes and limits look at every region. Those on hosts, which cost more,
//! look at every region when explaining and only at those still standing when deciding; both
//! by this code, so a region stands in one exactly when it stands in the other.

use super::bits::{Bits, WORD, each, gather, has, pack, words};
use super::group::RuleView;
use super::locality::canonical;
use super::query::Query;
use super::reason::ReasonKind;
use super::room::{BANDWIDTH, GPUS, Room};

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Hosts of the regions that nothing else refuses.
    Standing,
    /// Hosts of every region.
    Everything,
}

/// Which regions are refused and why, and which stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Screen {
    words: usize,
    /// One set of regions for each kind, one after the other.
    refused: Vec<u64>,
    standing: Vec<u64>,
}

impl Screen {
    /// Runs every filter.
    pub(crate) fn of(query: &Query<'_>, depth: Depth) -> Self {
        let words = words(query.fleet.len());
        let mut screen = Self {
            words,
            refused: vec![0; words * ReasonKind::ALL.len()],
            standing: query.fleet.attributes.all.as_words().to_vec(),
        };
        screen.by_attribute(query);
        screen.by_limit(query);
        screen.settle(0, ReasonKind::Affinity as usize);
        screen.by_host(query, depth);
        screen.settle(ReasonKind::Affinity as usize, ReasonKind::ALL.len());
        screen
    }

    /// The regions that nothing refuses.
    pub(crate) fn standing(&self) -> &[u64] {
        &self.standing
    }

    /// The regions that a kind of reason refuses.
    pub(crate) fn refused(&self, kind: ReasonKind) -> &[u64] {
        let first = kind as usize * self.words;
        self.refused.get(first..first + self.words).unwrap_or_default()
    }

    /// The kinds of reasons that refuse a region.
    pub(crate) fn kinds(&self, region: usize) -> impl Iterator<Item = ReasonKind> + '_ {
        let kinds = ReasonKind::ALL.iter().copied();
        kinds.filter(move |kind| has(self.refused(*kind), region))
    }

    fn set(&mut self, kind: ReasonKind) -> &mut [u64] {
        let first = kind as usize * self.words;
        &mut self.refused[first..first + self.words]
    }

    fn refuse(&mut self, kind: ReasonKind, region: usize) {
        if let Some(word) = self.set(kind).get_mut(region / 64) {
            *word |= 1 << (region % 64);
        }
    }

    /// Takes what these kinds refuse out of what stands.
    fn settle(&mut self, first: usize, last: usize) {
        for kind in first..last {
            let refused = &self.refused[kind * self.words..(kind + 1) * self.words];
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
        if let Some(limit) = query.latency_limit() {
            query.latency.unknown(self.set(ReasonKind::LatencyUnknown));
            query.latency.above(limit, self.set(ReasonKind::Latency));
        }
        if let Some(limit) = limits.min_health_score {
            let health = &query.fleet.hot.health;
            pack(self.set(ReasonKind::MinHealth), regions, |region| {
                health[region] < limit
            });
        }
        if let Some(limit) = limits.cost_limit {
            query.costs.above(limit.get(), self.set(ReasonKind::Cost));
        }
    }

    fn by_host(&mut self, query: &Query<'_>, depth: Depth) {
        let looked_at = match depth {
            Depth::Standing => self.standing.clone(),
            Depth::Everything => query.fleet.attributes.all.as_words().to_vec(),
        };
        let mut unsure = looked_at;
        if query.required.iter().all(RuleView::holds_untouched) {
            let touched = query.touched.as_ref().map_or(&[][..], Bits::as_words);
            for (at, unsure) in unsure.iter_mut().enumerate() {
                let plain = !touched.get(at).copied().unwrap_or(0);
                *unsure &= !(plain & ample(query, at));
            }
        }
        each(&unsure, |region| self.by_hosts_of(query, region));
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
        if !query.required.is_empty() && breaks_rules(query, region) {
            self.refuse(ReasonKind::Affinity, region);
        }
    }
}

/// The regions of one word whose roomiest host has room.
fn ample(query: &Query<'_>, word: usize) -> u64 {
    // The sign is set where something falls short.
    let mut short = [0; WORD];
    for (lane, need) in query.fleet.hot.ample_lanes.iter().zip(query.need.0) {
        if need == 0 {
            continue;
        }
        let free = lane.iter().skip(word * WORD);
        for (short, free) in short.iter_mut().zip(free) {
            *short |= free - need.cast_signed();
        }
    }
    gather(&short.map(|short: i32| u8::from(short >= 0)))
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
        let rest = !hot.ample[region].fits(&need)
            && (!most.fits(&need) || !some_host_fits(query, region, &need));
        Self { bandwidth, gpu, rest }
    }
}

fn some_host_fits(query: &Query<'_>, region: usize, need: &Room) -> bool {
    let hosts = query.fleet.regions[region].hosts.clone();
    query.fleet.rooms[hosts].iter().any(|room| room.fits(need))
}

/// Whether the rules refuse a region: some rule is broken by every host with room (by every
/// host, when none has room), or each is kept somewhere and all nowhere.
fn breaks_rules(query: &Query<'_>, region: usize) -> bool {
    if !query.touches(region) {
        return query.required.iter().any(|rule| !rule.holds_untouched());
    }
    let mut hosts = query.fleet.regions[region].hosts.clone();
    let good = |host: usize| {
        query.fleet.rooms[host].fits(&query.need)
            && (0..query.required.len()).all(|rule| keeps(query, rule, region, host))
    };
    if hosts.any(good) {
        return false;
    }
    let (base, roomy) = base_hosts(query, region);
    let kept = |rule: usize, host: usize| keeps(query, rule, region, host);
    let rules = query.required.len();
    let one = (0..rules).any(|rule| base.iter().all(|host| !kept(rule, *host)));
    one || roomy
}

/// Whether a host keeps a required rule.
pub(crate) fn keeps(query: &Query<'_>, rule: usize, region: usize, host: usize) -> bool {
    let zone = query.fleet.hosts[host].zone;
    query.required.get(rule).is_none_or(|rule| rule.holds(region, zone, host))
}

/// The hosts of a region with room, and true; or when there are none, all hosts that take
/// VMs, and false.
pub(crate) fn base_hosts(query: &Query<'_>, region: usize) -> (Vec<usize>, bool) {
    let hosts = query.fleet.regions[region].hosts.clone();
    let roomy = hosts.clone().filter(|host| query.fleet.rooms[*host].fits(&query.need));
    let roomy: Vec<usize> = roomy.collect();
    if !roomy.is_empty() {
        return (roomy, true);
    }
    (hosts.filter(|host| query.fleet.hosts[*host].schedulable).collect(), false)
}
