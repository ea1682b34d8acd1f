//! Clients in the networks of several regions, behind the round trips between these: each is told its
//! own region by a name server and answered there by a proxy, and goes on with another region when its
//! own dies (the same by a shared address: `anycast`).

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::NoParams;
use dwcp_api::routing::{ExplainRouting, RoutingQuestion};
use dwcp_router::Refusal;
use dwcp_testbed::pops::serve;
use dwcp_testbed::wan::{Bed, Links, Shape};
use dwcp_testbed::{Federation, HostPlan, Plan, RegionPlan, until};
use serde_json::json;

const NAME: &str = "www.cdn.example.com";
/// The engine is in the first, which does not die.
const REGIONS: [&str; 3] = ["america", "europe", "asia"];
/// Where a region's server listens, in its own namespace.
const ORIGIN: &str = "127.0.0.1:9000";
/// How long a client waits for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

fn links() -> Links {
    let way = |ms| Shape::delay(Duration::from_millis(ms));
    let [america, europe, asia] = REGIONS;
    Links::wires().both(america, europe, way(40)).both(america, asia, way(60)).both(
        europe,
        asia,
        way(90),
    )
}

/// What a client in this region's network asks.
struct Client<'b> {
    bed: &'b Bed,
    home: &'static str,
}

impl Client<'_> {
    fn address(&self) -> IpAddr {
        self.bed.address(self.home).into()
    }

    /// The address that a name server tells it.
    fn told(&self, server: SocketAddr) -> Result<IpAddr, String> {
        let (ip, port) = (server.ip().to_string(), server.port().to_string());
        let mut dig = Command::new("dig");
        dig.arg(format!("@{ip}"))
            .args(["-p", &port, "+tries=1", "+time=2", "+short", NAME]);
        let dig = dig.stdout(Stdio::piped()).stderr(Stdio::null());
        let child = self.bed.run_in(self.home, dig).map_err(|error| error.to_string())?;
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let told = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        told.parse().map_err(|_| told)
    }

    /// Who answers it at a proxy.
    fn answered(&self, proxy: SocketAddr) -> Result<String, String> {
        let asked = || -> io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&proxy, ANSWER_TIME_MAX)?;
            stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
            let request =
                format!("GET / HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer =
            self.bed.inside(self.home, asked).map_err(|error| error.to_string())?;
        let by = answer
            .strip_prefix("HTTP/1.1 200")
            .and_then(|_| answer.split("\r\n\r\n").nth(1));
        by.map(str::to_owned).ok_or(answer)
    }

    /// The region that answers it, when it asks this region's name server and goes where it is told.
    fn brought(&self, federation: &Federation, server: &str) -> Result<String, String> {
        let address = self.told(federation.socket(&format!("{server}/dns")))?;
        let port = federation.socket(&format!("{server}/proxy")).port();
        let by = self.answered(SocketAddr::new(address, port))?;
        let region =
            REGIONS.into_iter().find(|id| IpAddr::from(self.bed.address(id)) == address);
        match region {
            Some(region) if region == by => Ok(by),
            told => Err(format!("told {told:?}, answered by {by}")),
        }
    }
}

/// The region that operators are told for a client, and whether another one is said to be ill.
async fn explained(
    federation: &Federation,
    (at, client): (&str, IpAddr),
    other: &str,
) -> Result<(String, bool), String> {
    let asked = RoutingQuestion { source_ip: Some(client), ..RoutingQuestion::default() };
    let answer = federation.at(at).call::<ExplainRouting>(&NoParams {}, &asked).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let region = answer.explanation.decision.region.ok_or("nowhere")?;
    let mut candidates = answer.explanation.candidates.into_iter();
    let other = candidates.find(|it| it.region.as_str() == other);
    let is_ill = other.is_some_and(|it| it.refused.contains(&Refusal::Health));
    Ok((region.to_string(), is_ill))
}

async fn federation(bed: &Arc<Bed>, links: &Links) -> Federation {
    for id in REGIONS {
        let listener = bed.inside(id, || TcpListener::bind(ORIGIN));
        serve(listener.expect("a server can listen"), id);
    }
    let network = |id: &str| {
        let [a, b, c, _] = bed.address(id).octets();
        json!({ "cidr": format!("{}/24", Ipv4Addr::new(a, b, c, 0)), "region": id })
    };
    let front = |id: &str| json!({ "region": id, "ip": bed.address(id).to_string() });
    let routing = json!({
        "algorithm": "latency",
        "dns": {
            "zone": "cdn.example.com",
            "name_servers": [{ "name": "ns1.cdn.example.com", "ip": "203.0.113.53" }],
        },
        "region_endpoints": REGIONS.map(front),
        "clients": REGIONS.map(network),
        "services": [{
            "id": "web",
            "hosts": ["www"],
            "upstreams": REGIONS.map(|id| json!({ "region": id, "servers": [ORIGIN] })),
        }],
    });
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(1));
    let plan = Plan::simulated(REGIONS.map(region).to_vec()).behind(links);
    let plan = plan.answering_names(routing.clone()).taking_requests(routing);
    Federation::start_on(bed, plan).await
}

#[test]
fn clients_of_several_regions_are_answered_at_home_and_elsewhere_when_that_dies() {
    if let Err(error) = Command::new("dig").arg("-v").output() {
        eprintln!("skipped: dig: {error}; apt-get install bind9-dnsutils");
        return;
    }
    let links = links();
    let Some(bed) = Bed::new(&REGIONS, &links) else { return };
    let bed = Arc::new(bed);
    bed.block_on(async {
        let mut federation = federation(&bed, &links).await;
        let clients = REGIONS.map(|home| Client { bed: &bed, home });
        // Whichever name server a client asks, it is told the region that is next to it.
        for client in &clients {
            for server in REGIONS {
                let what = format!("a client in {} is at home by {server}", client.home);
                until(&what, || async {
                    let by = client.brought(&federation, server)?;
                    if by == client.home { Ok(()) } else { Err(by) }
                })
                .await;
            }
        }

        federation.have_run().await;
        federation.lose("europe");
        let left = ["america", "asia"];
        for client in &clients {
            // The next best one for those of the region that is lost; all others stay.
            let wanted = if client.home == "europe" { "america" } else { client.home };
            for server in left {
                let what = format!("a client in {} goes on by {server}", client.home);
                until(&what, || async {
                    let by = client.brought(&federation, server)?;
                    if by == wanted { Ok(()) } else { Err(by) }
                })
                .await;
                let asked = (server, client.address());
                until("operators are told the same, and why", || async {
                    let told = explained(&federation, asked, "europe").await?;
                    let right = (wanted.to_owned(), true);
                    if told == right { Ok(()) } else { Err(format!("{told:?}")) }
                })
                .await;
            }
        }
        federation.end();
    });
}
