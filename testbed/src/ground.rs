//! What a federation stands on: one loopback address, or regions behind an emulated WAN.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::address::{Claim, FIRST_PORT};
use crate::process::Process;
use crate::wan::Bed;

/// Where a federation's daemons listen and run.
#[derive(Debug)]
pub(crate) enum Ground {
    /// All at one address, which nobody else has.
    Loopback(Claim),
    /// Each region's in its own namespace.
    Wan(Arc<Bed>),
}

impl Ground {
    /// The address of all that is of a region.
    pub(crate) fn address(&self, region: &str) -> IpAddr {
        match self {
            Self::Loopback(claim) => claim.socket(0).ip(),
            Self::Wan(bed) => bed.address(region).into(),
        }
    }

    /// Whether each region has an address of its own.
    pub(crate) const fn is_apart(&self) -> bool {
        matches!(self, Self::Wan(_))
    }

    /// The `n`-th socket of the federation, or of this region where it has an address of its own.
    pub(crate) fn socket(&self, region: &str, n: u16) -> SocketAddr {
        SocketAddr::new(self.address(region), FIRST_PORT + n)
    }

    /// A process of this region runs there.
    pub(crate) fn place(&self, process: Process, region: &str) -> Process {
        match self {
            Self::Loopback(_) => process,
            Self::Wan(bed) => process.in_region(bed, region),
        }
    }

    /// How far apart members of the engine are, in the words of `dwcpd engine member`.
    pub(crate) const fn distance(&self) -> &'static str {
        match self {
            Self::Loopback(_) => "lan",
            Self::Wan(_) => "wan",
        }
    }
}
