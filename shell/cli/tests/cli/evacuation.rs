//! `evacuate` and `failback`: what is shown, what is sent, and what is refused before anything
//! is asked.

use std::collections::BTreeSet;
use std::time::Duration;

use dwcp_api::evacuation::{EvacuationItem, EvacuationList};
use dwcp_api::public::{VmItem, VmList};
use dwcp_controller::evacuation::{
    Evacuation, FailedMove, Leaves, OnTheWay, Plan, Stays, Why,
};
use dwcp_controller::placement::Alternative;
use dwcp_types::{Bps, Power, RegionId, Timestamp};

use crate::fixtures;
use crate::snapshot::check;
use crate::stage::{Stage, now, reply};

fn region(id: &str) -> RegionId {
    id.parse().unwrap()
}

fn ago(span: Duration) -> Timestamp {
    let span = u64::try_from(span.as_millis()).unwrap();
    Timestamp::from_millis(now().as_millis() - span)
}

fn plan() -> Plan {
    let to = |id: &str| Alternative {
        region: region(id),
        zone: format!("{id}a").parse().unwrap(),
        host: format!("{id}-h1").parse().unwrap(),
        score: Bps::ZERO,
    };
    let leaves = |vm: &str, cold: bool| Leaves {
        vm: vm.parse().unwrap(),
        priority: 5,
        to: vec![to("eu-west-1"), to("us-west-1")],
        cold,
        failed: None,
    };
    let failed = FailedMove {
        id: "m-7".parse().unwrap(),
        why: "the source: the link broke".to_owned(),
        again_at: Timestamp::from_millis(1),
    };
    Plan {
        region: region("us-east-1"),
        leave: vec![
            leaves("vm-web-001", false),
            Leaves { failed: Some(failed), ..leaves("vm-db-001", false) },
            leaves("vm-batch-7", true),
        ],
        moving: vec![OnTheWay {
            vm: "vm-web-002".parse().unwrap(),
            to: region("eu-west-1"),
            id: "m-9".parse().unwrap(),
        }],
        stay: vec![Stays {
            vm: "vm-law-1".parse().unwrap(),
            why: Why::NoLegalTarget { refusals: Vec::new() },
        }],
    }
}

fn item(evacuation: bool, plan: Plan) -> EvacuationItem {
    let wanted = Evacuation {
        by: "operator/admin".to_owned(),
        reason: "new switches".to_owned(),
        only: None,
        at: ago(Duration::from_mins(12)),
    };
    EvacuationItem { evacuation: evacuation.then_some(wanted), plan }
}

fn empty() -> Plan {
    let region = region("ap-south-1");
    Plan { region, leave: Vec::new(), moving: Vec::new(), stay: Vec::new() }
}

#[tokio::test]
async fn evacuations_are_shown_as_written() {
    let list = EvacuationList { items: vec![item(true, empty()), item(true, plan())] };
    let answers = vec![
        ("start_evacuation", reply(&item(false, plan()))),
        ("list_evacuations", reply(&list)),
        ("list_evacuations", reply(&EvacuationList::default())),
        ("cancel_evacuation", reply(&item(false, plan()))),
    ];
    let stage = Stage::with(answers).await;
    let dry_run: &[&str] = &[
        "federation",
        "evacuate",
        "--region",
        "us-east-1",
        "--to-regions",
        "eu-west-1,us-west-1",
        "--dry-run",
    ];
    for (name, words) in [
        ("dry-run", dry_run),
        ("status", &["evacuate", "status"]),
        ("status-none", &["evacuate", "status"]),
        ("cancel", &["evacuate", "cancel", "us-east-1"]),
    ] {
        let ran = stage.run(words).await;
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
        check(&format!("answer-evacuate-{name}"), &ran.shown());
    }
    let body = &stage.sent("start_evacuation")[0];
    assert_eq!(body["dry_run"], true);
    let to: BTreeSet<_> = body["to_regions"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it.as_str())
        .collect();
    assert_eq!(to, ["eu-west-1", "us-west-1"].into());
    let json = stage.run(&["evacuate", "cancel", "us-east-1", "-o", "json"]).await;
    let told: EvacuationItem = serde_json::from_str(&json.out).unwrap();
    assert_eq!(told.plan, plan());
}

#[tokio::test]
async fn what_is_not_said_is_asked_for_before_anything_is_sent() {
    let stage = Stage::with(Vec::new()).await;
    let mut shown = String::new();
    for words in [
        &["evacuate"][..],
        &["evacuate", "--region", "us-east-1"],
        &["evacuate", "cancel"],
        &["failback"],
    ] {
        let ran = stage.run(words).await;
        assert_eq!(ran.code, 2, "{words:?}: {}", ran.shown());
        shown += &format!("$ {}\n{}\n", words.join(" "), ran.shown());
    }
    check("usage-evacuate", &shown);
}

fn vms(of: &[(&str, Option<&str>, u8, Power)]) -> VmList {
    let item = |(id, home, priority, power): &(&str, Option<&str>, u8, Power)| VmItem {
        id: id.parse().unwrap(),
        region: region("eu-west-1"),
        home: home.map(region),
        priority: *priority,
        power: *power,
        ..fixtures::item()
    };
    VmList { items: of.iter().map(item).collect(), next: None, age_ms: 12 }
}

#[tokio::test]
async fn only_what_was_driven_out_goes_back_the_most_urgent_first() {
    let home = Some("us-east-1");
    let list = vms(&[
        ("vm-a", home, 3, Power::Running),
        ("vm-born-here", None, 9, Power::Running),
        ("vm-off", home, 5, Power::Stopped),
        ("vm-other", Some("sa-east-1"), 9, Power::Running),
    ]);
    let answers =
        vec![("list_vms", reply(&list)), ("create_migration", crate::moves::begun(true))];
    let stage = Stage::with(answers).await;
    let ran = stage.run(&["failback", "--region", "us-east-1", "--dry-run"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    check("answer-failback", &ran.shown());
    let asked = stage.sent("create_migration");
    let wishes: Vec<_> = asked
        .iter()
        .map(|body| (body["vm"].as_str().unwrap(), body["cold"].as_bool().unwrap()))
        .collect();
    assert_eq!(wishes, [("vm-off", true), ("vm-a", false)]);
    assert!(asked.iter().all(|body| body["target"] == "us-east-1"));
    let none = stage.run(&["failback", "--region", "us-west-1"]).await;
    assert_eq!(none.code, 2);
    check("usage-failback-none", &none.shown());
}
