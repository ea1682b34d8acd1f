//! Bytes that nobody means well with: what two readers could cut differently reaches no server.

use proptest::prelude::*;

use super::ground::{HOST, Origin, Running, status};

/// Heads that are refused, with the status.
fn refused() -> Vec<(String, &'static str)> {
    let host = format!("host: {HOST}\r\n");
    let post = |headers: &str, body: &str| {
        format!("POST / HTTP/1.1\r\n{host}{headers}\r\n{body}")
    };
    let many: String = (0..101).map(|at| format!("x-{at}: 1\r\n")).collect();
    vec![
        (post("content-length: 5\r\ncontent-length: 6\r\n", "hello!"), "400"),
        (post("content-length: 5, 6\r\n", "hello!"), "400"),
        (post("content-length: +5\r\n", "hello"), "400"),
        (post("content-length: -1\r\n", ""), "400"),
        (post("content-length: 99999999999999999999\r\n", ""), "400"),
        (post("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"), "400"),
        (post("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"), "400"),
        (post("transfer-encoding: gzip\r\n", "0\r\n\r\n"), "400"),
        (
            post("transfer-encoding: x\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
            "400",
        ),
        (post("transfer-encoding : chunked\r\n", "0\r\n\r\n"), "400"),
        (post("x: 1\r\n folded: 2\r\n", ""), "400"),
        (post("host: other.example.com\r\n", ""), "400"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nhost: user@{HOST}\r\n\r\n"), "400"),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n".to_owned(), "400"),
        (format!("CONNECT {HOST}:443 HTTP/1.1\r\n{host}\r\n"), "405"),
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", "x".repeat(9_000)), "414"),
        (post(&many, ""), "431"),
        (post(&format!("x: {}\r\n", "x".repeat(40_000)), ""), "431"),
        ("GET / HTTP/1.1\r\nhost: elsewhere.example.com\r\n\r\n".to_owned(), "421"),
        (format!("GET http://elsewhere.example.com/ HTTP/1.1\r\n{host}\r\n"), "421"),
    ]
}

#[tokio::test]
async fn what_is_refused_reaches_no_server_and_ends_the_connection() {
    let origin = Origin::named("a").await;
    let proxy = Running::before(&[origin.address]).await;
    let smuggled = format!("GET /smuggled HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    for (bytes, expected) in refused() {
        let answer = proxy.tell(format!("{bytes}{smuggled}").as_bytes()).await;
        let first: String = bytes.chars().take(120).collect();
        assert_eq!(status(&answer), expected, "{first}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{first}: {answer}");
    }
    assert!(origin.heads().is_empty(), "{:?}", origin.heads());
}

#[tokio::test]
async fn nothing_is_read_behind_a_body_in_chunks() {
    let origin = Origin::named("a").await;
    let proxy = Running::before(&[origin.address]).await;
    let smuggled = format!("GET /smuggled HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    for headers in [
        "transfer-encoding: chunked\r\n",
        // The library drops the length here; whoever counted by it is cut off.
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
    ] {
        let bytes = format!(
            "POST / HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n0\r\n\r\n{smuggled}"
        );
        let answer = proxy.tell(bytes.as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    assert!(origin.heads().iter().all(|seen| !seen.contains("/smuggled")));
}

/// Pieces that requests are made of, and that they are broken by.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&'static [u8]> = vec![
        b"GET / HTTP/1.1\r\n",
        b"POST /a HTTP/1.1\r\n",
        b"host: web.example.com\r\n",
        b"content-length: 3\r\n",
        b"transfer-encoding: chunked\r\n",
        b"connection: close\r\n",
        b"connection: host\r\n",
        b"\r\n",
        b"\n",
        b"abc",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\x04\0\0\0\0\0",
        b"\x16\x03\x01\0\x05",
        b"x-dwcp-order: 0 one 192.0.2.1\r\n",
    ];
    prop_oneof![
        6 => proptest::sample::select(known).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

/// What a server was asked is one request in the one way that there is to write it.
fn is_sound(seen: &str) -> bool {
    let Some((head, body)) = seen.split_once("\r\n\r\n") else { return false };
    let count = |name: &str| {
        head.lines().filter(|line| line.to_ascii_lowercase().starts_with(name)).count()
    };
    let (lengths, codings) = (count("content-length:"), count("transfer-encoding:"));
    let framed = lengths + codings <= 1 && (lengths + codings == 1 || body.is_empty());
    framed && count("host:") == 1 && count("x-dwcp-order:") == 0
}

#[test]
fn whatever_comes_servers_are_asked_soundly_and_others_are_answered() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = runtime.unwrap();
    let (origin, proxy) = runtime.block_on(async {
        let origin = Origin::named("a").await;
        let proxy = Running::with(&[origin.address], |mut listening| {
            // What is told ends by itself, so nobody waits for this.
            listening.limits.header_time_max = std::time::Duration::from_secs(30);
            listening.limits.body_time_max = std::time::Duration::from_secs(30);
            listening
        })
        .await;
        (origin, proxy)
    });
    let config =
        ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() };
    proptest!(config, |(pieces in prop::collection::vec(piece(), 0..14))| {
        let bytes = pieces.concat();
        runtime.block_on(async {
            proxy.tell_all(&bytes).await;
            assert_eq!(status(&proxy.ask("GET /fine", "", "").await), "200");
        });
        for seen in origin.seen.lock().unwrap().drain(..) {
            prop_assert!(is_sound(&seen), "{seen:?}");
        }
    });
}
