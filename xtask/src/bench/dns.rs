//! How many names a CPU answers in a second when each question is for another client, beside
//! gdnsd in the same run.
//!
//! Thirteen metros, 64 names, 4,096 networks of clients in random cells; 100,000 questions for
//! random /24s of IPv4 (RFC 7871), sent again and again by `dnsperf` over the loopback network.
//! Ours runs on one thread of this process, gdnsd with one thread for UDP; each is charged its
//! own CPU time, of user and kernel, and `dnsperf` nobody's.
//!
//! gdnsd has the same networks, each with the region that our table says, and no table: it
//! neither weighs nor shares. Both programs are Debian's: `apt-get install dnsperf gdnsd`.

mod load;
mod ours;
mod peer;

use std::net::{IpAddr, Ipv4Addr};

use anyhow::ensure;

use self::load::Load;
use super::routing::world::{CELLS, Chance};
use super::scratch::Scratch;
use super::{Measurement, Options, Peer};

/// How long each is asked, and how often; the best is told.
const SECONDS: u32 = 10;
const SECONDS_QUICK: u32 = 2;
const ROUNDS: usize = 3;
/// Networks of clients.
const NETWORKS: usize = 4_096;
/// The zone, and how many names it has.
const ZONE: &str = "cdn.example.com";
const NAMES: u16 = 64;

/// A network of clients, and its cell.
struct Net {
    base: Ipv4Addr,
    len: u8,
    cell: u32,
}

/// Measures.
pub(super) fn measure(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    let scratch = Scratch::new("dns")?;
    let mut chance = Chance::new(1);
    let nets = nets(&mut chance);
    let seconds = if options.quick { SECONDS_QUICK } else { SECONDS };
    let load = Load::write(scratch.path(), seconds, &mut chance)?;
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        own.push(ours::round(&nets, &load)?);
        others.push(peer::round(scratch.path(), &nets, &load)?);
    }
    own.sort_unstable_by(f64::total_cmp);
    others.sort_unstable_by(f64::total_cmp);
    let (best, middle) = (own[ROUNDS - 1], own[ROUNDS / 2]);
    ensure!(best > 0.0, "nothing was answered");
    Ok(vec![Measurement {
        name: "dns.answers".to_owned(),
        value: best,
        unit: "1/CPU-s",
        method: format!(
            "UDP with a client subnet in each question, {NETWORKS} networks, {NAMES} names, one thread, {seconds} s by dnsperf over loopback, best of {ROUNDS} (middle {middle:.0})"
        ),
        peer: Some(Peer {
            name: format!(
                "gdnsd (geoip with the same networks), middle {:.0}",
                others[ROUNDS / 2]
            ),
            value: others[ROUNDS - 1],
        }),
    }])
}

fn nets(chance: &mut Chance) -> Vec<Net> {
    let net = |_| {
        let len = 12 + u8::try_from(chance.below(13)).unwrap_or(0);
        let bits = chance.below(u32::MAX) >> (32 - len) << (32 - len);
        Net { base: bits.into(), len, cell: chance.below(CELLS) }
    };
    let mut nets: Vec<Net> = (0..NETWORKS).map(net).collect();
    nets.sort_unstable_by_key(|net| (net.base, net.len));
    nets.dedup_by_key(|net| (net.base, net.len));
    nets
}

const fn loopback() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}
