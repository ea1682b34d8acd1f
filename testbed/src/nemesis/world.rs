//! The federation that is struck: five regions behind the round trips of T1, the engine on etcd,
//! failover switched on, guests that are processes, small disks and wall clocks of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::REGIONS;
use super::fault::{Fault, Kind};
use super::load::Load;
use super::pair::{Pair, PairSeed};
use super::report::{KEPT, PairReport, Violation};
use super::seen::Seen;
use super::whole::Look;
use crate::stand_in::Journal;
use crate::wan::{Bed, Links};
use crate::{Ask, Door, Federation, HostPlan, PATIENCE, Plan, RegionPlan, workspace};

/// VMs that are protected, and others, with the regions where they begin.
const PROTECTED: [(&str, &str); 4] = [
    ("p-one", "us-east-1"),
    ("p-two", "eu-west-1"),
    ("p-three", "eu-west-1"),
    ("p-four", "us-east-1"),
];
const STANDARD: [(&str, &str); 3] =
    [("s-one", "us-east-1"), ("s-two", "eu-west-1"), ("s-three", "eu-west-1")];
/// Room for all VMs in any region.
const SLOTS: u64 = 10;
/// Room for a daemon's data over some hours of these writes.
const DISK_MIB: u32 = 48;
/// How often is looked while faults last.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Until all is whole again at the latest: a failover has 30 s, a hold of capacity lapses after
/// as long, and a machine with two cores may be at something else.
pub(super) const WHOLE_WITHIN: Duration = Duration::from_secs(180);
/// What a daemon says before it ends because its store could do nothing more.
const CANNOT_GO_ON: &str = "the daemon cannot go on";
/// Lines of a log that are told of a process that ended by itself.
const LINES_TOLD: usize = 4;

/// A federation that is struck again and again.
#[derive(Debug)]
pub struct World {
    pub(super) federation: Federation,
    bed: Arc<Bed>,
    links: Links,
    doors: BTreeMap<&'static str, Door>,
    journal: Journal,
    pub(super) load: Load,
    pub(super) seen: Seen,
}

impl World {
    /// Starts it, places its VMs, and waits until all is whole.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub async fn start(bed: &Arc<Bed>, links: &Links) -> Self {
        let region = |id: &&str| RegionPlan::new(id).host(HostPlan::of_slots(SLOTS));
        let plan = Plan::standing_in(REGIONS.iter().map(region).collect());
        let plan =
            plan.behind(links).on_etcd().on_small_disks(DISK_MIB).with_own_clocks();
        let federation = Federation::start_on(bed, plan).await;
        for region in REGIONS {
            let here = |all: &[(&str, &str)]| -> Vec<Ask> {
                let here = all.iter().filter(|(_, at)| *at == region);
                here.map(|(vm, _)| Ask::new(vm)).collect()
            };
            let protected = here(&PROTECTED).into_iter().map(Ask::protected);
            let asks: Vec<_> = protected.chain(here(&STANDARD)).collect();
            if !asks.is_empty() {
                federation.place_in(region, &asks).await;
            }
        }
        let world = Self {
            bed: Arc::clone(bed),
            links: links.clone(),
            doors: REGIONS.iter().map(|it| (*it, federation.at(it))).collect(),
            journal: Journal::of(&federation.guests_folder()),
            load: Load::start(&federation),
            seen: Seen::start(&federation),
            federation,
        };
        let begun = Instant::now();
        loop {
            let look = world.look().await;
            if matches!(look, Look::Whole) {
                return world;
            }
            assert!(begun.elapsed() < PATIENCE, "with nothing struck: {look:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) fn doors(&self) -> impl Iterator<Item = (&'static str, &Door)> {
        self.doors.iter().map(|(region, door)| (*region, door))
    }

    /// The names of all VMs.
    pub(super) fn vms(&self) -> impl Iterator<Item = &'static str> {
        PROTECTED.iter().chain(&STANDARD).map(|(vm, _)| *vm)
    }

