//! Files of places of every make, damaged ones, and ones that change.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use dwcp_edge::{Clients, Network};
use dwcp_router::{Spot, distance_km};
use dwcp_types::Timestamp;
use proptest::prelude::*;

use super::written::{BUILT_S, Value, city, country, file, text};
use super::{Atlas, AtlasError, AtlasFile, Look};

fn read(bytes: Vec<u8>) -> Result<Atlas, AtlasError> {
    Atlas::of(Path::new("/places.mmdb"), bytes)
}

/// Six days after the file was built.
fn now() -> Timestamp {
    Timestamp::from_millis((BUILT_S + 6 * 86_400) * 1_000)
}

fn spot(atlas: &Atlas, address: &str) -> Option<Spot> {
    let (cell, _) = atlas.find(address.parse().unwrap(), now())?;
    Some(atlas.spots()[usize::try_from(cell).unwrap()])
}

fn km(atlas: &Atlas, address: &str, latitude: f64, longitude: f64) -> u32 {
    let spot = spot(atlas, address).unwrap();
    distance_km(spot, Spot { latitude, longitude })
}

#[test]
fn cities_are_near_where_the_file_says() {
    let atlas = read(file(
        "GeoLite2-City",
        &[
            ("203.0.113.0/24", city("DE", 50.11, 8.68)),
            ("203.0.114.0/23", city("DE", 52.52, 13.40)),
            ("198.51.100.0/25", city("BR", -23.55, -46.63)),
            ("2001:db8::/32", city("AU", -33.87, 151.21)),
        ],
    ))
    .unwrap();
    assert!(km(&atlas, "203.0.113.9", 50.11, 8.68) < 60);
    assert!(km(&atlas, "203.0.115.9", 52.52, 13.40) < 60);
    assert!(
        km(&atlas, "198.51.100.127", -23.55, -46.63) < 70,
        "by half a degree each way"
    );
    assert!(km(&atlas, "2001:db8:ffff::1", -33.87, 151.21) < 60);
    assert!(km(&atlas, "::ffff:203.0.113.9", 50.11, 8.68) < 60, "IPv4 in IPv6 form");
    for nowhere in ["198.51.100.128", "203.0.112.255", "203.0.116.0", "2001:db9::", "::1"]
    {
        assert_eq!(spot(&atlas, nowhere), None, "{nowhere}");
    }
    let (_, told) = atlas.find("203.0.113.9".parse().unwrap(), now()).unwrap();
    assert_eq!(
        told,
        "203.0.113.9 in its /24 near 50,9 by /places.mmdb (GeoLite2-City, built 6 days ago)"
    );
}

#[test]
fn every_make_of_files_is_understood() {
    let flat = |entries: &[(&'static str, Value)]| Value::Map(entries.to_vec());
    let dublin = [
        city("IE", 53.35, -6.26),
        flat(&[
            ("latitude", Value::Degrees(53.35)),
            ("longitude", Value::Degrees(-6.26)),
            ("country_code", text("IE")),
        ]),
        flat(&[("country", text("IE")), ("lat", text("53.35")), ("lng", text("-6.26"))]),
        country("IE"),
        flat(&[("country_code", text("IE")), ("country", text("Ireland"))]),
        flat(&[("country", text("IE")), ("country_name", text("Ireland"))]),
        flat(&[(
            "registered_country",
            Value::Map(vec![("iso_code", text("IE")), ("names", Value::Map(Vec::new()))]),
        )]),
        // A place without numbers falls back to the country.
        flat(&[("location", text("Dublin")), ("country_code", text("ie"))]),
        flat(&[
            ("latitude", Value::Degrees(91.0)),
            ("longitude", Value::Degrees(f64::NAN)),
            ("country_code", text("IE")),
        ]),
    ];
    for record in dublin {
        let atlas = read(file("any", &[("203.0.113.0/24", record.clone())])).unwrap();
        assert!(km(&atlas, "203.0.113.1", 53.35, -6.26) < 100, "{record:?}");
    }
}

#[test]
fn places_near_each_other_are_one_cell_and_one_range() {
    let networks: Vec<(String, Value)> = (0..=255_u8)
        .map(|at| {
            let east = 5.0 + f64::from(at) / 60.0;
            (format!("10.0.{at}.0/24"), city("DE", 50.5, east))
        })
        .collect();
    let networks: Vec<_> = networks.iter().map(|(n, v)| (&**n, v.clone())).collect();
    let atlas = read(file("City", &networks)).unwrap();
    assert_eq!(atlas.spots().len(), 1, "all of them are within 5 degrees");
    assert_eq!(atlas.spots()[0], Spot { latitude: 51.0, longitude: 7.0 });
    // Before it, it, behind it; and all of IPv6.
    assert_eq!(atlas.size(), (1, 4));
}

#[test]
fn networks_of_the_operator_count_before_the_file() {
    let atlas = read(file("City", &[("10.0.0.0/8", city("DE", 50.0, 8.0))])).unwrap();
    let over = |address: &str, len, cell| {
        let address = address.parse().unwrap();
        Network { address, len, cell }
    };
    let all = atlas.under(&[over("10.1.0.0", 16, 3), over("0.0.0.0", 1, 4)], 70, 0);
    let cell = |address: &str| all.find(address.parse::<IpAddr>().unwrap()).0;
    assert_eq!(cell("10.1.2.3"), 3);
    assert_eq!(cell("10.2.2.3"), 4, "a shorter one too");
    assert_eq!(cell("200.0.0.1"), 0);
    let all = atlas.under(&[over("10.1.0.0", 16, 3)], 70, 0);
    assert_eq!(all.find("10.2.2.3".parse().unwrap()), (70, 15));
    assert_ne!(Clients::NOWHERE, 0);
}

#[test]
fn what_is_no_file_of_places_is_refused_with_what_to_do() {
    let sound = file("City", &[("10.0.0.0/8", city("DE", 50.0, 8.0))]);
    for len in 0..sound.len() {
        let error = read(sound[..len].to_vec()).unwrap_err();
        assert!(matches!(error, AtlasError::Unsound { .. }), "{len}: {error}");
    }
    let told = read(b"not this".to_vec()).unwrap_err().to_string();
    assert!(told.contains("no sound file of places") && told.contains("copy"), "{told}");
    let number = Value::Map(vec![("autonomous_system_number", Value::Count(64_500))]);
    let error = read(file("GeoLite2-ASN", &[("10.0.0.0/8", number)])).unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, AtlasError::Placeless { .. }), "{told}");
    assert!(told.contains("GeoLite2-ASN") && told.contains("cities"), "{told}");
    let told = Atlas::read(Path::new("/nowhere.mmdb")).unwrap_err().to_string();
    assert!(told.contains("/nowhere.mmdb") && told.contains("`mmdb`"), "{told}");
}

