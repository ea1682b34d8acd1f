//! How many requests a CPU carries in a second, the decision included, beside nginx and haproxy
//! in the same run.
//!
//! HTTP/1.1 over loopback: `wrk` with 64 kept connections asks a proxy, which asks one haproxy
//! that answers 64 bytes by itself. Ours runs on one thread of this process, with a table of
//! thirteen metros, 64 services and 2,592 cells; nginx with one worker, haproxy with one thread.
//! Each is charged its own CPU time, of user and kernel, and whoever asks and answers nobody's.
//!
//! Connections that are passed on as they are come from threads of this process to others of it, in
//! bulk and as short ones, beside haproxy in its mode `tcp`.
//!
//! Last, one of two servers is killed or stopped while clients ask: how long it still has requests.
//!
//! All programs are Debian's: `apt-get install wrk nginx-light haproxy`.

mod failing;
mod load;
mod ours;
mod peers;
mod streams;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::ensure;

use self::load::Load;
use self::ours::What;
use self::peers::Process;
use self::streams::Kind;
use super::scratch::Scratch;
use super::{Measurement, Options, Peer};

/// How long each is asked, and how often; the best is told.
const SECONDS: u32 = 8;
const SECONDS_QUICK: u32 = 2;
const ROUNDS: usize = 3;
/// The host that is asked for.
const HOST: &str = "www.example.com";

/// Measures.
pub(super) fn measure(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    let scratch = Scratch::new("proxy")?;
    let seconds = if options.quick { SECONDS_QUICK } else { SECONDS };
    let load = Load { seconds };
    let origin = Process::origin(scratch.path())?;
    let (mut own, mut nginx, mut haproxy) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        own.push(ours::round(origin.at, What::Requests, |at| load.ask(at))?);
        nginx.push(Process::nginx(scratch.path(), origin.at)?.round(|at| load.ask(at))?);
        haproxy
            .push(Process::haproxy(scratch.path(), origin.at)?.round(|at| load.ask(at))?);
    }
    for rates in [&mut own, &mut nginx, &mut haproxy] {
        rates.sort_unstable_by(f64::total_cmp);
    }
    let (best, middle) = (own[ROUNDS - 1], own[ROUNDS / 2]);
    ensure!(best > 0.0, "nothing was answered");
    let one = |name: &str, rates: &[f64]| Measurement {
        name: format!("proxy.requests beside {name}"),
        value: best,
        unit: "1/CPU-s",
        method: format!(
            "HTTP/1.1 kept alive, 64 connections of wrk, 64 bytes back, decision on, one thread, {seconds} s over loopback, best of {ROUNDS} (middle {middle:.0})"
        ),
        peer: Some(Peer {
            name: format!("{name}, middle {:.0}", rates[ROUNDS / 2]),
            value: rates[ROUNDS - 1],
        }),
    };
    let mut all = vec![one("nginx", &nginx), one("haproxy", &haproxy)];
    for kind in [Kind::Bulk, Kind::Short] {
        all.push(connections(&scratch, kind, options)?);
    }
    all.extend(failing::measure(&scratch, options.quick)?);
    Ok(all)
}

/// Connections, ours and haproxy's.
fn connections(
    scratch: &Scratch,
    kind: Kind,
    options: &Options,
) -> anyhow::Result<Measurement> {
    let origin = streams::origin(kind)?;
    let (mut own, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let ask = |at| streams::ask(kind, at, options.quick);
        own.push(ours::round(origin, What::Connections, ask)?);
        peer.push(Process::haproxy_tcp(scratch.path(), origin)?.round(ask)?);
    }
    own.sort_unstable_by(f64::total_cmp);
    peer.sort_unstable_by(f64::total_cmp);
    let middle = ROUNDS / 2;
    Ok(Measurement {
        name: format!("proxy.connections, {}", kind.name()),
        value: own[ROUNDS - 1],
        unit: kind.unit(),
        method: format!(
            "{}, decision on, one thread, over loopback, best of {ROUNDS} (middle {:.1})",
            kind.method(),
            own[middle]
        ),
        peer: Some(Peer {
            name: format!("haproxy, mode tcp, middle {:.1}", peer[middle]),
            value: peer[ROUNDS - 1],
        }),
    })
}

/// An address of this machine that nobody has.
fn free() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0))?;
    Ok(listener.local_addr()?)
}
