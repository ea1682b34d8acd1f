//! Copies that follow later, with real disks: whatever round is there, the host that keeps it
//! has the disk as it was at one moment, whoever dies in between. The test writes to the disk of
//! a guest whose CPUs are halted, and reads what is kept with a reader of the format of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dwcp_agent::Config;
use dwcp_agent::copier::Copier;
use dwcp_agent::hypervisor::{Hypervisor, HypervisorError};
use dwcp_agent::mover::Mover;
use dwcp_agent::qemu::Qemu;
use dwcp_agent::qemu::qmp::{COMMAND_LIMIT, Client};
use dwcp_api::host::StandbyBody;
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::tls::DevelopmentCa;
use dwcp_types::{CopyId, Epoch, Gib, Round, Timestamp, VmId, VmShape};
use dwcp_vm::{CopyOrder, CopyPlace, CopySight, GuestSpec};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rig::{Guests, Host, missing, shape, until, vm};

/// Clusters that the test writes to, of 64 KiB each.
const CLUSTERS: usize = 192;
const CLUSTER: usize = 1 << 16;
const SIZE: Gib = Gib::new(1);
const DEVICE: &str = "/machine/peripheral-anon/device[0]/virtio-backend";

/// A byte for each cluster.
type Model = Vec<u8>;

const fn copy(number: u32) -> CopyId {
    CopyId { epoch: Epoch::FIRST, number }
}

/// What is kept where, and the disk as it is to be.
struct Bed {
    vm: VmId,
    source: Host,
    target: Host,
    model: Model,
    seed: u64,
}

impl Bed {
    async fn start(root: &Path) -> Self {
        let now = SystemClock::new().now();
        let ca = DevelopmentCa::create(&root.join("ca"), now).unwrap();
        let [source, target] =
            ["host-a", "host-b"].map(|name| Host::new(root, (&ca, name), "qemu"));
        let model = vec![0; CLUSTERS];
        let bed = Self { vm: vm("web"), source, target, model, seed: 7 };
        let first = bed.at(&bed.source).await;
        first.create_disk(&bed.vm, &guest()).await.unwrap();
        first.start(&bed.vm, &guest(), true).await.unwrap();
        bed
    }

    /// A new adapter, as of an agent that was started again.
    async fn at(&self, host: &Host) -> Qemu {
        let config = Config::parse(&host.config(), Path::new("agent.yaml")).unwrap();
        let qemu = Qemu::open(&config).await.unwrap();
        if host.name == self.source.name && self.socket().exists() {
            qemu.adopt(&self.vm).await.unwrap();
        }
        qemu
    }

    fn socket(&self) -> PathBuf {
        self.guest().join("qmp.sock")
    }

    fn guest(&self) -> PathBuf {
        self.source.data.join("guests/web")
    }

