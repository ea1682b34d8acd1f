//! Places on the earth, and round trips from them.

use std::collections::BTreeMap;

use dwcp_types::{Location, Micros, RegionId, UserZoneId, UserZoneView};

use super::federation::UserZoneSpec;
use super::field::Field;
use super::names::Names;
use super::problem::{Related, Report};
use super::section::Section;
use super::yaml::{Content, Node};

/// The continents, spelt as the source spells them.
const CONTINENTS: [(&str, &str); 7] = [
    ("Africa", "Africa"),
    ("Antarctica", "Antarctica"),
    ("Asia", "Asia"),
    ("Europe", "Europe"),
    ("North America", "North America"),
    ("Oceania", "Oceania"),
    ("South America", "South America"),
];

/// Longest round trip that can be configured, in milliseconds: twice a geostationary satellite
/// hop in each direction, rounded up. More is a mistyped unit.
const RTT_MS_MAX: f64 = 2_000.0;

/// Reads `location`.
pub(super) fn location(field: Field<'_>, report: &mut Report<'_>) -> Option<Location> {
    const KEYS: &[&str] = &["latitude", "longitude", "country", "continent"];
    let section = Section::open(field.node, "a location", KEYS, report)?;
    let latitude = section.need("latitude", "38.9072", report);
    let latitude = latitude.and_then(|field| {
        field.decimal("degrees north of the equator", -90.0..=90.0, report)
    });
    let longitude = section.need("longitude", "-77.0369", report);
    let longitude = longitude.and_then(|field| {
        field.decimal("degrees east of Greenwich", -180.0..=180.0, report)
    });
    let country = section.need("country", "US", report);
    let country = country.and_then(|field| country_code(field, report));
    let continent = section.need("continent", "North America", report);
    let continent = continent.and_then(|field| field.choice(&CONTINENTS, report));
    Some(Location {
        latitude: latitude?,
        longitude: longitude?,
        country: country?,
        continent: continent?.to_owned(),
    })
}

/// Compliance compares these codes, so a code that is none would keep data nowhere.
fn country_code(field: Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text(report)?;
    let shaped = text.len() == 2 && text.bytes().all(|c| c.is_ascii_uppercase());
    if shaped && text != "UK" && text != "EU" {
        return Some(text.to_owned());
    }
    let upper = text.to_ascii_uppercase();
    let help = match upper.as_str() {
        "UK" => "did you mean `GB`?".to_owned(),
        "USA" => "did you mean `US`?".to_owned(),
        _ if text.len() == 2 && upper != text => format!("did you mean `{upper}`?"),
        _ => "write two capitals, for example `US`, `IE`, `IN`, `BR`, `AU`".to_owned(),
    };
    field.refuse("an ISO 3166 alpha-2 country code", help, report)
}

/// Reads a map of regions to round trips in milliseconds, noting each region that it names.
pub(super) fn round_trips(
    field: Field<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<BTreeMap<RegionId, Micros>> {
    let Content::Map(map) = &field.node.content else {
        let help = "write one region a line with its milliseconds: `eu-west-1: 75`";
        return field.refuse("a block of regions with milliseconds", help, report);
    };
    let mut trips = BTreeMap::new();
    let mut first = BTreeMap::new();
    for (key, node) in map {
        let name = Node { at: key.at, content: Content::Text(key.name.clone()) };
        let name = Field { name: field.name, key_at: key.at, node: &name };
        let region: Option<RegionId> = name.parsed(report);
        let trip = Field { name: &key.name, key_at: key.at, node };
        let trip = round_trip(trip, report);
        let Some(region) = region else { continue };
        names.refer(&region, key.at, field.name);
        if let Some(before) = first.insert(region.clone(), key.at) {
            let related = Related { at: before, what: format!("first `{region}`") };
            let reason = format!("the region `{region}` is there twice");
            report.clash(key.at, related, reason, "keep one of the two");
        }
        if let Some(trip) = trip {
            trips.insert(region, trip);
        }
    }
    Some(trips)
}

fn round_trip(field: Field<'_>, report: &mut Report<'_>) -> Option<Micros> {
    let what = "a round trip in milliseconds";
    let millis = field.decimal(what, 0.0..=RTT_MS_MAX, report)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 0 to 2,000,000 by the check above"
    )]
    Some(Micros::new((millis * 1_000.0).round() as u32))
}

/// Reads one of `user_zones`.
pub(super) fn user_zone(
    node: &Node,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<UserZoneSpec> {
    const KEYS: &[&str] = &["id", "location", "latency"];
    let section = Section::open(node, "a user zone", KEYS, report)?;
    let id = section.need("id", "london", report);
    let id = id.and_then(|field| {
        let id: UserZoneId = field.parsed(report)?;
        names.zone(&id, field.at(), report);
        Some(id)
    });
    let place = section.get("location").map(|field| location(field, report));
    let latency = section.need("latency", "{ eu-west-1: 12 }", report);
    let latency = latency.and_then(|field| round_trips(field, names, report));
    let view = UserZoneView { id: id?, latency: latency? };
    match place {
        Some(None) => None,
        Some(place) => Some(UserZoneSpec { view, location: place }),
        None => Some(UserZoneSpec { view, location: None }),
    }
}
