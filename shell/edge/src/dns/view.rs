//! Everything that answers are made from, as one value that never changes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use domain::base::iana::Rtype;
use dwcp_router::{RegionIx, Standing, Table};
use dwcp_types::RegionId;
use serde::Serialize;

use super::zone::Zone;
use crate::clients::Clients;
use crate::steering::Steering;

/// Where something answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// By IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// By IPv6.
    pub ipv6: Option<Ipv6Addr>,
}

impl Addresses {
    /// Whether it answers nowhere.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ipv4.is_none() && self.ipv6.is_none()
    }

    /// The address of a record of this type.
    pub(crate) fn of(&self, rtype: Rtype) -> Option<IpAddr> {
        match rtype {
            Rtype::A => self.ipv4.map(IpAddr::V4),
            Rtype::AAAA => self.ipv6.map(IpAddr::V6),
            _ => None,
        }
    }
}

/// Where regions answer; one that is not here answers nowhere and is never told.
pub type AddressBook = BTreeMap<RegionId, Addresses>;

/// Everything that answers are made from.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) zone: Arc<Zone>,
    pub(crate) steered: Option<Steered>,
}

/// [`Steering`] in the order of its table.
#[derive(Clone, Debug)]
pub(crate) struct Steered {
    pub(crate) table: Arc<Table>,
    pub(crate) standing: Standing,
    /// The same without the regions that answer nowhere.
    pub(crate) reachable: Standing,
    pub(crate) clients: Arc<Clients>,
    /// By the regions of the table.
    addresses: Vec<Addresses>,
    /// By the services of the zone: their numbers in the table.
    pub(crate) services: Vec<Option<u16>>,
}

impl View {
    /// A zone, and what its names are routed by, with where regions answer. Before there is one, names that are
    /// routed have no answer, and the zone itself has.
    #[must_use]
    pub fn new(zone: Arc<Zone>, steering: Option<(Steering, AddressBook)>) -> Self {
        let steered = steering.map(|(by, addresses)| Steered::new(&zone, by, &addresses));
        Self { zone, steered }
    }
}

impl Steered {
    fn new(zone: &Zone, by: Steering, addresses: &AddressBook) -> Self {
        let Steering { table, standing, clients } = by;
        let sites = &table.inputs().sites;
        let addresses: Vec<Addresses> = sites
            .iter()
            .map(|site| addresses.get(&site.id).copied().unwrap_or_default())
            .collect();
        let mut reachable = standing;
        for (site, addresses) in sites.iter().zip(&addresses) {
            if addresses.is_empty()
                && let Some(region) = table.region_ix(&site.id)
            {
                reachable = reachable.without(region);
            }
        }
        let services = zone.services.iter().map(|id| table.service(id)).collect();
        Self { table, standing, reachable, clients, addresses, services }
    }

    /// Where a region answers.
    pub(crate) fn addresses(&self, region: RegionIx) -> Addresses {
        self.addresses.get(region.get()).copied().unwrap_or_default()
    }
}
