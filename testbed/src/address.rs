//! An address of the loopback network that nobody else uses.
//!
//! Ports that were merely found free can be taken by another test before a daemon binds them.
//! So a whole address is claimed, by a listener that is held as long as the federation lives;
//! whoever finds that listener in place goes on to the next address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// The port whose listener claims an address; no daemon uses it.
const CLAIM_PORT: u16 = 7_999;
/// The first port for daemons and agents, below the range of outgoing connections.
pub(crate) const FIRST_PORT: u16 = 8_443;
/// Addresses that are tried; thousands of tests do not run at once.
const ATTEMPTS_MAX: u32 = 4_096;

/// Addresses that this process has tried.
static TRIED: AtomicU32 = AtomicU32::new(0);

/// A claimed address.
#[derive(Debug)]
pub(crate) struct Claim {
    address: Ipv4Addr,
    _held: TcpListener,
}

impl Claim {
    /// Claims an address on which the first `ports` ports are free.
    pub(crate) fn new(ports: u16) -> Self {
        for _ in 0..ATTEMPTS_MAX {
            let tried = TRIED.fetch_add(1, Ordering::Relaxed);
            let address = candidate(std::process::id(), tried);
            let Ok(held) = TcpListener::bind((address, CLAIM_PORT)) else { continue };
            let claim = Self { address, _held: held };
            if (0..ports).all(|n| TcpListener::bind(claim.socket(n)).is_ok()) {
                return claim;
            }
        }
        panic!("no free address in 127.77.0.0/16; are processes of old tests left?");
    }

    /// The address and the `n`-th port.
    pub(crate) fn socket(&self, n: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), FIRST_PORT + n)
    }
}

/// The address of the `n`-th region besides a claimed one: whoever has 127.77.x.y has these too.
pub(crate) fn beside(claimed: IpAddr, n: usize) -> IpAddr {
    let IpAddr::V4(claimed) = claimed else { return claimed };
    let [first, second, third, fourth] = claimed.octets();
    let n = u8::try_from(n + 1).expect("a small federation");
    Ipv4Addr::new(first, second + n, third, fourth).into()
}

/// Spreads processes and their attempts over 127.77.0.0/16.
fn candidate(pid: u32, tried: u32) -> Ipv4Addr {
    let [.., third, fourth] =
        pid.wrapping_mul(31).wrapping_add(tried.wrapping_mul(7)).to_be_bytes();
    Ipv4Addr::new(127, 77, third, fourth)
}
