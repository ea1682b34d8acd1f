//! The messages of BGP that one needs who only announces (RFC 4271, 4760, 6793, 1997, 8326).
//!
//! Four-octet AS numbers are a demand: every router of the last ten years has them, and with them
//! there is one form of a path. What others announce is not read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of a header, and of the largest message.
pub(super) const HEADER_LEN: usize = 19;
pub(super) const MESSAGE_LEN_MAX: usize = 4_096;
/// Shortest time that may be agreed on, in seconds, but for none at all.
const HOLD_S_MIN: u16 = 3;
const VERSION: u8 = 4;
/// What stands for an AS number of four octets where there is room for two.
const AS_TRANS: u16 = 23_456;
/// RFC 8326: whoever hears it looks for another way before this one goes.
const GRACEFUL_SHUTDOWN: u32 = 0xFFFF_0000;
/// The preference within an AS (RFC 4271, 5.1.5): the usual one, and that of what is about to go
/// (RFC 8326, 4.1), which neighbours within an AS do not lower themselves.
const LOCAL_PREF: u32 = 100;
const LOCAL_PREF_LEAVES: u32 = 0;

const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
const ROUTE_REFRESH: u8 = 5;

/// How one introduces oneself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) asn: u32,
    /// Silence after which a session is over, in seconds.
    pub(super) hold_s: u16,
    pub(super) router_id: Ipv4Addr,
    /// Whether addresses of version 4 may be announced, and of version 6.
    pub(super) families: (bool, bool),
}

/// What the other side says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Open(Open),
    Keepalive,
    /// Why it ends the session.
    Notification {
        code: u8,
        subcode: u8,
        text: String,
    },
    /// What it announces, or asks for again: nobody here reads it.
    Other,
}

/// What is wrong with a message, and what its sender is told: a code and a subcode (RFC 4271, 4.5).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Wrong {
    pub(super) reason: String,
    pub(super) code: (u8, u8),
}

fn wrong(reason: impl Into<String>, code: u8, subcode: u8) -> Wrong {
    Wrong { reason: reason.into(), code: (code, subcode) }
}

/// Where one announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// One's own number; nothing to a router of the same one.
    pub(super) through: Option<u32>,
    /// Where packets are to be sent, by the family of the address; nothing that is announced lacks it.
    pub(super) next_hop: (Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// Whether it is about to go.
    pub(super) leaves: bool,
}

/// The length and kind of the message that a header begins, the header included.
pub(super) fn header(bytes: [u8; HEADER_LEN]) -> Result<(usize, u8), Wrong> {
    let mut bytes = Bytes::copy_from_slice(&bytes);
    if !bytes.split_to(16).iter().all(|byte| *byte == 0xFF) {
        return Err(wrong("it does not speak BGP", 1, 1));
    }
    let len = usize::from(bytes.get_u16());
    if !(HEADER_LEN..=MESSAGE_LEN_MAX).contains(&len) {
        return Err(wrong(format!("a message of {len} bytes"), 1, 2));
    }
    Ok((len, bytes.get_u8()))
}

/// Reads what comes after a header.
pub(super) fn read(kind: u8, mut body: Bytes) -> Result<Message, Wrong> {
    match kind {
        OPEN => open(body).map(Message::Open),
        KEEPALIVE if body.is_empty() => Ok(Message::Keepalive),
        KEEPALIVE => Err(wrong("a keepalive that says more", 1, 2)),
        NOTIFICATION => {
            let (Ok(code), Ok(subcode)) = (body.try_get_u8(), body.try_get_u8()) else {
                return Err(wrong("a notification without a code", 1, 2));
            };
            Ok(Message::Notification { code, subcode, text: shutdown(&body) })
        }
        UPDATE | ROUTE_REFRESH => Ok(Message::Other),
        other => Err(wrong(format!("a message of kind {other}"), 1, 3)),
    }
}

