//! What is answered to a question: a pure function of what is known and of who asks.

use std::net::IpAddr;

use domain::base::iana::{Class, ExtendedErrorCode, OptRcode, Rtype};
use dwcp_router::{
    CLIENT_BITS_IPV4, CLIENT_BITS_IPV6, Decision, Key, Reason, client_number, decide,
};

use super::compose::{Limit, bare, compose};
use super::query::{self, Packet, Query, Subnet};
use super::view::{Addresses, Steered, View};
use super::zone::{ANSWERS_MAX, Found, Owner, TTL_FIXED_S, TTL_NEGATIVE_S};

/// By what a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In one datagram, and the answer fits in one.
    Udp,
    /// In a stream, by which an answer may be long.
    Tcp,
}

/// Who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Its address: the client's resolver, as a rule.
    pub source: IpAddr,
    /// By what.
    pub transport: Transport,
    /// This question, as a number that differs from the next: who shares a service by requests
    /// is drawn from it.
    pub request: u64,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was no question, and is not answered.
    Ignored,
    /// It is answered.
    Answered {
        /// With this response code, extended by EDNS where needed.
        rcode: u16,
        /// Whether the answer had no room, and is to be asked for by TCP.
        truncated: bool,
    },
}

/// Answers a packet into `out`, which is empty when there is no answer.
///
/// Performs nothing, and ends for every packet whatever is in it. By UDP the answer is never
/// longer than the asker takes, and never than [`super::UDP_BYTES_MAX`].
pub fn answer(view: &View, packet: &[u8], asker: &Asker, out: &mut Vec<u8>) -> Outcome {
    out.clear();
    let query = match query::read(packet) {
        Packet::Silent => return Outcome::Ignored,
        Packet::Refused(rcode) => {
            bare(packet, rcode, out);
            return Outcome::Answered { rcode: rcode.to_int(), truncated: false };
        }
        Packet::Query(query) => query,
    };
    let reply = reply(view, &query, asker);
    let limit = Limit::of(&query, asker.transport);
    let truncated = compose(&view.zone, &query, &reply, limit, out);
    Outcome::Answered { rcode: reply.rcode.to_int(), truncated }
}

/// Answers a packet with nothing but the invitation to ask again by TCP, for whoever asks too
/// often: true askers come back, and a victim whose address was forged is sent no more bytes
/// than the forger sent.
pub(crate) fn invite(view: &View, packet: &[u8], out: &mut Vec<u8>) -> Outcome {
    out.clear();
    let Packet::Query(query) = query::read(packet) else { return Outcome::Ignored };
    let reply = Reply { invites: true, ..Reply::of(OptRcode::NOERROR) };
    let limit = Limit::of(&query, Transport::Udp);
    compose(&view.zone, &query, &reply, limit, out);
    Outcome::Answered { rcode: reply.rcode.to_int(), truncated: true }
}

/// Records of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Records {
    /// None.
    Nothing,
    /// Addresses, best first.
    Addresses { ttl_s: u32, list: [Option<IpAddr>; ANSWERS_MAX] },
    /// The zone's SOA.
    Soa,
    /// The zone's name servers.
    NameServers,
    /// Whatever there is, which is not told (RFC 8482).
    Anything,
}

/// What is answered, before it is bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) rcode: OptRcode,
    pub(crate) authoritative: bool,
    pub(crate) records: Records,
    /// That there is nothing may be kept for so many seconds: an SOA says so (RFC 2308).
    pub(crate) negative_ttl_s: Option<u32>,
    /// For how many bits of the client's address this holds (RFC 7871).
    pub(crate) scope: u8,
    /// Why there is no answer (RFC 8914).
    pub(crate) reason: Option<(ExtendedErrorCode, &'static str)>,
    /// Whether it says only to ask by TCP.
    pub(crate) invites: bool,
}

impl Reply {
    const fn of(rcode: OptRcode) -> Self {
        Self {
            rcode,
            authoritative: false,
            records: Records::Nothing,
            negative_ttl_s: None,
            scope: 0,
            reason: None,
            invites: false,
        }
    }

    fn refused(rcode: OptRcode, code: ExtendedErrorCode, why: &'static str) -> Self {
        Self { reason: Some((code, why)), ..Self::of(rcode) }
    }

    const fn with(records: Records) -> Self {
        Self { authoritative: true, records, ..Self::of(OptRcode::NOERROR) }
    }

    const fn without(rcode: OptRcode) -> Self {
        Self {
            authoritative: true,
            negative_ttl_s: Some(TTL_NEGATIVE_S),
            ..Self::of(rcode)
        }
    }
}

fn reply(view: &View, query: &Query<'_>, asker: &Asker) -> Reply {
    if query.edns.is_some_and(|edns| edns.version != 0) {
        return Reply::of(OptRcode::BADVERS);
    }
    if query.question.qclass() != Class::IN {
        let code = ExtendedErrorCode::NOT_SUPPORTED;
        return Reply::refused(OptRcode::REFUSED, code, "only class IN is served");
    }
    if matches!(query.rtype(), Rtype::AXFR | Rtype::IXFR) {
        let code = ExtendedErrorCode::NOT_SUPPORTED;
        return Reply::refused(OptRcode::REFUSED, code, "there is no zone to transfer");
    }
    match view.zone.find(query.question.qname()) {
        Found::Outside => {
            let code = ExtendedErrorCode::NOT_AUTHORITATIVE;
            Reply::refused(OptRcode::REFUSED, code, "another zone's name")
        }
        Found::Missing => Reply::without(OptRcode::NXDOMAIN),
        Found::At(owner) => at(view, owner, query, asker),
    }
}