    fn random(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.seed >> 33).unwrap() % below
    }

    /// Writes, zeroes and unmaps some of the disk; nobody else has its monitor meanwhile.
    async fn write(&mut self, times: usize) {
        let folder = self.guest();
        let client = until("the monitor is free", async || {
            Client::connect(&folder, COMMAND_LIMIT).await.ok()
        })
        .await;
        for _ in 0..times {
            let from = self.random(CLUSTERS);
            let count = 1 + self.random(12).min(CLUSTERS - from - 1);
            let byte = u8::try_from(1 + self.random(255)).unwrap();
            let (verb, byte) = match self.random(4) {
                // A discard may be left undone, so nothing could be said of it: zeros that unmap.
                0 => ("write -z -u".to_owned(), 0),
                1 => ("write -z".to_owned(), 0),
                _ => (format!("write -P {byte}"), byte),
            };
            let (at, len) = (from * CLUSTER, count * CLUSTER);
            // By the guest's own device: nobody else may write beside it.
            let line = format!("qemu-io -d {DEVICE} \"{verb} {at} {len}\"");
            let command = json!({ "command-line": line });
            let said: Value =
                client.execute("human-monitor-command", command).await.unwrap();
            assert_eq!(said, "", "{line}");
            self.model[from..from + count].fill(byte);
        }
    }

    async fn standby(
        &self,
        copy: CopyId,
        whole: Option<CopyId>,
        round: Option<Round>,
    ) -> StandbyBody {
        let from = self.at(&self.source).await.doorway().unwrap().subject;
        StandbyBody { copy, whole, exists: false, round, storage: SIZE, from }
    }

    async fn keep(&self, copy: CopyId, whole: Option<CopyId>, round: Round) -> u16 {
        let order = self.standby(copy, whole, Some(round)).await;
        self.at(&self.target).await.keep_copy(&self.vm, &order).await.unwrap()
    }

    /// The disk of a trial from a copy.
    async fn forked(&self, copy: CopyId, order: &StandbyBody) -> Model {
        let target = self.at(&self.target).await;
        target.fork_copy(&self.vm, copy, order, &Arc::default()).await.unwrap();
        // What is begun for one that nobody waits for: there is nothing, and that is no failure.
        target.end_fork(&self.vm).await.unwrap();
        self.fork()
    }

    fn fork(&self) -> Model {
        read(&self.target.data.join("trials/web/disk.qcow2"))
    }

    async fn order(
        &self,
        copy: CopyId,
        port: u16,
        round: Round,
    ) -> (CopyOrder, CopyPlace) {
        let door = self.at(&self.target).await.doorway().unwrap();
        let to = CopyPlace { address: door.address, port, name: door.name };
        let to_too = Some(to.clone());
        (CopyOrder { copy, relied_on: false, to: to_too, round: Some(round) }, to)
    }

    async fn sees(&self, what: &str, is: impl Fn(&CopySight) -> bool) -> CopySight {
        let source = self.at(&self.source).await;
        until(what, async || {
            let sight = source.copy_seen(&self.vm, true).await;
            is(&sight).then_some(sight)
        })
        .await
    }

    /// The disk of a round, as it is kept.
    fn kept(&self, copy: CopyId) -> Model {
        let name = format!("copy-{}-{}.qcow2", copy.epoch, copy.number);
        read(&self.target.data.join("standbys/web").join(name))
    }

    /// The process that takes a round in dies.
    fn kill_door(&self, copy: CopyId) {
        let name = format!("copy-{}-{}.pid", copy.epoch, copy.number);
        let pid =
            fs::read_to_string(self.target.data.join("standbys/web").join(name)).unwrap();
        Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        drop(Guests(self.source.data.clone()));
        let Ok(files) = fs::read_dir(self.target.data.join("standbys/web")) else {
            return;
        };
        for file in files.flatten().map(|file| file.path()) {
            if file.extension().is_some_and(|it| it == "pid")
                && let Ok(pid) = fs::read_to_string(&file)
                && let Ok(line) = fs::read(format!("/proc/{}/cmdline", pid.trim()))
                && String::from_utf8_lossy(&line).contains(file.to_str().unwrap())
            {
                drop(Command::new("kill").args(["-9", pid.trim()]).status());
            }
        }
    }
}

fn guest() -> GuestSpec {
    let shape = VmShape { storage: SIZE, ..shape() };
    GuestSpec { shape, ..GuestSpec::default() }
}