/// What an operator wrote who shut the session down (RFC 9003).
fn shutdown(data: &[u8]) -> String {
    let text = data.split_first().and_then(|(len, rest)| rest.get(..usize::from(*len)));
    let text = String::from_utf8_lossy(text.unwrap_or_default());
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}

fn open(mut body: Bytes) -> Result<Open, Wrong> {
    let short = |_| wrong("an opening that is cut off", 2, 0);
    let version = body.try_get_u8().map_err(short)?;
    if version != VERSION {
        return Err(wrong(format!("it speaks version {version} of BGP"), 2, 1));
    }
    let _two_octets = body.try_get_u16().map_err(short)?;
    let hold_s = body.try_get_u16().map_err(short)?;
    // With none at all nobody would find a daemon that hangs.
    if hold_s < HOLD_S_MIN {
        return Err(wrong(format!("its hold time is {hold_s} s"), 2, 6));
    }
    let router_id = Ipv4Addr::from(body.try_get_u32().map_err(short)?);
    let len = usize::from(body.try_get_u8().map_err(short)?);
    if body.len() != len {
        return Err(wrong("an opening whose parameters have another length", 2, 0));
    }
    let (mut asn, mut four, mut six, mut any) = (None, false, false, false);
    while body.has_remaining() {
        let kind = body.try_get_u8().map_err(short)?;
        let len = usize::from(body.try_get_u8().map_err(short)?);
        if body.len() < len {
            return Err(wrong("a parameter that is cut off", 2, 0));
        }
        let mut parameter = body.split_to(len);
        if kind != 2 {
            return Err(wrong(format!("a parameter of kind {kind}"), 2, 4));
        }
        while parameter.has_remaining() {
            let capability = parameter.try_get_u8().map_err(short)?;
            let len = usize::from(parameter.try_get_u8().map_err(short)?);
            if parameter.len() < len {
                return Err(wrong("a capability that is cut off", 2, 0));
            }
            let value = parameter.split_to(len);
            any |= capability == 1;
            match (capability, &value[..]) {
                (1, [0, 1, _, 1]) => four = true,
                (1, [0, 2, _, 1]) => six = true,
                (65, [a, b, c, d]) => asn = Some(u32::from_be_bytes([*a, *b, *c, *d])),
                _ => {}
            }
        }
    }
    let asn =
        asn.ok_or_else(|| wrong("it has no AS numbers of four octets (RFC 6793)", 2, 7))?;
    // Who names no family speaks version 4 (RFC 4760).
    Ok(Open { asn, hold_s, router_id, families: (four || !any, six) })
}

fn framed(kind: u8, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER_LEN + body.len());
    bytes.put_bytes(0xFF, 16);
    // Nothing here comes near the length that fits.
    bytes.put_u16(u16::try_from(HEADER_LEN + body.len()).unwrap_or(u16::MAX));
    bytes.put_u8(kind);
    bytes.put_slice(body);
    bytes.freeze()
}

impl Open {
    pub(super) fn encode(&self) -> Bytes {
        let mut capabilities = BytesMut::new();
        for (family, speaks) in [(1, self.families.0), (2, self.families.1)] {
            if speaks {
                capabilities.put_slice(&[1, 4, 0, family, 0, 1]);
            }
        }
        capabilities.put_slice(&[65, 4]);
        capabilities.put_u32(self.asn);
        let len = u8::try_from(capabilities.len()).unwrap_or(u8::MAX);
        let mut body = BytesMut::new();
        body.put_u8(VERSION);
        body.put_u16(u16::try_from(self.asn).unwrap_or(AS_TRANS));
        body.put_u16(self.hold_s);
        body.put_u32(self.router_id.into());
        body.put_slice(&[len + 2, 2, len]);
        body.put_slice(&capabilities);
        framed(OPEN, &body)
    }
}

pub(super) fn keepalive() -> Bytes {
    framed(KEEPALIVE, &[])
}

pub(super) fn notification((code, subcode): (u8, u8)) -> Bytes {
    framed(NOTIFICATION, &[code, subcode])
}

