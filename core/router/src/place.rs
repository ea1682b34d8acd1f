//! Distances on the earth, and the round trip that a distance lets one expect.

use dwcp_types::Micros;

use crate::input::Spot;

/// DETAILS 2.3: haversine with R = 6371 km.
const EARTH_KM: f64 = 6_371.0;
/// Half of the earth's circumference, the longest distance there is.
pub(crate) const FARTHEST_KM: u32 = 20_016;
/// Microseconds there and back for each kilometre as the crow flies. Light in glass takes 10;
/// lines are longer than the crow's way: the median over the 156 pairs of metros of IBM Cloud's
/// published table is 16.6.
const RTT_US_PER_KM: u32 = 17;
/// What the way to the nearest exchange adds.
const ACCESS_US: u32 = 1_000;

/// The distance in kilometres, rounded down.
#[must_use]
pub fn distance_km(a: Spot, b: Spot) -> u32 {
    let (from, to) = (a.latitude.to_radians(), b.latitude.to_radians());
    let north = ((to - from) / 2.0).sin();
    let east = ((b.longitude - a.longitude).to_radians() / 2.0).sin();
    let half = north * north + from.cos() * to.cos() * east * east;
    let km = 2.0 * EARTH_KM * half.clamp(0.0, 1.0).sqrt().asin();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 20,016; what is no number becomes 0"
    )]
    let km = km as u32;
    km.min(FARTHEST_KM)
}

/// The round trip that a distance lets one expect.
#[must_use]
pub fn expected_rtt(km: u32) -> Micros {
    Micros::new(ACCESS_US + km.min(FARTHEST_KM) * RTT_US_PER_KM)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONDON: Spot = Spot { latitude: 51.51, longitude: -0.13 };
    const SYDNEY: Spot = Spot { latitude: -33.87, longitude: 151.21 };

    #[test]
    fn known_distances_come_out() {
        assert_eq!(distance_km(LONDON, LONDON), 0);
        let km = distance_km(LONDON, SYDNEY);
        assert!((16_950..17_050).contains(&km), "{km}");
        assert_eq!(km, distance_km(SYDNEY, LONDON));
        let pole = |latitude| Spot { latitude, longitude: 0.0 };
        assert!((20_014..=FARTHEST_KM).contains(&distance_km(pole(90.0), pole(-90.0))));
    }

    /// IBM Cloud's table has 260 and 261 ms between these metros.
    #[test]
    fn an_expected_round_trip_is_of_the_right_size() {
        let rtt = expected_rtt(distance_km(LONDON, SYDNEY));
        assert!((240_000..320_000).contains(&rtt.get()), "{rtt}");
        assert_eq!(expected_rtt(0), Micros::new(1_000));
    }
}
