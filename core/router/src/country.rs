//! Where most people of a country live, for clients of whom only the country is known.
//!
//! In whole degrees, written down from an atlas: half of a degree is 55 km and 1 ms of round
//! trip, and how far people of one country live from each other is more than that nearly everywhere.

use crate::input::Spot;

/// Code (ISO 3166-1, and Kosovo), degrees north, degrees east; in the order of the codes.
const COUNTRIES: &str = "\
    AD 43 2, AE 25 55, AF 35 68, AG 17 -62, AI 18 -63, AL 41 20, AM 40 45, \
    AO -10 14, AQ -75 0, AR -34 -61, AS -14 -171, AT 48 15, AU -33 147, AW 13 -70, \
    AX 60 20, AZ 40 49, BA 44 18, BB 13 -60, BD 24 90, BE 51 4, BF 12 -2, BG 43 25, \
    BH 26 51, BI -3 30, BJ 7 2, BL 18 -63, BM 32 -65, BN 5 115, BO -17 -66, \
    BQ 12 -68, BR -17 -46, BS 25 -77, BT 27 90, BV -54 3, BW -24 26, BY 54 28, \
    BZ 17 -88, CA 47 -85, CC -12 97, CD -4 22, CF 5 19, CG -4 15, CH 47 8, CI 6 -5, \
    CK -21 -160, CL -34 -71, CM 5 11, CN 33 113, CO 5 -75, CR 10 -84, CU 22 -80, \
    CV 15 -24, CW 12 -69, CX -10 106, CY 35 33, CZ 50 15, DE 51 10, DJ 12 43, \
    DK 56 11, DM 15 -61, DO 19 -70, DZ 36 3, EC -1 -79, EE 59 25, EG 30 31, \
    EH 25 -13, ER 15 39, ES 40 -3, ET 9 39, FI 61 25, FJ -18 178, FK -52 -59, \
    FM 7 158, FO 62 -7, FR 47 2, GA 0 10, GB 53 -1, GD 12 -62, GE 42 44, GF 5 -53, \
    GG 49 -3, GH 6 -1, GI 36 -5, GL 65 -51, GM 13 -16, GN 10 -12, GP 16 -62, \
    GQ 3 9, GR 39 23, GS -54 -37, GT 15 -91, GU 13 145, GW 12 -15, GY 7 -58, \
    HK 22 114, HM -53 74, HN 15 -87, HR 45 16, HT 19 -72, HU 47 19, ID -7 110, \
    IE 53 -7, IL 32 35, IM 54 -5, IN 22 79, IO -7 72, IQ 33 44, IR 34 51, \
    IS 64 -22, IT 43 12, JE 49 -2, JM 18 -77, JO 32 36, JP 36 138, KE -1 37, \
    KG 42 73, KH 12 105, KI 1 173, KM -12 44, KN 17 -63, KP 39 126, KR 37 127, \
    KW 29 48, KY 19 -81, KZ 47 71, LA 18 103, LB 34 36, LC 14 -61, LI 47 10, \
    LK 7 80, LR 6 -10, LS -30 28, LT 55 24, LU 50 6, LV 57 25, LY 32 16, MA 33 -7, \
    MC 44 7, MD 47 29, ME 42 19, MF 18 -63, MG -19 47, MH 7 171, MK 42 22, \
    ML 13 -6, MM 19 96, MN 48 106, MO 22 114, MP 15 146, MQ 15 -61, MR 18 -15, \
    MS 17 -62, MT 36 14, MU -20 58, MV 4 73, MW -14 34, MX 20 -100, MY 4 103, \
    MZ -19 36, NA -20 17, NC -22 166, NE 14 6, NF -29 168, NG 9 7, NI 12 -86, \
    NL 52 5, NO 60 10, NP 28 85, NR -1 167, NU -19 -170, NZ -39 175, OM 23 58, \
    PA 9 -80, PE -11 -77, PF -18 -149, PG -6 146, PH 13 122, PK 31 72, PL 52 19, \
    PM 47 -56, PN -25 -130, PR 18 -66, PS 32 35, PT 40 -9, PW 7 134, PY -25 -57, \
    QA 25 51, RE -21 55, RO 46 25, RS 44 21, RU 55 50, RW -2 30, SA 24 45, \
    SB -9 160, SC -5 55, SD 15 32, SE 59 16, SG 1 104, SH -16 -6, SI 46 15, \
    SJ 78 16, SK 49 19, SL 8 -12, SM 44 12, SN 15 -16, SO 4 45, SR 6 -55, SS 7 31, \
    ST 0 7, SV 14 -89, SX 18 -63, SY 35 37, SZ -26 31, TC 22 -72, TD 11 16, \
    TF -49 69, TG 7 1, TH 14 101, TJ 39 69, TK -9 -172, TL -9 126, TM 38 59, \
    TN 36 10, TO -21 -175, TR 39 33, TT 10 -61, TV -8 179, TW 24 121, TZ -6 36, \
    UA 49 32, UG 1 33, UM 19 167, US 38 -91, UY -34 -56, UZ 40 66, VA 42 12, \
    VC 13 -61, VE 10 -68, VG 18 -65, VI 18 -65, VN 16 107, VU -17 168, WF -13 -176, \
    WS -14 -172, XK 43 21, YE 15 45, YT -13 45, ZA -28 28, ZM -14 28, ZW -19 30";

