//! Requests as real daemons bring them to real servers: to the region that is decided, to another
//! when its servers or the region itself die, and none of them twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use dwcp_api::NoParams;
use dwcp_api::routing::{ExplainRouting, RoutingQuestion};
use dwcp_testbed::{Federation, Plan, until};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const HOST: &str = "www.example.com";
const REGIONS: [&str; 3] = ["one", "two", "three"];

/// A server of a region: it answers with its region's name.
struct Origin {
    address: SocketAddr,
    task: JoinHandle<()>,
    /// Paths of what was posted.
    posted: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    async fn start(region: &'static str, released: watch::Receiver<bool>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let posted: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = posted.clone();
        let task = tokio::spawn(async move {
            // Ended with this one, as a process is with its connections.
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream, region, seen.clone(), released.clone()));
            }
        });
        Self { address, task, posted }
    }

    async fn die(self) {
        self.task.abort();
        self.task.await.unwrap_err();
    }
}

async fn serve(
    stream: TcpStream,
    region: &'static str,
    posted: Arc<Mutex<Vec<String>>>,
    mut released: watch::Receiver<bool>,
) {
    let mut stream = BufReader::new(stream);
    while let Some((line, length)) = head(&mut stream).await {
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let path = line.split(' ').nth(1).unwrap().to_owned();
        if line.starts_with("POST") {
            posted.lock().unwrap().push(path.clone());
        }
        if path == "/held" {
            released.wait_for(|released| *released).await.unwrap();
        }
        let length = region.len();
        let answer =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{region}");
        if stream.get_mut().write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The first line of a head, and the length of the body behind it.
async fn head(stream: &mut BufReader<TcpStream>) -> Option<(String, usize)> {
    let (mut first, mut length) = (String::new(), 0);
    if stream.read_line(&mut first).await.ok()? == 0 {
        return None;
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        if line.trim().is_empty() {
            return Some((first, length));
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
}

/// A federation with servers.
struct Ground {
    federation: Federation,
    origins: BTreeMap<&'static str, Vec<Origin>>,
    release: watch::Sender<bool>,
}

impl Ground {
    /// Three regions that are nearly as good and share the clients, each with two servers. A
    /// client keeps its region, so that all bring one client to the same.
    async fn start() -> Self {
        let (release, released) = watch::channel(false);
        let mut origins: BTreeMap<&'static str, Vec<Origin>> = BTreeMap::new();
        for region in REGIONS {
            for _ in 0..2 {
                let origin = Origin::start(region, released.clone()).await;
                origins.entry(region).or_default().push(origin);
            }
        }
        let upstreams = origins.iter().map(|(region, origins)| {
            let servers = origins.iter().map(|origin| origin.address.to_string());
            json!({ "region": region, "servers": servers.collect::<Vec<_>>() })
        });
        let routing = json!({
            "algorithm": "latency",
            "proxy": { "explain_to": ["127.0.0.0/8"], "access_log": true },
            "services": [{
                "id": "web",
                "domains": [HOST],
                "sticky_sessions": true,
                "upstreams": upstreams.collect::<Vec<_>>(),
            }],
            "clients": [{ "cidr": "127.0.0.0/8", "user_zone": "home" }],
        });
        let plan = Plan::simulated(crate::three_near()).taking_requests(routing);
        let federation = Federation::start(plan).await;
        Self { federation, origins, release }
    }

    fn proxy(&self, region: &str) -> SocketAddr {
        self.federation.socket(&format!("{region}/proxy"))
    }

    /// Asks a region's proxy: the status and the whole answer; 0 when nobody answers.
    async fn ask(&self, at: &str, line: &str) -> (u16, String) {
        let asked = ask(self.proxy(at), line).await;
        asked.unwrap_or_else(|error| (0, error.to_string()))
    }

    /// A connection that waits for requests may end in the moment in which one goes out on it, and
    /// that is answered with 502 if it may not be sent twice. This one may.
    async fn finds_out(&self, at: &str) {
        let (status, answer) = self.ask(at, "GET /").await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Asks all of these until they bring the client to one region that is not `but`, and
    /// operators are told the same.
    async fn agreed(&self, asked: &[&str], but: &str) -> &'static str {
        until("all bring the client to one region", || async {
            let mut brought = Vec::new();
            for at in asked {
                let (status, answer) = self.ask(at, "GET /").await;
                brought.push((status, body(&answer).to_owned()));
                brought.push((200, self.explained(at).await?));
            }
            let first = REGIONS.into_iter().find(|region| brought[0].1 == *region);
            let first = first.filter(|first| *first != but);
            let agree = |(status, region): &(u16, String)| {
                *status == 200 && first == Some(region.as_str())
            };
            first
                .filter(|_| brought.iter().all(agree))
                .ok_or_else(|| format!("{brought:?}"))
        })
        .await
    }

    async fn explained(&self, at: &str) -> Result<String, String> {
        let source_ip = "127.0.0.1".parse().ok();
        let asked = RoutingQuestion { source_ip, ..RoutingQuestion::default() };
        let door = self.federation.at(at);
        let answer = door.call::<ExplainRouting>(&NoParams {}, &asked).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let region = answer.explanation.decision.region.map(|region| region.to_string());
        region.ok_or_else(|| "nowhere".to_owned())
    }

    /// How often servers had each of these posts.
    fn counted(&self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for origin in self.origins.values().flatten() {
            for path in origin.posted.lock().unwrap().iter() {
                *all.entry(path.clone()).or_default() += 1;
            }
        }
        all
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

async fn ask(proxy: SocketAddr, line: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(proxy).await?;
    let request = format!(
        "{line} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\nx-route-explain: 1\r\n\
         content-length: 4\r\n\r\nbody"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.unwrap_or(0), answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_find_their_region_and_leave_it_when_its_servers_and_then_a_region_die()
{
    let mut ground = Ground::start().await;
    let home = ground.agreed(&REGIONS, "nobody").await;
    let told = ground.ask(home, "GET /").await.1.to_ascii_lowercase();
    assert!(
        told.contains(&format!("x-route-explain: region={home}; generation=")),
        "{told}"
    );

    // A server dies: the very next requests go to the other, whatever they are.
    ground.origins.get_mut(home).unwrap().remove(0).die().await;
    ground.finds_out(home).await;
    for turn in 0..10 {
        let (status, answer) = ground.ask(home, &format!("POST /one-died/{turn}")).await;
        assert_eq!((status, body(&answer)), (200, home), "{answer}");
    }
    // So does the other: the very next ones go to another region, by every proxy.
    ground.origins.get_mut(home).unwrap().remove(0).die().await;
    ground.finds_out(home).await;
    for turn in 0..6 {
        let at = REGIONS[turn % 3];
        let (status, answer) = ground.ask(at, &format!("POST /both-died/{turn}")).await;
        assert_eq!(status, 200, "{answer}");
        assert_ne!(body(&answer), home);
    }
    // That is what servers had, once each; the first of them took theirs along.
    let counted = ground.counted();
    assert_eq!(counted.len(), 6, "{counted:?}");
    assert!(counted.values().all(|times| *times == 1), "{counted:?}");

    // A region dies that has servers: requests go on through the others.
    let next = REGIONS.into_iter().find(|region| *region != home).unwrap();
    let left: Vec<_> = REGIONS.into_iter().filter(|region| *region != next).collect();
    ground.federation.lose(next);
    for origin in ground.origins.get_mut(next).unwrap().drain(..) {
        origin.die().await;
    }
    let last = left.iter().find(|region| **region != home).unwrap();
    for at in &left {
        ground.finds_out(at).await;
    }
    for turn in 0..40 {
        let at = left[turn % 2];
        let (status, answer) = ground.ask(at, &format!("POST /region-died/{turn}")).await;
        assert_eq!((status, body(&answer)), (200, *last), "{turn} at {at}: {answer}");
    }
    assert!(ground.counted().values().all(|times| *times == 1), "{:?}", ground.counted());
    ground.federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_stops_lets_what_is_under_way_finish() {
    let mut ground = Ground::start().await;
    let home = ground.agreed(&REGIONS, "nobody").await;
    let other = REGIONS.into_iter().find(|region| *region != home).unwrap();
    // One by its own proxy, one by another region's, which asks it.
    let held = [home, other].map(|at| tokio::spawn(ask(ground.proxy(at), "POST /held")));
    until("both are at servers", || async {
        let held = ground.counted().get("/held").copied();
        if held == Some(2) { Ok(()) } else { Err(held) }
    })
    .await;
    ground.federation.process(home).ask_to_end();
    let proxy = ground.proxy(home);
    until("nobody is let in any more", || async {
        TcpStream::connect(proxy).await.map_or(Ok(()), |_| Err("let in"))
    })
    .await;
    // Who comes now is brought elsewhere by the others, and what was under way is finished.
    let (status, answer) = ground.ask(other, "POST /new").await;
    assert_eq!(status, 200, "{answer}");
    ground.release.send_replace(true);
    for held in held {
        let (status, answer) = held.await.unwrap().unwrap();
        assert_eq!((status, body(&answer)), (200, home), "{answer}");
    }
    let ended = ground.federation.process(home).ended().await;
    assert!(ended.status.success(), "{}", ended.log);
    let counted = [("/held".to_owned(), 2), ("/new".to_owned(), 1)];
    assert_eq!(ground.counted(), counted.into());
    let log = std::fs::read_to_string(ground.federation.data(home).join("access.log"));
    let log = log.unwrap();
    assert!(
        log.lines().any(|line| line.contains(r#""path":"/held","status":200"#)),
        "{log}"
    );
    ground.federation.end();
}
