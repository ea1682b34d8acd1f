//! Clients are where a file of places says, also when the file is another while daemons run.

use std::path::{Path, PathBuf};

use dwcp_api::NoParams;
use dwcp_api::routing::{ExplainRouting, GetRouting, RoutingQuestion};
use dwcp_testbed::{Federation, HostPlan, Plan, RegionPlan, until};
use serde_json::json;

use written::{city, file};

/// The writer of such files that the tests of their reader have too.
#[expect(dead_code, reason = "not all that it writes is needed here")]
#[path = "../../../shell/region/src/routing/atlas/written.rs"]
mod written;

const CLIENT: &str = "203.0.113.9";

fn put(path: &Path, bytes: &[u8]) {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, bytes).unwrap();
    std::fs::rename(draft, path).unwrap();
}

fn plan(path: &Path) -> Plan {
    let routing = json!({
        "algorithm": "geo",
        "clients": [
            { "mmdb": path },
            { "cidr": "203.0.113.128/25", "region": "sydney" },
        ],
    });
    let regions = [
        RegionPlan::new("frankfurt").at(50.11, 8.68).host(HostPlan::of_slots(4)),
        RegionPlan::new("sydney").at(-33.87, 151.21).host(HostPlan::of_slots(4)),
    ];
    Plan::simulated(regions.to_vec()).taking_requests(routing)
}

/// Where a client is sent, and where it is said to be.
async fn asked(
    federation: &Federation,
    client: &str,
) -> Result<(String, String), String> {
    let source_ip = client.parse().ok();
    let asked = RoutingQuestion { source_ip, ..RoutingQuestion::default() };
    let door = federation.at("frankfurt");
    let answer = door.call::<ExplainRouting>(&NoParams {}, &asked).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let region = answer.explanation.decision.region.map(|region| region.to_string());
    Ok((region.unwrap_or_default(), answer.client))
}

async fn is_sent(federation: &Federation, client: &str, region: &str) -> String {
    until(&format!("{client} is sent to {region}"), || async {
        let (sent, told) = asked(federation, client).await?;
        if sent == region { Ok(told) } else { Err(format!("{sent}: {told}")) }
    })
    .await
}

async fn notes(federation: &Federation) -> String {
    let door = federation.at("frankfurt");
    door.call::<GetRouting>(&NoParams {}, &()).await.unwrap().notes.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_where_the_newest_sound_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("places.mmdb");
    let places = |latitude, longitude| {
        file("Test-City", &[("203.0.113.0/24", city("XX", latitude, longitude))])
    };
    put(&path, &places(52.5, 13.4));
    let federation = Federation::start(plan(&path)).await;
    let told = is_sent(&federation, CLIENT, "frankfurt").await;
    let shown = path.display().to_string();
    assert!(told.contains(&shown) && told.contains("Test-City, built "), "{told}");
    // What the operator says counts before it.
    let told = is_sent(&federation, "203.0.113.200", "sydney").await;
    assert!(told.contains("203.0.113.128/25 of routing.clients"), "{told}");
    let (_, told) = asked(&federation, "198.51.100.1").await.unwrap();
    assert!(told.contains("its place is not known"), "{told}");
    assert!(notes(&federation).await.contains("Test-City"));

    put(&path, &places(-37.8, 145.0));
    is_sent(&federation, CLIENT, "sydney").await;

    // Half a file is not taken, and that is told until there is a whole one.
    let whole = places(52.5, 13.4);
    put(&path, &whole[..whole.len() / 2]);
    until("the broken file is told of", || async {
        let notes = notes(&federation).await;
        if notes.contains("was not taken") { Ok(()) } else { Err(notes) }
    })
    .await;
    assert_eq!(asked(&federation, CLIENT).await.unwrap().0, "sydney");
    put(&path, &whole);
    is_sent(&federation, CLIENT, "frankfurt").await;
    assert!(!notes(&federation).await.contains("was not taken"));
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_does_not_start_with_a_file_that_it_cannot_use() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("places.mmdb");
    let mut federation = Federation::prepare(plan(&path));
    for (bytes, told) in [
        (None, "put the file there, or take `mmdb` out of `routing.clients`"),
        (Some(&b"half"[..]), "is no sound file of places (mmdb)"),
    ] {
        if let Some(bytes) = bytes {
            put(&path, bytes);
        }
        let daemon = federation.process("frankfurt");
        daemon.start();
        let ended = daemon.ended().await;
        assert!(!ended.status.success());
        assert!(ended.log.contains(told), "{}", ended.log);
    }
}
