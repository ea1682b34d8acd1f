//! What the name server knows without any table: its zone, its name servers, its names.
//!
//! Nothing transfers the zone, so its serial says nothing and never changes: monitors compare
//! the serials of all name servers, and these agree.

use std::collections::HashMap;

use domain::base::name::ToLabelIter;
use domain::base::{Serial, Ttl, iana::Rtype};
use domain::rdata::Soa;
use dwcp_types::ServiceId;
use serde::Serialize;

use super::name::Name;
use super::view::Addresses;

/// Most name servers of a zone: with 13 the root's fit in 512 bytes, with longer names 8 do.
pub const NAME_SERVERS_MAX: usize = 8;
/// Most names of a zone.
pub(crate) const NAMES_MAX: usize = 65_536;
/// Most addresses of one answer: as many regions as a decision ranks.
pub const ANSWERS_MAX: usize = 4;
/// Longest identity of a name server (RFC 5001), in bytes: that of a region.
const IDENTITY_LEN_MAX: usize = 64;

/// How long what never changes while a daemon runs may be kept, in seconds.
pub(crate) const TTL_FIXED_S: u32 = 3_600;
/// How long may be kept that there is no such name or record, in seconds (RFC 2308): as long
/// as an answer that is about to change (R12).
pub(crate) const TTL_NEGATIVE_S: u32 = 5;

/// A name server of the zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NameServer {
    /// Its name.
    pub name: Name,
    /// Where it is; nothing for one whose name is in another zone.
    pub addresses: Addresses,
}

/// What a zone is made of.
#[derive(Clone, Debug)]
pub struct ZoneSpec {
    /// The name that all others are beneath.
    pub apex: Name,
    /// Who answers for it, as a name: `hostmaster.example.com`.
    pub contact: Name,
    /// Its name servers, the first is the SOA's.
    pub name_servers: Vec<NameServer>,
    /// Names, and the service that each is routed as.
    pub names: Vec<(Name, ServiceId)>,
    /// How many regions an answer names, 1 to 4.
    pub answers: usize,
    /// What this server calls itself when asked (NSID, RFC 5001).
    pub identity: String,
}

/// Why there is no such zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// None, or too many.
    #[error("a zone has 1 to {NAME_SERVERS_MAX} name servers, not {0}")]
    NameServers(usize),
    /// Nobody could find it.
    #[error("the name server {0} is in its own zone and has no address")]
    Unreachable(Name),
    /// It would have another zone's address.
    #[error("the name server {0} is in another zone, which says its address")]
    Foreign(Name),
    /// Two things of one name.
    #[error("the name {0} is there twice")]
    Twice(Name),
    /// It belongs to someone else.
    #[error("the name {0} is outside of the zone")]
    Outside(Name),
    /// A bound was passed.
    #[error(
        "a zone has at most {NAMES_MAX} names, answers of 1 to {ANSWERS_MAX} regions"
    )]
    Bounds,
}

/// What is at a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The service that it is routed as, its place in [`Zone::services`].
    pub(crate) service: Option<usize>,
    /// Addresses that are always the same.
    pub(crate) fixed: Addresses,
    /// Whether SOA and NS are here.
    pub(crate) apex: bool,
}

/// Where a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<'z> {
    /// In another zone.
    Outside,
    /// Nowhere: neither it nor anything beneath it is there.
    Missing,
    /// Here.
    At(&'z Owner),
}

/// A zone.
#[derive(Clone, Debug)]
pub struct Zone {
    pub(crate) apex: Name,
    contact: Name,
    pub(crate) name_servers: Vec<NameServer>,
    pub(crate) services: Vec<ServiceId>,
    /// By names as they are on the wire, in small letters.
    owners: HashMap<Box<[u8]>, Owner>,
    pub(crate) answers: usize,
    pub(crate) identity: String,
}

