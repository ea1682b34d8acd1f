//! Whether a federation is whole: every region alive and heard by every other, no failover under
//! way, every VM owned by one region as all tell, run by one process in it, its capacity held
//! once, and every acknowledged write shown everywhere.

use std::collections::BTreeMap;

use dwcp_api::NoParams;
use dwcp_api::failover::GetFailover;
use dwcp_api::public::VmItem;
use dwcp_controller::liveness::RegionState;
use dwcp_types::{Epoch, VmPhase};

use super::REGIONS;
use super::report::Violation;
use super::world::World;
use crate::Door;

/// What one look gives: whole, not yet and why, or a promise that was broken.
#[derive(Debug)]
pub(super) enum Look {
    Whole,
    NotYet(String),
    Broken(Violation),
}

/// Who owns a VM: region, host, epoch.
type Owner = (String, String, Epoch);

impl World {
    /// Looks at everything once.
    pub(super) async fn look(&self) -> Look {
        match self.try_look().await {
            Ok(None) => Look::Whole,
            Ok(Some(broken)) => Look::Broken(broken),
            Err(why) => Look::NotYet(why),
        }
    }

    async fn try_look(&self) -> Result<Option<Violation>, String> {
        let mut owners = None;
        for (region, door) in self.doors() {
            let said = |why: String| format!("{region}: {why}");
            self.federation.all_heard_at(door).await.map_err(said)?;
            at_peace(door).await.map_err(said)?;
            let told = self.owners_by(door).await.map_err(said)?;
            match &owners {
                None => owners = Some(told),
                Some(other) if *other == told => {}
                Some(other) => {
                    return Err(format!("{region} tells {told:?}, not {other:?}"));
                }
            }
        }
        let owners = owners.unwrap_or_default();
        if let Some(broken) = self.epochs_hold(&owners) {
            return Ok(Some(broken));
        }
        self.processes_fit(&owners)?;
        for (region, door) in self.doors() {
            held_once(region, door, &owners).await?;
        }
        for (region, door) in self.doors() {
            let shown = self.load.shown_by(door).await;
            let broken = shown.map_err(|why| format!("{region}: {why}"))?;
            if broken.is_some() {
                return Ok(broken);
            }
        }
        Ok(None)
    }

    /// Who owns the VMs as a region tells, when all of them run.
    async fn owners_by(&self, door: &Door) -> Result<BTreeMap<String, Owner>, String> {
        let list = door.vms().await.map_err(|error| error.to_string())?;
        let owner =
            |item: &VmItem| (item.region.to_string(), item.host.to_string(), item.epoch);
        let mut owners = BTreeMap::new();
        for item in &list.items {
            if item.phase != VmPhase::Running {
                return Err(format!(
                    "{} is {:?} in {}",
                    item.id, item.phase, item.region
                ));
            }
            owners.insert(item.id.to_string(), owner(item));
        }
        let lacks: Vec<_> = self.vms().filter(|vm| !owners.contains_key(*vm)).collect();
        if lacks.is_empty() {
            Ok(owners)
        } else {
            Err(format!("{lacks:?} are not listed"))
        }
    }

    /// No VM is owned under an older epoch than one that was told before.
    fn epochs_hold(&self, owners: &BTreeMap<String, Owner>) -> Option<Violation> {
        owners.iter().find_map(|(vm, (region, _, epoch))| {
            let highest = self.seen.highest(vm)?;
            let found =
                || format!("{vm} is {region}'s under {epoch}; {highest} was told");
            let promise = "epochs never go back";
            (*epoch < highest).then(|| Violation::new(promise, found()))
        })
    }

    /// Every VM has one process, on its owner's host.
    fn processes_fit(&self, owners: &BTreeMap<String, Owner>) -> Result<(), String> {
        let mut processes = self.federation.stand_ins();
        for (vm, (_, host, _)) in owners {
            let at = processes.remove(vm).unwrap_or_default();
            if at != [host.clone()] {
                return Err(format!("{vm} is on {host} and has processes on {at:?}"));
            }
        }
        if processes.is_empty() {
            return Ok(());
        }
        Err(format!("there are processes of no VM: {processes:?}"))
    }
}

/// Every region lives, as this one sees it, and no failover is under way.
async fn at_peace(door: &Door) -> Result<(), String> {
    let status = door.call::<GetFailover>(&NoParams {}, &()).await;
    let status = status.map_err(|error| error.to_string())?;
    if let Some(log) = status.active {
        return Err(format!("failover {} of {} is {:?}", log.id, log.region, log.phase));
    }
    let mut states = status.regions.iter().map(|it| &it.verdict);
    match states.find(|it| it.state != RegionState::Alive) {
        None if status.regions.len() == REGIONS.len() => Ok(()),
        None => Err(format!("{} regions are listed", status.regions.len())),
        Some(verdict) => Err(format!("{} is {}", verdict.region, verdict.state)),
    }
}

/// A region's books hold what it owns, and nothing else.
async fn held_once(
    region: &str,
    door: &Door,
    owners: &BTreeMap<String, Owner>,
) -> Result<(), String> {
    let owned = owners.values().filter(|(owner, _, _)| owner == region).count();
    let sums = door.capacity(region).await.map_err(|error| error.to_string())?;
    let held = sums.reserved.vms;
    if u64::try_from(owned) == Ok(held) {
        return Ok(());
    }
    Err(format!("{region} owns {owned} VMs and holds the capacity of {held}"))
}
