//! Connections as real daemons pass them on (L4): whole, in order, to the region that is decided,
//! to another when its servers or the region itself die, and to their end when a daemon stops.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use dwcp_testbed::{Federation, Plan, until};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

const PORT: u16 = 5_432;
const REGIONS: [&str; 3] = ["one", "two", "three"];
/// More than all buffers of two proxies hold.
const MUCH: usize = 12 << 20;

/// A server that says its region's name in a line and then sends back what it is sent, to its end.
struct Echo {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Echo {
    async fn start(region: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            // Ended with this one, as a process is with its connections.
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(echo(stream, region));
            }
        });
        Self { address, task }
    }

    async fn die(self) {
        self.task.abort();
        self.task.await.unwrap_err();
    }
}

/// Who is sent nothing is a probe.
async fn echo(mut stream: TcpStream, region: &'static str) {
    let (mut from, mut to) = stream.split();
    if to.write_all(format!("{region}\n").as_bytes()).await.is_err() {
        return;
    }
    tokio::io::copy(&mut from, &mut to).await.unwrap_or_default();
    to.shutdown().await.unwrap_or_default();
}

/// A client's connection.
struct Line {
    region: String,
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl Line {
    async fn open(at: SocketAddr) -> std::io::Result<Self> {
        let (from, to) = TcpStream::connect(at).await?.into_split();
        let mut own = Self { region: String::new(), from: BufReader::new(from), to };
        own.from.read_line(&mut own.region).await?;
        if own.region.pop() != Some('\n') {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(own)
    }

    /// Says something and hears it back.
    async fn says(&mut self, text: &str) -> std::io::Result<()> {
        self.to.write_all(text.as_bytes()).await?;
        let mut heard = vec![0; text.len()];
        self.from.read_exact(&mut heard).await?;
        assert_eq!(heard, text.as_bytes());
        Ok(())
    }

    /// Sends all of it and this way's end, and hears all of it and the other way's end.
    async fn ends_with(mut self, bytes: Vec<u8>) -> Vec<u8> {
        let mut to = self.to;
        let sent = tokio::spawn(async move {
            to.write_all(&bytes).await.unwrap();
            to.shutdown().await.unwrap();
            to
        });
        let mut heard = Vec::new();
        self.from.read_to_end(&mut heard).await.unwrap();
        drop(sent.await.unwrap());
        heard
    }
}

/// Bytes that follow no pattern of any buffer's length.
fn noise(mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MUCH + 8);
    while bytes.len() < MUCH {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend(seed.to_le_bytes());
    }
    bytes
}

/// A federation with servers.
struct Ground {
    federation: Federation,
    servers: BTreeMap<&'static str, Vec<Echo>>,
}

impl Ground {
    /// Three regions, each with two servers; a client keeps its region.
    async fn start() -> Self {
        let mut servers: BTreeMap<&'static str, Vec<Echo>> = BTreeMap::new();
        for region in REGIONS {
            for _ in 0..2 {
                servers.entry(region).or_default().push(Echo::start(region).await);
            }
        }
        let upstreams = servers.iter().map(|(region, servers)| {
            let servers = servers.iter().map(|server| server.address.to_string());
            json!({ "region": region, "servers": servers.collect::<Vec<_>>() })
        });
        let routing = json!({
            "algorithm": "latency",
            "proxy": { "access_log": true, "drain_timeout": "5m" },
            "services": [{
                "id": "db",
                "protocol": "tcp",
                "listen_port": PORT,
                "sticky_sessions": true,
                "upstreams": upstreams.collect::<Vec<_>>(),
            }],
            "clients": [{ "cidr": "127.0.0.0/8", "user_zone": "home" }],
        });
        let plan = Plan::simulated(crate::three_near()).taking_connections(routing);
        Self { federation: Federation::start(plan).await, servers }
    }

    fn port(&self, region: &str) -> SocketAddr {
        let proxy = self.federation.socket(&format!("{region}/proxy"));
        SocketAddr::new(proxy.ip(), PORT)
    }

    async fn open(&self, at: &str) -> Line {
        Line::open(self.port(at)).await.unwrap_or_else(|error| panic!("{at}: {error}"))
    }