impl Zone {
    /// Puts a zone together.
    ///
    /// # Errors
    ///
    /// When a name is there twice or outside, or a name server cannot be found.
    pub fn new(spec: ZoneSpec) -> Result<Self, ZoneError> {
        let servers = spec.name_servers.len();
        if !(1..=NAME_SERVERS_MAX).contains(&servers) {
            return Err(ZoneError::NameServers(servers));
        }
        if !(1..=ANSWERS_MAX).contains(&spec.answers) || spec.names.len() > NAMES_MAX {
            return Err(ZoneError::Bounds);
        }
        let mut identity = spec.identity;
        identity.truncate(identity.floor_char_boundary(IDENTITY_LEN_MAX));
        let mut zone = Self {
            apex: spec.apex,
            contact: spec.contact,
            name_servers: spec.name_servers.clone(),
            services: Vec::new(),
            owners: HashMap::new(),
            answers: spec.answers,
            identity,
        };
        zone.owners
            .insert(zone.apex.wire().into(), Owner { apex: true, ..Owner::default() });
        for server in spec.name_servers {
            zone.add_server(server)?;
        }
        for (name, service) in spec.names {
            zone.add_name(&name, service)?;
        }
        Ok(zone)
    }

    fn add_server(&mut self, server: NameServer) -> Result<(), ZoneError> {
        let within = server.name.is_within(&self.apex);
        match (within, server.addresses.is_empty()) {
            (false, true) => return Ok(()),
            (false, false) => return Err(ZoneError::Foreign(server.name)),
            (true, true) => return Err(ZoneError::Unreachable(server.name)),
            (true, false) => {}
        }
        let owner = self.owner(&server.name);
        if !owner.fixed.is_empty() {
            return Err(ZoneError::Twice(server.name));
        }
        owner.fixed = server.addresses;
        Ok(())
    }

    fn add_name(&mut self, name: &Name, service: ServiceId) -> Result<(), ZoneError> {
        if !name.is_within(&self.apex) {
            return Err(ZoneError::Outside(name.clone()));
        }
        let known = self.services.iter().position(|known| *known == service);
        let at = known.unwrap_or(self.services.len());
        let owner = self.owner(name);
        if owner.service.is_some() || !owner.fixed.is_empty() {
            return Err(ZoneError::Twice(name.clone()));
        }
        owner.service = Some(at);
        if known.is_none() {
            self.services.push(service);
        }
        Ok(())
    }

    /// What is at a name. All names between it and the apex exist from now on, if with nothing
    /// at them (RFC 8020).
    fn owner(&mut self, name: &Name) -> &mut Owner {
        let mut above = name.parent();
        while let Some(name) = above.filter(|above| above.is_within(&self.apex)) {
            self.owners.entry(name.wire().into()).or_default();
            above = name.parent();
        }
        self.owners.entry(name.wire().into()).or_default()
    }

    /// Finds a name, whatever its letters' case.
    pub(crate) fn find(&self, name: &impl ToLabelIter) -> Found<'_> {
        let apex = self.apex.wire();
        let Some(lead) = usize::from(name.compose_len()).checked_sub(apex.len()) else {
            return Found::Outside;
        };
        // No name is longer than 255 bytes: the library's readers see to that.
        let mut wire = [0; 255];
        let (mut len, mut on_label) = (0, false);
        for label in name.iter_labels() {
            on_label |= len == lead;
            let next = len + 1 + label.len();
            let Some(room) = wire.get_mut(len..next) else { return Found::Outside };
            if let [first, rest @ ..] = room {
                *first = u8::try_from(label.len()).unwrap_or_default();
                rest.copy_from_slice(label.as_slice());
                rest.make_ascii_lowercase();
            }
            len = next;
        }
        let wire = wire.get(..len).unwrap_or_default();
        if !on_label || wire.get(lead..) != Some(apex) {
            return Found::Outside;
        }
        self.owners.get(wire).map_or(Found::Missing, Found::At)
    }

    /// The zone's SOA record.
    pub(crate) fn soa(&self) -> Soa<&domain::base::Name<Vec<u8>>> {
        // A zone has at least one.
        let first = self.name_servers.first().map_or(&self.apex, |server| &server.name);
        Soa::new(
            first.inner(),
            self.contact.inner(),
            Serial(1),
            Ttl::from_secs(7_200),
            Ttl::from_secs(3_600),
            Ttl::from_secs(1_209_600),
            Ttl::from_secs(TTL_NEGATIVE_S),
        )
    }
}

impl Owner {
    /// The address of a type that is always the same.
    pub(crate) fn fixed(&self, rtype: Rtype) -> Option<std::net::IpAddr> {
        self.fixed.of(rtype)
    }
}