/// Reads a disk by the format's document: version 3, clusters of 64 KiB, nothing compressed; what
/// is not in it is in the file that it is on top of.
fn read(path: &Path) -> Model {
    let bytes = fs::read(path).unwrap();
    let number = |at: usize, len: usize| {
        let bytes = &bytes[at..at + len];
        bytes.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte))
    };
    let at = |number: u64| usize::try_from(number).unwrap();
    let (name_at, name_len) = (at(number(8, 8)), at(number(16, 4)));
    let below = (name_at > 0).then(|| {
        let name = std::str::from_utf8(&bytes[name_at..name_at + name_len]).unwrap();
        read(&path.with_file_name(name))
    });
    const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
    let l1 = at(number(40, 8));
    let cluster = |index: usize| {
        let table = number(l1 + index / 8_192 * 8, 8) & OFFSET;
        let entry = if table == 0 { 0 } else { number(at(table) + index % 8_192 * 8, 8) };
        let place = at(entry & OFFSET);
        match (entry & 1, place) {
            (1, _) => 0,
            (_, 0) => below.as_ref().map_or(0, |below| below[index]),
            _ => {
                let what = &bytes[place..place + CLUSTER];
                assert!(what.iter().all(|byte| *byte == what[0]), "cluster {index}");
                what[0]
            }
        }
    };
    (0..CLUSTERS).map(cluster).collect()
}

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A bed and the folder that it lies in; nothing, and why, where it cannot be had.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
async fn bed() -> Option<(TempDir, Bed)> {
    if let Some(why) = missing() {
        eprintln!("{why}");
        return None;
    }
    let root = tempfile::tempdir().unwrap();
    let bed = Bed::start(root.path()).await;
    Some((root, bed))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_round_is_there_is_the_disk_of_one_moment() {
    let Some((_root, mut bed)) = bed().await else { return };
    bed.write(24).await;
    let mut whole: Option<(CopyId, Model)> = None;
    for number in 1..=9 {
        let this = copy(number);
        let base = whole.as_ref().map(|(copy, _)| *copy);
        let round = Round { base };
        let port = bed.keep(this, base, round).await;
        if let Some((copy, disk)) = &whole {
            assert_eq!(bed.kept(*copy), *disk, "it is one file, before round {number}");
        }
        let (order, to) = bed.order(this, port, round).await;
        bed.at(&bed.source).await.begin_copy(&bed.vm, &order, &to, NOW).await.unwrap();
        let then = bed.model.clone();
        // What it overwrites is saved before.
        bed.write(6).await;
        bed.sees("the disk is taken", |sight| {
            sight.written.and_then(|it| it.round).is_some_and(|round| round.waits)
        })
        .await;
        bed.write(2).await;
        if number == 4 {
            bed.kill_door(this);
        }
        let sent = bed.at(&bed.source).await.send_copy(&bed.vm, &order, &to).await;
        assert_eq!(sent.is_err(), number == 4, "{sent:?}");
        if number == 7 {
            bed.kill_door(this);
        }
        if sent.is_err() {
            continue;
        }
        let sight = bed
            .sees("it is there, or failed", |sight| {
                sight.written.is_some_and(|it| it.mirror.ready || !it.mirror.sound)
            })
            .await;
        let written = sight.written.unwrap();
        assert_eq!((written.copy, sight.since), (this, base));
        assert_eq!(written.round.unwrap().as_of, NOW);
        if written.mirror.ready {
            assert_eq!(bed.kept(this), then, "round {number}");
            whole = Some((this, then));
        }
        bed.write(3).await;
    }
    let (last, disk) = whole.unwrap();
    assert!(last >= copy(8), "{last}");
    bed.at(&bed.target).await.take_copy(&bed.vm, last).await.unwrap();
    assert_eq!(read(&bed.target.data.join("guests/web/disk.qcow2")), disk);
    assert!(!bed.target.data.join("standbys/web").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_is_not_guessed_after_the_guest_has_another_process() {
    let Some((_root, mut bed)) = bed().await else { return };
    bed.write(8).await;
    let port = bed.keep(copy(1), None, Round::default()).await;
    let (order, to) = bed.order(copy(1), port, Round::default()).await;
    let source = bed.at(&bed.source).await;
    source.begin_copy(&bed.vm, &order, &to, NOW).await.unwrap();
    drop(source);
    let sight = bed.sees("it is taken", |sight| sight.written.is_some()).await;
    assert_eq!(sight.since, None, "what is written adds to nothing");
    let source = bed.at(&bed.source).await;
    // The next round adds to it, and is not begun yet.
    source.end_copy(&bed.vm, Some(copy(1))).await.unwrap();
    let between = source.copy_seen(&bed.vm, true).await;
    assert_eq!((between.written, between.since), (None, Some(copy(1))));
    source.kill(&bed.vm, false).await.unwrap();
    source.start(&bed.vm, &guest(), true).await.unwrap();
    assert_eq!(source.copy_seen(&bed.vm, true).await, CopySight::default());
    let round = Round { base: Some(copy(1)) };
    let (order, to) = bed.order(copy(2), port, round).await;
    let begun = source.begin_copy(&bed.vm, &order, &to, NOW).await;
    let unknown =
        matches!(begun, Err(HypervisorError::NoBase { base }) if base == copy(1));
    assert!(unknown, "{begun:?}");
}

/// A trial's disk is the copy as it was, and neither the guest nor its copy takes notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_the_disk_of_its_copy_and_the_copy_follows_on() {
    let Some((_root, mut bed)) = bed().await else { return };
    bed.write(24).await;
    // One that has each write: it is taken by whoever writes it.
    let each = bed.standby(copy(1), None, None).await;
    let port = bed.at(&bed.target).await.keep_copy(&bed.vm, &each).await.unwrap();
    let (order, to) = bed.order(copy(1), port, Round::default()).await;
    let order = CopyOrder { round: None, ..order };
    bed.at(&bed.source).await.begin_copy(&bed.vm, &order, &to, NOW).await.unwrap();
    let follows = |sight: &CopySight| sight.written.is_some_and(|it| it.mirror.ready);
    bed.sees("it follows", follows).await;
    let then = bed.model.clone();
    assert_eq!(bed.forked(copy(1), &each).await, then);
    bed.write(8).await;
    bed.sees("it follows on", follows).await;
    assert_eq!(bed.kept(copy(1)), bed.model);
    assert_eq!(bed.fork(), then, "what came later is not in it");
    assert_eq!(bed.forked(copy(1), &each).await, bed.model, "again");
    // A round: it is one file that nobody writes, whatever is written on top of it.
    bed.at(&bed.source).await.end_copy(&bed.vm, None).await.unwrap();
    let port = bed.keep(copy(2), None, Round::default()).await;
    let (order, to) = bed.order(copy(2), port, Round::default()).await;
    bed.at(&bed.source).await.begin_copy(&bed.vm, &order, &to, NOW).await.unwrap();
    let then = bed.model.clone();
    bed.sees("the disk is taken", |sight| {
        sight.written.and_then(|it| it.round).is_some_and(|round| round.waits)
    })
    .await;
    bed.write(8).await;
    bed.at(&bed.source).await.send_copy(&bed.vm, &order, &to).await.unwrap();
    bed.sees("it is there", follows).await;
    let on_top = Round { base: Some(copy(2)) };
    let next = bed.standby(copy(3), Some(copy(2)), Some(on_top)).await;
    bed.at(&bed.target).await.keep_copy(&bed.vm, &next).await.unwrap();
    assert_eq!(bed.forked(copy(2), &next).await, then);
    assert_eq!(bed.kept(copy(3)), then, "nothing is on top of it yet");
    let target = bed.at(&bed.target).await;
    let gone = target.fork_copy(&bed.vm, copy(1), &next, &Arc::default()).await;
    assert!(matches!(gone, Err(HypervisorError::NoCopy { .. })), "{gone:?}");
    // Its file is written next: the copy comes first.
    let stop = Arc::new(AtomicBool::new(true));
    let stopped = target.fork_copy(&bed.vm, copy(2), &next, &stop).await.unwrap_err();
    assert!(stopped.told().contains("the copy went on"), "{}", stopped.told());
}