/// Both ways lead on together at every node: as many networks as there are addresses, of IPv4 and all
/// that IPv6 has in its place.
#[test]
fn a_tree_that_never_ends_is_refused() {
    let mut bytes = file(
        "City",
        &[("0.0.0.0/1", city("DE", 50.0, 8.0)), ("128.0.0.0/1", city("DE", 50.0, 8.0))],
    );
    // The 97th has both networks; all before it lead to the next, by either way.
    for node in 0..96 {
        let at = node * 6;
        let next = [bytes[at], bytes[at + 1], bytes[at + 2]];
        bytes[at + 3..at + 6].copy_from_slice(&next);
    }
    let error = read(bytes).unwrap_err();
    assert!(error.to_string().contains("more networks than nodes"), "{error}");
}

#[test]
fn a_changed_file_is_taken_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("places.mmdb");
    let put = |bytes: &[u8]| {
        let draft = folder.path().join("draft");
        std::fs::write(&draft, bytes).unwrap();
        std::fs::rename(draft, &path).unwrap();
    };
    assert!(AtlasFile::open(&path).is_err());
    put(&file("City", &[("10.0.0.0/8", city("DE", 50.0, 8.0))]));
    let followed = AtlasFile::open(&path).unwrap();
    assert_eq!(followed.look(), Look::Same);
    let germany = followed.atlas();
    put(&file("City", &[("10.0.0.0/8", city("BR", -23.0, -46.0))]));
    assert_eq!(followed.look(), Look::Taken);
    assert_ne!(followed.atlas().spots(), germany.spots());
    let brazil = followed.atlas();
    assert!(!followed.note(now()).contains("not taken"));
    put(b"half");
    assert!(matches!(followed.look(), Look::Refused(_)));
    assert_eq!(followed.look(), Look::Same, "it is told once");
    assert_eq!(followed.atlas().spots(), brazil.spots());
    assert!(followed.note(now()).contains("was not taken"), "{}", followed.note(now()));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(followed.look(), Look::Refused(_)));
    assert_eq!(followed.atlas().spots(), brazil.spots());
    put(&file("City", &[("10.0.0.0/8", city("DE", 50.0, 8.0))]));
    assert_eq!(followed.look(), Look::Taken);
    assert_eq!(followed.atlas().spots(), germany.spots());
}

proptest! {
    #[test]
    fn damaged_files_are_read_or_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = file(
            "City",
            &[
                ("203.0.113.0/24", city("DE", 50.11, 8.68)),
                ("198.51.100.0/25", country("BR")),
                ("2001:db8::/32", city("AU", -33.87, 151.21)),
            ],
        );
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(atlas) = read(bytes) {
            for spot in atlas.spots() {
                prop_assert!(spot.latitude.abs() <= 90.0 && spot.longitude.abs() <= 180.0);
            }
        }
    }
}