/// Where most people of a country live, by its code of two letters; nothing when it is unknown.
#[must_use]
pub fn country_spot(code: &str) -> Option<Spot> {
    all().find(|(known, _)| known.eq_ignore_ascii_case(code)).map(|(_, spot)| spot)
}

fn all() -> impl Iterator<Item = (&'static str, Spot)> {
    COUNTRIES.split(", ").filter_map(|country| {
        let mut words = country.split(' ');
        let code = words.next()?;
        let latitude = f64::from(words.next()?.parse::<i16>().ok()?);
        let longitude = f64::from(words.next()?.parse::<i16>().ok()?);
        Some((code, Spot { latitude, longitude }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::distance_km;

    #[test]
    fn every_country_is_there_once_and_on_the_earth() {
        let codes: Vec<_> = all().map(|(code, _)| code).collect();
        assert_eq!(codes.len(), COUNTRIES.split(',').count());
        assert_eq!(codes.len(), 250, "those of ISO 3166-1, and Kosovo");
        assert!(codes.is_sorted_by(|one, other| one < other));
        assert!(
            codes
                .iter()
                .all(|code| code.len() == 2
                    && code.bytes().all(|c| c.is_ascii_uppercase()))
        );
        for (code, spot) in all() {
            assert!(
                spot.latitude.abs() <= 90.0 && spot.longitude.abs() <= 180.0,
                "{code}"
            );
        }
    }

    /// Cities of the countries' own, far from each other, one on each side of everything.
    #[test]
    fn a_country_is_near_its_cities() {
        for (code, latitude, longitude, km_max) in [
            ("IE", 53.35, -6.26, 100),
            ("DE", 50.11, 8.68, 300),
            ("fr", 48.86, 2.35, 300),
            ("US", 41.88, -87.63, 700),
            ("BR", -23.55, -46.63, 900),
            ("IN", 19.08, 72.88, 800),
            ("JP", 35.68, 139.69, 300),
            ("SG", 1.35, 103.82, 100),
            ("AU", -33.87, 151.21, 500),
            ("ZA", -26.20, 28.05, 300),
            ("CA", 43.65, -79.38, 700),
            ("NZ", -36.85, 174.76, 300),
            ("CL", -33.45, -70.67, 100),
            ("FJ", -18.12, 178.45, 100),
        ] {
            let spot = country_spot(code).unwrap();
            let km = distance_km(spot, Spot { latitude, longitude });
            assert!(km <= km_max, "{code}: {km} km");
        }
        assert_eq!(country_spot("XX"), None);
        assert_eq!(country_spot("Ireland"), None);
    }
}
