//! A packet as a question, or why it is none.
//!
//! Only what a question may have is read: one name, and in the additional section at most
//! [`RECORDS_MAX`] records, of which EDNS is the one that matters. The library follows at most
//! 255 pointers in a name.

use std::net::IpAddr;

use domain::base::iana::{Opcode, OptRcode, OptionCode, Rtype};
use domain::base::message::RecordSection;
use domain::base::opt::subnet::ClientSubnet;
use domain::base::opt::{Opt, OptRecord, UnknownOptData};
use domain::base::wire::ParseError;
use domain::base::{Header, Message, ParsedName, Question};
use domain::dep::octseq::Parser;

/// Most additional records of a question: EDNS, a signature, and some that may come.
const RECORDS_MAX: u16 = 4;

/// Whom a resolver asks for (RFC 7871).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subnet {
    /// Clients in this network, or, when no bit is stated, for nobody in particular.
    Of(ClientSubnet),
    /// Without even a family, as some clients write "nobody".
    Nobody,
}

impl Subnet {
    /// An address of the clients; nothing when the resolver does not want to say.
    pub(crate) fn client(self) -> Option<IpAddr> {
        match self {
            Self::Of(subnet) if subnet.source_prefix_len() > 0 => Some(subnet.addr()),
            Self::Of(_) | Self::Nobody => None,
        }
    }
}

/// What the asker's EDNS says (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    pub(crate) version: u8,
    pub(crate) udp_bytes_max: u16,
    pub(crate) dnssec_ok: bool,
    pub(crate) wants_identity: bool,
    pub(crate) subnet: Option<Subnet>,
}

/// A question.
#[derive(Debug)]
pub(crate) struct Query<'p> {
    pub(crate) header: Header,
    pub(crate) question: Question<ParsedName<&'p [u8]>>,
    pub(crate) edns: Option<Edns>,
}

impl Query<'_> {
    pub(crate) fn rtype(&self) -> Rtype {
        self.question.qtype()
    }
}

/// What a packet is.
#[derive(Debug)]
pub(crate) enum Packet<'p> {
    /// Nothing to answer: an answer itself, or too short to have a number.
    Silent,
    /// Refused by its header alone, with this code.
    Refused(OptRcode),
    /// A question.
    Query(Query<'p>),
}

/// Whether a packet may be a question at all.
pub(crate) fn may_be_question(packet: &[u8]) -> bool {
    packet.len() >= 12 && packet.get(2).is_some_and(|flags| flags & 0x80 == 0)
}

/// Reads a packet.
pub(crate) fn read(packet: &[u8]) -> Packet<'_> {
    // Whoever answers answers lets two servers talk to each other for ever.
    if !may_be_question(packet) {
        return Packet::Silent;
    }
    let Ok(message) = Message::from_octets(packet) else { return Packet::Silent };
    let header = message.header();
    if header.opcode() != Opcode::QUERY {
        return Packet::Refused(OptRcode::NOTIMP);
    }
    let counts = message.header_counts();
    let records = (counts.ancount(), counts.nscount());
    if counts.qdcount() != 1 || records != (0, 0) || counts.arcount() > RECORDS_MAX {
        // A transfer that goes on from a serial says it in the second section.
        let rcode = if asks_for_transfer(&message) {
            OptRcode::REFUSED
        } else {
            OptRcode::FORMERR
        };
        return Packet::Refused(rcode);
    }
    match parts(packet) {
        Ok((question, edns)) => Packet::Query(Query { header, question, edns }),
        Err(_) => Packet::Refused(OptRcode::FORMERR),
    }
}

fn asks_for_transfer(message: &Message<&[u8]>) -> bool {
    message.sole_question().is_ok_and(|question| question.qtype() == Rtype::IXFR)
}

type Parts<'p> = (Question<ParsedName<&'p [u8]>>, Option<Edns>);

fn parts(packet: &[u8]) -> Result<Parts<'_>, ParseError> {
    // Of the slice itself, so that names live as long as the packet.
    let message: &Message<[u8]> =
        Message::from_slice(packet).map_err(|_| ParseError::ShortInput)?;
    let question = message.sole_question()?;
    let edns = edns(message.additional()?)?;
    Ok((question, edns))
}

fn edns(records: RecordSection<'_, [u8]>) -> Result<Option<Edns>, ParseError> {
    let mut found = None;
    for record in records {
        let record = record?;
        if record.rtype() != Rtype::OPT {
            continue;
        }
        if found.is_some() || !record.owner().is_root() {
            return Err(ParseError::form_error("a second OPT, or one with a name"));
        }
        let record = record.into_record::<Opt<&[u8]>>()?;
        found = record.map(OptRecord::from);
    }
    found.map(|opt| options(&opt)).transpose()
}

fn options(record: &OptRecord<&[u8]>) -> Result<Edns, ParseError> {
    let mut edns = Edns {
        version: record.version(),
        udp_bytes_max: record.udp_payload_size(),
        dnssec_ok: record.dnssec_ok(),
        wants_identity: false,
        subnet: None,
    };
    // What a later version means by its options is not known.
    if edns.version != 0 {
        return Ok(edns);
    }
    for option in record.opt().iter::<UnknownOptData<&[u8]>>() {
        let option = option?;
        match option.code() {
            OptionCode::NSID => edns.wants_identity = true,
            OptionCode::CLIENT_SUBNET if edns.subnet.is_none() => {
                edns.subnet = Some(subnet(option.as_slice())?);
            }
            OptionCode::CLIENT_SUBNET => {
                return Err(ParseError::form_error("two client subnets"));
            }
            _ => {}
        }
    }
    Ok(edns)
}

fn subnet(bytes: &[u8]) -> Result<Subnet, ParseError> {
    if bytes == [0; 4] {
        return Ok(Subnet::Nobody);
    }
    let mut parser = Parser::from_ref(&bytes);
    let subnet = ClientSubnet::parse(&mut parser)?;
    let most = if subnet.addr().is_ipv4() { 32 } else { 128 };
    if subnet.scope_prefix_len() != 0 || subnet.source_prefix_len() > most {
        return Err(ParseError::form_error("a client subnet of no sense"));
    }
    Ok(Subnet::Of(subnet))
}
