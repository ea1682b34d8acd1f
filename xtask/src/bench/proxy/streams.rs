//! Who connects through a proxy, and who is connected to: threads of this process, which nobody
//! is charged for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{anyhow, ensure};

/// Connections at once.
const AT_ONCE: usize = 4;
/// What each sends in bulk, in bytes.
const BULK: usize = 2 << 30;
const BULK_QUICK: usize = 256 << 20;
/// How many short ones each makes.
const SHORT: usize = 5_000;
const SHORT_QUICK: usize = 1_000;
/// What is said on a short one, each way.
const WORDS_LEN: usize = 64;
const PART: usize = 256 << 10;

/// What connections are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Few that carry much, one way.
    Bulk,
    /// Many that carry a few words each way.
    Short,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Short => "short",
        }
    }

    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::Bulk => "Gbit/CPU-s",
            Self::Short => "1/CPU-s",
        }
    }

    pub(super) const fn method(self) -> &'static str {
        match self {
            Self::Bulk => "4 connections that send 2 GiB each one way",
            Self::Short => "20,000 connections, 4 at once, 64 bytes each way",
        }
    }
}

/// A server that never ends: it reads all and says how much, or hears words and says them back.
pub(super) fn origin(kind: Kind) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || match kind {
                Kind::Bulk => swallow(stream),
                Kind::Short => echo(stream),
            });
        }
    });
    Ok(address)
}

fn swallow(mut stream: TcpStream) -> Option<()> {
    let (mut part, mut sum) = (vec![0; PART], 0_u64);
    loop {
        match stream.read(&mut part).ok()? {
            0 => return stream.write_all(&sum.to_be_bytes()).ok(),
            count => sum += u64::try_from(count).ok()?,
        }
    }
}

fn echo(mut stream: TcpStream) -> Option<()> {
    let mut words = [0; WORDS_LEN];
    stream.read_exact(&mut words).ok()?;
    stream.write_all(&words).ok()
}

/// Connects through a proxy: gigabits that came, or connections that were answered.
pub(super) fn ask(kind: Kind, proxy: SocketAddr, quick: bool) -> anyhow::Result<f64> {
    let ask = move || match kind {
        Kind::Bulk => bulk(proxy, if quick { BULK_QUICK } else { BULK }),
        Kind::Short => short(proxy, if quick { SHORT_QUICK } else { SHORT }),
    };
    let all: Vec<_> = (0..AT_ONCE).map(|_| thread::spawn(ask)).collect();
    let mut sum = 0.0;
    for one in all {
        sum += one.join().map_err(|_| anyhow!("a client panicked"))??;
    }
    Ok(sum)
}

fn bulk(proxy: SocketAddr, len: usize) -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect(proxy)?;
    let part = vec![7; PART];
    for _ in 0..len / PART {
        stream.write_all(&part)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut told = [0; 8];
    stream.read_exact(&mut told)?;
    let came = u64::from_be_bytes(told);
    ensure!(u64::try_from(len)? == came, "{came} bytes of {len} came");
    Ok(f64::from(u32::try_from(came >> 20)?) * f64::from(8 << 20) / 1e9)
}

fn short(proxy: SocketAddr, count: usize) -> anyhow::Result<f64> {
    let words = [7; WORDS_LEN];
    for _ in 0..count {
        let mut stream = TcpStream::connect(proxy)?;
        stream.write_all(&words)?;
        let mut heard = [0; WORDS_LEN];
        stream.read_exact(&mut heard)?;
        ensure!(heard == words, "other words came back");
    }
    Ok(f64::from(u32::try_from(count)?))
}
