//! Keys that are in some of the regions only (S16, S17): spread while they are written, moved
//! while they are used, with a region's daemon killed meanwhile.

use std::collections::BTreeMap;

use dwcp_api::shards::{
    AskShards, GetShards, MoveSlot, PostShardMove, ShardItem, SlotPlace,
};
use dwcp_api::state::{PutStatePolicy, StateKind, StateLevel, StatePolicy};
use dwcp_api::{ApiError, ErrorCode, NoParams};
use dwcp_testbed::{
    Door, Federation, HostPlan, Plan, RegionPlan, content, program, refusal, set, until,
};
use dwcp_types::RegionId;
use tokio::process::Command;

const REGIONS: [&str; 4] = ["one", "two", "three", "four"];
const PREFIX: &str = "session:";

async fn federation() -> Federation {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(1));
    let plan = Plan::simulated(REGIONS.map(region).to_vec());
    let federation = Federation::start(plan).await;
    federation.connected(&REGIONS).await;
    let door = federation.at("one");
    until("all have settled, so that a rule may be set", || async {
        let reports = door.replicas().await.map_err(|error| error.to_string())?;
        let mut all = reports.items.iter();
        let done = reports.items.len() == REGIONS.len()
            && all.all(|it| it.epoch > 0 && it.settled == it.epoch);
        if done { Ok(()) } else { Err(format!("{reports:?}")) }
    })
    .await;
    federation
}

fn copies(copies: Option<u32>) -> StatePolicy {
    StatePolicy {
        prefix: PREFIX.to_owned(),
        kind: StateKind::Last,
        level: StateLevel::Local,
        regions: Vec::new(),
        ttl_ms: None,
        copies,
        shard_by: None,
    }
}

async fn configure(door: &Door, rule: &StatePolicy) -> Result<(), ApiError> {
    match door.call::<PutStatePolicy>(&NoParams {}, rule).await {
        Ok(_) => Ok(()),
        refused => Err(refusal(refused)),
    }
}

async fn of_prefix(door: &Door) -> Result<ShardItem, String> {
    let list = door.call::<GetShards>(&AskShards::default(), &()).await;
    let list = list.map_err(|error| error.to_string())?;
    let item = list.items.into_iter().find(|item| item.prefix == PREFIX);
    item.ok_or_else(|| "the prefix is not shown".to_owned())
}

async fn place(door: &Door, key: &str) -> SlotPlace {
    let ask = AskShards { key: Some(key.to_owned()) };
    let list = door.call::<GetShards>(&ask, &()).await.unwrap();
    list.key.unwrap().at
}

