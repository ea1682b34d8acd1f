//! A shared address, announced to a real BIRD: clients of its router reach the region that is
//! preferred, and another when that one is drained, killed, or hangs.

use std::time::Duration;

use dwcp_api::NoParams;
use dwcp_api::public::RegionParams;
use dwcp_api::routing::{
    AnycastItem, Endpoint, GetAnycast, GetRouting, PutRoutingEndpoint,
};
use dwcp_testbed::pops::{HOME, POPS, Pops};
use dwcp_testbed::{Door, Federation, until};
use dwcp_types::RegionId;

/// How long a client of the router waits for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

fn region(id: &str) -> RegionId {
    RegionId::new(id).unwrap()
}

/// Asks until the answer is by this region.
async fn answered(federation: &Federation, pops: &Pops, by: &str, what: &str) {
    until(what, || async {
        let answer = pops.ask(federation, ANSWER_TIME_MAX).map_err(|e| e.to_string())?;
        if answer == by { Ok(()) } else { Err(answer.to_owned()) }
    })
    .await;
}

async fn shown(door: &Door, of: &str) -> Result<AnycastItem, String> {
    let reply = door.call::<GetAnycast>(&NoParams {}, &()).await;
    let items = reply.map_err(|error| error.to_string())?.items;
    items.into_iter().find(|it| it.region == region(of)).ok_or_else(|| "not there".into())
}

/// Waits until operators of another region are told so.
async fn is_shown(door: &Door, of: &str, wanted: impl Fn(&AnycastItem) -> bool) {
    until(&format!("{of} is shown so"), || async {
        let item = shown(door, of).await?;
        if wanted(&item) { Ok(()) } else { Err(format!("{item:?}")) }
    })
    .await;
}

async fn weigh(door: &Door, of: &str, weight: u8) {
    let reply = door.call::<GetRouting>(&NoParams {}, &()).await.unwrap();
    let mut items = reply.endpoints.into_iter();
    let before = items.find(|it| it.region == region(of)).unwrap().endpoint;
    let endpoint = Endpoint { weight, ..before.unwrap() };
    let params = RegionParams { region: region(of) };
    door.call::<PutRoutingEndpoint>(&params, &endpoint).await.unwrap();
}

#[test]
fn clients_of_a_router_are_answered_by_whoever_is_fit_to() {
    let Some(pops) = Pops::new() else { return };
    pops.bed.block_on(async {
        let mut federation = pops.federation().await;
        let door = federation.at(HOME);
        for pop in POPS {
            is_shown(&door, pop, |it| it.announced).await;
        }
        answered(&federation, &pops, "one", "whom the router prefers answers").await;

        weigh(&door, "one", 0).await;
        is_shown(&door, "one", |it| {
            !it.announced && !it.wanted && it.why == "draining; others answer"
        })
        .await;
        answered(&federation, &pops, "two", "the other answers while one drains").await;
        weigh(&door, "one", 100).await;
        answered(&federation, &pops, "one", "it answers again").await;

        federation.process("one").kill_9();
        answered(&federation, &pops, "two", "the other answers for one killed").await;
        federation.process("one").start();
        answered(&federation, &pops, "one", "its next life answers").await;

        federation.process("one").freeze();
        answered(&federation, &pops, "two", "the other answers for one that hangs").await;
        federation.process("one").thaw();
        answered(&federation, &pops, "one", "it answers when it goes on").await;

        federation.process("one").ask_to_end();
        answered(&federation, &pops, "two", "the other answers for one that stops").await;
        federation.process("one").ended().await;
        federation.process("one").start();
        answered(&federation, &pops, "one", "it answers after its stop").await;

        // With nobody fit both go on: an address that nobody announces helps no client.
        weigh(&door, "one", 0).await;
        weigh(&door, "two", 0).await;
        is_shown(&door, "two", |it| {
            it.announced && it.why == "draining, and no other that is fit announces"
        })
        .await;
        is_shown(&door, "one", |it| it.announced).await;
        federation.end();
    });
}
