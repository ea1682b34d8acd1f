//! Heads of requests and answers: what is refused, and what is said instead on the other side.
//!
//! Where a request ends is hyper's word, which refuses what has two ends (RFC 9112 6.3) but for a
//! length beside chunks: chunks count then, and [`super::course`] closes the connection behind
//! them. What is sent on is made anew from what was understood, never the bytes that came:
//! framing, hop-by-hop headers (RFC 9110 7.6.1) and who asked (RFC 7239) are said again.

use std::borrow::Cow;
use std::net::IpAddr;

use dwcp_types::RegionId;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, StatusCode, Uri, Version};

use super::session;

/// Longest path with its query, in bytes: what nginx takes by default (`large_client_header_buffers`).
const PATH_LEN_MAX: usize = 8 << 10;
/// What one region's proxy orders of another: how many it passed, which region answers, who asks.
pub(super) const ORDER: HeaderName = HeaderName::from_static("x-dwcp-order");
/// Said by a region's proxy that no server of its had the request.
pub(super) const UNSERVED: HeaderName = HeaderName::from_static("x-dwcp-unserved");
/// Asks for the reasons of the decision, and has them in the answer.
pub(super) const EXPLAIN: HeaderName = HeaderName::from_static("x-route-explain");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The only protocol that a connection may change to.
const WEBSOCKET: &str = "websocket";
/// Never sent on: they are of one connection, or said anew.
const HOP_BY_HOP: [HeaderName; 13] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    ORDER,
    UNSERVED,
    session::SERVER,
];

/// Why a request is not sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) reason: &'static str,
}

const fn refused(status: StatusCode, reason: &'static str) -> Refusal {
    Refusal { status, reason }
}

/// What a head asks for.
#[derive(Debug)]
pub(super) struct Asked<'r> {
    /// The host, in small letters, without port or final dot.
    pub(super) host: Cow<'r, str>,
    /// As it is sent on.
    pub(super) authority: HeaderValue,
}

/// Reads a request's head.
pub(super) fn read(parts: &Parts) -> Result<Asked<'_>, Refusal> {
    let bad = |reason| refused(StatusCode::BAD_REQUEST, reason);
    if parts.method == Method::CONNECT {
        return Err(refused(
            StatusCode::METHOD_NOT_ALLOWED,
            "this proxy opens no tunnels",
        ));
    }
    let path = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    if path > PATH_LEN_MAX {
        return Err(refused(StatusCode::URI_TOO_LONG, "the path is too long"));
    }
    let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !codings.next().is_none_or(chunked) || codings.next().is_some() {
        return Err(bad("a body in more than chunks"));
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (named, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(bad("two hosts are named"));
    }
    let (host, authority) = match (parts.uri.authority(), named) {
        // What the request line says counts (RFC 9112 3.2.2).
        (Some(whole), _) => {
            let value = HeaderValue::from_str(whole.as_str());
            (Cow::Borrowed(whole.host()), value.map_err(|_| bad("the host is none"))?)
        }
        (None, Some(value)) => {
            let text = value.to_str().map_err(|_| bad("the host is none"))?;
            (host_of(text).ok_or_else(|| bad("the host is none"))?, value.clone())
        }
        (None, None) => return Err(bad("no host is named")),
    };
    if authority.as_bytes().contains(&b'@') {
        return Err(bad("the host is none"));
    }
    Ok(Asked { host: small(host), authority })
}

/// The host of a header, without its port.
fn host_of(text: &str) -> Option<Cow<'_, str>> {
    let simple = |c: u8| c.is_ascii_alphanumeric() || c == b'.' || c == b'-' || c == b'_';
    if !text.is_empty() && text.bytes().all(simple) {
        return Some(Cow::Borrowed(text));
    }
    let authority: Authority = text.parse().ok()?;
    Some(Cow::Owned(authority.host().to_owned()))
}

fn small(host: Cow<'_, str>) -> Cow<'_, str> {
    let plain = !host.ends_with('.') && !host.bytes().any(|c| c.is_ascii_uppercase());
    if plain {
        return host;
    }
    let host = host.strip_suffix('.').unwrap_or(&host);
    Cow::Owned(host.to_ascii_lowercase())
}

/// Whether a request may be done twice (RFC 9110 9.2.2).
pub(super) fn is_idempotent(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PUT,
        Method::DELETE,
        Method::TRACE,
    ]
    .contains(method)
}

/// What is said of the client, besides what it says itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'c> {
    /// Who is connected.
    pub(super) address: &'c HeaderValue,
    pub(super) encrypted: bool,
    /// Whether what it says of those before it counts.
    pub(super) trusted: bool,
    /// Whether it is another region's proxy, which has said all already.
    pub(super) peer: bool,
    /// This proxy, for `Via`.
    pub(super) via: &'c HeaderValue,
}

/// The head that is sent on.
pub(super) fn onward(
    parts: &Parts,
    authority: &HeaderValue,
    said: Said<'_>,
    order: Option<HeaderValue>,
) -> (Method, Uri, HeaderMap) {
    let mut headers = HeaderMap::with_capacity(parts.headers.len() + 6);
    let named = named_by_connection(&parts.headers);
    for (name, value) in &parts.headers {
        let own = *name == header::HOST
            || *name == header::CONTENT_LENGTH
            || *name == header::COOKIE
            || is_of_client(name)
            || is_hop_by_hop(name, &named);
        if !own {
            headers.append(name, value.clone());
        }
    }
    headers.insert(header::HOST, authority.clone());
    cookies(parts, &mut headers);
    session::hide(&mut headers);
    tell_client(parts, authority, said, &mut headers);
    headers.append(header::VIA, said.via.clone());
    if let Some(order) = order {
        headers.insert(ORDER, order);
    }
    let path = parts.uri.path_and_query().cloned();
    let uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    (parts.method.clone(), uri, headers)
}

