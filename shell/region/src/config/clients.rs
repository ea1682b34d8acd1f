//! Reads `routing.clients`: where clients are, by their networks, and by a file of places for the
//! rest.

use std::path::PathBuf;

use dwcp_router::Spot;
use dwcp_types::{RegionId, UserZoneId};

use super::federation::UserZoneSpec;
use super::field::Field;
use super::front::{ClientPlace, ClientSpec};
use super::monitoring::file;
use super::names::Names;
use super::prefix::Prefix;
use super::problem::{Related, Report};
use super::section::{Section, each};
use super::yaml::Content;

const KEYS: &[&str] = &["cidr", "user_zone", "region", "latitude", "longitude"];
/// The key of a file of places.
const FILE: &str = "mmdb";
const FILE_KEYS: &[&str] = &[FILE];

/// Most networks.
const CLIENTS_MAX: usize = 4_096;

/// Where clients are: networks, and a file.
pub(super) type Clients = (Vec<ClientSpec>, Option<PathBuf>);

/// Reads the list `routing.clients`; nobody is known without it.
pub(super) fn clients(
    section: &Section<'_>,
    zones: Option<&[UserZoneSpec]>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Clients> {
    let Some(field) = section.get("clients") else { return Some((Vec::new(), None)) };
    let items = field.list(0..=CLIENTS_MAX, report)?;
    let (files, items): (Vec<_>, Vec<_>) = items.into_iter().partition(is_file);
    let twice = |one: &ClientSpec, other: &ClientSpec| {
        let cidr = &one.cidr;
        (*cidr == other.cidr).then(|| format!("the network `{cidr}` is there twice"))
    };
    let networks =
        each(&items, |item, report| client(item, zones, names, report), report, twice);
    let places = places(&files, report);
    Some((networks?, places?))
}

fn is_file(item: &Field<'_>) -> bool {
    matches!(&item.node.content, Content::Map(map) if map.iter().any(|(key, _)| key.name == FILE))
}

/// The file of places; one at the most.
#[expect(clippy::option_option, reason = "absent, wrong and right are three states")]
fn places(files: &[Field<'_>], report: &mut Report<'_>) -> Option<Option<PathBuf>> {
    let Some(first) = files.first() else { return Some(None) };
    if let Some(second) = files.get(1) {
        let related = Related { at: first.at(), what: "the first".to_owned() };
        let reason = "there are two files of places, and clients are in one";
        report.clash(second.at(), related, reason, "keep one of the two");
        return None;
    }
    let section = Section::open(first.node, "a file of places", FILE_KEYS, report)?;
    let path = section.need(FILE, "/var/lib/dwcp/GeoLite2-City.mmdb", report)?;
    file(path, report).map(Some)
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
