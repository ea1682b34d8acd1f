//! Datagrams as real daemons pass them on (L4 by UDP): to the region that is decided, by its own proxy
//! or another region's, and to others when its servers or the region itself die.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dwcp_testbed::{Federation, Plan, until};
use serde_json::json;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PORT: u16 = 5_060;
const REGIONS: [&str; 3] = ["one", "two", "three"];
/// After so long a client asks again.
const ASKED_AGAIN: Duration = Duration::from_millis(500);
/// What fits a datagram of IPv4, less the longest name of a region here.
const MOST: usize = 65_500;

/// A server that sends back what it is sent, behind its region's name.
struct Echo {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Echo {
    async fn start(region: &'static str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut room = vec![0; MOST + 10];
            loop {
                let (len, from) = socket.recv_from(&mut room).await.unwrap();
                // One without anything is a probe.
                if len > 0 {
                    let answer = [region.as_bytes(), &room[..len]].concat();
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        Self { address, task }
    }

    async fn die(self) {
        self.task.abort();
        self.task.await.unwrap_err();
    }
}

/// A client's socket, which numbers what it asks.
struct Client {
    socket: UdpSocket,
    asked: AtomicU32,
}

impl Client {
    /// Asks something of this length; who answers. What comes late for an earlier question is no answer.
    async fn ask(&self, len: usize) -> Result<String, String> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut asked = number.to_vec();
        asked.resize(len.max(number.len()), b'x');
        self.socket.send(&asked).await.map_err(|error| error.to_string())?;
        let mut room = vec![0; MOST + 10];
        let answer = async {
            loop {
                let len = self.socket.recv(&mut room).await.map_err(|e| e.to_string())?;
                let answer = &room[..len];
                let own = |region: &&str| answer.starts_with(region.as_bytes());
                let region =
                    REGIONS.into_iter().find(own).ok_or("an answer of nobody")?;
                let heard = &answer[region.len()..];
                if heard.starts_with(&number) {
                    assert!(heard == asked, "{} bytes of {}", heard.len(), asked.len());
                    return Ok(region.to_owned());
                }
            }
        };
        timeout(ASKED_AGAIN, answer).await.map_err(|_| "no answer")?
    }
}

struct Ground {
    federation: Federation,
    servers: BTreeMap<&'static str, Echo>,
}

impl Ground {
    async fn start() -> Self {
        let mut servers = BTreeMap::new();
        for region in REGIONS {
            servers.insert(region, Echo::start(region).await);
        }
        let upstreams = servers.iter().map(|(region, server)| {
            json!({ "region": region, "servers": [server.address.to_string()] })
        });
        let routing = json!({
            "algorithm": "latency",
            "proxy": { "max_connections_per_network": 4_096 },
            "services": [{
                "id": "voice",
                "protocol": "udp",
                "listen_port": PORT,
                "sticky_sessions": true,
                "upstreams": upstreams.collect::<Vec<_>>(),
            }],
            "clients": [{ "cidr": "127.0.0.0/8", "user_zone": "home" }],
        });
        let plan = Plan::simulated(crate::three_near()).taking_connections(routing);
        Self { federation: Federation::start(plan).await, servers }
    }

    /// A client of a region's proxy.
    async fn client(&self, at: &str) -> Client {
        let proxy = self.federation.socket(&format!("{at}/proxy"));
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect((proxy.ip(), PORT)).await.unwrap();
        Client { socket, asked: AtomicU32::new(0) }
    }

    /// Asks by all of these, each time as a new client; who answers.
    async fn brought(&self, asked: &[&str]) -> Result<Vec<String>, String> {
        let mut brought = Vec::new();
        for at in asked {
            brought.push(self.client(at).await.ask(8).await?);
        }
        Ok(brought)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_are_whole_and_leave_servers_and_regions_that_die() {
    let mut ground = Ground::start().await;
    let home = until("all bring a client to one region, which it keeps", || async {
        let brought = ground.brought(&REGIONS).await?;
        let home = REGIONS.into_iter().find(|home| brought.iter().all(|it| it == home));
        home.ok_or_else(|| format!("{brought:?}"))
    })
    .await;
    // By its own proxy, and by another region's over the line between them: as they were sent.
    for at in REGIONS {
        let client = ground.client(at).await;
        for len in [4, 1_200, 9_000, MOST] {
            let answered = until("it is answered", || client.ask(len)).await;
            assert_eq!(answered, home);
        }
    }
    // Its server dies: the same clients, which keep their sockets, are answered by others.
    let mut clients = Vec::new();
    for at in REGIONS {
        let client = ground.client(at).await;
        until("it is answered", || client.ask(8)).await;
        clients.push(client);
    }
    ground.servers.remove(home).unwrap().die().await;
    for client in &clients {
        until("another region answers", || async {
            let by = client.ask(8).await?;
            if by == home { Err(by) } else { Ok(()) }
        })
        .await;
    }
    // A region dies that has a server: the last one goes on.
    let next = REGIONS.into_iter().find(|region| *region != home).unwrap();
    ground.federation.have_run().await;
    ground.federation.lose(next);
    ground.servers.remove(next).unwrap().die().await;
    let left: Vec<_> = REGIONS.into_iter().filter(|region| *region != next).collect();
    until("the last one answers", || async {
        let brought = ground.brought(&left).await?;
        let last = brought.iter().all(|region| region != home && region != next);
        if last { Ok(()) } else { Err(format!("{brought:?}")) }
    })
    .await;
    ground.federation.end();
}
