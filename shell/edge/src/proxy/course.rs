//! One request's way: who asks for what, where it goes, and where to next when that fails.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dwcp_router::session::Token;
use dwcp_router::{Decision, Evidence, RetryBudget, Table};
use dwcp_types::RegionId;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Limits;
use super::bodies::{BodyError, Download, Upload};
use super::counters::{Counters, Event};
use super::group::Group;
use super::head::{self, Asked, EXPLAIN, ORDER, Order, Refusal, Said, UNSERVED};
use super::hop::{self, ATTEMPTS_MAX, Hop, Tries, Who};
use super::log::AccessLine;
use super::pool::{Lease, Pool, Unanswered};
use super::session;
use super::tally::{AccessRecord, Tally};
use super::tunnel::Tunnels;
use super::view::{Question, View};
use crate::clients::Clients;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    /// Addresses in cell 1 are believed what they say of clients.
    pub(super) trusted: Clients,
    /// Addresses in cell 1 are told why.
    pub(super) explains: Clients,
    pub(super) counters: Arc<Counters>,
    pub(super) log: Option<mpsc::Sender<AccessLine>>,
    pub(super) budget: Mutex<RetryBudget>,
    pub(super) start: Instant,
    pub(super) via: HeaderValue,
}

/// Who is connected.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) address: IpAddr,
    pub(super) text: HeaderValue,
    pub(super) encrypted: bool,
    pub(super) trusted: bool,
    pub(super) explains: bool,
    /// Another region's proxy.
    pub(super) peer: Option<RegionId>,
    /// What its connection has changed to.
    pub(super) tunnels: Tunnels,
}

/// One request.
pub(super) struct Course<'c> {
    shared: &'c Shared,
    caller: &'c Caller,
    view: &'c View,
    parts: &'c Parts,
    asked: Asked<'c>,
    service: usize,
    client: IpAddr,
    /// Proxies that it has passed.
    hops: u8,
    request: u64,
    since: Instant,
    attempts: usize,
    explained: Option<HeaderValue>,
    /// The client's side of a tunnel, when it asks for one.
    near: Option<OnUpgrade>,
    /// Where the client's session is, by what it shows.
    token: Option<Token>,
    /// The region and the server of it that are wanted because of that.
    wanted: Option<(RegionId, u32)>,
}

/// An answer, and who gave it.
struct Answer {
    from: Arc<Pool>,
    region: RegionId,
    response: Response<Incoming>,
    lease: Lease,
}

/// What came of an attempt that brought no answer.
enum Missed {
    /// It was sent to nobody; the body is here when it can be sent again.
    Unsent(Upload),
    /// It may have arrived.
    Broken,
    Late,
}

/// Answers a request.
pub(super) async fn answer(
    shared: &Shared,
    caller: &Caller,
    (view, request_number): (&View, u64),
    mut request: Request<Incoming>,
) -> Response<Download> {
    let since = Instant::now();
    let asks = request.version() == Version::HTTP_11
        && *request.method() == Method::GET
        && head::changes(request.headers());
    let near = asks.then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let course = match Course::new(shared, caller, (view, request_number, since), &parts)
    {
        Ok(course) => Course { near, ..course },
        Err(refusal) => {
            shared.counters.add(Event::Refused);
            return own_words(shared, refusal, true);
        }
    };
    let limits = &shared.limits;
    let declared = hyper::body::Body::size_hint(&body).exact().unwrap_or_default();
    if declared > limits.body_len_max {
        shared.counters.add(Event::Refused);
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return own_words(
            shared,
            Refusal { status, reason: "the body is too long" },
            true,
        );
    }
    match Upload::of(body, limits.body_len_max, limits.body_time_max).await {
        Ok(upload) => course.run(upload).await,
        Err(error) => {
            shared.counters.add(Event::Refused);
            let (status, reason) = match error {
                BodyError::Still => (StatusCode::REQUEST_TIMEOUT, "the body stood still"),
                BodyError::Long => {
                    (StatusCode::PAYLOAD_TOO_LARGE, "the body is too long")
                }
                BodyError::Broken(_) => (StatusCode::BAD_REQUEST, "the body broke off"),
            };
            own_words(shared, Refusal { status, reason }, true)
        }
    }
}

