//! A region is lost on purpose, with what ran in it, and what becomes of its VMs is watched
//! from another region (item 8 of moves and failover; RELIABILITY R1, F1).

pub mod report;

use std::collections::BTreeMap;
use std::time::Duration;

use dwcp_api::NoParams;
use dwcp_api::failover::ListFailovers;
use dwcp_api::public::{EnableRegion, RegionParams, SetEnabled, VmList};
use dwcp_controller::failover::Log;
use dwcp_controller::liveness::RegionState;
use dwcp_types::{OnRegionLoss, RegionId, VmPhase};
use tokio::time::Instant;

use crate::wan::Bed;
use crate::{Ask, Door, Federation, PATIENCE, until};

/// How often is looked; the error of every time that is told.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a region is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Its power goes: daemon, member of the engine, agents, guests.
    Killed,
    /// Its lines are cut: all of it goes on running, and must end its protected guests itself.
    CutOff,
}

/// What became of one VM; times since the loss.
#[derive(Clone, Debug, Default)]
pub struct VmSeen {
    /// Its guest in the lost region was gone.
    pub old_gone: Option<Duration>,
    /// Another region owned it.
    pub owned: Option<Duration>,
    /// Its guest there said by itself that it was up.
    pub ready: Option<Duration>,
    /// The last number that it was told to be on its disk: before the loss where its replica
    /// follows later, else at all.
    pub acknowledged: Option<u64>,
    /// The number that was on its disk when it started elsewhere.
    pub found: Option<u64>,
}

impl VmSeen {
    /// Writes that it was told of and that are lost; a guest writes one number a second.
    #[must_use]
    pub fn lost_writes(&self) -> u64 {
        self.acknowledged.unwrap_or(0).saturating_sub(self.found.unwrap_or(0))
    }
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How long all guests took to be up when they were placed: what this machine needs with
    /// nothing lost.
    pub placed_in: Duration,
    /// When it was said to be dead.
    pub dead: Option<Duration>,
    /// Every VM.
    pub vms: BTreeMap<String, VmSeen>,
    /// The log of its failover.
    pub log: Option<Log>,
}

/// A drill: which region is lost how, and from where that is watched.
#[derive(Clone, Debug)]
pub struct Drill<'a> {
    /// What its VMs start from elsewhere. A replica is in sync, or was whole once, when the region is
    /// lost.
    pub survives: OnRegionLoss,
    /// How old a replica that follows later may become, in seconds; the usual when absent.
    pub replica_max_age_s: Option<u32>,
    /// The region that is lost.
    pub region: &'a str,
    /// How.
    pub loss: Loss,
    /// Whose daemon is asked what it sees.
    pub observer: &'a str,
}

/// How much longer than [`PATIENCE`] each guest may take: they start at the same time, and a
/// machine without KVM needs seconds of a core for each.
const PATIENCE_EACH: Duration = Duration::from_secs(10);

/// Where a VM's guest was, and by which process.
type Before = BTreeMap<String, u32>;