    /// Strikes, holds, heals, waits until all is whole again, and tells.
    pub async fn play(&mut self, pair: &Pair) -> PairReport {
        let before = self.owners().await;
        let protected = before.iter().filter(|(vm, _)| is_protected(vm));
        let at = protected.map(|(vm, region)| (vm.clone(), region.clone())).collect();
        let (first, second) = pair.faults(&at);
        let mut report = PairReport {
            pair: pair.clone(),
            faults: (first.to_string(), second.to_string()),
            happened: Vec::new(),
            whole_after: None,
            waited_for: None,
            violations: Vec::new(),
            kept: None,
        };
        self.journal.look();
        let processes: BTreeMap<_, _> =
            self.vms().map(|vm| (vm, self.journal.began(vm))).collect();
        let written = self.load.acknowledged();
        let faults = [&first, &second];

        first.strike(&self.bed, &mut self.federation, &self.links);
        self.watch(pair.gap, &faults, &mut report).await;
        second.strike(&self.bed, &mut self.federation, &self.links);
        self.watch(pair.hold, &faults, &mut report).await;
        // What was killed may not start on a full disk, and need not.
        let killed_last = first.kind == Kind::Kill;
        let (one, other) =
            if killed_last { (&second, &first) } else { (&first, &second) };
        one.heal(&self.bed, &mut self.federation, &self.links);
        self.watch(pair.heal_gap, &faults, &mut report).await;
        other.heal(&self.bed, &mut self.federation, &self.links);

        self.becomes_whole(&faults, &mut report).await;
        self.note_guests(&before, &processes, &mut report).await;
        let more = self.load.acknowledged() - written;
        report.happened.push(format!("{more} writes acknowledged"));
        report
    }

    /// Looks on for a while. Stops early when a promise was broken: what is healed late only
    /// hides it.
    async fn watch(
        &mut self,
        span: Duration,
        faults: &[&Fault],
        report: &mut PairReport,
    ) {
        let until = Instant::now() + span;
        loop {
            self.judge(faults, report);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !report.violations.is_empty() {
                return;
            }
            tokio::time::sleep(left.min(LOOK_EVERY)).await;
        }
    }

