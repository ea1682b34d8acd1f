//! What a file of places says of a network, in the words of those who make such files.
//!
//! Nested, as MaxMind has it (`country.iso_code`, `location.latitude`), or flat (`country_code`,
//! `latitude` or `lat`; IPinfo's `country` is the code itself, and its numbers are texts).

use dwcp_router::Spot;
use serde::Deserialize;

/// One record; keys that say nothing of the place are skipped.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    country: Option<Country>,
    /// Where the network is registered, which is better than nothing.
    registered_country: Option<Country>,
    country_code: Option<String>,
    location: Option<Location>,
    #[serde(alias = "lat")]
    latitude: Option<Degrees>,
    #[serde(alias = "lng", alias = "lon")]
    longitude: Option<Degrees>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Country {
    /// A code, or a name where the code has a key of its own.
    Text(String),
    Nested(Nested),
    /// Whatever else.
    Other(serde::de::IgnoredAny),
}

#[derive(Debug, Deserialize)]
struct Nested {
    iso_code: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Location {
    Nested(Coordinates),
    Other(serde::de::IgnoredAny),
}

#[derive(Debug, Deserialize)]
struct Coordinates {
    latitude: Option<Degrees>,
    longitude: Option<Degrees>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Degrees {
    Number(f64),
    Text(String),
    Other(serde::de::IgnoredAny),
}

/// Where a network is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    Spot(Spot),
    /// By its code.
    Country(String),
}

impl Record {
    /// Where it is, as exactly as is said.
    pub(super) fn place(&self) -> Option<Place> {
        let nested = match &self.location {
            Some(Location::Nested(location)) => {
                spot(location.latitude.as_ref(), location.longitude.as_ref())
            }
            Some(Location::Other(_)) | None => None,
        };
        let flat = || spot(self.latitude.as_ref(), self.longitude.as_ref());
        if let Some(spot) = nested.or_else(flat) {
            return Some(Place::Spot(spot));
        }
        let country = self.country.as_ref().and_then(Country::code);
        let registered = || self.registered_country.as_ref().and_then(Country::code);
        let code = self.country_code.as_deref().or(country).or_else(registered)?;
        Some(Place::Country(code.to_owned()))
    }
}

impl Country {
    fn code(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Nested(nested) => nested.iso_code.as_deref(),
            Self::Other(_) => None,
        }
    }
}

impl Degrees {
    fn within(&self, most: f64) -> Option<f64> {
        let degrees = match self {
            Self::Number(number) => *number,
            Self::Text(text) => text.trim().parse().ok()?,
            Self::Other(_) => return None,
        };
        (degrees.abs() <= most).then_some(degrees)
    }
}

fn spot(latitude: Option<&Degrees>, longitude: Option<&Degrees>) -> Option<Spot> {
    Some(Spot { latitude: latitude?.within(90.0)?, longitude: longitude?.within(180.0)? })
}
