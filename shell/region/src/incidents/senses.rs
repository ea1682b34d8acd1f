//! What this daemon reads for the detector: who is silent, who is unhealthy, where state does
//! not arrive.
//!
//! It says nothing of what it cannot judge: nothing at all while its own ears are in doubt (F6),
//! nothing of a region that never ran. Observers judge, because a dead region stops speaking of
//! itself (F64).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dwcp_controller::liveness::{LeaseSight, RegionState, Verdict};
use dwcp_monitor::incident::{Cause, Reading, Signal};
use dwcp_types::{HealthState, RegionId};
use tokio::sync::watch;

use crate::inventory::Inventory;
use crate::state::StateApi;
use crate::warden::Seen;

/// What is older than this is not replicated: the source's longest time for it (S13).
const LAG_MAX: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(super) struct Senses {
    pub(super) region: RegionId,
    pub(super) inventory: Inventory,
    /// What the warden sees; nothing where no leases are kept.
    pub(super) seen: Option<watch::Receiver<Arc<Seen>>>,
    /// The replica, in a region that has one.
    pub(super) state: Option<Arc<StateApi>>,
}

impl Senses {
    /// Whether this daemon can say at all who is silent.
    pub(super) fn judges(&self) -> bool {
        match &self.seen {
            Some(seen) => seen.borrow().view.abstains.is_none(),
            None => !self.unheard().is_empty(),
        }
    }

    /// Who is silent; nothing when this daemon cannot say.
    pub(super) fn silence(&self) -> Vec<Signal> {
        let Some(seen) = &self.seen else { return self.unheard() };
        let seen = seen.borrow().clone();
        if seen.view.abstains.is_some() {
            return Vec::new();
        }
        let signal = |verdict: &Verdict| {
            let (reading, evidence) = judged(verdict)?;
            Some(self.signal(&verdict.region, Cause::Silent, reading, evidence))
        };
        seen.regions.iter().filter_map(|it| signal(&it.verdict)).collect()
    }

    /// The same where no heartbeats are: by what this daemon alone hears, if it hears most.
    fn unheard(&self) -> Vec<Signal> {
        let regions = self.inventory.regions();
        let was_heard = regions.iter().filter(|item| item.age_ms.is_some());
        let known: Vec<_> = was_heard
            .map(|item| (&item.region.id, item.health.state != HealthState::Unknown))
            .collect();
        let hears = known.iter().filter(|(_, heard)| *heard).count();
        if hears * 2 <= known.len() {
            return Vec::new();
        }
        let signal = |(region, heard): &(&RegionId, bool)| {
            let (reading, what) = if *heard {
                (Reading::Good, "heard by")
            } else {
                (Reading::Bad, "silent to")
            };
            let evidence = format!("{what} {}", self.region);
            self.signal(region, Cause::Silent, reading, evidence)
        };
        known.iter().map(signal).collect()
    }

    /// Whom a majority of the others hears; nothing when this daemon cannot say. Who is told of
    /// by only some is heard. This daemon itself hears a majority, or it would not say.
    pub(super) fn heard(&self) -> Vec<(RegionId, bool)> {
        if !self.judges() {
            return Vec::new();
        }
        let others = self.silence().into_iter().filter(|it| it.region != self.region);
        let mut heard: Vec<_> =
            others.map(|it| (it.region, it.reading != Reading::Bad)).collect();
        heard.push((self.region.clone(), true));
        heard
    }

    /// Whose health is how, and to whom state does not come, of regions that live.
    pub(super) async fn slow(&self, silence: &[Signal]) -> Vec<Signal> {
        let live = |region: &RegionId| {
            silence.iter().any(|it| it.region == *region && it.reading == Reading::Good)
        };
        let mut signals = Vec::new();
        for item in self.inventory.regions() {
            let health = item.health;
            let scored =
                !matches!(health.state, HealthState::Unknown | HealthState::Maintenance);
            if scored && live(&item.region.id) {
                let up = item.hosts.iter().filter(|host| host.answers).count();
                let evidence = format!(
                    "health {} of 100; {up} of {} hosts answer",
                    health.score,
                    item.hosts.len()
                );
                let reading = Reading::of_score(health.score);
                let region = &item.region.id;
                signals.push(self.signal(region, Cause::Unhealthy, reading, evidence));
            }
        }
        signals.extend(self.replication(live).await);
        signals
    }

    async fn replication(&self, live: impl Fn(&RegionId) -> bool) -> Vec<Signal> {
        let Some(state) = &self.state else { return Vec::new() };
        let Ok(report) = state.report().await else { return Vec::new() };
        let judged: Vec<(RegionId, bool)> = report
            .peers
            .into_iter()
            .filter(|peer| live(&peer.region))
            .map(|peer| {
                let lag = peer.lag_ms.map(Duration::from_millis);
                let arrives = peer.connected && lag.is_none_or(|lag| lag <= LAG_MAX);
                (peer.region, arrives)
            })
            .collect();
        replication(&self.region, &judged)
            .into_iter()
            .map(|(region, reading, evidence)| {
                self.signal(&region, Cause::Replication, reading, evidence)
            })
            .collect()
    }

