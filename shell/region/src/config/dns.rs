//! Reads the block `routing.dns` and the names of services: the zone that name servers answer
//! for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dwcp_edge::dns::{
    ANSWERS_MAX, Addresses, NAME_SERVERS_MAX, Name, NameError, NameServer,
};

use super::federation::Federation;
use super::field::Field;
use super::front::DnsConfig;
use super::problem::{Position, Report};
use super::section::Section;

const KEYS: &[&str] =
    &["zone", "contact", "name_servers", "answers", "answers_per_second"];
const SERVER_KEYS: &[&str] = &["name", "ip", "ipv6"];

/// Most names of one service.
const HOSTS_MAX: usize = 256;
/// Answers a second to a network by UDP when nothing is said: a busy resolver's, and under a
/// megabit a second at a victim whose address is forged.
const ANSWERS_PER_SECOND: u64 = 1_000;
/// More is no limit to anybody.
const ANSWERS_PER_SECOND_MAX: u64 = 1_000_000;

/// Reads the block; none when there is no zone.
#[expect(clippy::option_option, reason = "absent, wrong and right are three states")]
pub(super) fn dns(
    routing: &Section<'_>,
    report: &mut Report<'_>,
) -> Option<Option<DnsConfig>> {
    let Some(field) = routing.get("dns") else { return Some(None) };
    let section = Section::open(field.node, "`dns`", KEYS, report)?;
    let zone = section.need("zone", "cdn.example.com", report);
    let zone: Option<Name> = zone.and_then(|field| field.parsed(report));
    let contact = contact(&section, zone.as_ref(), report);
    let servers = section.need(
        "name_servers",
        "[{ name: ns1.cdn.example.com, ip: 203.0.113.53 }]",
        report,
    );
    let servers = servers.and_then(|field| servers_of(field, zone.as_ref(), report));
    let most = u64::try_from(ANSWERS_MAX).unwrap_or(u64::MAX);
    let answers =
        section.get("answers").map_or(Some(1), |field| field.count(1..=most, report));
    let limit =
        section.get("answers_per_second").map_or(Some(ANSWERS_PER_SECOND), |field| {
            field.count(0..=ANSWERS_PER_SECOND_MAX, report)
        });
    let limit = u32::try_from(limit?).ok()?;
    Some(Some(DnsConfig {
        zone: zone?,
        contact: contact?,
        name_servers: servers?,
        answers: usize::try_from(answers?).ok()?,
        answers_per_second: (limit > 0).then_some(limit),
    }))
}

/// Who answers for the zone: `hostmaster` of it when nobody is named (RFC 2142).
fn contact(
    section: &Section<'_>,
    zone: Option<&Name>,
    report: &mut Report<'_>,
) -> Option<Name> {
    let Some(field) = section.get("contact") else {
        return zone?.under("hostmaster").ok();
    };
    match Name::of_mailbox(field.text(report)?) {
        Ok(name) => Some(name),
        Err(error) => refuse(&field, error, report),
    }
}

fn refuse<T>(field: &Field<'_>, error: NameError, report: &mut Report<'_>) -> Option<T> {
    let error = error.to_string();
    let (reason, help) = error.split_once("; ").unwrap_or((&error, ""));
    report.error(field.at(), format!("`{}`: {reason}", field.name), help);
    None
}

fn servers_of(
    field: Field<'_>,
    zone: Option<&Name>,
    report: &mut Report<'_>,
) -> Option<Vec<NameServer>> {
    let items = field.list(1..=NAME_SERVERS_MAX, report)?;
    let mut servers: Vec<NameServer> = Vec::new();
    let mut right = true;
    for item in items {
        match server(&item, zone, report) {
            Some(server) if servers.iter().any(|other| other.name == server.name) => {
                let reason = format!("the name server `{}` is there twice", server.name);
                report.error(item.at(), reason, "keep one of the two");
                right = false;
            }
            Some(server) => servers.push(server),
            None => right = false,
        }
    }
    right.then_some(servers)
}