fn at(view: &View, owner: &Owner, query: &Query<'_>, asker: &Asker) -> Reply {
    let rtype = query.rtype();
    if let Some(address) = owner.fixed(rtype) {
        let list = [Some(address), None, None, None];
        return Reply::with(Records::Addresses { ttl_s: TTL_FIXED_S, list });
    }
    match rtype {
        Rtype::SOA if owner.apex => Reply::with(Records::Soa),
        Rtype::NS if owner.apex => Reply::with(Records::NameServers),
        Rtype::ANY => Reply::with(Records::Anything),
        Rtype::A | Rtype::AAAA => match owner.service {
            Some(service) => routed(view, service, query, asker),
            None => Reply::without(OptRcode::NOERROR),
        },
        _ => Reply::without(OptRcode::NOERROR),
    }
}

/// Asks the table.
fn routed(view: &View, service: usize, query: &Query<'_>, asker: &Asker) -> Reply {
    let Some(steered) = &view.steered else {
        let code = ExtendedErrorCode::NOT_READY;
        return Reply::refused(OptRcode::SERVFAIL, code, "no routing table yet");
    };
    let number = steered.services.get(service).copied().flatten();
    let Some(number) = number else {
        let code = ExtendedErrorCode::NOT_READY;
        let why = "the routing table does not have the service yet";
        return Reply::refused(OptRcode::SERVFAIL, code, why);
    };
    let subnet = query.edns.and_then(|edns| edns.subnet);
    let client = subnet.and_then(Subnet::client);
    let address = client.unwrap_or(asker.source);
    let (cell, scope) = steered.clients.find(address);
    let key = Key {
        cell,
        service: number,
        client: client_number(address),
        request: asker.request,
        ..Key::default()
    };
    let scope = scope.max(sticky_bits(steered, number, address));
    let (decision, told) = decided(steered, &key, view.zone.answers);
    let mut reply = if told[0].is_none() {
        nowhere(&decision)
    } else {
        let ttl_s = u32::from(decision.ttl_s);
        addressed(told, query.rtype(), ttl_s)
    };
    // Who does not want to say for whom it asks is told for itself alone (RFC 7871 7.1.2), and
    // keeps that apart from what holds for everybody (7.3.1).
    reply.scope = if client.is_some() { scope } else { 0 };
    reply
}

/// The bits of an address that tell a client from its neighbours, where that matters: a sticky
/// service draws each client's region by its number.
fn sticky_bits(steered: &Steered, service: u16, address: IpAddr) -> u8 {
    let services = &steered.table.inputs().services;
    let sticky = services.get(usize::from(service)).is_some_and(|service| service.sticky);
    match (sticky, address.to_canonical()) {
        (false, _) => 0,
        (true, IpAddr::V4(_)) => CLIENT_BITS_IPV4,
        (true, IpAddr::V6(_)) => CLIENT_BITS_IPV6,
    }
}

type Told = [Option<Addresses>; ANSWERS_MAX];

/// The decision, and where its first regions answer. Regions that answer nowhere are passed
/// over; when all that were ranked do, the others are weighed.
fn decided(steered: &Steered, key: &Key, answers: usize) -> (Decision, Told) {
    let decision = decide(&steered.table, steered.standing, key);
    let told = addresses_of(steered, &decision, answers);
    if told[0].is_some() || steered.reachable == steered.standing {
        return (decision, told);
    }
    let decision = decide(&steered.table, steered.reachable, key);
    let told = addresses_of(steered, &decision, answers);
    (decision, told)
}

fn addresses_of(steered: &Steered, decision: &Decision, answers: usize) -> Told {
    let mut told = Told::default();
    let regions = decision.region.into_iter().chain(decision.fallbacks.iter());
    let found = regions.map(|region| steered.addresses(region));
    let found = found.filter(|addresses| !addresses.is_empty()).take(answers);
    for (slot, addresses) in told.iter_mut().zip(found) {
        *slot = Some(addresses);
    }
    told
}

fn addressed(told: Told, rtype: Rtype, ttl_s: u32) -> Reply {
    let mut list = [None; ANSWERS_MAX];
    let found = told.into_iter().flatten().filter_map(|addresses| addresses.of(rtype));
    for (slot, address) in list.iter_mut().zip(found) {
        *slot = Some(address);
    }
    if list[0].is_some() {
        return Reply::with(Records::Addresses { ttl_s, list });
    }
    // Of the other family only, and as soon as another region is told there may be one.
    let negative_ttl_s = Some(ttl_s.min(TTL_NEGATIVE_S));
    Reply { negative_ttl_s, ..Reply::without(OptRcode::NOERROR) }
}

fn nowhere(decision: &Decision) -> Reply {
    let why = if decision.reasons.has(Reason::FailClosed) {
        "no region keeps every limit of the service"
    } else if decision.reasons.has(Reason::UnknownKey) {
        "the routing table does not know the client's place yet"
    } else {
        "no region can answer"
    };
    Reply::refused(OptRcode::SERVFAIL, ExtendedErrorCode::OTHER, why)
}