    /// Asks all of these until they bring the client to one region.
    async fn agreed(&self, asked: &[&str]) -> &'static str {
        until("all bring the client to one region", || async {
            let mut brought = Vec::new();
            for at in asked {
                let line = Line::open(self.port(at)).await;
                brought.push(line.map_or_else(|e| e.to_string(), |line| line.region));
            }
            let first = REGIONS.into_iter().find(|region| brought[0] == *region);
            first
                .filter(|first| brought.iter().all(|region| region == first))
                .ok_or_else(|| format!("{brought:?}"))
        })
        .await
    }

    async fn log(&self, region: &str) -> String {
        let path = self.federation.data(region).join("access.log");
        tokio::fs::read_to_string(path).await.unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_whole_and_leave_servers_and_regions_that_die() {
    let mut ground = Ground::start().await;
    let home = ground.agreed(&REGIONS).await;
    // By its own proxy, and by another region's over the line between them.
    for (at, seed) in REGIONS.into_iter().zip(1..) {
        let line = ground.open(at).await;
        assert_eq!(line.region, home);
        let (sent, heard) = (noise(seed), line.ends_with(noise(seed)).await);
        assert!(heard == sent, "{} of {} bytes came by {at}", heard.len(), sent.len());
    }
    let much = noise(1).len();
    let line = format!(r#""received":{much},"sent":{},"#, much + home.len() + 1);
    until("the log has it", || async {
        let log = ground.log(home).await;
        let told = log.lines().any(|l| l.contains(&line) && l.contains("\"closed\""));
        if told { Ok(()) } else { Err(log) }
    })
    .await;

    // A server dies: who is connected to it knows, and the next connections go to the other.
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(ground.open(home).await);
    }
    ground.servers.get_mut(home).unwrap().remove(0).die().await;
    let mut lost = 0;
    for mut line in open {
        lost += usize::from(line.says("still there?").await.is_err());
    }
    assert!(lost < 8, "the other server has some");
    for turn in 0..10 {
        let mut line = ground.open(REGIONS[turn % 3]).await;
        assert_eq!(line.region, home);
        line.says("whole").await.unwrap();
    }
    // So does the other: the next ones go to another region, by every proxy.
    ground.servers.get_mut(home).unwrap().remove(0).die().await;
    for turn in 0..6 {
        let mut line = ground.open(REGIONS[turn % 3]).await;
        assert_ne!(line.region, home);
        line.says("elsewhere").await.unwrap();
    }

    // A region dies that has servers: the others go on.
    let next = REGIONS.into_iter().find(|region| *region != home).unwrap();
    let left: Vec<_> = REGIONS.into_iter().filter(|region| *region != next).collect();
    ground.federation.lose(next);
    for server in ground.servers.get_mut(next).unwrap().drain(..) {
        server.die().await;
    }
    let last = left.iter().find(|region| **region != home).unwrap();
    for turn in 0..20 {
        let mut line = ground.open(left[turn % 2]).await;
        assert_eq!(line.region, *last);
        line.says("at last").await.unwrap();
    }
    ground.federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_stops_lets_connections_finish_and_new_ones_go_elsewhere() {
    let mut ground = Ground::start().await;
    let home = ground.agreed(&REGIONS).await;
    let other = REGIONS.into_iter().find(|region| *region != home).unwrap();
    // One by its own proxy, one by another region's, which asks it.
    let mut held = [ground.open(home).await, ground.open(other).await];
    assert!(held.iter().all(|line| line.region == home));
    ground.federation.process(home).ask_to_end();
    let port = ground.port(home);
    until("nobody is let in any more", || async {
        TcpStream::connect(port).await.map_or(Ok(()), |_| Err("let in"))
    })
    .await;
    for line in &mut held {
        line.says("still there").await.unwrap();
    }
    let mut new = ground.open(other).await;
    assert_ne!(new.region, home);
    new.says("elsewhere").await.unwrap();
    for (line, seed) in held.into_iter().zip(1..) {
        let (sent, heard) = (noise(seed), line.ends_with(noise(seed)).await);
        assert!(heard == sent, "{} of {} bytes came", heard.len(), sent.len());
    }
    let ended = ground.federation.process(home).ended().await;
    assert!(ended.status.success(), "{}", ended.log);
    let log = ground.log(home).await;
    let closed = |line: &&str| line.contains(r#""end":"closed""#);
    assert!(log.lines().filter(closed).count() >= 2, "{log}");
    ground.federation.end();
}
