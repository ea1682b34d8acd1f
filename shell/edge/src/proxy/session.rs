//! How sessions travel (R12): as a cookie with the client, as a header between regions.
//!
//! The cookie is this federation's and none of the servers' business: they never see it, as a cookie
//! of haproxy's `insert indirect`. The header counts from a region's certificate only, and is of one
//! hop: the first proxy says which server it wants, and is told which one answered.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Which server is wanted, and which one answered, between regions.
pub(super) const SERVER: HeaderName = HeaderName::from_static("x-dwcp-server");
const COOKIE: &str = "dwcp-session";

/// The token that a client shows.
pub(super) fn shown(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.filter_map(|line| line.to_str().ok()).flat_map(|l| l.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find_map(|(name, value)| {
        let is_token = name == COOKIE;
        is_token.then_some(value)
    })
}

/// Takes it out of what servers see.
pub(super) fn hide(headers: &mut HeaderMap) {
    let has = |line: &HeaderValue| {
        line.as_bytes().windows(COOKIE.len()).any(|part| part == COOKIE.as_bytes())
    };
    if !headers.get_all(header::COOKIE).iter().any(has) {
        return;
    }
    let lines: Vec<HeaderValue> =
        headers.get_all(header::COOKIE).iter().filter_map(without).collect();
    headers.remove(header::COOKIE);
    for line in lines {
        headers.append(header::COOKIE, line);
    }
}

/// A line of cookies without the token; nothing when it had no other.
fn without(line: &HeaderValue) -> Option<HeaderValue> {
    let pairs = line.as_bytes().split(|byte| *byte == b';');
    let is_token = |pair: &[u8]| {
        let rest = pair.trim_ascii().strip_prefix(COOKIE.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"="))
    };
    let kept: Vec<&[u8]> = pairs.filter(|pair| !is_token(pair)).collect();
    let kept = kept.join(&b";"[..]);
    let kept = kept.trim_ascii();
    (!kept.is_empty()).then(|| HeaderValue::from_bytes(kept).ok()).flatten()
}

/// What gives a client its token.
pub(super) fn given(
    token: &str,
    lasts: Duration,
    encrypted: bool,
) -> Option<HeaderValue> {
    let secure = if encrypted { "; Secure" } else { "" };
    let lasts = lasts.as_secs();
    let text = format!(
        "{COOKIE}={token}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Lax{secure}"
    );
    HeaderValue::from_str(&text).ok()
}

/// The server that a header between regions says.
pub(super) fn server(headers: &HeaderMap) -> Option<u32> {
    u32::from_str_radix(headers.get(SERVER)?.to_str().ok()?, 16).ok()
}

/// A header that says a server.
pub(super) fn say(server: u32) -> HeaderValue {
    HeaderValue::from_str(&format!("{server:x}"))
        .unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(lines: &[&str]) -> HeaderMap {
        let line = |line: &&str| (header::COOKIE, HeaderValue::from_str(line).unwrap());
        lines.iter().map(line).collect()
    }

    #[test]
    fn a_token_is_found_among_others_and_hidden_from_servers() {
        for (lines, token, left) in [
            (&["a=1; dwcp-session=x.y; b=2"][..], Some("x.y"), &["a=1; b=2"][..]),
            (&["dwcp-session=x"], Some("x"), &[]),
            (&["a=1", "dwcp-session=x;b=2"], Some("x"), &["a=1", "b=2"]),
            (&["dwcp-session=x; dwcp-session=y"], Some("x"), &[]),
            (
                &["my-dwcp-session=x; c=dwcp-session"],
                None,
                &["my-dwcp-session=x; c=dwcp-session"],
            ),
            (&["dwcp-sessions=x"], None, &["dwcp-sessions=x"]),
            (&["a=\"1; 2\""], None, &["a=\"1; 2\""]),
            (&[], None, &[]),
        ] {
            let mut headers = cookies(lines);
            assert_eq!(shown(&headers), token, "{lines:?}");
            hide(&mut headers);
            let seen: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
            assert_eq!(seen, left, "{lines:?}");
        }
    }

    #[test]
    fn a_server_is_said_as_it_is_read() {
        for number in [0, 1, 0xDEAD_BEEF, u32::MAX] {
            let headers = [(SERVER, say(number))].into_iter().collect();
            assert_eq!(server(&headers), Some(number));
        }
        let headers = [(SERVER, HeaderValue::from_static("x"))].into_iter().collect();
        assert_eq!(server(&headers), None);
    }
}
