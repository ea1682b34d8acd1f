//! A shared address, announced to a real BIRD: clients of its router reach the region that is
//! preferred, and another when that one is drained, killed, or hangs. By external and internal BGP,
//! by IPv4 and IPv6, and with the way between them watched by BFD.

use std::time::Duration;

use dwcp_api::NoParams;
use dwcp_api::public::RegionParams;
use dwcp_api::routing::{
    AnycastBfd, AnycastItem, Endpoint, GetAnycast, GetRouting, PutRoutingEndpoint,
};
use dwcp_testbed::pops::{HOME, POPS, Pops, SHARED, SHARED_SIX};
use dwcp_testbed::wan::Speech;
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

/// Whether both ends find that the way between them works.
fn is_up(item: &AnycastItem) -> bool {
    let up =
        |bfd: &AnycastBfd| bfd.state == "up" && bfd.remote_state.as_deref() == Some("up");
    item.bfd.as_ref().is_some_and(up)
}

fn failures(item: &AnycastItem) -> u64 {
    item.bfd.as_ref().map_or(0, |bfd| bfd.failures)
}

/// Waits until the router says so of a region.
async fn router_says(pops: &Pops, command: &str, what: &str) {
    until(&format!("the router says {what}"), || async {
        let said = pops.router.ask(command).map_err(|error| error.to_string())?;
        if said.contains(what) { Ok(()) } else { Err(said) }
    })
    .await;
}

#[test]
fn clients_of_a_router_are_answered_by_whoever_is_fit_to() {
    let Some(pops) = Pops::new(Speech::default()) else { return };
    pops.bed.block_on(async {
        let mut federation = pops.federation().await;
        let door = federation.at(HOME);
        for pop in POPS {
            is_shown(&door, pop, |it| it.announced).await;
        }
        answered(&federation, &pops, "one", "whom the router prefers answers").await;

        let remedy = "`ip address add 203.0.113.10/32 dev lo`";
        let told =
            |it: &AnycastItem| it.warning.as_ref().is_some_and(|it| it.ends_with(remedy));
        pops.take("one");
        is_shown(&door, "one", told).await;
        pops.give("one");
        is_shown(&door, "one", |it| it.warning.is_none()).await;

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

#[test]
fn a_way_that_is_watched_fails_in_silence_and_not_in_order() {
    let speech = Speech { bfd: true, ..Speech::default() };
    let Some(mut pops) = Pops::new(speech) else { return };
    let bed = pops.bed.clone();
    bed.block_on(async {
        let (mut federation, door) = watched(&pops).await;
        let agreed = shown(&door, "one").await.unwrap().bfd.unwrap();
        assert_eq!((agreed.transmit_ms, agreed.detection_ms), (Some(300), Some(900)));
        router_says(&pops, "show bfd sessions", "0.300    0.900").await;
        answered(&federation, &pops, "one", "whom the router prefers answers").await;

        // Who leaves the address to another still speaks with the router.
        weigh(&door, "one", 0).await;
        is_shown(&door, "one", |it| !it.announced && is_up(it)).await;
        answered(&federation, &pops, "two", "the other answers while one drains").await;
        weigh(&door, "one", 100).await;
        answered(&federation, &pops, "one", "it answers again").await;

        federation.process("one").freeze();
        router_says(&pops, "show protocols pop1", "BFD session down").await;
        answered(&federation, &pops, "two", "the other answers for one that hangs").await;
        federation.process("one").thaw();
        is_shown(&door, "one", |it| it.announced && is_up(it) && failures(it) > 0).await;
        answered(&federation, &pops, "one", "it answers when it goes on").await;

        // BIRD 2.0 takes AdminDown for a failure, but everything is withdrawn before it comes.
        federation.process("one").ask_to_end();
        federation.process("one").ended().await;
        answered(&federation, &pops, "two", "the other answers for one that stops").await;
        federation.process("one").start();
        is_shown(&door, "one", |it| it.announced && is_up(it) && failures(it) == 0).await;

        pops.router.restart();
        for pop in POPS {
            is_shown(&door, pop, |it| it.announced && is_up(it) && failures(it) > 0)
                .await;
        }
        answered(&federation, &pops, "one", "the router's next life is told").await;
        federation.end();
    });
}

/// A federation whose regions announce, and whose ways to the router are watched.
async fn watched(pops: &Pops) -> (Federation, Door) {
    let federation = pops.federation().await;
    let door = federation.at(HOME);
    for pop in POPS {
        is_shown(&door, pop, |it| it.announced && is_up(it)).await;
    }
    (federation, door)
}

#[test]
fn regions_of_the_routers_own_as_share_an_address() {
    let speech = Speech { within: true, bfd: true, ..Speech::default() };
    let Some(pops) = Pops::new(speech) else { return };
    pops.bed.block_on(async {
        let (mut federation, door) = watched(&pops).await;
        answered(&federation, &pops, "one", "whom the router prefers answers").await;
        weigh(&door, "one", 0).await;
        answered(&federation, &pops, "two", "the other answers while one drains").await;
        weigh(&door, "one", 100).await;
        answered(&federation, &pops, "one", "it answers again").await;
        federation.process("one").freeze();
        router_says(&pops, "show protocols pop1", "BFD session down").await;
        answered(&federation, &pops, "two", "the other answers for one that hangs").await;
        federation.process("one").thaw();
        answered(&federation, &pops, "one", "it answers when it goes on").await;
        federation.end();
    });
}

#[test]
fn addresses_of_both_versions_are_shared_by_sessions_of_either() {
    let speech = Speech { six: true, bfd: true, ..Speech::default() };
    let Some(pops) = Pops::new(speech) else { return };
    pops.bed.block_on(async {
        let (mut federation, door) = watched(&pops).await;
        let answered = async |federation: &Federation, by: &str| {
            for address in [SHARED.into(), SHARED_SIX.into()] {
                until(&format!("{by} answers at {address}"), || async {
                    let answer = pops.ask_at(address, federation, ANSWER_TIME_MAX);
                    let answer = answer.map_err(|error| error.to_string())?;
                    if answer == by { Ok(()) } else { Err(answer.to_owned()) }
                })
                .await;
            }
        };
        answered(&federation, "one").await;
        for pop in POPS {
            let (four, six) = pops.router.far(pop);
            router_says(
                &pops,
                &format!("show route for {SHARED}"),
                &format!("via {four} "),
            )
            .await;
            router_says(
                &pops,
                &format!("show route for {SHARED_SIX}"),
                &format!("via {six} "),
            )
            .await;
        }
        weigh(&door, "one", 0).await;
        answered(&federation, "two").await;
        weigh(&door, "one", 100).await;
        answered(&federation, "one").await;
        federation.process("one").freeze();
        answered(&federation, "two").await;
        federation.process("one").thaw();
        answered(&federation, "one").await;
        federation.end();
    });
}
