//! Sessions: who is given a token, what it is good for, and what is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dwcp_router::session::{TAG_LEN, Token};
use dwcp_types::ServiceId;

use super::super::{Seal, Ward};
use super::ground::{Origin, Running};

/// Signs with a number, at a time that the test sets.
#[derive(Debug)]
struct Stamp {
    key: u8,
    now_s: AtomicU64,
}

impl Seal for Stamp {
    fn sign(&self, text: &[u8]) -> Option<[u8; TAG_LEN]> {
        let mut tag = [self.key; TAG_LEN];
        for (at, byte) in text.iter().enumerate() {
            tag[at % TAG_LEN] = tag[at % TAG_LEN].wrapping_mul(31).wrapping_add(*byte);
        }
        Some(tag)
    }

    fn is_signed(&self, text: &[u8], tag: &[u8; TAG_LEN]) -> bool {
        self.sign(text).as_ref() == Some(tag)
    }

    fn now_s(&self) -> u64 {
        self.now_s.load(Ordering::Relaxed)
    }
}

struct Kept {
    proxy: Running,
    _ward: Ward,
    stamp: Arc<Stamp>,
    origins: Vec<Origin>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Kept {
    async fn start() -> Self {
        let mut origins = Vec::new();
        for name in NAMES {
            origins.push(Origin::named(name).await);
        }
        let stamp = Arc::new(Stamp { key: 7, now_s: AtomicU64::new(1_000_000) });
        let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
        let seal: Arc<dyn Seal> = stamp.clone();
        let (proxy, ward) = Running::keeping(&addresses, |same| same, Some(seal)).await;
        Self { proxy, _ward: ward, stamp, origins }
    }

    /// Which server answers, and the token that the client is given.
    async fn ask(&self, cookie: &str) -> (String, Option<String>) {
        let header = if cookie.is_empty() {
            String::new()
        } else {
            format!("cookie: {cookie}\r\n")
        };
        let answer = self.proxy.ask("GET /", &header, "").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let given: Vec<_> =
            lines.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).collect();
        assert!(given.len() <= 1, "{answer}");
        let token = given.first().map(|(_, value)| {
            let rest = "; Path=/; Max-Age=1800; HttpOnly; SameSite=Lax";
            value.strip_suffix(rest).unwrap_or_else(|| panic!("{value}")).to_owned()
        });
        (body.to_owned(), token)
    }

    /// A token for the server at this place, signed like this.
    fn token(&self, at: usize, change: impl FnOnce(Token) -> Token, key: u8) -> String {
        let address = self.origins[at].address.to_string();
        let server = dwcp_router::session::server_number(&address);
        let token = Token { region: "one".parse().unwrap(), server, at_s: 1_000_000 };
        let (token, service) = (change(token), ServiceId::new("web").unwrap());
        let stamp = Stamp { key, now_s: AtomicU64::new(0) };
        let tag = stamp.sign(token.claim(&service).as_bytes()).unwrap();
        format!("dwcp-session={}", token.write(&tag))
    }
}

#[tokio::test]
async fn a_client_keeps_the_server_that_its_token_says() {
    let kept = Kept::start().await;
    let (home, given) = kept.ask("").await;
    let own = given.unwrap();
    // Whoever has no token is known by its address, and given the same.
    for _ in 0..10 {
        assert_eq!(kept.ask("").await, (home.clone(), Some(own.clone())));
        assert_eq!(kept.ask(&own).await, (home.clone(), None));
    }
    for (at, name) in NAMES.into_iter().enumerate() {
        let cookie = format!("theme=dark; {}; lang=en", kept.token(at, |same| same, 7));
        for _ in 0..5 {
            assert_eq!(kept.ask(&cookie).await, (name.to_owned(), None));
        }
        let last = kept.origins[at].heads().pop().unwrap();
        assert!(last.contains("cookie: theme=dark; lang=en\r\n"), "{last}");
    }
    let seen: Vec<_> = kept.origins.iter().flat_map(Origin::heads).collect();
    assert!(seen.iter().all(|head| !head.contains("dwcp-session")), "{seen:?}");
}

#[tokio::test]
async fn a_token_that_is_not_signed_or_too_old_is_none() {
    let kept = Kept::start().await;
    let (home, given) = kept.ask("").await;
    let away = NAMES.iter().position(|name| *name != home).unwrap();
    let same = |token| token;
    let old = |token: Token| Token { at_s: token.at_s - 1_801, ..token };
    for cookie in [
        kept.token(away, same, 8),
        kept.token(away, old, 7),
        kept.token(away, same, 7) + "0",
        "dwcp-session=".to_owned(),
        "dwcp-session=0.0.one.00".to_owned(),
    ] {
        assert_eq!(kept.ask(&cookie).await, (home.clone(), given.clone()), "{cookie}");
    }
    // One of a region that is not there names no way.
    let elsewhere = |token: Token| Token { region: "two".parse().unwrap(), ..token };
    let cookie = kept.token(away, elsewhere, 7);
    assert_eq!(kept.ask(&cookie).await, (home, given));
}

#[tokio::test]
async fn a_token_is_given_anew_while_its_client_asks() {
    let kept = Kept::start().await;
    let mut cookie = kept.token(1, |same| same, 7);
    for minute in 1..60 {
        kept.stamp.now_s.store(1_000_000 + minute * 60, Ordering::Relaxed);
        let (name, given) = kept.ask(&cookie).await;
        assert_eq!(name, "b", "after {minute} minutes");
        cookie = given.unwrap();
    }
    assert_eq!(
        cookie,
        kept.token(1, |token| Token { at_s: 1_000_000 + 59 * 60, ..token }, 7)
    );
}

#[tokio::test]
async fn a_server_that_goes_is_left_for_good() {
    let kept = Kept::start().await;
    // Nobody listens there: a server of before.
    let gone = |token: Token| Token { server: token.server ^ 1, ..token };
    let (home, given) = kept.ask(&kept.token(0, gone, 7)).await;
    let given = given.unwrap();
    assert_eq!(kept.ask(&given).await, (home, None));
}