impl Drill<'_> {
    /// Places protected VMs in the region, real guests that could run in any other, loses it,
    /// and watches until all of them are up elsewhere.
    ///
    /// # Panics
    ///
    /// When they are not up within [`PATIENCE`], or two guests of one VM were seen to overlap.
    pub async fn run(
        &self,
        federation: &mut Federation,
        bed: &Bed,
        vms: &[String],
    ) -> Seen {
        let began = Instant::now();
        let asks: Vec<_> = vms.iter().map(|vm| self.ask(vm)).collect();
        federation.place_in(self.region, &asks).await;
        let door = federation.at(self.observer);
        for vm in vms {
            until(&format!("{vm} is up"), || async { is_up(&door, vm).await }).await;
        }
        let placed_in = began.elapsed();
        if self.survives.is_replica() {
            for vm in vms {
                until(&format!("the replica of {vm} is whole"), || async {
                    has_replica(&door, vm).await
                })
                .await;
            }
        }
        let before = self.guests(&door, vms).await;
        federation.sees(self.observer, self.region, RegionState::Alive).await;
        let written = |vm: &String| federation.last_tick(self.region, vm);
        let by_then: Vec<_> = vms.iter().map(written).collect();
        match self.loss {
            Loss::Killed => federation.lose(self.region),
            Loss::CutOff => bed.isolate(self.region),
        }
        let mut seen = self.watch(federation, &door, &before).await;
        seen.placed_in = placed_in;
        // What follows later is as old as it is when the region is lost; what a guest behind
        // lines that are cut goes on to write, until its lease is over, is lost with its region.
        let follows = self.survives.replica_age_s().is_some();
        for (vm, by_then) in vms.iter().zip(by_then) {
            let at_last = || federation.last_tick(self.region, vm);
            let it = seen.vms.entry(vm.clone()).or_default();
            it.acknowledged = if follows { by_then } else { at_last() };
        }
        seen
    }

    /// What a VM of it is placed with.
    #[must_use]
    pub fn ask(&self, vm: &str) -> Ask {
        let ask = Ask::new(vm);
        match self.replica_max_age_s {
            Some(age) => ask.followed(self.survives, age),
            None => ask.survives(self.survives),
        }
    }

    async fn guests(&self, door: &Door, vms: &[String]) -> Before {
        let mut before = Before::new();
        for vm in vms {
            let detail = door.vm(vm).await.expect("a VM that is up is known");
            assert_eq!(detail.item.region.as_str(), self.region);
            let pid = detail.observed.and_then(|seen| seen.pid);
            before.insert(vm.clone(), pid.expect("a real guest has a process"));
        }
        before
    }

    async fn is(&self, door: &Door, wanted: RegionState) -> Result<(), String> {
        let seen = door.liveness(self.region).await?;
        if seen.verdict.state == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
    }

    async fn watch(&self, federation: &Federation, door: &Door, before: &Before) -> Seen {
        let lost = Instant::now();
        let vms = before.keys().map(|vm| (vm.clone(), VmSeen::default())).collect();
        let placed_in = Duration::ZERO;
        let mut seen = Seen { placed_in, dead: None, vms, log: None };
        let count = u32::try_from(before.len()).unwrap_or(u32::MAX);
        let patience = PATIENCE + PATIENCE_EACH.saturating_mul(count);
        while seen.vms.values().any(|vm| vm.ready.is_none()) {
            if lost.elapsed() >= patience {
                self.give_up(door, &seen).await;
            }
            if seen.dead.is_none() && self.is(door, RegionState::Dead).await.is_ok() {
                seen.dead = Some(lost.elapsed());
            }
            // First who owns what, then who lives: one that is owned elsewhere was gone before.
            let list = door.vms().await.ok();
            let living = federation.living();
            let gone = lost.elapsed();
            for (vm, pid) in before {
                let it = seen.vms.entry(vm.clone()).or_default();
                if it.old_gone.is_none() && !living.contains(pid) {
                    it.old_gone = Some(gone);
                }
            }
            if let Some(list) = list {
                self.look_elsewhere(federation, (&list, lost), &mut seen);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        seen.log = federation.newest_failover(self.observer).await;
        seen
    }

    /// Says which guests are not up, and what they say instead.
    async fn give_up(&self, door: &Door, seen: &Seen) -> ! {
        let mut said = String::new();
        for (vm, _) in seen.vms.iter().filter(|(_, it)| it.ready.is_none()) {
            let console = is_up(door, vm).await.unwrap_or_else(|instead| instead);
            let phase = door.vm(vm).await.map(|detail| detail.item.phase);
            said += &format!("--- {vm}, {phase:?}\n{console}\n");
        }
        panic!("not all VMs are up: {seen:?}\n{said}");
    }

    /// Looks who owns the VMs by now, and whether their guests there are up: at their consoles
    /// themselves, because to ask for twenty of them takes from their hosts what they start by.
    fn look_elsewhere(
        &self,
        federation: &Federation,
        (list, lost): (&VmList, Instant),
        seen: &mut Seen,
    ) {
        for item in list.items.iter().filter(|it| it.region.as_str() != self.region) {
            let Some(it) = seen.vms.get_mut(item.id.as_str()) else { continue };
            // By the list, which is as old as the look at who lives.
            it.owned.get_or_insert_with(|| lost.elapsed());
            assert!(it.old_gone.is_some(), "{} is owned twice: {it:?}", item.id);
            if it.ready.is_some() || item.phase != VmPhase::Running {
                continue;
            }
            let said = federation.said(item.region.as_str(), item.id.as_str());
            if let Some(console) =
                said.iter().find(|text| says_up(text, item.id.as_str()))
            {
                it.ready = Some(lost.elapsed());
                it.found = last_after(console, "disk had tick ");
            }
        }
    }
}

/// Whether a guest said by itself that it is up.
async fn is_up(door: &Door, vm: &str) -> Result<String, String> {
    let console = door.console(vm).await.map_err(|error| error.to_string())?;
    if says_up(&console.text, vm) { Ok(console.text) } else { Err(console.text) }
}

fn says_up(console: &str, vm: &str) -> bool {
    console.contains(&format!("READY {vm} "))
}

/// Whether a VM's replica is in sync, or was whole once.
async fn has_replica(door: &Door, vm: &str) -> Result<(), String> {
    let detail = door.vm(vm).await.map_err(|error| error.to_string())?;
    let has = detail
        .replica
        .as_ref()
        .is_some_and(|replica| replica.is_in_sync() || replica.whole.is_some());
    if has { Ok(()) } else { Err(format!("{:?}", detail.replica)) }
}

/// The last number that follows this word at the beginning of a line.
#[must_use]
pub fn last_after(text: &str, word: &str) -> Option<u64> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix(word));
    lines.filter_map(|rest| rest.trim().parse().ok()).next_back()
}

