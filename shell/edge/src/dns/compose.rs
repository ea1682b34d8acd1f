//! An answer as bytes.
//!
//! The question comes back letter for letter (some resolvers mix cases to be hard to forge),
//! and what has no room is left out whole: then the answer says to ask by TCP, and has no
//! record at all, so that nobody takes a part for everything.

use domain::base::iana::{Class, OptRcode, Rtype};
use domain::base::message_builder::{
    AdditionalBuilder, AnswerBuilder, AuthorityBuilder, MessageBuilder, OptBuilder,
    PushError, StaticCompressor,
};
use domain::base::opt::{ExtendedError, Nsid, UnknownOptData};
use domain::base::wire::Composer;
use domain::base::{CharStr, Ttl};
use domain::dep::octseq::Str;
use domain::rdata::{A, Aaaa, Hinfo, Ns};

use std::net::IpAddr;

use super::UDP_BYTES_MAX;
use super::answer::{Records, Reply, Transport};
use super::query::{Edns, Query, Subnet};
use super::zone::{TTL_FIXED_S, Zone};

/// What a datagram has room for when its asker says nothing (RFC 1035).
const UDP_BYTES_LEAST: u16 = 512;

/// Most bytes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(usize);

impl Limit {
    /// What an asker takes.
    pub(crate) fn of(query: &Query<'_>, transport: Transport) -> Self {
        let stated = query.edns.map_or(UDP_BYTES_LEAST, |edns| edns.udp_bytes_max);
        Self(match transport {
            Transport::Udp => stated.clamp(UDP_BYTES_LEAST, UDP_BYTES_MAX).into(),
            Transport::Tcp => u16::MAX.into(),
        })
    }
}

/// A header that says no, and nothing else, for what could not be read.
pub(crate) fn bare(packet: &[u8], rcode: OptRcode, out: &mut Vec<u8>) {
    let [one, two, flags, ..] = *packet else { return };
    // Kind of question and "recursion desired" come back as they were.
    out.extend([one, two, 0x80 | flags & 0x79, rcode.rcode().to_int()]);
    out.extend([0; 8]);
}

/// Puts an answer together; whether it had no room.
pub(crate) fn compose(
    zone: &Zone,
    query: &Query<'_>,
    reply: &Reply,
    limit: Limit,
    out: &mut Vec<u8>,
) -> bool {
    if !reply.invites && whole(zone, query, reply, limit, out).is_ok() {
        return false;
    }
    let invitation = Reply { records: Records::Nothing, negative_ttl_s: None, ..*reply };
    let invitation = Reply { invites: true, ..invitation };
    if whole(zone, query, &invitation, limit, out).is_err() {
        // A question, an OPT and its longest options are less than 512 bytes.
        out.clear();
    }
    true
}

fn whole(
    zone: &Zone,
    query: &Query<'_>,
    reply: &Reply,
    limit: Limit,
    out: &mut Vec<u8>,
) -> Result<(), PushError> {
    let target = StaticCompressor::new(out);
    let mut builder =
        MessageBuilder::from_target(target).map_err(|_| PushError::ShortBuf)?;
    builder.set_push_limit(limit.0);
    let header = builder.header_mut();
    header.set_id(query.header.id());
    header.set_qr(true);
    header.set_opcode(query.header.opcode());
    header.set_rd(query.header.rd());
    header.set_aa(reply.authoritative);
    header.set_tc(reply.invites);
    header.set_rcode(reply.rcode.rcode());
    let mut question = builder.question();
    question.push(query.question)?;
    let mut answer = question.answer();
    records(zone, query, reply, &mut answer)?;
    let mut authority = answer.authority();
    if let Some(ttl_s) = reply.negative_ttl_s {
        push_soa(zone, ttl_s, &mut authority)?;
    }
    let mut additional = authority.additional();
    if let Some(edns) = &query.edns {
        additional.opt(|opt| options(zone, edns, reply, opt))?;
    }
    if reply.records == Records::NameServers {
        glue(zone, &mut additional);
    }
    Ok(())
}

