//! WebSockets pass, and nothing else that a connection could change to.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::ground::{HOST, Origin, Running, status};

const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";

/// A server that agrees, and then says back what it hears.
async fn server() -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = head(&mut stream).await;
            // Probes say nothing.
            if asked.is_empty() {
                continue;
            }
            stream.write_all(format!("{AGREED}first").as_bytes()).await.unwrap();
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.unwrap();
            return asked;
        }
    });
    (address, task)
}

/// A head, and nothing behind it.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

fn asks(protocol: &str) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nhost: {HOST}\r\nconnection: close, Upgrade\r\n\
         upgrade: {protocol}\r\nsec-websocket-key: k\r\nsec-websocket-version: 13\r\n\r\n"
    )
}

#[tokio::test]
async fn a_websocket_is_passed_on_both_ways_and_outlasts_the_stop() {
    let (address, task) = server().await;
    let mut proxy = Running::before(&[address]).await;
    let mut stream = proxy.connect().await;
    let asked = asks("WebSocket").replace("close, Upgrade", "keep-alive, Upgrade");
    stream.write_all(asked.as_bytes()).await.unwrap();
    let agreed = head(&mut stream).await.to_ascii_lowercase();
    assert_eq!(status(&agreed), "101", "{agreed}");
    for said in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: x"] {
        assert!(agreed.contains(&format!("{said}\r\n")), "{agreed}");
    }
    let mut first = [0; 5];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"first");
    proxy.stop();
    while TcpStream::connect(proxy.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let much = "said and heard ".repeat(100_000);
    let (mut from, mut to) = stream.split();
    let say = async {
        to.write_all(much.as_bytes()).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut heard = String::new();
    let ((), count) = tokio::join!(say, from.read_to_string(&mut heard));
    assert_eq!((count.unwrap(), heard == much), (much.len(), true));
    drop(stream);
    (&mut proxy.ended).await.unwrap();
    let asked = task.await.unwrap().to_ascii_lowercase();
    assert!(asked.contains("sec-websocket-key: k\r\n"), "{asked}");
    assert!(asked.contains("x-forwarded-for: 127.0.0.1\r\n"), "{asked}");
}

#[tokio::test]
async fn nothing_else_is_asked_for_or_agreed_to() {
    // Who agrees to what it was not asked for is not believed.
    let origin = Origin::start(|_| super::ground::Act::Send(AGREED.into())).await;
    let proxy = Running::before(&[origin.address]).await;
    for asked in [
        asks("h2c"),
        asks("websocket, h2c"),
        asks("websocket").replace("close, Upgrade", "close"),
        asks("websocket").replace("GET", "POST"),
    ] {
        let answer = proxy.tell(asked.as_bytes()).await;
        assert_eq!(status(&answer), "502", "{asked}: {answer}");
    }
    for seen in origin.heads() {
        assert!(!seen.to_ascii_lowercase().contains("upgrade"), "{seen}");
    }
    // One that answers as usual is handed on as usual.
    let origin = Origin::named("no").await;
    let proxy = Running::before(&[origin.address]).await;
    let answer = proxy.tell(asks("websocket").as_bytes()).await;
    assert_eq!(status(&answer), "200", "{answer}");
    assert!(answer.ends_with("\r\n\r\nno"), "{answer}");
    assert!(origin.heads()[0].to_ascii_lowercase().contains("upgrade: websocket\r\n"));
}
