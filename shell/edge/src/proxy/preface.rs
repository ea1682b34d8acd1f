//! PROXY protocol, versions 1 and 2: who connected to the load balancer before this proxy.
//!
//! Read exactly and to the last byte: what follows is the client's. Whoever must send it and does
//! not is closed. Extensions (TLVs) are skipped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// Reads the header, and nothing behind it; nothing when the load balancer speaks for itself.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<IpAddr>> {
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
pub(super) fn text(line: &[u8]) -> Result<Option<IpAddr>, Unsound> {
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
    let (source, _) = (address()?, address()?);
    for _ in 0..2 {
        let port = words.next().ok_or(Unsound)?;
        let digits = port.bytes().all(|c| c.is_ascii_digit());
        port.parse::<u16>().ok().filter(|_| digits).ok_or(Unsound)?;
    }
    if words.next().is_some() { Err(Unsound) } else { Ok(Some(source)) }
}

/// Version 2: version and command, family and protocol, what follows the length.
pub(super) fn binary(
    version: u8,
    family: u8,
    rest: &[u8],
) -> Result<Option<IpAddr>, Unsound> {
    match version {
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(Unsound),
    }
    match family {
        0x11 => {
            let source: [u8; 4] = *rest.first_chunk().ok_or(Unsound)?;
            if rest.len() < 12 {
                Err(Unsound)
            } else {
                Ok(Some(Ipv4Addr::from(source).into()))
            }
        }
        0x21 => {
            let source: [u8; 16] = *rest.first_chunk().ok_or(Unsound)?;
            if rest.len() < 36 {
                Err(Unsound)
            } else {
                Ok(Some(Ipv6Addr::from(source).into()))
            }
        }
        // Not of the Internet, or no stream: nobody that could be told.
        _ => Ok(None),
    }
}