fn records<T: Composer>(
    zone: &Zone,
    query: &Query<'_>,
    reply: &Reply,
    answer: &mut AnswerBuilder<T>,
) -> Result<(), PushError> {
    let owner = query.question.qname();
    let fixed = Ttl::from_secs(TTL_FIXED_S);
    match reply.records {
        Records::Nothing => Ok(()),
        Records::Addresses { ttl_s, list } => {
            let ttl = Ttl::from_secs(ttl_s);
            list.into_iter().flatten().try_for_each(|address| match address {
                IpAddr::V4(four) => answer.push((owner, Class::IN, ttl, A::new(four))),
                IpAddr::V6(six) => answer.push((owner, Class::IN, ttl, Aaaa::new(six))),
            })
        }
        Records::Soa => answer.push((owner, Class::IN, fixed, zone.soa())),
        Records::NameServers => zone.name_servers.iter().try_for_each(|server| {
            answer.push((owner, Class::IN, fixed, Ns::new(server.name.inner())))
        }),
        Records::Anything => {
            let word = |word: &'static [u8]| {
                CharStr::from_octets(word).map_err(|_| PushError::ShortBuf)
            };
            let told = Hinfo::new(word(b"RFC8482")?, word(b"")?);
            answer.push((owner, Class::IN, fixed, told))
        }
    }
}

fn push_soa<T: Composer>(
    zone: &Zone,
    ttl_s: u32,
    authority: &mut AuthorityBuilder<T>,
) -> Result<(), PushError> {
    let ttl = Ttl::from_secs(ttl_s);
    authority.push((zone.apex.inner(), Class::IN, ttl, zone.soa()))
}

/// Where the name servers are, as far as there is room.
fn glue<T: Composer>(zone: &Zone, additional: &mut AdditionalBuilder<T>) {
    let ttl = Ttl::from_secs(TTL_FIXED_S);
    for server in &zone.name_servers {
        let name = server.name.inner();
        for rtype in [Rtype::A, Rtype::AAAA] {
            let pushed = match server.addresses.of(rtype) {
                Some(IpAddr::V4(four)) => {
                    additional.push((name, Class::IN, ttl, A::new(four)))
                }
                Some(IpAddr::V6(six)) => {
                    additional.push((name, Class::IN, ttl, Aaaa::new(six)))
                }
                None => Ok(()),
            };
            if pushed.is_err() {
                return;
            }
        }
    }
}

fn options<T: Composer>(
    zone: &Zone,
    edns: &Edns,
    reply: &Reply,
    opt: &mut OptBuilder<'_, T>,
) -> Result<(), T::AppendError> {
    opt.set_udp_payload_size(UDP_BYTES_MAX);
    opt.set_rcode(reply.rcode);
    opt.set_dnssec_ok(edns.dnssec_ok);
    if edns.version != 0 {
        return Ok(());
    }
    match edns.subnet {
        Some(Subnet::Of(asked)) => {
            let (len, address) = (asked.source_prefix_len(), asked.addr());
            opt.client_subnet(len, reply.scope, address)?;
        }
        Some(Subnet::Nobody) => {
            let code = domain::base::iana::OptionCode::CLIENT_SUBNET;
            if let Ok(same) = UnknownOptData::new(code, [0_u8; 4]) {
                opt.push(&same)?;
            }
        }
        None => {}
    }
    if edns.wants_identity
        && let Ok(identity) = Nsid::from_octets(zone.identity.as_bytes())
    {
        opt.push(&identity)?;
    }
    if let Some((code, why)) = reply.reason
        && let Ok(text) = Str::from_utf8(why.as_bytes())
        && let Ok(reason) = ExtendedError::new(code, Some(text))
    {
        opt.push(&reason)?;
    }
    Ok(())
}
