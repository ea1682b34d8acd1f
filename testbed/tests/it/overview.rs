//! One look at a federation: every daemon gives the same one, a region that is lost is told to who
//! follows, and the tool prints it in a pipe.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use dwcp_api::controller::{ControllerParams, GetController};
use dwcp_api::overview::{GetOverview, Link, Overview, WHOLE, WatchOverview};
use dwcp_api::patch::apply;
use dwcp_api::{CallError, ErrorCode, Events, NoParams};
use dwcp_testbed::{
    Ask, Door, Federation, HostPlan, Plan, RegionPlan, program, refusal, until,
};
use dwcp_types::{HealthState, RegionId};
use serde_json::Value;

const REGIONS: [&str; 3] = ["one", "two", "three"];

fn plan() -> Plan {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(2));
    Plan::simulated(REGIONS.map(region).to_vec()).patient()
}

fn id(region: &str) -> RegionId {
    RegionId::new(region).unwrap()
}

async fn overview(door: &Door) -> Overview {
    door.call::<GetOverview>(&NoParams {}, &()).await.unwrap()
}

/// What all daemons must agree on: states and VMs of regions, lines, incidents and who is on duty.
fn agreed(of: &Overview) -> impl PartialEq + std::fmt::Debug + use<> {
    let regions: Vec<_> = of
        .regions
        .iter()
        .map(|(id, it)| {
            (id.clone(), it.health.state, it.vms, it.running, it.cpu, it.hosts)
        })
        .collect();
    let names: Vec<_> = of.regions.keys().cloned().collect();
    let up = |(one, other): (&RegionId, &RegionId)| {
        matches!(of.link(one, other), Link::Measured(_))
    };
    let pairs = names.iter().flat_map(|one| names.iter().map(move |other| (one, other)));
    let up: Vec<bool> = pairs.map(up).collect();
    (regions, up, of.incidents.open, of.engine.on_duty.clone(), of.traffic.measured)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_daemon_gives_the_same_overview() {
    let federation = Federation::start(plan()).await;
    let door = federation.at("one");
    door.place(&Ask::new("a").only_in("two")).await.unwrap();
    let seen = until("all daemons agree", || async {
        let mut all = Vec::new();
        for region in REGIONS {
            let seen = overview(&federation.at(region)).await;
            assert_eq!(seen.answered_by.as_ref(), Some(&id(region)));
            all.push(agreed(&seen));
        }
        let first = overview(&door).await;
        let is_whole = first.regions[&id("two")].running == 1
            && first.link(&id("one"), &id("three")) != Link::Never
            && first.engine.on_duty.is_some()
            && first.traffic.measured == 3;
        let same = all.iter().all(|it| *it == all[0]);
        if is_whole && same { Ok(first) } else { Err((first, all)) }
    })
    .await;
    assert!(seen.regions.values().all(|it| it.health.state == HealthState::Healthy));
    assert_eq!(seen.regions[&id("two")].vms, 1);
    // Any daemon says how busy another one is, by asking it.
    for region in REGIONS {
        let of = ControllerParams { region: Some(id(region)) };
        let there = door.call::<GetController>(&of, &()).await.unwrap();
        assert_eq!(there.region, id(region));
        assert_eq!((there.kept.regions, there.kept.vms), (3, 1));
        let placed = there.decisions.by_result.get("placed").copied().unwrap_or(0);
        assert_eq!(placed, u64::from(region == "one"), "it was asked there: {there:?}");
    }
    let of = ControllerParams { region: Some(id("nowhere")) };
    let refused = refusal(door.call::<GetController>(&of, &()).await);
    assert_eq!(refused.code, ErrorCode::NotFound);
}

/// Reads a stream as a console does: the whole, then patches.
struct Console {
    events: Events,
    value: Value,
}

impl Console {
    async fn open(door: &Door) -> Result<Self, CallError> {
        let events = door.watch::<WatchOverview>(&NoParams {}).await?;
        Ok(Self { events, value: Value::Null })
    }

    /// The overview after the next event.
    async fn next(&mut self) -> Overview {
        let event = self.events.next().await.unwrap().unwrap();
        assert_eq!(event.kind == WHOLE, self.value.is_null(), "the whole is told once");
        apply(&mut self.value, &serde_json::from_str(&event.data).unwrap());
        let seen: Overview = serde_json::from_value(self.value.clone()).unwrap();
        assert_eq!(seen.version, event.id);
        seen
    }

    /// The first overview of which this is so.
    async fn sees(&mut self, so: impl Fn(&Overview) -> bool) -> Overview {
        loop {
            let seen = self.next().await;
            if so(&seen) {
                return seen;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_region_is_told_within_the_stream_and_so_is_its_return() {
    let mut federation = Federation::start(plan()).await;
    federation.have_run().await;
    let lost = id("three");
    let state = |of: &Overview| of.regions[&lost].health.state;
    let mut console = Console::open(&federation.at("one")).await.unwrap();
    console.sees(|it| state(it) == HealthState::Healthy).await;
    federation.lose("three");
    console.sees(|it| state(it) == HealthState::Unknown).await;
    let cut = |it: &Overview| matches!(it.link(&id("one"), &lost), Link::Cut(_));
    let seen = console.sees(|it| cut(it) && it.incidents.open > 0).await;
    assert_eq!(seen.incidents.shown[0].region.as_ref(), Some(&lost));
    // The whole of now is what the changes have led to, give or take what came since.
    let now = overview(&federation.at("one")).await;
    assert_eq!(state(&now), HealthState::Unknown);
    federation.process("three-h1").start();
    federation.process("three").start();
    console.sees(|it| state(it) == HealthState::Healthy && it.incidents.open == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tool_prints_each_change_into_a_pipe() {
    let mut federation = Federation::start(plan()).await;
    federation.have_run().await;
    let endpoint = format!("https://{}", federation.socket("one"));
    let mut tool = Command::new(program("dwcp-cli"))
        .args(["federation", "status", "--watch", "-o", "json"])
        .args(["--endpoint", &endpoint, "--credentials"])
        .arg(federation.admin_folder())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = tool.stdout.take().unwrap();
    let (send, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(out).lines() {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let first = lines.recv().await.unwrap();
    assert_eq!(first["event"], "overview");
    assert_eq!(first["data"]["regions"].as_object().unwrap().len(), 3);
    federation.lose("three");
    loop {
        let line = lines.recv().await.unwrap();
        assert_eq!(line["event"], "changed");
        if line["data"]["regions"]["three"]["state"] == "unknown" {
            break;
        }
    }
    tool.kill().unwrap();
    tool.wait().unwrap();
    reader.join().unwrap();
}
