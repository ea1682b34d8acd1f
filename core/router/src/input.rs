//! Everything that routing is decided on, as values with their ages.
//!
//! Whoever fills this in may be late, and may be gone: each measured value says when it was
//! true, and the table decides what that is still worth.

use std::collections::BTreeMap;

use dwcp_types::{
    Bps, ComplianceZone, Health, Mbps, MicroUsd, Micros, RegionId, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::age;
use crate::service::{Protocols, Service};

/// Most regions of a table: one word of bits, and a graph whose relays are all looked at
/// (ROUTING 6.4).
pub const REGIONS_MAX: usize = 64;
/// Most services of a table.
pub const SERVICES_MAX: usize = 1_024;
/// Most cells of a table; a grid of 5 degrees has 2,592.
pub const CELLS_MAX: usize = 65_536;

/// A value and when it was true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aged<T> {
    /// The value.
    pub value: T,
    /// When.
    pub at: Timestamp,
}

/// All inputs of one table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// When they were put together; ages are counted from here.
    pub now: Timestamp,
    /// The regions, in any order.
    pub sites: Vec<Site>,
    /// What is known between regions. A pair that is missing is judged by its distance.
    pub links: Vec<Link>,
    /// Where clients are. A client's cell is its place in this list. From table to table cells
    /// keep their places, and new ones come behind them; else nothing is remembered.
    pub cells: Vec<Cell>,
    /// What is asked for.
    pub services: Vec<Service>,
}

/// A point on the earth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spot {
    /// Degrees north, -90 to 90.
    pub latitude: f64,
    /// Degrees east, -180 to 180.
    pub longitude: f64,
}

/// A region as a place that answers requests (R8, DETAILS 2.3 `RegionEndpoint`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// The region.
    pub id: RegionId,
    /// Where it is.
    pub spot: Spot,
    /// ISO 3166 alpha-2 code of its country.
    pub country: String,
    /// Its continent.
    pub continent: String,
    /// The laws that it stands under.
    pub laws: Vec<ComplianceZone>,
    /// How it fares.
    pub health: Aged<Health>,
    /// Bandwidth of its front, more than zero.
    pub capacity: Mbps,
    /// The share of it that is busy; nothing when nobody says.
    pub load: Option<Aged<Bps>>,
    /// One virtual CPU for an hour.
    pub cpu_hour: MicroUsd,
    /// One GB out to the Internet.
    pub egress_gb: MicroUsd,
    /// What it speaks.
    pub protocols: Protocols,
    /// Whether clients reach it encrypted.
    pub encrypts: bool,
    /// The share of its requests that it may have, in percent: under 100 while it is tried out
    /// (canary). At 0 it is drained: it has no new requests.
    pub weight: u8,
}

/// A measured or stated round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundTrip {
    /// There and back; the 95th percentile where it is measured.
    pub rtt: Micros,
    /// Packets lost, in millionths.
    pub loss_ppm: u32,
    /// When it was measured; nothing when it was only written down, which never ages and is
    /// trusted by half.
    pub at: Option<Timestamp>,
}

impl RoundTrip {
    /// One that is written down.
    #[must_use]
    pub const fn stated(rtt: Micros) -> Self {
        Self { rtt, loss_ppm: 0, at: None }
    }

    /// This one, or what is written down as soon as that is trusted more: what was measured
    /// long ago.
    #[must_use]
    pub fn or_stated(self, stated: Option<Self>, now: Timestamp) -> Self {
        match (self.at, stated) {
            (Some(at), Some(stated))
                if age::trust(at, now, age::ROUND_TRIP) < age::CONFIGURED =>
            {
                stated
            }
            _ => self,
        }
    }
}

/// What is known from one region to another. Each direction has its own; where only one is
/// known it counts for both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// From here.
    pub from: RegionId,
    /// To there.
    pub to: RegionId,
    /// The round trip.
    pub trip: RoundTrip,
    /// One GB on this way; the price to the Internet when absent.
    pub egress_gb: Option<MicroUsd>,
}

/// Clients that are near each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Where; nothing for clients of whom that is not known. They are never taken for someone
    /// near the region that they asked (F52).
    pub spot: Option<Spot>,
    /// The round trips of clients there to regions, as far as known.
    pub trips: BTreeMap<RegionId, RoundTrip>,
}
