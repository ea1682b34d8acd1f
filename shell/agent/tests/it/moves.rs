//! A guest that moves between two agents: with real QEMU over TLS, and, at every step at which
//! an agent can die, with simulated guests. The region is played by [`Pair::drive`], in the
//! order that the model in `dwcp_vm` proves.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use dwcp_api::host::{MoveOrder, MoveReport, MoveStage, ReceiveOrder, SendOrder};
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::tls::DevelopmentCa;
use dwcp_types::{Epoch, MigrationId, Power, VmPhase};

use crate::rig::{Guests, Host, Program, instruction, missing, shape, until};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Region {
    Moving,
    Abandoning,
    Committed,
    TakenBack,
}

struct Pair {
    hosts: [Host; 2],
    source: Program,
    target: Program,
    region: Region,
    /// Of the owner when the move begins.
    epoch: u64,
    /// What memory may take of the line, in bytes a second.
    bandwidth: u64,
    /// Where the guest is seen running; both at once never.
    stages: BTreeSet<String>,
}

fn id() -> MigrationId {
    MigrationId::new("move-1").unwrap()
}

impl Pair {
    async fn start(
        root: &Path,
        driver: &'static str,
        (at_source, at_target): (Option<&str>, Option<&str>),
    ) -> Self {
        let now = SystemClock::new().now();
        let ca = DevelopmentCa::create(&root.join("ca"), now).unwrap();
        let hosts = ["host-a", "host-b"].map(|name| Host::new(root, (&ca, name), driver));
        let source = hosts[0].start(at_source).await;
        let target = hosts[1].start(at_target).await;
        let pair = Self {
            hosts,
            source,
            target,
            region: Region::Moving,
            epoch: 1,
            bandwidth: 200 << 20,
            stages: BTreeSet::new(),
        };
        pair.source.put("web", &instruction(1, 1, Power::Running)).await;
        pair.source.prints("web", "READY web", 1).await;
        pair
    }

    async fn revive(&mut self) {
        if self.source.is_dead() {
            self.source = self.hosts[0].start(None).await;
        }
        if self.target.is_dead() {
            self.target = self.hosts[1].start(None).await;
        }
    }

    async fn look(&mut self) -> (MoveReport, MoveReport) {
        loop {
            self.revive().await;
            let source = self.source.moving("web").await;
            let target = self.target.moving("web").await;
            if let (Some(source), Some(target)) = (source, target) {
                self.stages.insert(format!("source {:?}", source.stage));
                self.stages.insert(format!("target {:?}", target.stage));
                return (source, target);
            }
        }
    }

    async fn receive(&self) -> Option<u16> {
        let from = self.source.machine("web").await;
        let order = ReceiveOrder {
            id: id(),
            epoch: Epoch::new(self.epoch + 1),
            shape: shape(),
            image: None,
            address: None,
            machine: from.machine,
            from: from.subject,
            cold: false,
        };
        self.target.order("web", &MoveOrder::Receive(order)).await
    }

    async fn send(&self, target: &MoveReport) -> Option<u16> {
        let to = self.target.machine("web").await;
        let order = SendOrder {
            id: id(),
            epoch: Epoch::new(self.epoch),
            address: to.host_address,
            disk_port: target.disk_port?,
            memory_port: target.memory_port?,
            name: to.name,
            bandwidth: self.bandwidth,
            downtime_ms: 300,
            cold: false,
        };
        self.source.order("web", &MoveOrder::Send(order)).await
    }

