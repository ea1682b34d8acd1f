//! What a drill is told as: each VM against what is promised, for people and for a ledger of all
//! drills (C18, D1, D2, D9, F85).

use std::time::Duration;

use dwcp_types::{OnRegionLoss, Timestamp, millis};
use serde::Serialize;

use super::{Drill, Loss, Seen};

/// A VM serves again within this, at its own word (C18, D1).
pub const RTO_MAX: Duration = Duration::from_secs(30);

/// What came of a drill; times in milliseconds since the loss.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// When it began.
    pub at: Timestamp,
    /// The region that was lost.
    pub region: String,
    /// `power` or `lines`.
    pub lost: &'static str,
    /// What the VMs started from.
    pub survives: OnRegionLoss,
    /// How old a replica that follows later might be, in seconds.
    pub replica_max_age_s: Option<u64>,
    /// What this machine took to start as many guests with nothing lost.
    pub placed_in_ms: u64,
    /// Until the region was said dead.
    pub dead_ms: Option<u64>,
    /// Every VM.
    pub vms: Vec<VmReport>,
    /// VMs that another region owned while their guest in the lost one lived: never more than 0.
    pub owned_twice: usize,
    /// Writes that were acknowledged and are lost, of all VMs.
    pub lost_writes: u64,
    /// Whether all that is promised was held.
    pub held: bool,
}

/// What became of a VM.
#[derive(Clone, Debug, Serialize)]
pub struct VmReport {
    /// Which.
    pub vm: String,
    /// Its guest in the lost region was gone.
    pub gone_ms: Option<u64>,
    /// Another region owned it.
    pub owned_ms: Option<u64>,
    /// Its guest there was up, at its own word.
    pub ready_ms: Option<u64>,
    /// Writes that it was told of and that are lost.
    pub lost_writes: u64,
}

impl Report {
    /// Of a drill that began then.
    #[must_use]
    pub fn of(drill: &Drill<'_>, at: Timestamp, seen: &Seen) -> Self {
        let ms = |span: Option<Duration>| span.map(millis);
        let vms: Vec<VmReport> = seen
            .vms
            .iter()
            .map(|(vm, it)| VmReport {
                vm: vm.clone(),
                gone_ms: ms(it.old_gone),
                owned_ms: ms(it.owned),
                ready_ms: ms(it.ready),
                lost_writes: it.lost_writes(),
            })
            .collect();
        let twice = |vm: &&VmReport| match (vm.gone_ms, vm.owned_ms) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(gone), Some(owned)) => owned < gone,
        };
        let owned_twice = vms.iter().filter(twice).count();
        let lost_writes = vms.iter().map(|vm| vm.lost_writes).sum();
        let in_time = |vm: &VmReport| vm.ready_ms.is_some_and(|it| it < millis(RTO_MAX));
        let age_max = drill.ask("vm").body().request.replica_age_max();
        let age_max_s = age_max.map(|age| age.as_secs());
        let lost_max = lost_max(drill.survives, age_max_s);
        let few = |vm: &VmReport| lost_max.is_none_or(|max| vm.lost_writes <= max);
        let whole = vms.iter().all(few);
        Self {
            at,
            region: drill.region.to_owned(),
            lost: match drill.loss {
                Loss::Killed => "power",
                Loss::CutOff => "lines",
            },
            survives: drill.survives,
            replica_max_age_s: age_max_s,
            placed_in_ms: millis(seen.placed_in),
            dead_ms: ms(seen.dead),
            owned_twice,
            lost_writes,
            held: whole && owned_twice == 0 && vms.iter().all(in_time),
            vms,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let from = match self.survives {
            OnRegionLoss::StayDown | OnRegionLoss::RestartFromImage => "from their image",
            OnRegionLoss::SyncReplica => "from replicas in sync",
            OnRegionLoss::AsyncReplica => "from replicas that follow within seconds",
            OnRegionLoss::SnapshotReplica => "from replicas of now and then",
        };
        let dead = shown(self.dead_ms);
        let mut out = format!(
            "{} lost its {}: said dead after {dead}; {} VMs start elsewhere {from}\n\n",
            self.region,
            self.lost,
            self.vms.len()
        );
        let row = |cells: [&str; 5]| {
            let [vm, gone, owned, ready, lost] = cells;
            format!("{vm:<14} {gone:>10} {owned:>10} {ready:>10} {lost:>12}\n")
        };
        out += &row(["VM", "OLD GONE", "OWNED", "READY", "LOST WRITES"]);
        for vm in &self.vms {
            let times = [vm.gone_ms, vm.owned_ms, vm.ready_ms].map(shown);
            let [gone, owned, ready] = times.each_ref().map(String::as_str);
            out += &row([&vm.vm, gone, owned, ready, &vm.lost_writes.to_string()]);
        }
        let slowest = self.vms.iter().filter_map(|vm| vm.ready_ms).max();
        let rpo = match lost_max(self.survives, self.replica_max_age_s) {
            Some(max) => format!("{max} a VM at most, of one a second"),
            None => "none promised".to_owned(),
        };
        let verdict = if self.held {
            "all promises were held"
        } else {
            "NOT all promises were held"
        };
        out += &format!(
            "\nRTO {} of {} (as many guests start here in {} with nothing lost)\n\
             RPO {} acknowledged writes lost ({rpo})\n\
             {} VMs owned by two at a time (0 promised)\n{verdict}\n",
            shown(slowest),
            shown(Some(millis(RTO_MAX))),
            shown(Some(self.placed_in_ms)),
            self.lost_writes,
            self.owned_twice,
        );
        out
    }
}

