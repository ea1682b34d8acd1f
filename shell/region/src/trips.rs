//! How long it takes to other regions and back, as the lines of replicated state measure it all
//! the time, for the router.
//!
//! Each daemon says what its own lines measure; it reaches the others with its report, with an
//! age that is counted by each reader's own clock. Nothing is sent for it: the mesh asks twice
//! a second already, and a probe beside it would measure the same way a second time.
//!
//! A line that is down for longer than it takes to connect again is told as such: it carries
//! nothing, however short it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::peer::PeerTrip;
use dwcp_runtime::clock::Clock;
use dwcp_runtime::mesh::{MeshHandle, PeerStats};
use dwcp_types::{Micros, RegionId};

use crate::world::{Known, Trip, World};

/// How often lines are looked at: as often as tables are made of it.
const EVERY: Duration = Duration::from_secs(1);
/// Looks in which a line must be down: a daemon that starts again is back sooner.
const DOWN_LOOKS: u32 = 5;

/// Keeps what this region's lines measure in `world`, for ever.
pub(crate) async fn keep(
    mesh: MeshHandle,
    region: RegionId,
    world: Arc<World>,
    clock: Arc<dyn Clock>,
) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut down = BTreeMap::new();
    loop {
        tick.tick().await;
        let trips = measured(&mesh.stats(), &mut down, clock.monotonic());
        world.update(&region, |known| known.trips = trips);
    }
}

/// What lines say now. `down` counts for how many looks each was.
fn measured(
    lines: &[PeerStats],
    down: &mut BTreeMap<RegionId, u32>,
    now: Duration,
) -> BTreeMap<RegionId, Trip> {
    let mut trips = BTreeMap::new();
    for line in lines {
        let looks = down.entry(line.peer.clone()).or_default();
        *looks = if line.carrier.is_some() { 0 } else { looks.saturating_add(1) };
        let up = *looks < DOWN_LOOKS;
        // Nothing is known of a line that never was.
        let (Some(rtt), Some(age)) = (line.rtt_p95, line.rtt_age) else { continue };
        let rtt = Micros::new(u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
        let at = if up { now.saturating_sub(age) } else { now };
        trips.insert(line.peer.clone(), Trip { rtt, up, at });
    }
    trips
}

/// What a region knows of its own lines, for others.
pub(crate) fn said(known: &Known, now: Duration) -> Vec<PeerTrip> {
    let trip = |(to, trip): (&RegionId, &Trip)| PeerTrip {
        to: to.clone(),
        rtt: trip.rtt,
        up: trip.up,
        age_ms: u64::try_from(now.saturating_sub(trip.at).as_millis())
            .unwrap_or(u64::MAX),
    };
    known.trips.iter().map(trip).collect()
}

/// What another region said of its lines.
pub(crate) fn heard(trips: Vec<PeerTrip>, now: Duration) -> BTreeMap<RegionId, Trip> {
    let trip = |trip: PeerTrip| {
        let at = now.saturating_sub(Duration::from_millis(trip.age_ms));
        (trip.to, Trip { rtt: trip.rtt, up: trip.up, at })
    };
    trips.into_iter().map(trip).collect()
}

#[cfg(test)]
mod tests {
    use dwcp_runtime::mesh::{Carrier, Traffic};

    use super::*;

    fn line(carrier: Option<Carrier>, rtt_ms: Option<u64>, age: Duration) -> PeerStats {
        let rtt = rtt_ms.map(Duration::from_millis);
        PeerStats {
            peer: RegionId::new("there").unwrap(),
            carrier,
            rtt_p50: rtt,
            rtt_p95: rtt.map(|rtt| rtt * 2),
            rtt_p99: rtt.map(|rtt| rtt * 3),
            rtt_age: rtt.map(|_| age),
            sent: Traffic::default(),
            received: Traffic::default(),
            queued_frames: 0,
            queued_bytes: 0,
            queue_age: Duration::ZERO,
            connections: 1,
            refusals: BTreeMap::new(),
            last_error: None,
        }
    }

    fn only(trips: &BTreeMap<RegionId, Trip>) -> Option<Trip> {
        trips.values().copied().next()
    }

    #[test]
    fn a_line_is_down_after_five_looks_and_up_at_the_first_that_finds_it() {
        let (mut down, second) = (BTreeMap::new(), Duration::from_secs(1));
        let at = second * 100;
        let up = line(Some(Carrier::Quic), Some(40), second);
        let gone = line(None, Some(40), second * 7);
        let mut look = |line: &PeerStats| {
            only(&measured(std::slice::from_ref(line), &mut down, at)).unwrap()
        };
        let well = Trip { rtt: Micros::from_millis(80), up: true, at: second * 99 };
        assert_eq!(look(&up), well);
        for _ in 0..4 {
            assert_eq!(look(&gone), Trip { at: second * 93, ..well });
        }
        assert_eq!(look(&gone), Trip { up: false, at, ..well }, "it is so now");
        assert_eq!(look(&up), well);
        assert!(look(&gone).up, "looks are counted anew");
    }

    #[test]
    fn nothing_is_said_of_a_line_that_never_was() {
        let never = line(None, None, Duration::ZERO);
        let mut down = BTreeMap::new();
        for _ in 0..6 {
            let trips = measured(std::slice::from_ref(&never), &mut down, Duration::ZERO);
            assert!(trips.is_empty());
        }
    }

    #[test]
    fn what_is_heard_is_as_old_as_it_was_by_another_clock() {
        let second = Duration::from_secs(1);
        let mut down = BTreeMap::new();
        let one = line(Some(Carrier::Tcp), Some(40), second * 2);
        let trips = measured(&[one], &mut down, second * 50);
        let known = Known { trips, ..Known::default() };
        let said = said(&known, second * 53);
        assert_eq!(said[0].age_ms, 5_000);
        let trip = only(&heard(said.clone(), second * 900)).unwrap();
        assert_eq!(trip.at, second * 895);
        let early = only(&heard(said, second)).unwrap();
        assert_eq!(early.at, Duration::ZERO, "older than the reader's clock");
    }
}