/// Writes a key in whichever region holds it; asks again where another one does by now.
async fn write(federation: &Federation, key: &str, value: &str) {
    until(&format!("a region takes {key}"), || async {
        let mut why = String::new();
        for region in REGIONS {
            match federation.at(region).write(key, &set(value)).await {
                Ok(_) => return Ok(()),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    })
    .await;
}

/// What the tool prints when it asks this region's daemon.
async fn tool(federation: &Federation, region: &str, words: &[&str]) -> String {
    let mut tool = Command::new(program("dwcp-cli"));
    tool.args(["federation", "state"])
        .args(words)
        .args(["--endpoint", &format!("https://{}", federation.socket(region))])
        .arg("--credentials")
        .arg(federation.admin_folder());
    let ran = tool.output().await.unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

/// The regions that hold a key, each with this value; the others name them.
async fn holders(federation: &Federation, key: &str, value: &str) -> Vec<&'static str> {
    let mut holders = Vec::new();
    let mut named = Vec::new();
    for region in REGIONS {
        let door = federation.at(region);
        let refused =
            until(&format!("{region} has {key} or does not hold it"), || async {
                match door.read(key).await {
                    Ok(entry) if entry.value == content(value) => Ok(None),
                    // It is on its way from the region that took it.
                    Ok(entry) => Err(format!("{:?}", entry.value)),
                    refused => Ok(Some(refusal(refused))),
                }
            })
            .await;
        let Some(refused) = refused else {
            holders.push(region);
            continue;
        };
        assert_eq!(refused.code, ErrorCode::Refused, "{refused:?}");
        named.push(refused.details.unwrap()["holders"].clone());
    }
    for names in named {
        let names: Vec<String> = serde_json::from_value(names).unwrap();
        assert_eq!(names.len(), holders.len(), "{key}");
        assert!(names.iter().all(|name| holders.contains(&name.as_str())), "{names:?}");
    }
    holders
}

/// Waits until every region sees all slots of the prefix where they are to be.
async fn settled(federation: &Federation, copies: u32) {
    for region in REGIONS {
        let door = federation.at(region);
        until(
            &format!("slots are where they are to be, as {region} sees it"),
            || async {
                let item = of_prefix(&door).await?;
                let held: u32 = item.slots.values().sum();
                let done = item.moving == 0 && held == 256 * copies;
                if done && item.copies == copies {
                    Ok(())
                } else {
                    Err(format!("{item:?}"))
                }
            },
        )
        .await;
    }
}

/// Rules that cannot be are refused with what to do.
async fn cannot_be(door: &Door) {
    let too_many = configure(door, &copies(Some(5))).await.unwrap_err();
    assert_eq!(too_many.code, ErrorCode::Refused, "{too_many:?}");
    assert!(too_many.remedy.unwrap().contains("at most 4"));
    let bounded = StatePolicy { kind: StateKind::Bounded, ..copies(Some(2)) };
    let bounded = configure(door, &bounded).await.unwrap_err();
    assert!(bounded.message.contains("rights"), "{bounded:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_spread_and_moved_under_writes_and_nothing_is_lost() {
    let mut federation = federation().await;
    let door = federation.at("one");
    let key = |number: u32| format!("{PREFIX}k-{number}");
    let mut last = BTreeMap::new();
    for number in 0..32 {
        write(&federation, &key(number), "before").await;
        last.insert(key(number), "before".to_owned());
    }

    cannot_be(&door).await;
    // A daemon that is gone holds slots up, and what is written meanwhile is not lost.
    federation.process("four").kill_9();
    configure(&door, &copies(Some(2))).await.unwrap();
    let held_up = || async {
        let item = of_prefix(&door).await?;
        let still = item.slots.values().all(|held| *held == 256);
        let all = (item.copies, item.moving) == (2, 256) && still;
        if all { Ok(()) } else { Err(format!("{item:?}")) }
    };
    until("slots are to go, and stay", held_up).await;
    for number in 0..32 {
        write(&federation, &key(number), "meanwhile").await;
        last.insert(key(number), "meanwhile".to_owned());
    }
    assert_eq!(held_up().await, Ok(()), "not without one that votes");
    federation.process("four").start();
    settled(&federation, 2).await;
    for (key, value) in &last {
        let seen = holders(&federation, key, value).await;
        assert_eq!(seen.len(), 2, "{key} is in {seen:?}");
    }

    let moved = key(7);
    let was = place(&door, &moved).await;
    let (from, stays) = (was.regions[0].clone(), was.regions[1].clone());
    let free = REGIONS.map(|region| RegionId::new(region).unwrap());
    let to = free.into_iter().find(|it| !was.regions.contains(it)).unwrap();
    let ask = |from: &RegionId, to: &RegionId| MoveSlot {
        prefix: PREFIX.to_owned(),
        slot: was.slot,
        from: from.clone(),
        to: to.clone(),
    };
    let there = door.call::<PostShardMove>(&NoParams {}, &ask(&from, &stays)).await;
    assert!(refusal(there).message.contains("already"));
    let moving =
        door.call::<PostShardMove>(&NoParams {}, &ask(&from, &to)).await.unwrap();
    assert_eq!(moving.items.iter().map(|item| item.moving).sum::<u32>(), 1);
    write(&federation, &moved, "moving").await;
    settled(&federation, 2).await;
    let now = place(&door, &moved).await;
    assert_eq!(now.regions, now.wanted);
    assert!(now.regions.contains(&to) && !now.regions.contains(&from), "{now:?}");
    let seen = holders(&federation, &moved, "moving").await;
    assert_eq!(seen.len(), 2);

    // Who asks a region that does not hold it is answered by one that does.
    let told = tool(&federation, from.as_str(), &["get", &moved]).await;
    assert!(told.contains("moving"), "{told}");
    let told = tool(&federation, from.as_str(), &["put", &moved, "by the tool"]).await;
    assert!(told.contains("is written"), "{told}");
    assert_eq!(holders(&federation, &moved, "by the tool").await.len(), 2);

    // More copies again, as many as there are regions.
    let all = configure(&door, &copies(None)).await.unwrap_err();
    assert!(all.remedy.unwrap().contains("--copies 4"));
    let four = copies(Some(4));
    until("the last step has settled", || async {
        configure(&door, &four).await.map_err(|error| error.to_string())
    })
    .await;
    settled(&federation, 4).await;
    assert_eq!(holders(&federation, &moved, "by the tool").await.len(), 4);
    let plain = MoveSlot { prefix: "cache:".to_owned(), ..ask(&from, &to) };
    let refused = refusal(door.call::<PostShardMove>(&NoParams {}, &plain).await);
    assert!(refused.remedy.unwrap().contains("--copies"));
    federation.end();
}