/// Says that there is a way to one address; nothing when none is known for its family.
pub(super) fn announce(address: IpAddr, path: &Path) -> Option<Bytes> {
    let mut attributes = BytesMut::new();
    attribute(&mut attributes, 0x40, 1, &[0]);
    match path.through {
        Some(asn) => {
            let [a, b, c, d] = asn.to_be_bytes();
            attribute(&mut attributes, 0x40, 2, &[2, 1, a, b, c, d]);
        }
        None => attribute(&mut attributes, 0x40, 2, &[]),
    }
    if address.is_ipv4() {
        attribute(&mut attributes, 0x40, 3, &path.next_hop.0?.octets());
    }
    if path.through.is_none() {
        let preference = if path.leaves { LOCAL_PREF_LEAVES } else { LOCAL_PREF };
        attribute(&mut attributes, 0x40, 5, &preference.to_be_bytes());
    }
    if path.leaves {
        attribute(&mut attributes, 0xC0, 8, &GRACEFUL_SHUTDOWN.to_be_bytes());
    }
    Some(match address {
        IpAddr::V4(address) => update(&[], &attributes, &prefix(&address.octets())),
        IpAddr::V6(address) => {
            let mut reach = BytesMut::new();
            reach.put_slice(&[0, 2, 1, 16]);
            reach.put_slice(&path.next_hop.1?.octets());
            reach.put_u8(0);
            reach.put_slice(&prefix(&address.octets()));
            attribute(&mut attributes, 0x80, 14, &reach);
            update(&[], &attributes, &[])
        }
    })
}

/// Takes that back.
pub(super) fn withdraw(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(address) => update(&prefix(&address.octets()), &[], &[]),
        IpAddr::V6(address) => {
            let mut gone = BytesMut::from(&[0, 2, 1][..]);
            gone.put_slice(&prefix(&address.octets()));
            let mut attributes = BytesMut::new();
            attribute(&mut attributes, 0x80, 15, &gone);
            update(&[], &attributes, &[])
        }
    }
}

fn update(withdrawn: &[u8], attributes: &[u8], announced: &[u8]) -> Bytes {
    let mut body = BytesMut::new();
    for part in [withdrawn, attributes] {
        body.put_u16(u16::try_from(part.len()).unwrap_or(u16::MAX));
        body.put_slice(part);
    }
    body.put_slice(announced);
    framed(UPDATE, &body)
}

