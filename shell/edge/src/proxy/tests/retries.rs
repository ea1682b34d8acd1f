//! What is sent again, what never is, and who has no more requests.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::ground::{Act, Origin, Running, ok, status};

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_that_nobody_had_is_sent_to_the_next_whatever_it_is() {
    let origin = Origin::named("a").await;
    let (proxy, _ward) =
        Running::unwatched(&[nobody().await, origin.address], |same| same).await;
    for _ in 0..40 {
        let answer = proxy.ask("POST /", "content-length: 4\r\n", "once").await;
        assert!(answer.ends_with("\r\n\r\na"), "{answer}");
    }
    assert_eq!(origin.heads().len(), 40);
    assert!(origin.heads().iter().all(|seen| seen.ends_with("\r\n\r\nonce")));
    assert!(proxy.event("sent_again") > 0);
}

#[tokio::test]
async fn what_may_have_arrived_is_done_again_only_when_that_is_harmless() {
    let breaks = Origin::start(|_| Act::Close).await;
    let also = Origin::start(|_| Act::Close).await;
    let (proxy, _ward) =
        Running::unwatched(&[breaks.address, also.address], |same| same).await;
    let seen = || breaks.heads().len() + also.heads().len();
    for turn in 1..=8 {
        let answer = proxy.ask("POST /", "content-length: 4\r\n", "once").await;
        assert_eq!(status(&answer), "502", "{answer}");
        assert_eq!(seen(), turn);
    }
    assert_eq!(status(&proxy.ask("GET /", "", "").await), "502");
    assert_eq!(seen(), 10, "a GET goes to both");
}

#[tokio::test]
async fn retries_have_a_budget() {
    let (one, two) =
        (Origin::start(|_| Act::Close).await, Origin::start(|_| Act::Close).await);
    let (proxy, _ward) =
        Running::unwatched(&[one.address, two.address], |same| same).await;
    for _ in 0..40 {
        assert_eq!(status(&proxy.ask("GET /", "", "").await), "502");
    }
    // Ten, or a fifth of those that were asked.
    assert_eq!(proxy.event("sent_again"), 10);
    assert_eq!(proxy.event("not_sent_again"), 30);
    assert_eq!(one.heads().len() + two.heads().len(), 50);
}

#[tokio::test]
async fn a_server_that_fails_has_no_more_requests_and_one_that_answers_all() {
    let bad = Origin::start(|_| {
        Act::Send(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_vec())
    })
    .await;
    let good = Origin::named("a").await;
    let proxy = Running::before(&[bad.address, good.address]).await;
    let mut asked = 0;
    while proxy.group.usable() != 0b10 {
        proxy.ask("GET /", "", "").await;
        asked += 1;
        assert!(asked < 1_000, "it is never ejected");
    }
    let before = bad.heads().len();
    assert!(before >= 5);
    for _ in 0..20 {
        assert_eq!(status(&proxy.ask("GET /", "", "").await), "200");
    }
    assert_eq!(bad.heads().len(), before);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_found_by_probes_and_comes_back() {
    let address = nobody().await;
    let good = Origin::named("a").await;
    let proxy = Running::before(&[address, good.address]).await;
    until(|| proxy.group.usable() == 0b10).await;
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    until(|| proxy.group.usable() == 0b11).await;
}

#[tokio::test]
async fn an_answer_that_is_none_is_not_handed_on() {
    for answer in [
        &b"nonsense\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"",
    ] {
        let origin = Origin::start(move |_| {
            if answer.is_empty() { Act::Close } else { Act::Send(answer.to_vec()) }
        })
        .await;
        let proxy = Running::before(&[origin.address]).await;
        let told = proxy.ask("POST /", "content-length: 0\r\n", "").await;
        assert_eq!(status(&told), "502", "{}: {told}", String::from_utf8_lossy(answer));
        assert_eq!(origin.heads().len(), 1);
    }
}

#[tokio::test]
async fn whoever_breaks_off_its_own_body_ejects_nobody() {
    let (first, second) = (Origin::named("a").await, Origin::named("b").await);
    let proxy = Running::before(&[first.address, second.address]).await;
    for _ in 0..12 {
        // A chunk that is none, behind one that is handed on already.
        let chunks = format!("4000\r\n{}\r\nzz\r\n", "x".repeat(0x4000));
        proxy.ask("POST /", "transfer-encoding: chunked\r\n", &chunks).await;
    }
    assert_eq!(status(&proxy.ask("GET /", "", "").await), "200");
    assert_eq!(proxy.group.usable(), 0b11);
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_costs_no_request() {
    // Answers once on each connection, and closes it.
    let origin = Origin::start(|_| Act::Send(ok("a"))).await;
    let closes = Origin::start(|_| {
        Act::Send(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nb"
                .to_vec(),
        )
    })
    .await;
    let proxy = Running::before(&[origin.address, closes.address]).await;
    for _ in 0..40 {
        let answer = proxy.ask("POST /", "content-length: 0\r\n", "").await;
        assert_eq!(status(&answer), "200", "{answer}");
    }
    assert_eq!(origin.heads().len() + closes.heads().len(), 40);
}

#[tokio::test]
async fn an_old_server_does_not_make_the_proxy_old() {
    let old = b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na";
    let origin = Origin::start(|_| Act::Send(old.to_vec())).await;
    let proxy = Running::before(&[origin.address]).await;
    let answer = proxy.ask("GET /", "", "").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}
