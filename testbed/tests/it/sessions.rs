//! Sessions as real daemons keep them (R12): a client reaches the same server by whichever region it
//! comes in.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use dwcp_api::NoParams;
use dwcp_api::public::RegionParams;
use dwcp_api::routing::{Endpoint, GetRouting, PutRoutingEndpoint};
use dwcp_testbed::{Federation, HostPlan, Plan, RegionPlan, until};
use dwcp_types::RegionId;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

const HOST: &str = "www.example.com";
const REGIONS: [&str; 3] = ["one", "two", "three"];

/// A server that answers with its name.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(address: SocketAddr, name: String) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            // Ended with this one, as a process is with its connections.
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream, name.clone()));
            }
        });
        Self { address, task }
    }
}

async fn serve(stream: TcpStream, name: String) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|len| len > 0) {
        assert!(!line.contains("dwcp-session"), "servers see no token: {line}");
        if line.trim().is_empty() {
            let len = name.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n{name}");
            if stream.get_mut().write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        line.clear();
    }
}

/// What a browser has.
#[derive(Clone, Debug)]
struct Client {
    address: Ipv4Addr,
    cookie: Option<String>,
}

impl Client {
    /// One that comes from a network of its own: those of a /24 are told apart by nothing else.
    const fn from(number: u8) -> Self {
        Self { address: Ipv4Addr::new(127, 9, number, 1), cookie: None }
    }

    /// Asks a proxy; who answers, or why nobody did.
    async fn ask(&mut self, proxy: SocketAddr) -> Result<String, String> {
        let answer = self.told(proxy).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(answer);
        }
        for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
            if name.eq_ignore_ascii_case("set-cookie") {
                self.cookie = value.split(';').next().map(str::to_owned);
            }
        }
        Ok(body.to_owned())
    }

    async fn told(&self, proxy: SocketAddr) -> std::io::Result<String> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.address, 0).into())?;
        let mut stream = socket.connect(proxy).await?;
        let cookie = self.cookie.as_ref();
        let cookie =
            cookie.map_or_else(String::new, |cookie| format!("cookie: {cookie}\r\n"));
        let request = format!(
            "GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n{cookie}\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

struct Ground {
    federation: Federation,
    servers: BTreeMap<String, Server>,
}

impl Ground {
    /// Three regions of which the second is the best, each with two servers.
    async fn start() -> Self {
        let mut servers = BTreeMap::new();
        for name in REGIONS.iter().flat_map(|id| [format!("{id}-1"), format!("{id}-2")]) {
            let any = "127.0.0.1:0".parse().unwrap();
            servers.insert(name.clone(), Server::start(any, name).await);
        }
        let upstreams = REGIONS.map(|region| {
            let own = servers.iter().filter(|(name, _)| name.starts_with(region));
            let own: Vec<_> = own.map(|(_, server)| server.address.to_string()).collect();
            json!({ "region": region, "servers": own })
        });
        let front = |(at, region): (usize, &str)| json!({ "region": region, "ip": format!("192.0.2.{}", at + 1) });
        let fronts: Vec<_> = REGIONS.into_iter().enumerate().map(front).collect();
        let routing = json!({
            "algorithm": "latency",
            "region_endpoints": fronts,
            "services": [{
                "id": "web", "domains": [HOST], "sticky_sessions": true,
                "session_timeout": "30m", "upstreams": upstreams,
            }],
            "clients": [{ "cidr": "127.0.0.0/8", "user_zone": "home" }],
        });
        let regions = [("one", 300), ("two", 10), ("three", 90)].map(|(id, latency)| {
            RegionPlan::new(id).latency_ms(latency).host(HostPlan::of_slots(4))
        });
        let plan = Plan::simulated(regions.to_vec()).taking_requests(routing);
        Self { federation: Federation::start(plan).await, servers }
    }

    fn proxy(&self, region: &str) -> SocketAddr {
        self.federation.socket(&format!("{region}/proxy"))
    }

    /// Waits until a client is answered by a server of this region, at one of its proxies; which.
    async fn answered(&self, client: &mut Client, at: &str, by: &str) -> String {
        let before = client.clone();
        let (answer, now) = until(&format!("{by} answers at {at}"), || async {
            let mut client = before.clone();
            let answer = client.ask(self.proxy(at)).await?;
            let right = answer.starts_with(by);
            if right { Ok((answer, client)) } else { Err(answer) }
        })
        .await;
        *client = now;
        answer
    }

    /// Asks all of these, several times: they all bring the client to this server.
    async fn keeps(&self, client: &mut Client, at: &[&str], server: &str) {
        for region in at.iter().cycle().take(at.len() * 3) {
            let answer = client.ask(self.proxy(region)).await;
            assert_eq!(answer.as_deref(), Ok(server), "at {region}");
        }
    }

    async fn weigh(&self, region: &str, weight: u8) {
        let door = self.federation.at("one");
        let region = RegionId::new(region).unwrap();
        let reply = door.call::<GetRouting>(&NoParams {}, &()).await.unwrap();
        let mut items = reply.endpoints.into_iter();
        let before = items.find(|it| it.region == region).unwrap().endpoint;
        let endpoint = Endpoint { weight, ..before.unwrap() };
        let params = RegionParams { region };
        door.call::<PutRoutingEndpoint>(&params, &endpoint).await.unwrap();
    }
}

/// Routes flip, its server dies, its region dies: a session goes on wherever it comes in, and moves
/// only when what it is at is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_at_its_server_until_that_or_its_region_dies() {
    let mut ground = Ground::start().await;
    let mut client = Client::from(1);
    // Its session begins at the region that is best while another is drained.
    ground.weigh("two", 0).await;
    let server = ground.answered(&mut client, "one", "three").await;
    until("all have the key of sessions", || async {
        for region in REGIONS {
            let mut new = Client::from(1);
            new.ask(ground.proxy(region)).await?;
            if new.cookie.is_none() {
                return Err(format!("{region} gives no token"));
            }
        }
        Ok(())
    })
    .await;
    ground.keeps(&mut client, &REGIONS, &server).await;
    assert!(client.cookie.is_some());

    // The better region is back and has new clients: by their network, as they have no session.
    ground.weigh("two", 100).await;
    until("new clients go to the better region", || async {
        let mut answers = Vec::new();
        for number in 2..20 {
            answers.push(Client::from(number).ask(ground.proxy("one")).await?);
        }
        let better = answers.iter().any(|answer| answer.starts_with("two"));
        if better { Ok(()) } else { Err(format!("{answers:?}")) }
    })
    .await;
    ground.keeps(&mut client, &REGIONS, &server).await;

    ground.servers.remove(&server).expect("it is one of ours").task.abort();
    let next = ground.answered(&mut client, "one", "three").await;
    assert_ne!(next, server);
    ground.keeps(&mut client, &REGIONS, &next).await;

    ground.federation.have_run().await;
    ground.federation.lose("three");
    for server in [server, next] {
        ground.servers.remove(&server).inspect(|server| server.task.abort());
    }
    let last = until("another region takes the session on", || async {
        let mut asked = client.clone();
        asked.ask(ground.proxy("one")).await.map(|answer| (answer, asked))
    })
    .await;
    client = last.1;
    ground.keeps(&mut client, &["one", "two"], &last.0).await;
    ground.federation.end();
    for server in ground.servers.into_values() {
        server.task.abort();
    }
}
