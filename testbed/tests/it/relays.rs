//! A plan in which the way through a third region is the best: requests and connections go it, and
//! the direct one when the relay is gone.

use std::net::SocketAddr;
use std::time::Duration;

use dwcp_testbed::wan::{Links, Shape};
use dwcp_testbed::{Federation, HostPlan, Plan, RegionPlan, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HOST: &str = "www.example.com";
const PORT: u16 = 5_432;

/// A server that answers whatever it is asked, once on each connection.
async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 1_024];
                if stream.read(&mut asked).await.unwrap_or(0) > 0 {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nfar";
                    stream.write_all(answer).await.unwrap_or_default();
                }
            });
        }
    });
    address
}

/// Clients are far from `far`, which alone has servers, and near to `relay`, which is near to it.
async fn federation() -> Federation {
    let upstreams = json!([{ "region": "far", "servers": [origin().await.to_string()] }]);
    let service = |id: &str, more: (&str, Value)| {
        let mut service = json!({ "id": id, "upstreams": upstreams, "qos": {} });
        service["qos"] = json!({ "interactive": { "max_latency": "2s" } });
        service[more.0] = more.1;
        service
    };
    let routing = json!({
        "algorithm": "latency",
        "round_trips": "stated",
        "proxy": { "access_log": true, "explain_to": ["127.0.0.0/8"] },
        "services": [
            service("web", ("domains", json!([HOST]))),
            service("db", ("listen_port", json!(PORT))),
        ],
        "clients": [{ "cidr": "127.0.0.0/8", "user_zone": "home" }],
    });
    let near = Shape::delay(Duration::from_millis(5));
    let far = Shape::delay(Duration::from_millis(150));
    let links = Links::wires()
        .both("relay", "far", near)
        .both("door", "far", far)
        .both("door", "relay", near);
    let regions = [("door", 10), ("relay", 10), ("far", 400)].map(|(id, latency)| {
        RegionPlan::new(id).latency_ms(latency).host(HostPlan::of_slots(4))
    });
    let plan = Plan::simulated(regions.to_vec()).behind(&links);
    Federation::start(plan.taking_connections(routing)).await
}

fn proxy(federation: &Federation, region: &str) -> SocketAddr {
    federation.socket(&format!("{region}/proxy"))
}

async fn exchange(at: SocketAddr, asked: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(asked.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn request(federation: &Federation) -> std::io::Result<String> {
    let asked = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    exchange(proxy(federation, "door"), &asked).await
}

async fn connection(federation: &Federation) -> std::io::Result<String> {
    let at = SocketAddr::new(proxy(federation, "door").ip(), PORT);
    exchange(at, "anything").await
}

/// Lines of a region's access log that name this upstream.
async fn passed(federation: &Federation, region: &str, by: &str) -> [usize; 2] {
    let path = federation.data(region).join("access.log");
    let log = tokio::fs::read_to_string(path).await.unwrap_or_default();
    let by = format!(r#""upstream":"{}""#, proxy(federation, by));
    let count = |kind: &str| {
        let lines = log.lines().filter(|line| line.contains(&by) && line.contains(kind));
        lines.count()
    };
    [count(r#""path":"/""#), count(r#""service":"db""#)]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_carries_what_is_meant_for_a_region_behind_it() {
    let mut federation = federation().await;
    until("requests and connections go by the relay", || async {
        let answers = [request(&federation).await, connection(&federation).await];
        let there = answers.iter().all(|a| a.as_ref().is_ok_and(|a| a.ends_with("far")));
        let door = passed(&federation, "door", "relay").await;
        let relay = passed(&federation, "relay", "far").await;
        let by_relay = [door, relay].as_flattened().iter().all(|count| *count > 0);
        if there && by_relay { Ok(()) } else { Err((answers, door, relay)) }
    })
    .await;
    // The relay is lost: the very next ones go the direct way.
    federation.lose("relay");
    let before = passed(&federation, "door", "far").await;
    for _ in 0..10 {
        assert!(request(&federation).await.unwrap().ends_with("far"));
        assert!(connection(&federation).await.unwrap().ends_with("far"));
    }
    until("the log says so", || async {
        let now = passed(&federation, "door", "far").await;
        let direct = now.iter().zip(before).all(|(now, before)| *now >= before + 10);
        if direct { Ok(()) } else { Err(now) }
    })
    .await;
    federation.end();
}