/// This proxy's own answer. After what was refused the connection is closed: who speaks so may
/// mean something else by what follows.
fn own_words(shared: &Shared, refusal: Refusal, close: bool) -> Response<Download> {
    shared.counters.answered(refusal.status);
    let text = Bytes::from(format!("{}\n", refusal.reason));
    let mut response = Response::new(Download::own(text));
    *response.status_mut() = refusal.status;
    let headers = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, plain);
    if close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl<'c> Course<'c> {
    fn new(
        shared: &'c Shared,
        caller: &'c Caller,
        (view, request, since): (&'c View, u64, Instant),
        parts: &'c Parts,
    ) -> Result<Self, Refusal> {
        let asked = head::read(parts)?;
        let service = view.sites.service(&asked.host).ok_or(Refusal {
            status: StatusCode::MISDIRECTED_REQUEST,
            reason: "no service of this federation has this host",
        })?;
        let client = if caller.trusted {
            let is_trusted = |address| shared.trusted.find(address).0 == 1;
            head::client_behind(&parts.headers, caller.address, is_trusted)
        } else {
            caller.address
        };
        Ok(Self {
            shared,
            caller,
            view,
            parts,
            asked,
            service,
            client,
            hops: 0,
            request,
            since,
            attempts: 0,
            explained: None,
            near: None,
            token: None,
            wanted: None,
        })
    }

    async fn run(mut self, mut upload: Upload) -> Response<Download> {
        self.shared.budget().asked(self.shared.start.elapsed());
        let hops = match self.hops() {
            Ok(hops) => hops,
            Err(refusal) => return self.refuse(refusal),
        };
        let idempotent = head::is_idempotent(&self.parts.method);
        let (mut tries, mut served) = (Tries::of(hops), false);
        while self.attempts < ATTEMPTS_MAX {
            let who = |hop: &Hop, tried| self.pool(hop, tried);
            let Some((hop, (pool, at))) = tries.next(who) else { break };
            if self.attempts > 0 {
                if served && !self.may_serve_again() {
                    break;
                }
                self.shared.counters.add(Event::SentAgain);
            }
            self.attempts += 1;
            let spare = upload.again();
            let missed = match self.attempt(&hop, &pool, upload).await {
                Ok(answer) => return self.finish(answer, at),
                Err(missed) => missed,
            };
            if let Some(at) = at {
                self.blame(at, &missed, spare.is_some());
            }
            upload = match (missed, spare) {
                (Missed::Unsent(upload), _) => upload,
                (Missed::Broken, Some(spare)) if idempotent => {
                    served = true;
                    spare
                }
                (Missed::Broken, _) => return self.fail(StatusCode::BAD_GATEWAY),
                (Missed::Late, _) => return self.fail(StatusCode::GATEWAY_TIMEOUT),
            };
        }
        if served { self.fail(StatusCode::BAD_GATEWAY) } else { self.unserved() }
    }

    fn group(&self) -> Option<&Arc<Group>> {
        self.view.sites.group(self.service)
    }

    /// A body that is handed on as it comes may have broken off at the client: nobody may have a
    /// server ejected by that.
    fn blame(&self, at: usize, missed: &Missed, whole: bool) {
        let evidence = match missed {
            Missed::Broken if !whole => return,
            Missed::Late | Missed::Broken => Evidence::Failed,
            Missed::Unsent(_) => Evidence::Unreached,
        };
        if let Some(group) = self.group() {
            group.tell(at, evidence);
        }
    }

    /// Where to, best first.
    fn hops(&mut self) -> Result<Vec<Hop>, Refusal> {
        if let (Some(_), Some(order)) = (&self.caller.peer, self.parts.headers.get(ORDER))
        {
            let order = Order::read(order).ok_or(Refusal {
                status: StatusCode::BAD_REQUEST,
                reason: "another region's order is unreadable",
            })?;
            (self.hops, self.client) = (order.hops, order.client);
            let server = session::server(&self.parts.headers);
            self.wanted = server.map(|server| (order.region.clone(), server));
            return hop::ordered(&order.region, &self.view.sites.own, self.hops).ok_or(
                Refusal {
                    status: StatusCode::LOOP_DETECTED,
                    reason: "it has passed too many proxies",
                },
            );
        }
        let (service, client, request) = (self.service, self.client, self.request);
        let question = Question { service, client, request };
        self.token = self.shown();
        let Some((decision, table)) = self.view.decide(question) else {
            let token = self.token.as_ref();
            self.wanted = token.map(|token| (token.region.clone(), token.server));
            return Ok(vec![Hop::Own]);
        };
        let asks = self.parts.headers.get(EXPLAIN).is_some_and(|asks| asks == "1");
        if asks && self.caller.explains {
            self.explained = explained(&decision, table);
        }
        let own = &self.view.sites.own;
        let mut hops = hop::decided(&decision, table, own);
        if let Some(hop) = self.session_first(question, decision.region_id(table)) {
            hops.retain(|other| *other != hop);
            hops.insert(0, hop);
        }
        Ok(hops)
    }

    /// What the client shows of its session.
    fn shown(&self) -> Option<Token> {
        let text = session::shown(&self.parts.headers)?;
        self.view.sites.read_token(self.service, text)
    }

    /// Where the session is, if that may answer: the way there, unless it is what is decided anyway,
    /// which knows of relays.
    fn session_first(
        &mut self,
        question: Question,
        decided: Option<&RegionId>,
    ) -> Option<Hop> {
        let Token { region, server, .. } = self.token.as_ref()?;
        if !self.view.may_answer(question, region) {
            return None;
        }
        let hop = Hop::to(region, &self.view.sites.own);
        let is_decided = decided == Some(region);
        self.wanted = Some((region.clone(), *server));
        (!is_decided).then_some(hop)
    }

    /// Who is asked, and its place among this region's servers.
    fn pool(&self, hop: &Hop, tried: u64) -> Option<Who> {
        match hop {
            Hop::Own => {
                let (at, pool) = if self.view.sites.session(self.service).is_some() {
                    let client = dwcp_router::client_number(self.client);
                    let wanted = self.wanted_in(&self.view.sites.own);
                    self.group()?.keep(tried, wanted, client)?
                } else {
                    let draw = self.request.wrapping_add(tried);
                    self.group()?.pick(tried, draw)?
                };
                Some((pool.clone(), Some(at)))
            }
            Hop::Region { by, .. } => Some((self.view.sites.peer(by)?.clone(), None)),
        }
    }

    /// The server of a region that is wanted.
    fn wanted_in(&self, region: &RegionId) -> Option<u32> {
        let (of, server) = self.wanted.as_ref()?;
        (of == region).then_some(*server)
    }

    /// What nobody had is handed to the next without asking: that is no more work for anybody.
    fn may_serve_again(&self) -> bool {
        let may = self.shared.budget().try_retry(self.shared.start.elapsed());
        if !may {
            self.shared.counters.add(Event::NotSentAgain);
        }
        may
    }

    async fn attempt(
        &self,
        hop: &Hop,
        pool: &Arc<Pool>,
        upload: Upload,
    ) -> Result<Answer, Missed> {
        let (region, order) = match hop {
            Hop::Own => (self.view.sites.own.clone(), None),
            Hop::Region { meant, .. } => {
                let (hops, client) = (self.hops + 1, self.client);
                let order = Order { hops, region: meant.clone(), client };
                (meant.clone(), order.write())
            }
        };
        let said = Said {
            address: &self.caller.text,
            encrypted: self.caller.encrypted,
            trusted: self.caller.trusted,
            peer: self.caller.peer.is_some(),
            via: &self.shared.via,
        };
        let sent_to_peer = order.is_some();
        let (method, uri, mut headers) =
            head::onward(self.parts, &self.asked.authority, said, order);
        if self.near.is_some() {
            head::change(&mut headers);
        }
        let spare = if sent_to_peer { upload.again() } else { None };
        let mut request = Request::new(upload);
        (*request.method_mut(), *request.uri_mut()) = (method, uri);
        *request.headers_mut() = headers;
        if let (true, Some(server)) = (sent_to_peer, self.wanted_in(&region)) {
            request.headers_mut().insert(session::SERVER, session::say(server));
        }
        match pool.send(request, &self.shared.limits).await {
            Ok((response, lease)) => {
                let unserved = sent_to_peer && response.headers().contains_key(UNSERVED);
                match (unserved, spare) {
                    (true, Some(spare)) => Err(Missed::Unsent(spare)),
                    // An answer to something that was not asked.
                    _ if response.status() == StatusCode::SWITCHING_PROTOCOLS
                        && !(self.near.is_some()
                            && head::changes(response.headers())) =>
                    {
                        Err(Missed::Broken)
                    }
                    _ => Ok(Answer { from: pool.clone(), region, response, lease }),
                }
            }
            Err(Unanswered::Unsent(request)) => Err(Missed::Unsent(request.into_body())),
            Err(Unanswered::Broken) => Err(Missed::Broken),
            Err(Unanswered::Late) => Err(Missed::Late),
        }
    }

    fn finish(mut self, answer: Answer, at: Option<usize>) -> Response<Download> {
        let Answer { from, region, mut response, lease } = answer;
        let changed = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let near = self.near.take().filter(|_| changed);
        let tunnel = near.map(|near| (near, hyper::upgrade::on(&mut response)));
        let (mut parts, body) = response.into_parts();
        // What this proxy speaks, whatever the server does (RFC 9110 2.5).
        parts.version = Version::HTTP_11;
        if let (Some(at), Some(group)) = (at, self.group()) {
            let failed = parts.status.is_server_error();
            group.tell(at, if failed { Evidence::Failed } else { Evidence::Answered });
        }
        self.shared.counters.answered(parts.status);
        let unserved = parts.headers.get(UNSERVED).cloned();
        let server = at.map(|_| from.number).or_else(|| session::server(&parts.headers));
        head::back(&mut parts.headers);
        self.tell_session((&region, server), &mut parts.headers);
        // A relay hands on what the region that was meant says.
        if let (Some(_), Some(unserved)) =
            (&self.caller.peer, unserved.filter(|_| at.is_none()))
        {
            parts.headers.insert(UNSERVED, unserved);
        }
        if self.caller.peer.is_none() {
            self.tell(&mut parts.headers);
        }
        // Who counts on another length than ours loses the connection (RFC 9112 6.3).
        if self.parts.headers.contains_key(header::TRANSFER_ENCODING) {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let (status, within) = (parts.status, self.shared.limits.body_time_max);
        let caller = self.caller;
        let tally = self.tally(status, Some((region, from.to.at.clone())));
        if let Some(sides) = tunnel {
            head::change(&mut parts.headers);
            caller.tunnels.open(sides, lease, tally);
            return Response::from_parts(parts, Download::nothing());
        }
        let body = Download::server(body, lease, within);
        Response::from_parts(parts, body.tallied(tally))
    }

    /// Says where the session is: to the region that asked for it, or to the client.
    fn tell_session(
        &self,
        (region, server): (&RegionId, Option<u32>),
        to: &mut HeaderMap,
    ) {
        let sites = &self.view.sites;
        let (Some(lasts), Some(server)) = (sites.session(self.service), server) else {
            return;
        };
        if self.caller.peer.is_some() {
            to.insert(session::SERVER, session::say(server));
            return;
        }
        let token =
            sites.write_token(self.service, (region, server), self.token.as_ref());
        let given = |token: String| session::given(&token, lasts, self.caller.encrypted);
        if let Some(cookie) = token.and_then(given) {
            to.append(header::SET_COOKIE, cookie);
        }
    }

    fn tell(&self, headers: &mut HeaderMap) {
        if let Some(explained) = &self.explained {
            let value = format!("; attempts={}", self.attempts);
            let whole = [explained.as_bytes(), value.as_bytes()].concat();
            if let Ok(whole) = HeaderValue::from_bytes(&whole) {
                headers.insert(EXPLAIN, whole);
            }
        }
    }

    /// No server had it.
    fn unserved(self) -> Response<Download> {
        let (status, reason, event) = if self.attempts == 0 {
            let reason = "no region that may answer this has a server now";
            (StatusCode::SERVICE_UNAVAILABLE, reason, Event::NoRegion)
        } else {
            let reason = "no server could be reached";
            (StatusCode::SERVICE_UNAVAILABLE, reason, Event::Unreached)
        };
        self.shared.counters.add(event);
        let peer = self.caller.peer.is_some();
        let mut response = self.refuse(Refusal { status, reason });
        if peer {
            response.headers_mut().insert(UNSERVED, HeaderValue::from_static("1"));
        }
        response
    }

    /// It may have arrived.
    fn fail(self, status: StatusCode) -> Response<Download> {
        let (reason, event) = if status == StatusCode::GATEWAY_TIMEOUT {
            ("the server did not answer in time", Event::TimedOut)
        } else {
            ("the server broke off", Event::Unreached)
        };
        self.shared.counters.add(event);
        self.refuse(Refusal { status, reason })
    }

    fn refuse(self, refusal: Refusal) -> Response<Download> {
        let mut response = own_words(self.shared, refusal, false);
        self.tell(response.headers_mut());
        let tally = self.tally(refusal.status, None);
        response.map(|body| body.tallied(tally))
    }

    fn tally(self, status: StatusCode, from: Option<(RegionId, Arc<str>)>) -> Tally {
        let counters = self.shared.counters.clone();
        let moved = from.as_ref().and_then(|(region, _)| counters.of_region(region));
        let log = self.shared.log.as_ref().map(|log| {
            let (region, upstream) = from.unzip();
            let record = AccessRecord {
                client: self.client,
                method: self.parts.method.to_string(),
                host: self.asked.host.to_string(),
                path: self.parts.uri.path().to_owned(),
                status: status.as_u16(),
                region,
                upstream,
                attempts: self.attempts,
                bytes: 0,
                took_us: 0,
            };
            (log.clone(), record, self.since)
        });
        Tally { moved, sent: 0, log, counters }
    }
}

impl Shared {
    fn budget(&self) -> std::sync::MutexGuard<'_, RetryBudget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The decision in words: `region=one; generation=7; reasons=sticky,shared; broken=latency`.
fn explained(decision: &Decision, table: &Table) -> Option<HeaderValue> {
    let region = decision.region_id(table).map_or("none", |region| region.as_str());
    let reasons: Vec<_> =
        decision.reasons.iter().map(|reason| format!("{reason:?}")).collect();
    let broken: Vec<_> =
        decision.failed.iter().map(|refusal| format!("{refusal:?}")).collect();
    let text = format!(
        "region={region}; generation={}; reasons={}; broken={}",
        decision.generation,
        reasons.join(","),
        broken.join(","),
    );
    HeaderValue::from_str(&text.to_ascii_lowercase()).ok()
}
