//! Which jurisdictions a place lies in (C8.5, F31): its country, the EU, its continent.

use dwcp_types::Location;

/// The member states of the European Union, ISO 3166 alpha-2 (27 since 2020).
const EU: [&str; 27] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU",
    "IE", "IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
];

/// How the EU is named in requests.
pub(crate) const EU_NAME: &str = "EU";

/// Whether a country is a member of the EU; any case.
pub(crate) fn in_eu(country: &str) -> bool {
    EU.iter().any(|member| member.eq_ignore_ascii_case(country))
}

/// One spelling for a jurisdiction: trimmed, in capitals.
pub(crate) fn canonical(name: &str) -> String {
    name.trim().to_ascii_uppercase()
}

/// Every jurisdiction that a place lies in, in the spelling of [`canonical`].
pub(crate) fn jurisdictions(location: &Location) -> Vec<String> {
    let mut names = vec![canonical(&location.country), canonical(&location.continent)];
    if in_eu(location.country.trim()) {
        names.push(EU_NAME.to_owned());
    }
    names
}

/// The narrowest jurisdiction that holds both what was wanted and this place, when that is
/// known without an atlas: the EU holds its members.
pub(crate) fn widened(wanted: &str, location: &Location) -> Option<&'static str> {
    (in_eu(wanted.trim()) && in_eu(location.country.trim())).then_some(EU_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(country: &str, continent: &str) -> Location {
        Location {
            latitude: 0.0,
            longitude: 0.0,
            country: country.to_owned(),
            continent: continent.to_owned(),
        }
    }

    #[test]
    fn ireland_is_in_the_eu_and_britain_only_in_europe() {
        let ireland = jurisdictions(&place("ie", "Europe"));
        assert_eq!(ireland, ["IE", "EUROPE", "EU"]);
        assert_eq!(jurisdictions(&place("GB", "Europe")), ["GB", "EUROPE"]);
    }

    #[test]
    fn a_member_state_widens_to_the_union_and_no_further() {
        assert_eq!(widened("de", &place("IE", "Europe")), Some("EU"));
        assert_eq!(widened("DE", &place("GB", "Europe")), None);
        assert_eq!(widened("US", &place("IE", "Europe")), None);
    }
}
