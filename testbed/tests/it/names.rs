//! Names as real daemons answer them, and as `dig` reads the answers.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use dwcp_api::NoParams;
use dwcp_api::routing::{ExplainRouting, RoutingQuestion};
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::tls::Identity;
use dwcp_testbed::{Federation, Knock, Plan, until};
use dwcp_types::RegionId;
use serde_json::json;

const WEB: &str = "www.cdn.example.com";
const REGIONS: [&str; 3] = ["one", "two", "three"];

/// Three regions that are nearly as good and share the clients. A client keeps its region, so that
/// all who ask for one client are told the same.
async fn federation() -> Federation {
    let endpoints = REGIONS.iter().zip(1..).map(
        |(region, last)| json!({ "region": region, "ip": format!("203.0.113.{last}") }),
    );
    let routing = json!({
        "algorithm": "latency",
        "dns": {
            "zone": "cdn.example.com",
            "name_servers": [{ "name": "ns1.cdn.example.com", "ip": "203.0.113.53" }],
        },
        "region_endpoints": endpoints.collect::<Vec<_>>(),
        "services": [{ "id": "web", "hosts": ["www"], "sticky_sessions": true }],
        "clients": [{ "cidr": "127.0.0.0/8", "user_zone": "home" }],
    });
    let plan = Plan::simulated(crate::three_near()).answering_names(routing);
    Federation::start(plan).await
}

/// What `dig` prints; nothing, with the reason, where it is not installed.
async fn dig(server: SocketAddr, args: &[&str]) -> Option<String> {
    let (ip, port) = (server.ip().to_string(), server.port().to_string());
    let mut command = Command::new("dig");
    command.arg(format!("@{ip}")).args(["-p", &port, "+tries=1", "+time=60"]).args(args);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    match output {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            eprintln!("skipped: dig: {error}; apt-get install bind9-dnsutils");
            None
        }
    }
}

/// The region whose address is told.
fn region_of(told: &str) -> Result<&'static str, String> {
    let last = told.trim().strip_prefix("203.0.113.").and_then(|last| last.parse().ok());
    let at = last.and_then(|last: usize| last.checked_sub(1));
    at.and_then(|at| REGIONS.get(at)).copied().ok_or_else(|| told.to_owned())
}

/// Asks all of these until they tell one region that is not `but`, and operators the same.
async fn agreed(federation: &Federation, asked: &[&str], but: &str) -> &'static str {
    until("all tell one region", || async {
        let mut told = Vec::new();
        for region in asked {
            let server = federation.socket(&format!("{region}/dns"));
            let answer = dig(server, &["+short", WEB]).await.unwrap_or_default();
            told.push(region_of(&answer)?);
            told.push(explained(federation, region).await?);
        }
        match told[..] {
            [first, ref rest @ ..]
                if first != but && rest.iter().all(|o| *o == first) =>
            {
                Ok(first)
            }
            _ => Err(format!("{told:?}")),
        }
    })
    .await
}

/// The region that operators are told.
async fn explained(federation: &Federation, at: &str) -> Result<&'static str, String> {
    let source_ip = "127.0.0.1".parse().ok();
    let asked = RoutingQuestion { source_ip, ..RoutingQuestion::default() };
    let door = federation.at(at);
    let answer = door.call::<ExplainRouting>(&NoParams {}, &asked).await;
    let answer = answer.map_err(|error| error.to_string())?;
    assert!(answer.notes.iter().any(|note| note.contains("tells clients the same")));
    let endpoint = answer.endpoint.ok_or("nowhere")?;
    region_of(&endpoint.ip.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_one_region_s_and_another_s_when_that_dies() {
    let mut federation = federation().await;
    let one = federation.socket("one/dns");
    if dig(one, &["-v"]).await.is_none() {
        return;
    }
    let chosen = agreed(&federation, &REGIONS, "nobody").await;
    let left: Vec<_> = REGIONS.into_iter().filter(|region| *region != chosen).collect();
    // By TCP as well, with the network for which it holds.
    let server = federation.socket(&format!("{}/dns", left[0]));
    let whole = dig(server, &["+tcp", "+subnet=127.0.0.0/24", WEB]).await.unwrap();
    assert!(whole.contains("CLIENT-SUBNET: 127.0.0.0/24/24"), "{whole}");
    counted(&federation, left[0]).await;

    federation.lose(chosen);
    agreed(&federation, &left, chosen).await;
    federation.end();
}

/// The answers are in the metrics of the daemon.
async fn counted(federation: &Federation, region: &str) {
    let monitor = Identity::Monitor("prometheus".to_owned());
    let hour = Duration::from_hours(1);
    let issued = federation.ca().issue(&monitor, &[], hour, SystemClock::new().now());
    let folder = federation.folder().join("monitor");
    let credentials = issued.unwrap().write(&folder, "monitor").unwrap();
    let server = Identity::Region(RegionId::new(region).unwrap());
    let knock = Knock::new(federation.socket(region), server, credentials);
    let (status, text) = knock.text("/metrics").await.unwrap();
    assert_eq!(status, 200);
    let own = |rest: &str| format!(r#"{{region="{region}",{rest}"#);
    let tcp = own(r#"transport="tcp",rcode="NOERROR"} 1"#);
    assert!(text.contains(&format!("dns_answers_total{tcp}")), "{text}");
    let truncated = own(r#"event="truncated"} 0"#);
    assert!(text.contains(&format!("dns_events_total{truncated}")), "{text}");
}