/// How many writes a guest that writes one a second may lose: none with a replica in sync, what
/// it wrote in as long as one that follows may be old, and no promise without any.
fn lost_max(survives: OnRegionLoss, age_max_s: Option<u64>) -> Option<u64> {
    match survives {
        OnRegionLoss::StayDown | OnRegionLoss::RestartFromImage => None,
        OnRegionLoss::SyncReplica => Some(0),
        // The second that it is old and the write at both of its ends.
        OnRegionLoss::AsyncReplica | OnRegionLoss::SnapshotReplica => {
            age_max_s.map(|seconds| seconds + 1)
        }
    }
}

fn shown(ms: Option<u64>) -> String {
    ms.map_or_else(
        || "-".to_owned(),
        |ms| format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::VmSeen;

    fn drill(survives: OnRegionLoss) -> Drill<'static> {
        Drill {
            region: "eu",
            loss: Loss::CutOff,
            observer: "us",
            survives,
            replica_max_age_s: None,
        }
    }

    fn seen(gone: u64, owned: u64, ready: u64, found: u64) -> Seen {
        let at = |ms| Some(Duration::from_millis(ms));
        let it = VmSeen {
            old_gone: at(gone),
            owned: at(owned),
            ready: at(ready),
            acknowledged: Some(7),
            found: Some(found),
        };
        Seen {
            placed_in: Duration::from_secs(2),
            dead: at(8_000),
            vms: [("vm-1".to_owned(), it)].into(),
            log: None,
        }
    }

    #[test]
    fn a_promise_that_was_not_held_is_told() {
        let held = |survives, seen: &Seen| {
            Report::of(&drill(survives), Timestamp::default(), seen).held
        };
        let (sync, image) = (OnRegionLoss::SyncReplica, OnRegionLoss::RestartFromImage);
        assert!(held(sync, &seen(7_000, 9_000, 12_000, 7)));
        assert!(!held(sync, &seen(7_000, 9_000, 12_000, 6)), "a write is lost");
        assert!(held(image, &seen(7_000, 9_000, 12_000, 0)), "none is promised");
        let later = OnRegionLoss::AsyncReplica;
        assert!(held(later, &seen(7_000, 9_000, 12_000, 1)), "five seconds and one");
        assert!(!held(later, &seen(7_000, 9_000, 12_000, 0)), "seven");
        assert!(!held(sync, &seen(9_500, 9_000, 12_000, 7)), "two at a time");
        assert!(!held(sync, &seen(7_000, 9_000, 30_000, 7)), "too late");
        let never = Seen {
            vms: [("vm".to_owned(), VmSeen::default())].into(),
            ..seen(1, 2, 3, 7)
        };
        assert!(!held(sync, &never));
    }

    #[test]
    fn people_read_each_vm_and_the_sum() {
        let report = Report::of(
            &drill(OnRegionLoss::SyncReplica),
            Timestamp::default(),
            &seen(7_000, 9_010, 12_340, 5),
        );
        let text = report.text();
        for part in ["eu lost its lines", "12.34 s", "2 acknowledged writes", "NOT all"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