fn server(
    item: &Field<'_>,
    zone: Option<&Name>,
    report: &mut Report<'_>,
) -> Option<NameServer> {
    let section = Section::open(item.node, "a name server", SERVER_KEYS, report)?;
    let name = section.need("name", "ns1.cdn.example.com", report);
    let name: Option<Name> = name.and_then(|field| field.parsed(report));
    let mut address = |key: &str, six: bool| {
        let field = section.get(key);
        field.map_or(Some(None), |field| {
            super::routing::address(field, six, report).map(Some)
        })
    };
    let (ipv4, ipv6) = (address("ip", false), address("ipv6", true));
    let name = name?;
    let addresses = Addresses {
        ipv4: ipv4?.and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None }),
        ipv6: ipv6?.and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None }),
    };
    // When the zone itself is wrong, that is told once and not for each server.
    let Some(zone) = zone else { return Some(NameServer { name, addresses }) };
    match (name.is_within(zone), addresses.is_empty()) {
        (true, true) => {
            let reason = format!("`{name}` is in its own zone and nobody would find it");
            report.error(item.at(), reason, "add its `ip`, its `ipv6`, or both");
            None
        }
        (false, false) => {
            let reason = format!("`{name}` is in another zone, which says its address");
            report.error(item.at(), reason, "leave out `ip` and `ipv6`");
            None
        }
        (true, false) | (false, true) => Some(NameServer { name, addresses }),
    }
}

/// Names of services, each given once.
pub(super) struct Hosts<'d> {
    dns: Option<&'d DnsConfig>,
    given: BTreeSet<Name>,
}

impl<'d> Hosts<'d> {
    pub(super) fn of(dns: Option<&'d DnsConfig>) -> Self {
        let servers = dns.iter().flat_map(|dns| &dns.name_servers);
        Self { dns, given: servers.map(|server| server.name.clone()).collect() }
    }

    /// Reads the names of a service.
    pub(super) fn read(
        &mut self,
        field: Option<Field<'_>>,
        report: &mut Report<'_>,
    ) -> Option<Vec<Name>> {
        let Some(field) = field else { return Some(Vec::new()) };
        let Some(dns) = self.dns else {
            let reason = "`hosts` are names of a zone, and there is none";
            report.error(field.key_at, reason, "add `dns` to `routing`, with its `zone`");
            return None;
        };
        let items = field.list(1..=HOSTS_MAX, report)?;
        let read: Vec<_> =
            items.iter().map(|item| self.host(item, dns, report)).collect();
        read.into_iter().collect()
    }

    fn host(
        &mut self,
        item: &Field<'_>,
        dns: &DnsConfig,
        report: &mut Report<'_>,
    ) -> Option<Name> {
        let text = item.text(report)?;
        let name = if text == "@" { Ok(dns.zone.clone()) } else { dns.zone.under(text) };
        let Ok(name) = name else {
            let wanted = "labels before the zone's name, or `@` for the zone itself";
            let help = format!("for example `www`, which is `www.{}`", dns.zone);
            return item.refuse(wanted, help, report);
        };
        // Whoever writes the whole name would otherwise have it twice.
        if text.ends_with(&format!(".{}", dns.zone)) || text == dns.zone.to_string() {
            let help = format!("leave out `{}`, which is added to each", dns.zone);
            return item.refuse("relative to the zone", help, report);
        }
        if !self.given.insert(name.clone()) {
            let reason = format!("the name `{name}` is there twice");
            report.error(item.at(), reason, "give each service its own");
            return None;
        }
        Some(name)
    }
}

/// A zone that nobody answers for, and a name server without a zone.
pub(super) fn warn_of_half(
    federation: &Federation,
    at: Position,
    report: &mut Report<'_>,
) {
    let serves = federation.regions.iter().any(|spec| spec.dns_endpoint.is_some());
    match &federation.routing.dns {
        Some(dns) if !serves => {
            let reason = format!("nobody answers for the zone `{}`", dns.zone);
            report.warn(at, reason, "add `dns_endpoint` to the regions that shall");
        }
        None if serves => {
            let reason = "`dns_endpoint` has no effect: there is no zone to answer for";
            report.warn(at, reason, "add `dns` to `routing`, with its `zone`");
        }
        Some(dns) if names(federation) == 0 => {
            let reason = format!("the zone `{}` has no name of a service", dns.zone);
            report.warn(at, reason, "add `hosts` to the services in `routing`");
        }
        Some(_) | None => {}
    }
}

fn names(federation: &Federation) -> usize {
    federation.routing.services.iter().map(|spec| spec.hosts.len()).sum()
}
