//! What every region's daemon tells of owners and epochs, asked all the time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_types::Epoch;
use tokio::task::JoinSet;

use super::REGIONS;
use super::report::Violation;
use crate::{Door, Federation};

/// Between two questions to one region.
const PAUSE: Duration = Duration::from_millis(500);

/// The highest epoch that was told of each VM, and the last by each region.
#[derive(Debug, Default)]
struct Told {
    highest: BTreeMap<String, Epoch>,
    last: BTreeMap<(&'static str, String), Epoch>,
    /// Epochs that went back.
    back: Vec<String>,
}

impl Told {
    fn take(&mut self, region: &'static str, vm: &str, epoch: Epoch) {
        let highest = self.highest.entry(vm.to_owned()).or_insert(epoch);
        *highest = epoch.max(*highest);
        let before = self.last.insert((region, vm.to_owned()), epoch);
        if let Some(before) = before.filter(|before| *before > epoch) {
            self.back.push(format!("{region} told epoch {before} of {vm}, then {epoch}"));
        }
    }
}

/// Asks all regions until it is dropped.
#[derive(Debug)]
pub(super) struct Seen {
    told: Arc<Mutex<Told>>,
    _tasks: JoinSet<()>,
}

impl Seen {
    pub(super) fn start(federation: &Federation) -> Self {
        let told: Arc<Mutex<Told>> = Arc::default();
        let mut tasks = JoinSet::new();
        for region in REGIONS {
            let (door, told) = (federation.at(region), Arc::clone(&told));
            tasks.spawn(async move { ask_on(region, &door, &told).await });
        }
        Self { told, _tasks: tasks }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest epoch that any region told of a VM.
    pub(super) fn highest(&self, vm: &str) -> Option<Epoch> {
        self.told().highest.get(vm).copied()
    }

    /// Epochs that went back.
    pub(super) fn back(&self) -> Vec<Violation> {
        let back = self.told().back.clone();
        back.into_iter()
            .map(|found| Violation::new("epochs never go back", found))
            .collect()
    }
}

async fn ask_on(region: &'static str, door: &Door, told: &Mutex<Told>) {
    loop {
        if let Ok(list) = door.vms().await {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            for item in &list.items {
                told.take(region, item.id.as_str(), item.epoch);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_that_is_behind_is_no_matter_and_one_that_goes_back_is() {
        let mut told = Told::default();
        told.take("us-east-1", "web", Epoch::new(2));
        told.take("eu-west-1", "web", Epoch::new(1));
        assert!(told.back.is_empty());
        told.take("us-east-1", "web", Epoch::new(1));
        assert_eq!(told.back.len(), 1);
        assert_eq!(told.highest["web"], Epoch::new(2));
    }
}