    pub(super) fn signal(
        &self,
        region: &RegionId,
        cause: Cause,
        reading: Reading,
        evidence: String,
    ) -> Signal {
        let record = self.inventory.mirror.region(region);
        let wanted = record.is_some_and(|it| {
            !it.record.region.enabled || it.record.evacuation.is_some()
        });
        Signal::new(region.clone(), cause, reading, evidence).in_maintenance(wanted)
    }
}

/// What a verdict says of silence, and in which words; nothing of a region that never ran.
fn judged(verdict: &Verdict) -> Option<(Reading, String)> {
    let listed = |regions: &BTreeSet<RegionId>| {
        regions.iter().map(RegionId::as_str).collect::<Vec<_>>().join(", ")
    };
    let silent = u32::try_from(verdict.silent_to.len()).unwrap_or(u32::MAX);
    let lease = match &verdict.lease {
        LeaseSight::Never => return None,
        LeaseSight::Unread => "its lease is not read",
        LeaseSight::Held { .. } => "its lease is held",
        LeaseSight::Lapsed => "its lease has lapsed",
        LeaseSight::Fenced { .. } => "its lease was taken",
    };
    if silent >= verdict.silent_needed {
        let evidence = format!("silent to {}; {lease}", listed(&verdict.silent_to));
        return Some((Reading::Bad, evidence));
    }
    match verdict.state {
        RegionState::Alive => {
            let evidence = format!("heard by {}", listed(&verdict.reachable_from));
            Some((Reading::Good, evidence))
        }
        RegionState::Suspect | RegionState::Partitioned | RegionState::Dead => {
            let evidence = format!("silent to {}", listed(&verdict.silent_to));
            Some((Reading::Between, evidence))
        }
        RegionState::Unknown => None,
    }
}

/// To whom state does not come. When it comes to none of several, the fault is here.
fn replication(
    own: &RegionId,
    judged: &[(RegionId, bool)],
) -> Vec<(RegionId, Reading, String)> {
    let none = judged.iter().all(|(_, arrives)| !arrives);
    if judged.len() > 1 && none {
        let evidence = format!("state comes to none of {} regions", judged.len());
        return vec![(own.clone(), Reading::Bad, evidence)];
    }
    let of = |(region, arrives): &(RegionId, bool)| {
        let reading = if *arrives { Reading::Good } else { Reading::Bad };
        let does = if *arrives { "comes" } else { "does not come" };
        (region.clone(), reading, format!("state {does} there from {own}"))
    };
    let mut all: Vec<_> = judged.iter().map(of).collect();
    if !judged.is_empty() {
        let evidence = "state comes to other regions".to_owned();
        all.push((own.clone(), Reading::Good, evidence));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> RegionId {
        RegionId::new(name).unwrap()
    }

    fn verdict(silent: &[&str], heard: &[&str], state: RegionState) -> Verdict {
        Verdict {
            region: region("x"),
            state,
            silent_to: silent.iter().map(|it| region(it)).collect(),
            reachable_from: heard.iter().map(|it| region(it)).collect(),
            abstaining: Default::default(),
            unheard: BTreeSet::new(),
            silent_needed: 3,
            lease: LeaseSight::Held { lapses_in_ms: 1 },
        }
    }

    #[test]
    fn a_majority_makes_silence_and_a_minority_neither_silence_nor_life() {
        let read = |verdict: &Verdict| judged(verdict).map(|(reading, _)| reading);
        let by_three = verdict(&["a", "b", "c"], &["d"], RegionState::Partitioned);
        assert_eq!(read(&by_three), Some(Reading::Bad));
        let by_two = verdict(&["a", "b"], &["c"], RegionState::Partitioned);
        assert_eq!(read(&by_two), Some(Reading::Between));
        let alive = verdict(&[], &["a"], RegionState::Alive);
        assert_eq!(read(&alive), Some(Reading::Good));
        assert_eq!(read(&verdict(&[], &[], RegionState::Unknown)), None);
        let never = Verdict { lease: LeaseSight::Never, ..by_three };
        assert_eq!(read(&never), None, "it has not run yet");
    }

    #[test]
    fn one_line_that_is_broken_is_the_others_and_all_of_them_are_the_own() {
        let read = |arrives: &[bool]| -> Vec<(String, Reading)> {
            let names = ["a", "b"].map(region).into_iter().zip(arrives.iter().copied());
            let judged: Vec<_> = names.collect();
            let said = replication(&region("own"), &judged).into_iter();
            said.map(|(region, reading, _)| (region.to_string(), reading)).collect()
        };
        let own = |reading| ("own".to_owned(), reading);
        assert_eq!(read(&[false, false]), [own(Reading::Bad)]);
        let one = read(&[false, true]);
        assert_eq!(one[0], ("a".to_owned(), Reading::Bad));
        assert_eq!(one[2], own(Reading::Good));
        assert_eq!(read(&[]), []);
    }
}
