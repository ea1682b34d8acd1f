//! What a server is told of a request, and a client of an answer.

use std::net::IpAddr;

use http::header::{COOKIE, HOST as HOST_HEADER};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use super::super::AccessLine;
use super::ground::{Act, HOST, Origin, Running, ok, status};
use crate::Network;
use crate::proxy::Limits;

fn loopback() -> Network {
    Network { address: IpAddr::from([127, 0, 0, 0]), len: 8, cell: 0 }
}

/// The values of a header, as the server had them.
fn values(head: &str, name: &str) -> Vec<String> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(own, _)| *own == name).map(|(_, value)| value.to_owned()).collect()
}

const CLAIMS: &str = "x-forwarded-for: 203.0.113.9, 127.0.0.3\r\nx-forwarded-proto: https\r\n\
    x-forwarded-host: elsewhere\r\nforwarded: for=203.0.113.9\r\nx-dwcp-order: 0 two 192.0.2.1\r\n\
    traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
    connection: x-secret\r\nx-secret: 1\r\nkeep-alive: 5\r\nte: trailers\r\nupgrade: h2c\r\n\
    expect: nothing\r\n";

#[tokio::test]
async fn what_a_stranger_says_of_itself_is_not_handed_on() {
    let origin = Origin::named("a").await;
    let proxy = Running::before(&[origin.address]).await;
    let answer = proxy.ask("GET /x?y=1", CLAIMS, "").await;
    assert_eq!(status(&answer), "200", "{answer}");
    let head = origin.heads().remove(0);
    assert!(head.starts_with("GET /x?y=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(values(&head, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(values(&head, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&head, "x-forwarded-host"), [HOST]);
    assert_eq!(values(&head, "host"), [HOST]);
    assert_eq!(values(&head, "via"), ["1.1 one"]);
    assert_eq!(values(&head, "traceparent").len(), 1);
    for gone in [
        "forwarded",
        "x-dwcp-order",
        "x-secret",
        "keep-alive",
        "te",
        "upgrade",
        "expect",
        "connection",
    ] {
        assert!(values(&head, gone).is_empty(), "{gone}: {head}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_trusted_is_believed_and_its_client_is_found_behind_it() {
    let origin = Origin::named("a").await;
    let (log, mut lines) = mpsc::channel(8);
    let proxy = Running::with(&[origin.address], |mut listening| {
        listening.trusted = vec![loopback()];
        listening.log = Some(log);
        listening
    })
    .await;
    proxy.ask("GET /secret?token=1", CLAIMS, "").await;
    let head = origin.heads().remove(0);
    let chain = ["203.0.113.9, 127.0.0.3", "127.0.0.1"];
    assert_eq!(values(&head, "x-forwarded-for"), chain);
    assert_eq!(values(&head, "x-forwarded-proto"), ["https"]);
    assert_eq!(values(&head, "x-forwarded-host"), ["elsewhere"]);
    let elements = ["for=203.0.113.9", "for=127.0.0.1;proto=http"];
    assert_eq!(values(&head, "forwarded"), elements);
    assert!(values(&head, "x-dwcp-order").is_empty());
    let AccessLine::Request(line) = lines.recv().await.unwrap() else { panic!() };
    assert_eq!(line.client, IpAddr::from([203, 0, 113, 9]));
    assert_eq!((line.path.as_str(), line.status, line.bytes), ("/secret", 200, 1));
}

#[tokio::test]
async fn answers_lose_what_was_of_one_connection() {
    let origin = Origin::start(|_| {
        Act::Send(
            b"HTTP/1.1 203 Fine\r\nconnection: x-own\r\nx-own: 1\r\nkeep-alive: 1\r\n\
              x-dwcp-unserved: 1\r\nx-kept: 1\r\ntransfer-encoding: chunked\r\n\r\n\
              3\r\nabc\r\n0\r\n\r\n"
                .to_vec(),
        )
    })
    .await;
    let proxy = Running::before(&[origin.address]).await;
    let answer = proxy.ask("GET /", "", "").await;
    assert!(answer.starts_with("HTTP/1.1 203"), "{answer}");
    assert!(answer.contains("x-kept: 1") && answer.contains("abc"));
    for gone in ["x-own", "keep-alive", "x-dwcp-unserved"] {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
}

#[tokio::test]
async fn a_connection_to_a_server_is_used_again() {
    let origin = Origin::named("a").await;
    let proxy = Running::before(&[origin.address]).await;
    for _ in 0..20 {
        assert_eq!(status(&proxy.ask("GET /", "", "").await), "200");
    }
    assert_eq!(origin.heads().len(), 20);
    assert_eq!(*origin.connections.lock().unwrap(), 1);
}

#[tokio::test]
async fn http_2_comes_in_and_its_cookies_are_one_header_to_the_server() {
    let origin = Origin::named("a").await;
    let proxy = Running::before(&[origin.address]).await;
    let io = TokioIo::new(proxy.connect().await);
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(format!("http://{HOST}/two"))
        .header(COOKIE, "a=1")
        .header(COOKIE, "b=2")
        .body(Empty::<bytes::Bytes>::new());
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "a");
    let head = origin.heads().remove(0);
    assert_eq!(values(&head, "cookie"), ["a=1; b=2"]);
    assert_eq!(values(&head, HOST_HEADER.as_str()), [HOST]);
}

#[tokio::test]
async fn long_bodies_go_both_ways_whole() {
    let long = "x".repeat(3_000_000);
    let back = long.clone();
    let origin = Origin::start(move |_| Act::Send(ok(&back))).await;
    let proxy = Running::before(&[origin.address]).await;
    let more = format!("content-length: {}\r\n", long.len());
    let answer = proxy.ask("POST /", &more, &long).await;
    assert!(answer.ends_with(&format!("\r\n\r\n{long}")));
    let seen = origin.heads().remove(0);
    assert!(seen.ends_with(&format!("\r\n\r\n{long}")));
    // In chunks, which become chunks of this proxy's.
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let answer = proxy.ask("POST /", "transfer-encoding: chunked\r\n", chunks).await;
    assert_eq!(status(&answer), "200");
    assert!(origin.heads().remove(1).contains("hello"));
}

#[tokio::test]
async fn what_is_under_way_is_finished_when_the_proxy_stops() {
    let (go, going) = watch::channel(false);
    let origin = Origin::start(move |_| Act::Hold(going.clone(), ok("late"))).await;
    let mut proxy = Running::before(&[origin.address]).await;
    let mut open = proxy.connect().await;
    let asked = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    open.write_all(asked.as_bytes()).await.unwrap();
    while origin.heads().is_empty() {
        tokio::task::yield_now().await;
    }
    proxy.stop();
    // Nobody is let in any more.
    while tokio::net::TcpStream::connect(proxy.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!proxy.ended.is_finished());
    go.send_replace(true);
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("late") && answer.contains("connection: close"), "{answer}");
    proxy.ended.await.unwrap();
}

#[tokio::test]
async fn what_stands_still_is_closed_and_what_is_too_long_refused() {
    let (_go, going) = watch::channel(false);
    let origin = Origin::start(move |_| Act::Hold(going.clone(), ok("never"))).await;
    let proxy = Running::with(&[origin.address], |mut listening| {
        let brief = std::time::Duration::from_millis(100);
        listening.limits = Limits {
            header_time_max: brief,
            response_time_max: brief,
            body_time_max: brief,
            body_len_max: 20_000,
            ..Limits::default()
        };
        listening
    })
    .await;
    // Half a head, a head without its body, and a server that says nothing.
    assert!(!proxy.tell(b"GET / HTTP/1.1\r\nhost: a").await.contains(" 200 "));
    let half = proxy.ask("POST /", "content-length: 9\r\n", "four").await;
    assert_eq!(status(&half), "408", "{half}");
    assert_eq!(status(&proxy.ask("GET /", "", "").await), "504");
    assert_eq!(proxy.event("timed_out"), 1);
    let declared = proxy.ask("POST /", "content-length: 20001\r\n", "").await;
    assert_eq!(status(&declared), "413");
    let chunk = format!("5000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x5000));
    let chunked = proxy.ask("POST /", "transfer-encoding: chunked\r\n", &chunk).await;
    assert!(!chunked.contains(" 200 "), "{chunked}");
}
