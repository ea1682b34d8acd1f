//! Who is called what: every name is given once, and every name that is used was given.
//!
//! References are looked up only after the whole file is read, so that a region may be named
//! before it is described.

use std::collections::BTreeMap;

use dwcp_edge::proxy::Carried;
use dwcp_types::{HostId, RegionId, UserZoneId};

use super::endpoint::Endpoint;
use super::problem::{Position, Related, Report};
use super::suggest;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Region,
    Host,
    UserZone,
    Endpoint,
}

impl Kind {
    const fn noun(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Host => "host",
            Self::UserZone => "user zone",
            Self::Endpoint => "endpoint",
        }
    }
}

/// The names of one federation.
#[derive(Debug, Default)]
pub(super) struct Names {
    given: BTreeMap<(Kind, String), Position>,
    used: Vec<(RegionId, Position, String)>,
    /// Where proxies listen.
    proxies: Vec<Endpoint>,
    /// Ports of services, at which every proxy listens too.
    ports: Vec<(Carried, u16, Position)>,
}

impl Names {
    fn give(&mut self, kind: Kind, name: String, at: Position, report: &mut Report<'_>) {
        let noun = kind.noun();
        let text = name.clone();
        if let Some(first) = self.given.insert((kind, name), at) {
            let related = Related { at: first, what: format!("first `{text}`") };
            let reason = format!("the {noun} `{text}` is there twice");
            let help = format!("give each {noun} its own, or remove one of the two");
            report.clash(at, related, reason, help);
        }
    }

    pub(super) fn region(
        &mut self,
        id: &RegionId,
        at: Position,
        report: &mut Report<'_>,
    ) {
        self.give(Kind::Region, id.as_str().to_owned(), at, report);
    }

    pub(super) fn host(&mut self, id: &HostId, at: Position, report: &mut Report<'_>) {
        self.give(Kind::Host, id.as_str().to_owned(), at, report);
    }

    pub(super) fn zone(
        &mut self,
        id: &UserZoneId,
        at: Position,
        report: &mut Report<'_>,
    ) {
        self.give(Kind::UserZone, id.as_str().to_owned(), at, report);
    }

    pub(super) fn endpoint(
        &mut self,
        endpoint: &Endpoint,
        at: Position,
        report: &mut Report<'_>,
    ) {
        self.give(Kind::Endpoint, endpoint.to_string(), at, report);
    }

    /// A region's proxy, besides its endpoint.
    pub(super) fn proxy(&mut self, endpoint: &Endpoint) {
        self.proxies.push(endpoint.clone());
    }

    /// A port at which every proxy listens; the same number may be another one's by the other
    /// protocol.
    pub(super) fn port(
        &mut self,
        (carried, port): (Carried, u16),
        at: Position,
        report: &mut Report<'_>,
    ) {
        let mut ports = self.ports.iter();
        let same = ports.find(|(by, other, _)| (*by, *other) == (carried, port));
        if let Some((_, _, first)) = same {
            let related = Related { at: *first, what: format!("first {port}") };
            let reason = format!("the port {port} is of two services");
            report.clash(at, related, reason, "give each service its own");
        } else {
            self.ports.push((carried, port, at));
        }
    }

    /// Tells of ports of services that something else has where a proxy listens. What speaks UDP
    /// beside TCP there, state and names, has both.
    fn resolve_ports(&self, report: &mut Report<'_>) {
        for (_, port, at) in &self.ports {
            let taken = self.proxies.iter().find_map(|proxy| {
                let wanted = proxy.at_port(*port).to_string();
                let first = self.given.get(&(Kind::Endpoint, wanted.clone()))?;
                Some((*first, wanted))
            });
            if let Some((first, wanted)) = taken {
                let related = Related { at: first, what: format!("first `{wanted}`") };
                let reason =
                    format!("a proxy would listen at `{wanted}`, which is taken already");
                report.clash(*at, related, reason, "choose another `listen_port`");
            }
        }
    }

    /// Notes that a region is referred to, by the key `name`.
    pub(super) fn refer(&mut self, region: &RegionId, at: Position, name: &str) {
        self.used.push((region.clone(), at, name.to_owned()));
    }

    /// Tells of every region that is referred to and not described, and of ports that are taken.
    pub(super) fn resolve(&self, report: &mut Report<'_>) {
        self.resolve_ports(report);
        for (region, at, name) in &self.used {
            let key = (Kind::Region, region.as_str().to_owned());
            if self.given.contains_key(&key) {
                continue;
            }
            let known = self.given.keys().filter(|(kind, _)| *kind == Kind::Region);
            let known = known.map(|(_, name)| name.as_str());
            let help = if report.is_full() {
                String::new()
            } else {
                suggest::advice(region.as_str(), "the regions are", known)
            };
            let reason =
                format!("`{name}` names the region `{region}`, which is not there");
            report.error(*at, reason, help);
        }
    }
}