    /// What must be true at every moment.
    fn judge(&mut self, faults: &[&Fault], report: &mut PairReport) {
        self.journal.look();
        let mut broken: Vec<Violation> = Vec::new();
        for line in self.journal.twice() {
            let vm = line.split(' ').nth(1).unwrap_or_default();
            let all = self.journal.lines_of(vm).join("\n    ");
            let found = format!("{line}; all of it:\n    {all}");
            broken.push(Violation::new("no VM runs twice at once", found));
        }
        for (vm, _) in STANDARD {
            let processes = self.journal.began(vm);
            if processes != 1 {
                let found = format!("{vm} has had {processes} processes");
                broken.push(Violation::new("what is not protected runs on", found));
            }
        }
        broken.extend(self.seen.back());
        broken.extend(self.load.wrong());
        for name in self.federation.process_names() {
            let process = self.federation.process(&name);
            if !process.has_ended() {
                continue;
            }
            let log = process.log();
            if had_no_room(faults, &name) && log.contains(CANNOT_GO_ON) {
                let told = format!("{name} ended on its full disk");
                if !report.happened.contains(&told) {
                    report.happened.push(told);
                }
                continue;
            }
            let lines: Vec<_> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(LINES_TOLD)..].join("\n    ");
            let found = format!("{name} ended by itself:\n    {last}");
            broken.push(Violation::new("no process ends by itself", found));
        }
        for violation in broken {
            if !report.violations.contains(&violation) {
                report.violations.push(violation);
            }
        }
    }

    /// It comes back when there is room.
    fn start_what_a_full_disk_ended(&mut self, report: &mut PairReport) {
        for name in self.federation.process_names() {
            let process = self.federation.process(&name);
            let ended_so = format!("{name} ended on its full disk");
            if process.has_ended() && report.happened.contains(&ended_so) {
                process.forget_ended();
                process.start();
            }
        }
    }

    async fn becomes_whole(&mut self, faults: &[&Fault], report: &mut PairReport) {
        let healed = Instant::now();
        let mut waits = Waits::default();
        loop {
            self.judge(faults, report);
            if !report.violations.is_empty() {
                return;
            }
            self.start_what_a_full_disk_ended(report);
            match self.look().await {
                Look::Whole => {
                    report.whole_after = Some(healed.elapsed());
                    report.waited_for = waits.longest();
                    return;
                }
                Look::Broken(violation) => report.violations.push(violation),
                Look::NotYet(why) if healed.elapsed() > WHOLE_WITHIN => {
                    let found = format!("after {WHOLE_WITHIN:?}: {why}");
                    let promise = "all is whole again";
                    report.violations.push(Violation::new(promise, found));
                }
                Look::NotYet(why) => {
                    waits.add(why, healed.elapsed());
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    /// With nothing struck any more, every region must become healthy for every other: what
    /// failed is in its health for a minute.
    pub(super) async fn stays_ill(&self) -> Option<Violation> {
        let begun = Instant::now();
        loop {
            let why = self.ill().await?;
            if begun.elapsed() > WHOLE_WITHIN {
                let found = format!("after {WHOLE_WITHIN:?}: {why}");
                return Some(Violation::new("every region is healthy again", found));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn ill(&self) -> Option<String> {
        for (region, door) in self.doors() {
            if let Err(why) = self.federation.all_healthy_at(door).await {
                return Some(format!("{region}: {why}"));
            }
        }
        None
    }

    /// Tells who was taken over by whom, and whose process is another.
    async fn note_guests(
        &mut self,
        before: &BTreeMap<String, String>,
        processes: &BTreeMap<&str, u32>,
        report: &mut PairReport,
    ) {
        self.journal.look();
        let after = self.owners().await;
        for (vm, region) in before {
            let now = after.get(vm).map_or("?", String::as_str);
            let more =
                self.journal.began(vm) - processes.get(vm.as_str()).copied().unwrap_or(0);
            if now != region {
                report.happened.push(format!("{vm} went to {now}"));
            } else if more > 0 {
                report.happened.push(format!("{vm} was started again"));
            }
        }
    }

    /// Who owns the VMs, as the first region that answers tells.
    async fn owners(&self) -> BTreeMap<String, String> {
        for door in self.doors.values() {
            if let Ok(list) = door.vms().await {
                let all = list.items.iter();
                return all
                    .map(|it| (it.id.to_string(), it.region.to_string()))
                    .collect();
            }
        }
        BTreeMap::new()
    }

    /// Copies logs, journal and what was found to a folder that stays.
    pub(super) fn keep_files(
        &self,
        seed: PairSeed,
        (at, told): (&str, &str),
    ) -> Option<PathBuf> {
        let name = format!("{}-{}-{at}", seed.seed, seed.round);
        let kept = workspace().join(KEPT).join(name);
        fs::create_dir_all(&kept).ok()?;
        copy_files(self.federation.folder(), &kept);
        copy_files(&self.federation.guests_folder(), &kept);
        fs::write(kept.join("report"), told).ok()?;
        Some(kept)
    }

    /// Ends it and checks that nothing is left.
    pub async fn end(self) {
        self.federation.end();
    }
}

/// What was waited for, and how long, until now.
#[derive(Debug, Default)]
struct Waits {
    /// By the words without their numbers, with the last such text.
    sums: BTreeMap<String, (Duration, String)>,
    last: Duration,
}

impl Waits {
    fn add(&mut self, why: String, now: Duration) {
        let words = why.chars().filter(|it| !it.is_ascii_digit()).collect();
        let (sum, text) = self.sums.entry(words).or_default();
        *sum += now.saturating_sub(self.last);
        *text = why;
        self.last = now;
    }

    fn longest(self) -> Option<(Duration, String)> {
        self.sums.into_values().max_by_key(|(sum, _)| *sum)
    }
}

fn is_protected(vm: &str) -> bool {
    PROTECTED.iter().any(|(it, _)| *it == vm)
}

fn had_no_room(faults: &[&Fault], name: &str) -> bool {
    let mut full = faults.iter().filter(|fault| fault.kind == Kind::Disk);
    full.any(|fault| fault.process().as_deref() == Some(name))
}

/// The files of a folder, not those below it.
fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        if entry.path().is_file() {
            // What cannot be kept is not there for the reader.
            drop(fs::copy(entry.path(), to.join(entry.file_name())));
        }
    }
}