/// HTTP/2 has each cookie for itself (RFC 9113 8.2.3).
fn cookies(parts: &Parts, headers: &mut HeaderMap) {
    if parts.version != Version::HTTP_2 {
        copy(&parts.headers, &header::COOKIE, headers);
        return;
    }
    let all = parts.headers.get_all(header::COOKIE).iter();
    let all: Vec<&[u8]> = all.map(HeaderValue::as_bytes).collect();
    if let (false, Ok(one)) =
        (all.is_empty(), HeaderValue::from_bytes(&all.join(&b"; "[..])))
    {
        headers.insert(header::COOKIE, one);
    }
}

fn copy(from: &HeaderMap, name: &HeaderName, to: &mut HeaderMap) {
    for value in from.get_all(name) {
        to.append(name, value.clone());
    }
}

fn is_of_client(name: &HeaderName) -> bool {
    [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, header::FORWARDED].contains(name)
}

fn tell_client(
    parts: &Parts,
    authority: &HeaderValue,
    said: Said<'_>,
    to: &mut HeaderMap,
) {
    let believed = said.trusted || said.peer;
    let before = |name: &HeaderName| parts.headers.get(name).filter(|_| believed);
    if said.peer {
        for name in [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, header::FORWARDED] {
            copy(&parts.headers, &name, to);
        }
        return;
    }
    if believed {
        copy(&parts.headers, &FORWARDED_FOR, to);
        copy(&parts.headers, &header::FORWARDED, to);
        if let (true, Some(own)) = (to.contains_key(header::FORWARDED), element(said)) {
            to.append(header::FORWARDED, own);
        }
    }
    to.append(FORWARDED_FOR, said.address.clone());
    let proto = before(&FORWARDED_PROTO).cloned();
    let own = HeaderValue::from_static(if said.encrypted { "https" } else { "http" });
    to.insert(FORWARDED_PROTO, proto.unwrap_or(own));
    let host = before(&FORWARDED_HOST).unwrap_or(authority);
    to.insert(FORWARDED_HOST, host.clone());
}

/// This proxy's element of `Forwarded`, when others have written theirs.
fn element(said: Said<'_>) -> Option<HeaderValue> {
    let address: IpAddr = said.address.to_str().ok()?.parse().ok()?;
    let proto = if said.encrypted { "https" } else { "http" };
    let text = match address {
        IpAddr::V4(four) => format!("for={four};proto={proto}"),
        IpAddr::V6(six) => format!("for=\"[{six}]\";proto={proto}"),
    };
    HeaderValue::from_str(&text).ok()
}

/// The answer's head that is sent back: the same without what was of one connection.
pub(super) fn back(headers: &mut HeaderMap) {
    let named = named_by_connection(headers);
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Whether a head asks for a WebSocket, or agrees to one (RFC 6455 4). Nothing else may a connection
/// change to: what is spoken then is read by nobody here, and by h2c requests would come past
/// this proxy.
pub(super) fn changes(headers: &HeaderMap) -> bool {
    let mut wanted = headers.get_all(header::UPGRADE).iter();
    let websocket =
        |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes());
    wanted.next().is_some_and(websocket)
        && wanted.next().is_none()
        && named_by_connection(headers).contains(&header::UPGRADE)
}

/// Says so in a head that is sent on or back.
pub(super) fn change(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

fn is_hop_by_hop(name: &HeaderName, named: &[HeaderName]) -> bool {
    HOP_BY_HOP.contains(name) || named.contains(name)
}

/// Headers that are of this connection because `Connection` says so.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(header::CONNECTION).iter();
    let words = lines.filter_map(|line| line.to_str().ok()).flat_map(|l| l.split(','));
    let words = words.map(str::trim).filter(|word| !word.eq_ignore_ascii_case("close"));
    words.filter_map(|word| word.parse().ok()).collect()
}

/// The client behind proxies that are trusted: the last who is not one of them.
pub(super) fn client_behind(
    headers: &HeaderMap,
    connected: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut client = connected;
    for line in headers.get_all(FORWARDED_FOR).iter().rev() {
        for word in line.to_str().unwrap_or_default().rsplit(',') {
            let Ok(address) = word.trim().parse::<IpAddr>() else { return client };
            client = address.to_canonical();
            if !is_trusted(client) {
                return client;
            }
        }
    }
    client
}

/// What one region's proxy orders of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Proxies that it has passed before this one.
    pub(super) hops: u8,
    /// The region that answers.
    pub(super) region: RegionId,
    /// Who asks.
    pub(super) client: IpAddr,
}

impl Order {
    pub(super) fn read(value: &HeaderValue) -> Option<Self> {
        let mut words = value.to_str().ok()?.split(' ');
        let hops = words.next()?.parse().ok()?;
        let region = words.next()?.parse().ok()?;
        let client = words.next()?.parse().ok()?;
        words.next().is_none().then_some(Self { hops, region, client })
    }

    pub(super) fn write(&self) -> Option<HeaderValue> {
        let Self { hops, region, client } = self;
        HeaderValue::from_str(&format!("{hops} {region} {client}")).ok()
    }
}
