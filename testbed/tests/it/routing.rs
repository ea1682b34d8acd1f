//! Routing as real daemons answer it: from what each knows of all regions at that moment.

use dwcp_api::ErrorCode;
use dwcp_api::public::RegionParams;
use dwcp_api::routing::{
    ConfigureRouting, Endpoint, ExplainRouting, GetRouting, GetRoutingLatency,
    PutRouting, PutRoutingEndpoint, RoutingAnswer, RoutingQuestion, RoutingReply,
};
use dwcp_api::{CallError, NoParams};
use dwcp_router::{Algorithm, Reason, Refusal};
use dwcp_testbed::{Door, Federation, HostPlan, Plan, RegionPlan, refusal, until};
use dwcp_types::RegionId;

const REGIONS: [&str; 3] = ["one", "two", "three"];

fn id(region: &str) -> RegionId {
    RegionId::new(region).unwrap()
}

/// All at one place; the second is nearest to the users.
async fn federation() -> Federation {
    let regions = [("one", 60), ("two", 10), ("three", 90)].map(|(id, latency)| {
        RegionPlan::new(id).latency_ms(latency).host(HostPlan::of_slots(4))
    });
    let federation = Federation::start(Plan::simulated(regions.to_vec())).await;
    federation.healthy().await;
    federation
}

async fn explain(
    door: &Door,
    asked: RoutingQuestion,
) -> Result<RoutingAnswer, CallError> {
    door.call::<ExplainRouting>(&NoParams {}, &asked).await
}

async fn settings(door: &Door) -> RoutingReply {
    door.call::<GetRouting>(&NoParams {}, &()).await.unwrap()
}

/// Asks until the answer is as wanted.
async fn answered(
    door: &Door,
    what: &str,
    asked: &RoutingQuestion,
    wanted: impl Fn(&RoutingAnswer) -> bool,
) -> RoutingAnswer {
    until(what, || async {
        let answer = explain(door, asked.clone()).await.map_err(|e| e.to_string())?;
        if wanted(&answer) {
            Ok(answer)
        } else {
            Err(format!("{:?}", answer.explanation))
        }
    })
    .await
}

