//! The server on the loopback network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use domain::base::iana::Rtype;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::{Counters, Listening, Outcome, Server, View};
use super::ground::{Ask, Told, spec, view, view_with};

/// Far more than any answer takes: a test that waits so long hangs.
const HANG: Duration = Duration::from_secs(30);

/// A server that runs until it is dropped.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) views: watch::Sender<Arc<View>>,
    pub(super) counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) async fn running(answers_per_second: Option<u32>) -> Running {
    let address = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(Listening { address, answers_per_second }).await.unwrap();
    let (address, counters) = (server.address().unwrap(), server.counters());
    let (views, newest) = watch::channel(Arc::new(view()));
    let task = tokio::spawn(server.run(newest));
    Running { address, views, counters, task }
}

/// Sends a question and reads the answer.
async fn by_udp(to: SocketAddr, ask: &Ask) -> Told {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&ask.packet(), to).await.unwrap();
    let mut bytes = [0; 2_000];
    let received = timeout(HANG, socket.recv(&mut bytes)).await.unwrap().unwrap();
    Told::read(&bytes[..received], Outcome::Ignored)
}

async fn tell(stream: &mut TcpStream, ask: &Ask) {
    let packet = ask.packet();
    stream.write_u16(u16::try_from(packet.len()).unwrap()).await.unwrap();
    stream.write_all(&packet).await.unwrap();
}

async fn hear(stream: &mut TcpStream) -> Told {
    let len = timeout(HANG, stream.read_u16()).await.unwrap().unwrap();
    let mut bytes = vec![0; len.into()];
    timeout(HANG, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
    Told::read(&bytes, Outcome::Ignored)
}

#[tokio::test]
async fn a_question_is_answered_by_udp_and_by_the_newest_view() {
    let server = running(None).await;
    let ask = Ask::new("web").for_client("198.51.100.0", 24);
    assert_eq!(by_udp(server.address, &ask).await.addresses(), ["203.0.113.5"]);
    let without = view_with(spec(), |_, addresses| {
        addresses.retain(|id, _| id.as_str() == "ap");
    });
    server.views.send_replace(Arc::new(without));
    assert_eq!(by_udp(server.address, &ask).await.addresses(), ["203.0.113.1"]);
    let answered = server.counters.answers().find(|counted| counted.count > 0).unwrap();
    assert_eq!(
        (answered.transport, answered.rcode, answered.count),
        ("udp", "NOERROR", 2)
    );
}

#[tokio::test]
async fn several_questions_of_one_connection_are_answered_in_turn() {
    let server = running(Some(1)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let asks = [Ask::new("web"), Ask::new("@").of(Rtype::NS), Ask::new("mars")];
    for ask in &asks {
        tell(&mut stream, ask).await;
    }
    let mut rcodes = Vec::new();
    for _ in &asks {
        rcodes.push(hear(&mut stream).await.rcode);
    }
    // However many: nobody's address is forged by TCP, so nothing is limited.
    assert_eq!(rcodes, ["NOERROR", "NOERROR", "NXDOMAIN"]);
    // A question that is no question ends the connection.
    stream.write_all(&[0, 2, 1, 1]).await.unwrap();
    assert_eq!(timeout(HANG, stream.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn who_asks_too_often_is_invited_to_tcp() {
    let server = running(Some(1)).await;
    let ask = Ask::new("web").from("127.0.0.1");
    assert!(!by_udp(server.address, &ask).await.truncated);
    // Which one is too often is the clock's business; the first such one is invited.
    let invited = loop {
        let heard = by_udp(server.address, &ask).await;
        if heard.truncated {
            break heard;
        }
    };
    assert!(invited.answer.is_empty());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    tell(&mut stream, &ask).await;
    assert_eq!(hear(&mut stream).await.answer.len(), 1);
    let events = server.counters.events();
    assert!(events.contains(&("invited_to_tcp", 1)), "{events:?}");
}

#[tokio::test]
async fn one_network_does_not_take_all_connections() {
    let server = running(None).await;
    let mut held = Vec::new();
    for _ in 0..32 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        tell(&mut stream, &Ask::new("web")).await;
        hear(&mut stream).await;
        held.push(stream);
    }
    let mut one_more = TcpStream::connect(server.address).await.unwrap();
    let closed = timeout(HANG, one_more.read(&mut [0; 2])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    // By UDP it is answered as before.
    assert_eq!(by_udp(server.address, &Ask::new("web")).await.rcode, "NOERROR");
    drop(held);
}
