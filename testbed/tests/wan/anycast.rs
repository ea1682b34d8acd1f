//! A shared address, announced to a real BIRD: clients of its router reach the region that is
//! preferred, and another when that one is drained, killed, or hangs.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::NoParams;
use dwcp_api::public::RegionParams;
use dwcp_api::routing::{
    AnycastItem, Endpoint, GetAnycast, GetRouting, PutRoutingEndpoint,
};
use dwcp_testbed::wan::{Bed, Links, REGIONS_AS, ROUTER_AS, Router};
use dwcp_testbed::{Door, Federation, HostPlan, Plan, RegionPlan, until};
use dwcp_types::RegionId;
use serde_json::{Value, json};

const SHARED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const POPS: [&str; 2] = ["one", "two"];
/// Keeps the engine, and shares nothing.
const HOME: &str = "home";
const HOST: &str = "www.example.com";
/// Where a region's server listens, in its own namespace.
const ORIGIN: &str = "127.0.0.1:9000";
/// How long a client of the router waits for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

fn region(id: &str) -> RegionId {
    RegionId::new(id).unwrap()
}

/// A server in a region, that answers with its name, for ever.
fn serve(bed: &Bed, region: &'static str) {
    let listener = bed.inside(region, || TcpListener::bind(ORIGIN).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let (mut asked, mut part) = (Vec::new(), [0; 1_024]);
                while let Ok(len) = stream.read(&mut part)
                    && len > 0
                {
                    asked.extend_from_slice(&part[..len]);
                    if asked.ends_with(b"\r\n\r\n") {
                        asked.clear();
                        let len = region.len();
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n{region}"
                        );
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
}

/// Where a client beside the router is answered from, on a connection of its own.
fn ask(router: &Router, port: u16) -> Result<String, String> {
    router.inside(|| {
        let at = SocketAddr::from((SHARED, port));
        let asked = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&at, ANSWER_TIME_MAX)?;
            stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
            let request =
                format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        asked().map_err(|error| error.to_string())
    })
}

/// Asks until the answer is by this region, on the port of its own proxy.
async fn answered(federation: &Federation, router: &Router, by: &str, what: &str) {
    let port = federation.socket(&format!("{by}/proxy")).port();
    until(what, || async {
        let answer = ask(router, port)?;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        if answer.starts_with("HTTP/1.1 200") && body == by {
            Ok(())
        } else {
            Err(answer)
        }
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

fn routing(bed: &Bed, router: &Router) -> Value {
    let upstreams = POPS.map(|pop| json!({ "region": pop, "servers": [ORIGIN] }));
    let clients = POPS.map(
        |pop| json!({ "cidr": format!("{}/32", router.address(pop)), "region": pop }),
    );
    let routers = POPS.map(|pop| {
        let address = router.address(pop).to_string();
        json!({ "region": pop, "address": address, "as": ROUTER_AS, "own_as": REGIONS_AS })
    });
    let fronts =
        POPS.map(|pop| json!({ "region": pop, "ip": bed.address(pop).to_string() }));
    json!({
        "algorithm": "latency",
        "region_endpoints": fronts,
        "services": [{ "id": "web", "domains": [HOST], "upstreams": upstreams }],
        "clients": clients,
        "anycast": {
            "groups": [{
                "id": "web", "service": "web", "virtual_ip": SHARED.to_string(),
                "regions": POPS,
            }],
            "routers": routers,
        },
    })
}

#[test]
fn clients_of_a_router_are_answered_by_whoever_is_fit_to() {
    let regions = [HOME, POPS[0], POPS[1]];
    let Some(bed) = Bed::new(&regions, &Links::wires()) else { return };
    let bed = Arc::new(bed);
    let Some(router) = Router::join(&bed, &POPS, SHARED) else { return };
    for pop in POPS {
        serve(&bed, pop);
    }
    bed.block_on(async {
        let region = |id: &&str| RegionPlan::new(id).host(HostPlan::of_slots(1));
        let plan = Plan::simulated(regions.iter().map(region).collect());
        let plan = plan.taking_requests(routing(&bed, &router));
        let mut federation = Federation::start_on(&bed, plan).await;
        let door = federation.at(HOME);
        for pop in POPS {
            is_shown(&door, pop, |it| it.announced && it.established).await;
        }
        answered(&federation, &router, "one", "the one that the router prefers answers")
            .await;

        weigh(&door, "one", 0).await;
        is_shown(&door, "one", |it| {
            !it.announced && !it.wanted && it.why == "draining; others answer"
        })
        .await;
        answered(&federation, &router, "two", "the other answers while one is drained")
            .await;
        weigh(&door, "one", 100).await;
        answered(&federation, &router, "one", "it answers again").await;

        federation.process("one").kill_9();
        answered(
            &federation,
            &router,
            "two",
            "the other answers when a daemon is killed",
        )
        .await;
        federation.process("one").start();
        answered(&federation, &router, "one", "its next life answers").await;

        federation.process("one").freeze();
        answered(&federation, &router, "two", "the other answers when a daemon hangs")
            .await;
        federation.process("one").thaw();
        answered(&federation, &router, "one", "it answers when it goes on").await;

        // With nobody fit both go on: an address that nobody announces helps no client.
        weigh(&door, "one", 0).await;
        weigh(&door, "two", 0).await;
        is_shown(&door, "two", |it| {
            it.announced && it.why == "draining, and so are all others of the group"
        })
        .await;
        is_shown(&door, "one", |it| it.announced).await;
        federation.end();
    });
}