    /// One step of the region; says whether all is done. The order of the region, whatever
    /// dies between.
    async fn step(&mut self) -> bool {
        let (source, target) = self.look().await;
        let stages = (source.stage, target.stage);
        match self.region {
            Region::Moving => match stages {
                (MoveStage::Failed, _) | (_, MoveStage::Failed) => {
                    self.region = Region::Abandoning;
                }
                (MoveStage::Ready, _) => self.region = Region::Committed,
                (MoveStage::None, MoveStage::None) => drop(self.receive().await),
                (MoveStage::None, MoveStage::Listening) => drop(self.send(&target).await),
                _ => {}
            },
            Region::Abandoning => {
                if stages == (MoveStage::None, MoveStage::None) {
                    return true;
                }
                let order = MoveOrder::Abandon { id: id() };
                self.source.order("web", &order).await;
                self.target.order("web", &order).await;
            }
            Region::Committed => {
                let owned = instruction(self.epoch + 1, 1, Power::Running);
                self.target.try_put("web", &owned).await;
                if target.stage == MoveStage::Failed {
                    self.region = Region::TakenBack;
                    return false;
                }
                let arrived = target.stage == MoveStage::None
                    && target.epoch == Some(Epoch::new(self.epoch + 1));
                if arrived {
                    let gone = instruction(self.epoch + 1, 0, Power::Deleted);
                    self.source.try_put("web", &gone).await;
                    let left = self.source.report().await;
                    return left.is_some_and(|report| report.changed.is_empty());
                }
            }
            Region::TakenBack => {
                let back = self.epoch + 2;
                self.source.try_put("web", &instruction(back, 1, Power::Running)).await;
                self.target.try_put("web", &instruction(back, 0, Power::Deleted)).await;
                return stages == (MoveStage::None, MoveStage::None);
            }
        }
        false
    }

