//! What a run is like, made from its seed, so that a seed and a commit say everything.
//!
//! Every class of fault is switched on or off for itself (a swarm): runs with few faults reach
//! deep states, runs with many reach odd ones.

use std::fmt;

use crate::rng::Rng;

/// A rule that is broken on purpose, to prove that an invariant sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Breakage {
    /// None: the real rules.
    #[default]
    None,
    /// An agent takes every instruction, also an older one.
    AgentForgetsOrder,
    /// What is being committed ends by time, as a held reservation does.
    CommitLapses,
    /// A region answers first and stores on its next timer, as a store without fsync does.
    AnswersBeforeStoring,
    /// A VM record is written without comparing that there is none.
    CreatesOverExisting,
    /// The use of a token is not compared.
    TokenIsNotCompared,
    /// A name that is used again starts at the first epoch.
    EpochStartsAgain,
    /// The capacity of a deleted VM is not given back.
    NeverReleases,
    /// The ledger does not ask whether a VM fits.
    SellsWhatIsTaken,
    /// A record is removed as soon as its deletion is wished, before its host says that it is
    /// gone.
    ForgetsTheRunning,
    /// A pre-empted VM gives its capacity back, and its host is not told to stop it.
    ParksTheRunning,
    /// A taker does not wait until a lease has surely lapsed.
    TakesTooSoon,
    /// A VM of a lost region gets its new owner also when that region has its lease again.
    RecoversUnfenced,
    /// A region that takes its lease again lets its hosts run what it knew before.
    GrantsFromOldList,
    /// A host counts a grant's time from when it arrived.
    GrantCountsFromArrival,
    /// Nobody ends the guests of an agent that does not run.
    NoWatchdog,
    /// A host does not ask for whom a guest that is bound to a lease runs.
    IgnoresLease,
    /// Nobody fails a dead region over.
    NeverFailsOver,
    /// A pre-empted VM that is wanted again starts whether there is room or not.
    VictimsTakeTheirRoomBack,
}

/// Whether and why regions fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Regions {
    /// They are never failed over.
    #[default]
    Apart,
    /// They die, freeze and are cut off at random, beside all other faults.
    Storm,
    /// All live; messages are late or lost, daemons starve for moments, and one is deaf: none
    /// of them may be failed over.
    Noise,
    /// One dies, with its hosts, and nothing else goes wrong: its VMs must be back in time.
    Drill,
}

/// The options of one run. Rates are in ten thousandths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The seed that they are made from.
    pub seed: u64,
    /// How many regions.
    pub regions: usize,
    /// How many hosts each has.
    pub hosts: usize,
    /// How many daemons take requests.
    pub coordinators: usize,
    /// How many clients send them; each has five names of VMs.
    pub clients: usize,
    /// CPUs of a host; few, so that capacity is short.
    pub host_cpus: u64,
    /// How long faults last, in virtual milliseconds.
    pub faults_for_ms: u64,
    /// How long the world may take to come to rest.
    pub rest_within_ms: u64,
    /// Messages that are lost.
    pub loss: u64,
    /// Messages that arrive twice.
    pub duplicates: u64,
    /// Messages that are held up for up to [`Self::held_up_ms`].
    pub held_up: u64,
    /// How long at most.
    pub held_up_ms: u64,
    /// Crashes at each step of a daemon, before and after it stores.
    pub crash: u64,
    /// Crashes of the engine's host at each message.
    pub engine_crash: u64,
    /// By how many thousandths the clock of a region runs wrong, at most.
    pub drift: u64,
    /// Whether and why regions fail.
    pub regions_fail: Regions,
    /// The rule that is broken on purpose.
    pub breakage: Breakage,
}

impl Options {
    /// The options of a seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x0D0C_0B0A);
        let mut sometimes = |rate_max: u64| match rng.chance(6_000) {
            true => rng.between(1, rate_max),
            false => 0,
        };
        let (loss, duplicates, held_up) =
            (sometimes(2_000), sometimes(2_000), sometimes(500));
        let (crash, engine_crash, drift) =
            (sometimes(200), sometimes(20), sometimes(300));
        Self {
            seed,
            regions: 2 + rng.index(3),
            hosts: 1 + rng.index(4),
            coordinators: 1 + rng.index(3),
            clients: 2 + rng.index(5),
            host_cpus: rng.between(4, 8),
            faults_for_ms: 120_000,
            rest_within_ms: 180_000,
            loss,
            duplicates,
            held_up,
            held_up_ms: rng.between(1_000, 40_000),
            crash,
            engine_crash,
            drift,
            // Half of them, because it costs as much again as all the rest.
            regions_fail: if seed % 2 == 1 { Regions::Storm } else { Regions::Apart },
            breakage: Breakage::None,
        }
    }

    /// The options of a seed in which regions die, freeze and are cut off.
    #[must_use]
    pub fn storm(seed: u64) -> Self {
        let options = Self::from_seed(seed);
        let regions = options.regions.max(3);
        Self { regions, regions_fail: Regions::Storm, ..options }
    }

    /// The options of a seed in which there is noise and no region fails.
    #[must_use]
    pub fn noise(seed: u64) -> Self {
        let options = Self::from_seed(seed);
        let mut rng = Rng::new(seed ^ 0x0123_4567);
        Self {
            regions: 3 + rng.index(3),
            hosts: 1 + rng.index(2),
            clients: 2,
            coordinators: 1,
            loss: rng.between(0, 500),
            duplicates: rng.between(0, 500),
            held_up: rng.between(0, 500),
            held_up_ms: 1_000,
            crash: 0,
            engine_crash: 0,
            faults_for_ms: 600_000,
            regions_fail: Regions::Noise,
            ..options
        }
    }

    /// The options of a seed in which one region dies and nothing else goes wrong.
    #[must_use]
    pub fn drill(seed: u64) -> Self {
        let options = Self::noise(seed);
        Self {
            loss: 10,
            duplicates: 0,
            held_up: 0,
            host_cpus: 64,
            clients: 4,
            faults_for_ms: 150_000,
            regions_fail: Regions::Drill,
            ..options
        }
    }

    /// The same with a broken rule.
    #[must_use]
    pub const fn broken(mut self, breakage: Breakage) -> Self {
        self.breakage = breakage;
        self
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |rate: u64| format!("{}.{:02}%", rate / 100, rate % 100);
        write!(
            f,
            "seed {}: {} regions x {} hosts x {} CPUs, {} coordinators, {} clients, loss {}, \
             duplicates {}, held up {} for up to {} ms, crashes {} a step, engine crashes {} a \
             message, drift {}/1000",
            self.seed,
            self.regions,
            self.hosts,
            self.host_cpus,
            self.coordinators,
            self.clients,
            percent(self.loss),
            percent(self.duplicates),
            percent(self.held_up),
            self.held_up_ms,
            percent(self.crash),
            percent(self.engine_crash),
            self.drift,
        )
    }
}