fn at(region: &str) -> RoutingQuestion {
    RoutingQuestion { region: Some(id(region)), ..RoutingQuestion::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_to_a_healthy_region_and_elsewhere_when_that_dies() {
    let mut federation = federation().await;
    let door = federation.at("one");
    let all = |answer: &RoutingAnswer| {
        let regions = &answer.explanation.candidates;
        regions.len() == 3 && regions.iter().all(|region| region.refused.is_empty())
    };
    let first = answered(&door, "all regions stand", &at("two"), all).await;
    assert!(first.explanation.decision.meets, "{first:?}");
    assert!(first.notes.iter().any(|note| note.contains("round trips are those")));

    federation.lose("two");
    let without = answered(&door, "the dead region is left", &at("two"), |answer| {
        let dead = answer.explanation.candidates.iter().find(|c| c.region == id("two"));
        dead.is_some_and(|dead| dead.refused.contains(&Refusal::Health))
    })
    .await;
    let chosen = without.explanation.decision.region.unwrap();
    assert_ne!(chosen, id("two"));

    // As if another were down as well: the last one answers.
    let other = if chosen == id("one") { "three" } else { "one" };
    let rehearsed = RoutingQuestion { without: [chosen.clone()].into(), ..at("two") };
    let last = explain(&door, rehearsed).await.unwrap();
    assert_eq!(last.explanation.decision.region, Some(id(other)));
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_daemon_is_told_all_do() {
    let federation = federation().await;
    let [one, two] = ["one", "two"].map(|region| federation.at(region));
    let before = settings(&one).await;
    assert_eq!((before.algorithm, before.chosen_live), (Algorithm::Hybrid, false));

    let body = ConfigureRouting { algorithm: Some(Algorithm::Cost) };
    let reply = one.call::<PutRouting>(&NoParams {}, &body).await.unwrap();
    assert_eq!((reply.algorithm, reply.chosen_live), (Algorithm::Cost, true));
    let by_cost =
        |answer: &RoutingAnswer| answer.explanation.algorithm == Algorithm::Cost;
    answered(&two, "the other daemon ranks by cost", &at("two"), by_cost).await;

    // A region that is drained has no share any more.
    let drained = Endpoint {
        ip: "203.0.113.10".parse().unwrap(),
        ipv6: None,
        port: 443,
        capacity: None,
        weight: 0,
    };
    let params = RegionParams { region: id("one") };
    one.call::<PutRoutingEndpoint>(&params, &drained).await.unwrap();
    answered(&two, "the drained region is left", &at("one"), |answer| {
        let candidates = &answer.explanation.candidates;
        let one = candidates.iter().find(|c| c.region == id("one"));
        one.is_some_and(|one| {
            one.refused.contains(&Refusal::Draining) && one.share.get() == 0
        })
    })
    .await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_makes_no_sense_is_refused_with_what_there_is() {
    let federation = federation().await;
    let door = federation.at("one");
    let nowhere = RoutingQuestion::default();
    let placeless = answered(&door, "there is a table", &nowhere, |_| true).await;
    assert!(placeless.explanation.decision.reasons.contains(&Reason::Placeless));

    until("the table knows all regions", || async {
        let ways = door.call::<GetRoutingLatency>(&NoParams {}, &()).await;
        let rows = ways.map_err(|error| error.to_string())?.rows;
        let regions = rows.iter().filter(|row| row.is_region).count();
        if regions == REGIONS.len() { Ok(()) } else { Err(regions.to_string()) }
    })
    .await;

    let unknown = refusal(explain(&door, at("mars")).await);
    assert_eq!(unknown.code, ErrorCode::NotFound);
    assert!(unknown.remedy.unwrap().contains("three"));
    let two = RoutingQuestion { source_ip: "192.0.2.1".parse().ok(), ..at("one") };
    assert_eq!(refusal(explain(&door, two).await).code, ErrorCode::Invalid);
    let endpoint = Endpoint {
        ip: "2001:db8::1".parse().unwrap(),
        ipv6: None,
        port: 443,
        capacity: None,
        weight: 100,
    };
    let params = RegionParams { region: id("one") };
    let refused = door.call::<PutRoutingEndpoint>(&params, &endpoint).await;
    assert_eq!(refusal(refused).code, ErrorCode::Invalid);

    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_starts_while_the_engine_is_away_routes_as_before() {
    let mut federation = federation().await;
    // The engine is in the first region's daemon.
    let [one, two] = ["one", "two"].map(|region| federation.at(region));
    let all = |answer: &RoutingAnswer| answer.explanation.candidates.len() == 3;
    answered(&two, "all regions stand", &at("two"), all).await;
    let body = ConfigureRouting { algorithm: Some(Algorithm::Cost) };
    one.call::<PutRouting>(&NoParams {}, &body).await.unwrap();
    let by_cost =
        |answer: &RoutingAnswer| answer.explanation.algorithm == Algorithm::Cost;
    let before = answered(&two, "it ranks by cost", &at("two"), by_cost).await;
    // What a table was made of is on disk before the next table is made.
    let made = before.explanation.generation;
    answered(&two, "another table", &at("two"), |it| it.explanation.generation > made)
        .await;

    federation.process("one").kill_9();
    federation.process("two").crash_and_restart();
    let recalls = |answer: &RoutingAnswer| {
        answer.notes.iter().any(|it| it.contains("was not read"))
    };
    let dead = |answer: &RoutingAnswer| {
        let one = answer.explanation.candidates.iter().find(|c| c.region == id("one"));
        one.is_some_and(|one| one.refused.contains(&Refusal::Health))
    };
    let after = answered(&two, "it answers without the engine", &at("two"), |answer| {
        dead(answer) && answer.explanation.decision.meets
    })
    .await;
    assert!(recalls(&after) && all(&after) && by_cost(&after), "{after:?}");

    federation.process("one").start();
    answered(&two, "it answers by the engine's records", &at("two"), |answer| {
        !recalls(answer) && !dead(answer) && by_cost(answer)
    })
    .await;
    federation.end();
}