    async fn drive(&mut self) {
        for _ in 0..20_000 {
            if self.step().await {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the move never ends: {:?} {:?}", self.region, self.stages);
    }

    /// Exactly one guest runs, at the side that owns it, and the other side holds nothing.
    async fn is_whole(&mut self) -> bool {
        let at_target = self.region == Region::Committed;
        let (here, there) = if at_target {
            (&self.target, &self.hosts[0])
        } else {
            (&self.source, &self.hosts[1])
        };
        here.sees("web", "it runs", |seen| seen.phase == VmPhase::Running).await;
        until("the other side is clean", async || {
            (!there.data.join("guests/web").exists()).then_some(())
        })
        .await;
        at_target
    }
}

/// Every point at which a source's and a target's agent can die, and where the guest is then.
#[tokio::test]
async fn an_agent_that_dies_at_any_step_leaves_exactly_one_guest() {
    let source = [
        "move-before-mirror",
        "move-after-mirror",
        "move-before-send",
        "move-after-send",
        "move-before-end-mirror",
        "move-after-end-mirror",
        "move-after-switch",
    ];
    let target = [
        "move-before-wait",
        "move-after-wait",
        "move-after-listen",
        "move-before-cont",
        "move-after-cont",
        "move-before-settle",
    ];
    let at_source = source.map(|point| (Some(point), None));
    let at_target = target.map(|point| (None, Some(point)));
    let (mut moved, mut stayed) = (0, 0);
    for points in at_source.into_iter().chain(at_target).chain([(None, None)]) {
        let root = tempfile::tempdir().unwrap();
        let mut pair = Pair::start(root.path(), "simulated", points).await;
        pair.drive().await;
        if pair.is_whole().await {
            moved += 1;
        } else {
            stayed += 1;
        }
        println!("{points:?}: {:?} {:?}", pair.region, pair.stages);
    }
    assert!(moved >= 6 && stayed >= 4, "{moved} {stayed}");
}

/// The number behind the last line that begins so.
fn last(console: &str, begins: &str) -> Option<u64> {
    let lines = console.lines().rev();
    let mut numbers = lines.filter_map(|line| line.trim().strip_prefix(begins));
    numbers.find_map(|number| number.trim().parse().ok())
}

async fn ticks_beyond(program: &Program, tick: u64) -> String {
    until("it goes on counting", async || {
        let console = program.console("web").await?;
        (last(&console, "tick ")? > tick).then_some(console)
    })
    .await
}

#[tokio::test]
async fn a_real_guest_moves_over_tls_with_its_memory_and_its_disk() {
    if let Some(reason) = missing() {
        return println!("{reason}");
    }
    let root = tempfile::tempdir().unwrap();
    let _guests = ["host-a", "host-b"].map(|host| Guests(root.path().join(host)));
    let mut pair = Pair::start(root.path(), "qemu", (None, None)).await;
    let console = ticks_beyond(&pair.source, 1).await;
    let before = last(&console, "tick ").unwrap();
    pair.drive().await;
    assert!(pair.is_whole().await, "{:?}", pair.stages);
    let console = ticks_beyond(&pair.target, before + 1).await;
    assert!(!console.contains("READY"), "it did not boot again: {console}");
    let first = console.lines().find_map(|line| line.trim().strip_prefix("tick "));
    let first: u64 = first.unwrap().parse().unwrap();
    assert!(first > before, "memory went back: {first} after {before}");
    let mut ticks = console.lines().filter_map(|line| last(line, "tick "));
    assert!(ticks.all(|tick| tick >= first), "it counts on without a gap: {console}");

    // Ended and started again from the disk that was mirrored.
    let kept = last(&console, "tick ").unwrap();
    let running = pair.target.sees("web", "it runs", |seen| seen.pid.is_some()).await;
    let pid = running.pid.unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    pair.target.prints("web", "READY web", 1).await;
    let console = pair.target.console("web").await.unwrap();
    let had = last(&console, "disk had tick ").unwrap();
    assert!(had >= kept, "the disk has tick {had}, the console {kept}");
}

/// Memory flows; an emulated guest, which is halted meanwhile, is promised already.
fn is_sending(stage: MoveStage) -> bool {
    matches!(stage, MoveStage::Sending | MoveStage::Ready)
}

/// An emulated guest does not run while its memory is sent: three seconds of it here, of which
/// it would tell.
async fn rests_while_it_is_sent(pair: &mut Pair) {
    if pair.source.machine("web").await.machine.accelerator != "tcg" {
        return;
    }
    let before = last(&ticks_beyond(&pair.source, 0).await, "tick ").unwrap();
    loop {
        let (source, _) = pair.look().await;
        if !is_sending(source.stage) || source.memory_sent >= 24 << 20 {
            break;
        }
    }
    let after = last(&ticks_beyond(&pair.source, 0).await, "tick ").unwrap();
    assert!(after <= before + 1, "it ran on, {before} to {after}");
}

/// What may go wrong with a real guest while its memory flows.
#[derive(Clone, Copy, Debug)]
enum Cut {
    TargetProcess,
    TargetAgent,
    SourceAgent,
}

#[tokio::test]
async fn a_cut_leaves_the_source_running_and_the_target_clean_or_completes() {
    if let Some(reason) = missing() {
        return println!("{reason}");
    }
    let root = tempfile::tempdir().unwrap();
    let _guests = ["host-a", "host-b"].map(|host| Guests(root.path().join(host)));
    let mut pair = Pair::start(root.path(), "qemu", (None, None)).await;
    // So that it takes seconds until all is sent, and the cut comes before.
    pair.bandwidth = 8 << 20;
    for cut in [Cut::TargetProcess, Cut::TargetAgent, Cut::SourceAgent] {
        if pair.region == Region::TakenBack {
            pair.epoch += 2;
        }
        pair.region = Region::Moving;
        let console = ticks_beyond(&pair.source, 1).await;
        let before = last(&console, "tick ").unwrap();
        loop {
            pair.step().await;
            let (source, _) = pair.look().await;
            if is_sending(source.stage) {
                break;
            }
            assert!(pair.region == Region::Moving, "too fast: {cut:?}");
        }
        match cut {
            Cut::TargetProcess => {
                rests_while_it_is_sent(&mut pair).await;
                let file = pair.hosts[1].data.join("guests/web/qemu.pid");
                let pid = std::fs::read_to_string(file).unwrap();
                let killed = Command::new("kill").args(["-9", pid.trim()]).status();
                assert!(killed.unwrap().success());
            }
            Cut::TargetAgent => pair.target.end(),
            Cut::SourceAgent => pair.source.end(),
        }
        pair.drive().await;
        if pair.is_whole().await {
            // It completed: the last of the cuts, or there is nothing left to cut.
            ticks_beyond(&pair.target, before).await;
            return;
        }
        let console = ticks_beyond(&pair.source, before).await;
        assert_eq!(console.matches("READY").count(), 1, "{cut:?}: {console}");
    }
}