fn attribute(to: &mut BytesMut, flags: u8, kind: u8, value: &[u8]) {
    to.put_slice(&[flags, kind, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
    to.put_slice(value);
}

/// All of an address as a prefix.
fn prefix(octets: &[u8]) -> Vec<u8> {
    let bits = u8::try_from(octets.len() * 8).unwrap_or(u8::MAX);
    [&[bits], octets].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(message: &Bytes) -> (u8, Bytes) {
        let head: [u8; HEADER_LEN] = message[..HEADER_LEN].try_into().unwrap();
        let (len, kind) = header(head).unwrap();
        assert_eq!(len, message.len());
        (kind, message.slice(HEADER_LEN..))
    }

    /// The bytes as RFC 4271 draws them, written by hand.
    #[test]
    fn messages_are_those_of_the_standard() {
        let path = Path {
            through: Some(64_512),
            next_hop: (Some(Ipv4Addr::new(192, 0, 2, 1)), None),
            leaves: true,
        };
        let shared = IpAddr::from([203, 0, 113, 10]);
        let (kind, body) = split(&announce(shared, &path).unwrap());
        assert_eq!(kind, 2);
        let expected: &[u8] = &[
            0, 0, // nothing is withdrawn
            0, 27, // attributes
            0x40, 1, 1, 0, // origin: IGP
            0x40, 2, 6, 2, 1, 0, 0, 0xFC, 0, // one sequence of one AS
            0x40, 3, 4, 192, 0, 2, 1, // next hop
            0xC0, 8, 4, 0xFF, 0xFF, 0, 0, // graceful shutdown
            32, 203, 0, 113, 10,
        ];
        assert_eq!(body, expected);
        let within = Path { through: None, leaves: false, ..path };
        let (_, body) = split(&announce(shared, &within).unwrap());
        let expected: &[u8] = &[
            0, 0, 0, 21, // attributes
            0x40, 1, 1, 0, 0x40, 2, 0, // no AS on the way
            0x40, 3, 4, 192, 0, 2, 1, // next hop
            0x40, 5, 4, 0, 0, 0, 100, // preference
            32, 203, 0, 113, 10,
        ];
        assert_eq!(body, expected);
        let (_, body) = split(&withdraw(shared));
        assert_eq!(body, &[0, 5, 32, 203, 0, 113, 10, 0, 0][..]);
        let (_, body) = split(&keepalive());
        assert!(body.is_empty());
        // Of version 6, by RFC 4760; nothing without a way for it.
        let six: Ipv6Addr = "2001:db8::10".parse().unwrap();
        assert_eq!(announce(six.into(), &path), None);
        let by: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let path = Path { next_hop: (None, Some(by)), leaves: false, ..path };
        let (_, body) = split(&announce(six.into(), &path).unwrap());
        let attributes = [0, 0, 0, 54, 0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xFC, 0];
        let reach =
            [&[0x80, 14, 38, 0, 2, 1, 16][..], &by.octets(), &[0, 128], &six.octets()];
        assert_eq!(body, [&attributes[..], &reach.concat()].concat());
        let (_, body) = split(&withdraw(six.into()));
        let gone = [&[0, 0, 0, 23, 0x80, 15, 20, 0, 2, 1, 128][..], &six.octets()];
        assert_eq!(body, gone.concat());
    }

    #[test]
    fn an_opening_of_others_is_read_or_refused_with_the_code_for_it() {
        let own = Open {
            asn: 4_200_000_001,
            hold_s: 3,
            router_id: Ipv4Addr::new(10, 0, 0, 1),
            families: (true, true),
        };
        let (kind, body) = split(&own.encode());
        assert_eq!(read(kind, body.clone()), Ok(Message::Open(own)));
        let changed = |at: usize, to: u8| {
            let mut bytes = body.to_vec();
            bytes[at] = to;
            read(1, bytes.into()).unwrap_err().code
        };
        assert_eq!(changed(0, 3), (2, 1));
        assert_eq!(changed(4, 1), (2, 6));
        assert_eq!(changed(4, 0), (2, 6), "nobody would find who hangs");
        assert_eq!(changed(10, 1), (2, 4));
        let last = body.len() - 6;
        assert_eq!(changed(last, 66), (2, 7), "no numbers of four octets");
        let shut = Bytes::from_static(b"\x06\x02\x05bye\x07!");
        let expected =
            Message::Notification { code: 6, subcode: 2, text: "bye!".to_owned() };
        assert_eq!(read(3, shut), Ok(expected));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(
            kind in 0..7_u8, body in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            drop(read(kind, body.into()));
        }

        #[test]
        fn an_opening_that_is_damaged_is_read_or_refused(
            at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>()
        ) {
            let own = Open { asn: 65_000, hold_s: 9, router_id: Ipv4Addr::LOCALHOST, families: (true, true) };
            let mut bytes = own.encode().slice(HEADER_LEN..).to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            bytes.truncate(cut.index(bytes.len() + 1));
            drop(read(1, bytes.into()));
        }

        #[test]
        fn an_opening_goes_there_and_back(
            asn in any::<u32>(), hold_s in 3..u16::MAX, id in any::<u32>(),
            four in any::<bool>(), six in any::<bool>()
        ) {
            // Who names no family speaks version 4.
            let families = (four || !six, six);
            let own = Open { asn, hold_s, router_id: id.into(), families };
            let (kind, body) = split(&own.encode());
            prop_assert_eq!(read(kind, body), Ok(Message::Open(own)));
        }
    }
}
