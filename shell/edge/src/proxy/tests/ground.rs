//! A proxy before servers that write down every byte that they are asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use dwcp_router::session::SESSION_TIME;
use dwcp_types::{RegionId, ServiceId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::super::{
    Counters, Group, Listening, Probe, Seal, Server, ServiceSpec, Sites, View, Ward,
};

/// The host of the only service.
pub(super) const HOST: &str = "web.example.com";

/// What a server does with a whole request.
pub(super) type Does = Arc<dyn Fn(&str) -> Act + Send + Sync>;

/// What becomes of a request at a server.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// These bytes are sent.
    Send(Vec<u8>),
    /// The connection is closed.
    Close,
    /// Nothing, until told.
    Hold(watch::Receiver<bool>, Vec<u8>),
}

/// A whole answer with a body.
pub(super) fn ok(body: &str) -> Vec<u8> {
    let len = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n{body}").into_bytes()
}

/// At any port, for anybody, and nothing is written down.
pub(super) fn listening() -> Listening {
    Listening::at("127.0.0.1:0".parse().unwrap())
}

/// A server.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    /// Heads and bodies as they came.
    pub(super) seen: Arc<Mutex<Vec<String>>>,
    pub(super) connections: Arc<Mutex<usize>>,
}

impl Origin {
    pub(super) async fn start(
        does: impl Fn(&str) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, connections) = (Arc::default(), Arc::default());
        let own = Self { address, seen, connections };
        let (seen, count) = (own.seen.clone(), own.connections.clone());
        let does: Does = Arc::new(does);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, does) = (seen.clone(), does.clone());
                let count = count.clone();
                tokio::spawn(converse(stream, seen, does, count));
            }
        });
        own
    }

    /// One that answers with its name.
    pub(super) async fn named(name: &'static str) -> Self {
        Self::start(move |_| Act::Send(ok(name))).await
    }

    pub(super) fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn converse(
    mut stream: TcpStream,
    seen: Arc<Mutex<Vec<String>>>,
    does: Does,
    connections: Arc<Mutex<usize>>,
) {
    let mut buffer = Vec::new();
    let mut first = true;
    while let Some(request) = request(&mut stream, &mut buffer).await {
        // Probes connect and say nothing.
        if first {
            *connections.lock().unwrap() += 1;
            first = false;
        }
        seen.lock().unwrap().push(request.clone());
        let bytes = match does(&request) {
            Act::Close => return,
            Act::Send(bytes) => bytes,
            Act::Hold(mut until, bytes) => {
                until.wait_for(|go| *go).await.unwrap();
                bytes
            }
        };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// A request as it came, its body by its length or in chunks.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
            });
            let chunked =
                head.to_ascii_lowercase().contains("transfer-encoding: chunked");
            let body = match length {
                _ if chunked => rest.find("0\r\n\r\n").map(|at| at + 5),
                Some(length) => (rest.len() >= length).then_some(length),
                None => Some(0),
            };
            if let Some(body) = body {
                let whole = head.len() + 4 + body;
                let request = text.get(..whole).unwrap().to_owned();
                buffer.drain(..whole);
                return Some(request);
            }
        }
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => buffer.extend_from_slice(&part[..count]),
        }
    }
}

/// A proxy that runs.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) counters: Arc<Counters>,
    pub(super) group: Arc<Group>,
    stop: Option<oneshot::Sender<()>>,
    pub(super) ended: tokio::task::JoinHandle<()>,
    _views: watch::Sender<Arc<View>>,
}

impl Running {
    /// In front of these servers, watched over.
    pub(super) async fn before(origins: &[SocketAddr]) -> Self {
        Self::with(origins, |listening| listening).await
    }

    pub(super) async fn with(
        origins: &[SocketAddr],
        change: impl FnOnce(Listening) -> Listening,
    ) -> Self {
        let (running, ward) = Self::unwatched(origins, change).await;
        tokio::spawn(ward.run());
        running
    }

    /// With whoever would look after the servers.
    pub(super) async fn unwatched(
        origins: &[SocketAddr],
        change: impl FnOnce(Listening) -> Listening,
    ) -> (Self, Ward) {
        Self::keeping(origins, change, None).await
    }

    /// With sessions that are kept, and signed by this.
    pub(super) async fn keeping(
        origins: &[SocketAddr],
        change: impl FnOnce(Listening) -> Listening,
        seal: Option<Arc<dyn Seal>>,
    ) -> (Self, Ward) {
        let listening = change(listening());
        let own: RegionId = "one".parse().unwrap();
        let counters = Arc::new(Counters::of([&own]));
        let server = Server::bind(listening, counters.clone(), "one").await.unwrap();
        let servers: Vec<Arc<str>> =
            origins.iter().map(|origin| origin.to_string().into()).collect();
        let (group, ward) = Group::new(&servers, Probe::Connection);
        let service = ServiceSpec {
            id: ServiceId::new("web").unwrap(),
            hosts: vec![HOST.to_owned()],
            regions: [own.clone()].into(),
            group: Some(group.clone()),
            passing: None,
            session: seal.is_some().then_some(SESSION_TIME),
        };
        let mut sites = Sites::new(own, vec![service], [].into(), None);
        if let Some(seal) = seal {
            sites = sites.sealed_by(seal);
        }
        let (views, newest) = watch::channel(Arc::new(View::new(Arc::new(sites), None)));
        let address = server.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(async move {
            server.run(newest, async { drop(stopped.await) }).await;
        });
        let stop = Some(stop);
        (Self { address, counters, group, stop, ended, _views: views }, ward)
    }

    pub(super) fn stop(&mut self) {
        drop(self.stop.take());
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and no more, and reads until the other side closes.
    pub(super) async fn tell_all(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap_or_default();
        stream.shutdown().await.unwrap_or_default();
        Self::rest(stream).await
    }

    /// Sends bytes, and reads until the other side closes.
    pub(super) async fn tell(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // Who refuses need not read to the end.
        stream.write_all(bytes).await.unwrap_or_default();
        Self::rest(stream).await
    }

    async fn rest(mut stream: TcpStream) -> String {
        let mut answer = Vec::new();
        let mut part = vec![0; 65_536];
        while let Ok(count) = stream.read(&mut part).await {
            if count == 0 {
                break;
            }
            answer.extend_from_slice(&part[..count]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A request of its own connection, with more headers and a body.
    pub(super) async fn ask(&self, line: &str, more: &str, body: &str) -> String {
        let head =
            format!("{line} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n{more}\r\n");
        self.tell(format!("{head}{body}").as_bytes()).await
    }

    pub(super) fn event(&self, name: &str) -> u64 {
        self.counters.events().find(|(event, _)| *event == name).unwrap().1
    }
}

/// The first line of an answer.
pub(super) fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("nothing")
}