impl Federation {
    /// Places VMs that may go anywhere in this region: all others take none meanwhile.
    ///
    /// # Panics
    ///
    /// When they do not come to run there.
    pub async fn place_in(&self, region: &str, asks: &[Ask]) {
        self.place_by(region, region, asks).await;
        for ask in asks {
            let name = ask.body().request.id.to_string();
            self.in_phase(region, &name, VmPhase::Running).await;
        }
    }

    /// The same by another region's daemon, without waiting until they run.
    ///
    /// # Panics
    ///
    /// When they are not placed there.
    pub async fn place_by(&self, by: &str, region: &str, asks: &[Ask]) {
        let door = self.at(by);
        self.enable_others(&door, region, false).await;
        for ask in asks {
            // Where it would go until all have heard that the others take none; then there.
            until("it would be placed where it is to be", || async {
                let rehearsal = ask.clone().dry_run();
                let reply = door.place(&rehearsal).await;
                let reply = reply.map_err(|error| error.to_string())?;
                let chosen = reply.explanation.decision.chosen;
                let at = chosen.map(|at| at.region.to_string()).unwrap_or_default();
                if at == region { Ok(()) } else { Err(at) }
            })
            .await;
            let placed = until("it is placed", || door.place(ask)).await;
            assert_eq!(placed.vm.expect("it is no dry run").region.as_str(), region);
        }
        self.enable_others(&door, region, true).await;
    }

    /// The last number that a guest of a region printed: it prints each when it was told that
    /// the number is on its disk.
    #[must_use]
    pub fn last_tick(&self, region: &str, vm: &str) -> Option<u64> {
        let said = self.said(region, vm);
        let ticks = said.iter().filter_map(|text| last_after(text, "tick "));
        ticks.max()
    }

    /// What a VM's guests said at the hosts of a region: each console that is kept there.
    #[must_use]
    pub fn said(&self, region: &str, vm: &str) -> Vec<String> {
        let hosts = self.hosts_of(region).into_iter();
        let files = hosts
            .map(|host| self.data(&host).join("guests").join(vm).join("console.log"));
        let texts = files.filter_map(|path| std::fs::read(path).ok());
        texts.map(|text| String::from_utf8_lossy(&text).into_owned()).collect()
    }

    /// The log of the newest failover, as one region's daemon tells it.
    pub async fn newest_failover(&self, at: &str) -> Option<Log> {
        let logs = self.at(at).call::<ListFailovers>(&NoParams {}, &()).await;
        logs.ok()?.items.into_iter().next()
    }

    async fn enable_others(&self, door: &Door, region: &str, enabled: bool) {
        for other in self.region_ids().filter(|other| *other != region) {
            let params = RegionParams { region: RegionId::new(other).expect("a name") };
            until("a region is enabled or disabled", || async {
                door.call::<EnableRegion>(&params, &SetEnabled { enabled }).await
            })
            .await;
        }
    }
}
