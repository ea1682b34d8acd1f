//! Replicated state between real daemons over real sockets: each level, with regions killed,
//! frozen and brought back.

use dwcp_api::ErrorCode;
use dwcp_api::public::RegionParams;
use dwcp_api::state::{
    EvictReplica, ReadKey, StateLevel, StateUpdate, StateValue, Text, WriteKey,
};
use dwcp_testbed::{
    Federation, HostPlan, Plan, RegionPlan, add, content, elements, increment, refusal,
    remove, report_of, set, until,
};

const REGIONS: [&str; 3] = ["one", "two", "three"];

fn plan() -> Plan {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(1));
    Plan::simulated(REGIONS.map(region).to_vec())
}

/// A federation whose replicas all hear each other.
async fn federation() -> Federation {
    let federation = Federation::start(plan()).await;
    federation.connected(&REGIONS).await;
    federation
}

async fn seen(
    federation: &Federation,
    region: &str,
    key: &str,
    value: Option<StateValue>,
) {
    let door = federation.at(region);
    until(&format!("{region} sees {value:?} under {key}"), || async {
        let entry = door.read_at(key, StateLevel::Eventual).await;
        let entry = entry.map_err(|error| error.to_string())?;
        if entry.value == value { Ok(()) } else { Err(format!("{:?}", entry.value)) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_in_one_region_is_seen_in_all_and_concurrent_changes_join() {
    let federation = federation().await;
    let [one, two, three] = REGIONS.map(|region| federation.at(region));
    // The examples of the source: 10 + 5 = 15 (S3), 100 - 20 = 80 (S4).
    one.write("metrics:vms", &increment(10)).await.unwrap();
    two.write("metrics:vms", &increment(5)).await.unwrap();
    one.write("counter:credits", &increment(100)).await.unwrap();
    three.write("counter:credits", &increment(-20)).await.unwrap();
    one.write("tags:vm-1", &add("a")).await.unwrap();
    two.write("tags:vm-1", &add("b")).await.unwrap();
    for region in REGIONS {
        seen(&federation, region, "metrics:vms", Some(StateValue::Number(15))).await;
        seen(&federation, region, "counter:credits", Some(StateValue::Number(80))).await;
        seen(&federation, region, "tags:vm-1", elements(&["a", "b"])).await;
    }
    three.write("tags:vm-1", &remove("a")).await.unwrap();
    for region in REGIONS {
        seen(&federation, region, "tags:vm-1", elements(&["b"])).await;
    }
    // Equal replicas, equal digests.
    until("all regions hold the same", || async {
        let reports = one.replicas().await.map_err(|error| error.to_string())?;
        let digests: Vec<_> = reports.items.iter().map(|item| &item.digest).collect();
        let same =
            digests.len() == 3 && digests.iter().all(|digest| *digest == digests[0]);
        if same { Ok(()) } else { Err(format!("{digests:?}")) }
    })
    .await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_level_promises_what_it_says_when_regions_die() {
    let mut federation = federation().await;
    let [one, two, _] = REGIONS.map(|region| federation.at(region));
    let written = one.write("vm:config:1", &set("v1")).await.unwrap();
    assert_eq!(written.level, StateLevel::Quorum);
    // A quorum read in another region sees it at once: no waiting here.
    assert_eq!(two.read("vm:config:1").await.unwrap().value, content("v1"));

    // One of three regions down: a majority is left.
    federation.process("three").kill_9();
    one.write("vm:config:1", &set("v2")).await.unwrap();
    assert_eq!(two.read("vm:config:1").await.unwrap().value, content("v2"));
    one.write("cache:x", &set("e1")).await.unwrap();

    // Two of three down: quorum is refused with what is needed, the rest goes on.
    federation.process("two").kill_9();
    let alone = until("the loss is noticed", || async {
        let refused = one.write("vm:config:1", &set("v3")).await.err();
        let refused = refused.map(|error| refusal::<()>(Err(error)));
        refused.filter(|error| error.code == ErrorCode::Unavailable).ok_or("not yet")
    })
    .await;
    assert!(alone.message.contains("regions"), "{alone:?}");
    let read = refusal(one.read("vm:config:1").await);
    assert_eq!(read.code, ErrorCode::Unavailable, "{read:?}");
    one.write("cache:x", &set("e2")).await.unwrap();
    one.write("session:s", &set("l1")).await.unwrap();
    let stale = one.read_at("vm:config:1", StateLevel::Eventual).await.unwrap();
    assert_eq!(stale.level, StateLevel::Eventual, "a weaker read says so");

    // Back again: everything that was acknowledged is everywhere.
    federation.process("two").start();
    federation.process("three").start();
    federation.healthy().await;
    for region in REGIONS {
        seen(&federation, region, "cache:x", content("e2")).await;
        seen(&federation, region, "session:s", content("l1")).await;
    }
    let two = federation.at("two");
    until("quorum is back", || async {
        two.write("vm:config:1", &set("v4")).await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(
        federation.at("three").read("vm:config:1").await.unwrap().value,
        content("v4")
    );
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_outlive_kill_9_of_every_daemon() {
    let mut federation = federation().await;
    for (number, region) in REGIONS.iter().enumerate() {
        let door = federation.at(region);
        for write in 0..20 {
            let key = format!("cache:{region}-{write}");
            door.write(&key, &set(&number.to_string())).await.unwrap();
        }
        door.write("metrics:all", &increment(7)).await.unwrap();
    }
    for region in REGIONS {
        federation.process(region).kill_9();
    }
    for region in REGIONS {
        federation.process(region).start();
    }
    federation.healthy().await;
    for region in REGIONS {
        seen(&federation, region, "metrics:all", Some(StateValue::Number(21))).await;
        for (number, origin) in REGIONS.iter().enumerate() {
            let key = format!("cache:{origin}-19");
            seen(&federation, region, &key, content(&number.to_string())).await;
        }
    }
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_sees_its_own_writes_in_another_region_or_is_told_to_wait() {
    let federation = federation().await;
    let [one, two, _] = REGIONS.map(|region| federation.at(region));
    for round in 0..20 {
        let value = round.to_string();
        let written = one.write("cache:mine", &set(&value)).await.unwrap();
        let read = two
            .read_as(ReadKey {
                level: Some(StateLevel::Eventual),
                session: Some(written.session),
                ..ReadKey::of("cache:mine")
            })
            .await
            .unwrap();
        assert_eq!(read.value, content(&value), "round {round}");
    }
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_id_is_done_once_and_not_for_something_else() {
    let federation = federation().await;
    let one = federation.at("one");
    let mut write = increment(5);
    write.op_id = Some("order-1".to_owned());
    for _ in 0..3 {
        one.write("metrics:once", &write).await.unwrap();
    }
    assert_eq!(
        one.read("metrics:once").await.unwrap().value,
        Some(StateValue::Number(5))
    );
    write.update = StateUpdate::Increment { by: 6 };
    let refused = refusal(one.write("metrics:once", &write).await);
    assert_eq!(refused.code, ErrorCode::Conflict, "{refused:?}");
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_is_never_overdrawn_even_by_a_region_that_is_alone() {
    let mut federation = federation().await;
    let [one, two, _] = REGIONS.map(|region| federation.at(region));
    let key = "quota:acme";
    one.write(key, &WriteKey::of(StateUpdate::Mint { amount: 100 })).await.unwrap();
    let give = StateUpdate::Transfer { amount: 40, to: "two".parse().unwrap() };
    one.write(key, &WriteKey::of(give)).await.unwrap();
    until("the rights have arrived", || async {
        two.write(key, &WriteKey::of(StateUpdate::Spend { amount: 10 }))
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    federation.process("one").kill_9();
    federation.process("three").kill_9();
    two.write(key, &WriteKey::of(StateUpdate::Spend { amount: 30 })).await.unwrap();
    let refused =
        refusal(two.write(key, &WriteKey::of(StateUpdate::Spend { amount: 1 })).await);
    assert_eq!(refused.code, ErrorCode::Refused, "{refused:?}");
    assert!(refused.remedy.is_some(), "{refused:?}");
    federation.process("one").start();
    federation.process("three").start();
    federation.healthy().await;
    until("all know what was spent", || async {
        let entry = federation.at("three").read(key).await;
        match entry.map_err(|error| error.to_string())?.value {
            Some(StateValue::Budget(budget)) if budget.used == 40 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn strong_records_are_compared_before_they_are_set() {
    let federation = federation().await;
    let [one, two, _] = REGIONS.map(|region| federation.at(region));
    let mut write = set("10");
    write.if_revision = Some(0);
    let first = one.write("billing:acme", &write).await.unwrap();
    assert_eq!(first.level, StateLevel::Strong);
    let refused = refusal(two.write("billing:acme", &write).await);
    assert_eq!(refused.code, ErrorCode::Conflict, "{refused:?}");
    write.if_revision = first.revision;
    two.write("billing:acme", &write).await.unwrap();
    let entry = one.read("billing:acme").await.unwrap();
    assert!(entry.revision > first.revision);
    // What would be weaker or another plane is said, never served.
    let weaker = refusal(one.read_at("billing:acme", StateLevel::Local).await);
    assert_eq!(weaker.code, ErrorCode::Refused, "{weaker:?}");
    let other = refusal(one.read_at("cache:x", StateLevel::Strong).await);
    assert_eq!(other.code, ErrorCode::Refused, "{other:?}");
    let mut below = set("x");
    below.level = Some(StateLevel::Eventual);
    let below = refusal(one.write("vm:config:1", &below).await);
    assert_eq!(below.code, ErrorCode::Refused, "{below:?}");
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_texts_are_kept_side_by_side_until_somebody_joins_them() {
    let mut federation = federation().await;
    federation.process("three").freeze();
    let [one, two, _] = REGIONS.map(|region| federation.at(region));
    // Written without having seen each other: neither hands in a context.
    one.write("text:readme", &set("mine")).await.unwrap();
    two.write("text:readme", &set("yours")).await.unwrap();
    let both = until("both are seen", || async {
        let entry = one.read("text:readme").await.map_err(|error| error.to_string())?;
        let both = elements(&["mine", "yours"]);
        if entry.value == both { Ok(entry) } else { Err(format!("{:?}", entry.value)) }
    })
    .await;
    let mut joined = set("ours");
    joined.context = both.context;
    one.write("text:readme", &joined).await.unwrap();
    let ours = Some(StateValue::Many(vec![Text::Plain("ours".to_owned())]));
    seen(&federation, "two", "text:readme", ours).await;
    federation.process("three").thaw();
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_region_blocks_nothing_and_comes_back_with_what_the_others_have() {
    let mut federation = federation().await;
    let one = federation.at("one");
    for key in ["cache:kept", "cache:gone"] {
        one.write(key, &set("v1")).await.unwrap();
        seen(&federation, "three", key, content("v1")).await;
    }
    federation.process("three").kill_9();
    one.write("cache:gone", &WriteKey::of(StateUpdate::Delete)).await.unwrap();
    let params = |region: &str| RegionParams { region: region.parse().unwrap() };
    let nobody = refusal(one.call::<EvictReplica>(&params("four"), &()).await);
    assert_eq!(nobody.code, ErrorCode::NotFound, "{nobody:?}");
    let evicted = until("three is evicted", || async {
        let evicted = one.call::<EvictReplica>(&params("three"), &()).await;
        evicted.map_err(|error| error.to_string())
    })
    .await;
    until("what was deleted is forgotten without three", || async {
        let reports = one.replicas().await.map_err(|error| error.to_string())?;
        let own = report_of(&reports, "one").ok_or("no report")?;
        let done = own.epoch >= evicted.epoch && own.collection_blocked_by.is_empty();
        if done && own.keys == 1 { Ok(()) } else { Err(format!("{own:?}")) }
    })
    .await;

    federation.process("three").start();
    federation.healthy().await;
    seen(&federation, "three", "cache:kept", content("v1")).await;
    seen(&federation, "three", "cache:gone", None).await;
    // It votes again: with two of three, of which it is one, there is a majority.
    federation.process("two").kill_9();
    until("three votes", || async {
        let written = one.write("vm:config:1", &set("v1")).await;
        written.map_err(|error| error.to_string())
    })
    .await;
    federation.end();
}
