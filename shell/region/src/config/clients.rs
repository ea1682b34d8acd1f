//! Reads `routing.clients`: where clients are, by their networks.

use dwcp_router::Spot;
use dwcp_types::{RegionId, UserZoneId};

use super::federation::UserZoneSpec;
use super::field::Field;
use super::front::{ClientPlace, ClientSpec};
use super::names::Names;
use super::prefix::Prefix;
use super::problem::Report;
use super::section::{Section, each};

const KEYS: &[&str] = &["cidr", "user_zone", "region", "latitude", "longitude"];

/// Most networks.
const CLIENTS_MAX: usize = 4_096;

/// Reads the list `routing.clients`; nobody is known without it.
pub(super) fn clients(
    section: &Section<'_>,
    zones: Option<&[UserZoneSpec]>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Vec<ClientSpec>> {
    let Some(field) = section.get("clients") else { return Some(Vec::new()) };
    let items = field.list(0..=CLIENTS_MAX, report)?;
    let twice = |one: &ClientSpec, other: &ClientSpec| {
        let cidr = &one.cidr;
        (*cidr == other.cidr).then(|| format!("the network `{cidr}` is there twice"))
    };
    each(&items, |item, report| client(item, zones, names, report), report, twice)
}

fn client(
    item: &Field<'_>,
    zones: Option<&[UserZoneSpec]>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<ClientSpec> {
    let section = Section::open(item.node, "a network of clients", KEYS, report)?;
    let cidr = section.need("cidr", "203.0.113.0/24", report);
    let cidr: Option<Prefix> = cidr.and_then(|field| field.parsed(report));
    let places = [
        section.get("user_zone").is_some(),
        section.get("region").is_some(),
        section.get("latitude").is_some() || section.get("longitude").is_some(),
    ];
    if places.iter().filter(|there| **there).count() != 1 {
        let reason = "a network of clients is in one place, and this one is not";
        let help = "write one of `user_zone`, `region`, or `latitude` and `longitude`";
        report.error(item.at(), reason, help);
        return None;
    }
    let place = if let Some(field) = section.get("user_zone") {
        ClientPlace::UserZone(user_zone(field, zones, report)?)
    } else if let Some(field) = section.get("region") {
        let region: RegionId = field.parsed(report)?;
        names.refer(&region, field.at(), "routing.clients.region");
        ClientPlace::Region(region)
    } else {
        let latitude = section.need("latitude", "51.5", report);
        let latitude = latitude.and_then(|field| {
            field.decimal("degrees north of the equator", -90.0..=90.0, report)
        });
        let longitude = section.need("longitude", "-0.1", report);
        let longitude = longitude.and_then(|field| {
            field.decimal("degrees east of Greenwich", -180.0..=180.0, report)
        });
        ClientPlace::Spot(Spot { latitude: latitude?, longitude: longitude? })
    };
    Some(ClientSpec { cidr: cidr?, place })
}

fn user_zone(
    field: Field<'_>,
    zones: Option<&[UserZoneSpec]>,
    report: &mut Report<'_>,
) -> Option<UserZoneId> {
    let zone: UserZoneId = field.parsed(report)?;
    // When the zones themselves are wrong, that is told once and not for each client.
    let Some(zones) = zones else { return Some(zone) };
    if zones.iter().all(|known| known.view.id != zone) {
        let known = zones.iter().map(|zone| zone.view.id.as_str());
        let help = super::suggest::advice(zone.as_str(), "user zones", known);
        let reason = format!("`{zone}` is no user zone of this federation");
        report.error(field.at(), reason, help);
        return None;
    }
    Some(zone)
}
