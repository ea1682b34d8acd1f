//! PROXY protocol, versions 1 and 2: who connected to the load balancer before this proxy, and
//! told on to servers that want to know.
//!
//! Read exactly and to the last byte: what follows is the client's. Whoever must send it and does
//! not is closed. Extensions (TLVs) are skipped, and none is written.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What version 2 begins with; version 1 is longer than that too.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Longest line of version 1, with its end.
const LINE_LEN_MAX: usize = 107;
/// Longest rest of version 2 that is read: addresses of sockets of the file system, and as much
/// for extensions.
const REST_LEN_MAX: usize = 536;

/// Why it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection does not begin with a sound PROXY header")]
pub(super) struct Unsound;

impl From<Unsound> for io::Error {
    fn from(unsound: Unsound) -> Self {
        Self::new(io::ErrorKind::InvalidData, unsound)
    }
}

/// How a server is told who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announce {
    /// By a line of text, version 1.
    Text,
    /// In binary, version 2.
    Binary,
}

/// Both ends of a connection, as whoever took it first saw them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// The client's.
    pub(super) source: SocketAddr,
    /// Where it connected to.
    pub(super) target: SocketAddr,
}

impl Ends {
    /// The header that says so. An end of IPv4 is written in IPv6 form when the other is of IPv6.
    pub(super) fn announced(self, how: Announce) -> Vec<u8> {
        let (source, target) = (self.source.ip(), self.target.ip());
        let ports = [self.source.port(), self.target.port()];
        let pair = match (source.to_canonical(), target.to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => Ok((source, target)),
            (source, target) => Err((six(source), six(target))),
        };
        match how {
            Announce::Text => {
                let [from, to] = ports;
                match pair {
                    Ok((source, target)) => {
                        format!("PROXY TCP4 {source} {target} {from} {to}\r\n")
                    }
                    Err((source, target)) => {
                        format!("PROXY TCP6 {source} {target} {from} {to}\r\n")
                    }
                }
                .into_bytes()
            }
            Announce::Binary => {
                let (family, addresses) = match pair {
                    Ok((source, target)) => {
                        (0x11, [source.octets(), target.octets()].concat())
                    }
                    Err((source, target)) => {
                        (0x21, [source.octets(), target.octets()].concat())
                    }
                };
                let ports = ports.map(u16::to_be_bytes).concat();
                let len = if family == 0x11 { 12_u16 } else { 36 };
                [&SIGNATURE[..], &[0x21, family], &len.to_be_bytes(), &addresses, &ports]
                    .concat()
            }
        }
    }
}

const fn six(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Reads the header, and nothing behind it; nothing when the load balancer speaks for itself.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<Ends>> {
    let mut head = [0; 16];
    let (first, last) = head.split_at_mut(12);
    stream.read_exact(first).await?;
    if first == SIGNATURE {
        stream.read_exact(last).await?;
        let len = usize::from(u16::from_be_bytes([head[14], head[15]]));
        if len > REST_LEN_MAX {
            return Err(Unsound.into());
        }
        let mut rest = vec![0; len];
        stream.read_exact(&mut rest).await?;
        return Ok(binary(head[12], head[13], &rest)?);
    }
    if !first.starts_with(b"PROXY ") {
        return Err(Unsound.into());
    }
    let mut line = first.to_vec();
    // Byte by byte, so that nothing of the client's is taken; the system has it already.
    while !line.ends_with(b"\r\n") {
        if line.len() >= LINE_LEN_MAX {
            return Err(Unsound.into());
        }
        line.push(stream.read_u8().await?);
    }
    Ok(text(&line)?)
}

/// Version 1, the whole line.
pub(super) fn text(line: &[u8]) -> Result<Option<Ends>, Unsound> {
    let line = std::str::from_utf8(line).map_err(|_| Unsound)?;
    let line = line.strip_suffix("\r\n").ok_or(Unsound)?;
    let mut words = line.split(' ');
    if words.next() != Some("PROXY") {
        return Err(Unsound);
    }
    let six = match words.next() {
        Some("UNKNOWN") => return Ok(None),
        Some("TCP4") => false,
        Some("TCP6") => true,
        Some(_) | None => return Err(Unsound),
    };
    let mut address = || -> Result<IpAddr, Unsound> {
        let address: IpAddr =
            words.next().ok_or(Unsound)?.parse().map_err(|_| Unsound)?;
        if address.is_ipv6() == six { Ok(address) } else { Err(Unsound) }
    };
    let (source, target) = (address()?, address()?);
    let mut port = || -> Result<u16, Unsound> {
        let port = words.next().ok_or(Unsound)?;
        let digits = port.bytes().all(|c| c.is_ascii_digit());
        port.parse().ok().filter(|_| digits).ok_or(Unsound)
    };
    let (from, to) = (port()?, port()?);
    if words.next().is_some() {
        return Err(Unsound);
    }
    Ok(Some(Ends { source: (source, from).into(), target: (target, to).into() }))
}

/// Version 2: version and command, family and protocol, what follows the length.
pub(super) fn binary(
    version: u8,
    family: u8,
    rest: &[u8],
) -> Result<Option<Ends>, Unsound> {
    match version {
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(Unsound),
    }
    match family {
        0x11 => ends::<4, Ipv4Addr>(rest).map(Some),
        0x21 => ends::<16, Ipv6Addr>(rest).map(Some),
        // Not of the Internet, or no stream: nobody that could be told.
        _ => Ok(None),
    }
}

/// Two addresses, and behind them two ports.
fn ends<const LEN: usize, A>(rest: &[u8]) -> Result<Ends, Unsound>
where
    A: From<[u8; LEN]> + Into<IpAddr>,
{
    let (source, rest) = rest.split_first_chunk::<LEN>().ok_or(Unsound)?;
    let (target, rest) = rest.split_first_chunk::<LEN>().ok_or(Unsound)?;
    let (from, rest) = rest.split_first_chunk::<2>().ok_or(Unsound)?;
    let to = rest.first_chunk::<2>().ok_or(Unsound)?;
    let end = |address: [u8; LEN], port: [u8; 2]| {
        SocketAddr::new(A::from(address).into(), u16::from_be_bytes(port))
    };
    Ok(Ends { source: end(*source, *from), target: end(*target, *to) })
}
