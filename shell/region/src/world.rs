//! What this daemon has observed of every region: hosts, guests, request counts, and when it
//! last heard.
//!
//! Its own region is written by the links to its hosts, every other one by the link to that
//! region's daemon; nobody writes what another observes. Everything here is late, carries its
//! age, and can be lost: it is read again from where it came.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard};
use std::time::Duration;

use dwcp_api::host::InstanceReport;
use dwcp_api::peer::MeterReading;
use dwcp_api::public::HostItem;
use dwcp_types::{HostView, Micros, RegionId, VmId};
use tokio::sync::Notify;

/// What is known of one region.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// When it was last heard from, by this daemon's monotonic clock: a wall clock that steps
    /// back must not make a dead region look fresh. Nothing if never.
    pub heard_at: Option<Duration>,
    /// Its hosts.
    pub hosts: Vec<HostItem>,
    /// Requests to its API.
    pub meter: MeterReading,
    /// How long it takes from it to others and back.
    pub trips: BTreeMap<RegionId, Trip>,
    /// Its guests.
    pub guests: BTreeMap<VmId, Arc<InstanceReport>>,
}

/// A round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// 95 of 100 in the last two minutes were no longer.
    pub rtt: Micros,
    /// Whether there is a line at all.
    pub up: bool,
    /// When that was so, by this daemon's monotonic clock.
    pub at: Duration,
}

/// What is known of all regions.
#[derive(Debug)]
pub struct World {
    regions: RwLock<BTreeMap<RegionId, Known>>,
    hosts_changed: Notify,
    silent_after: Duration,
}

impl World {
    /// Nothing is known yet. A region that was not heard from for longer than this is silent.
    #[must_use]
    pub fn new(silent_after: Duration) -> Self {
        let (regions, hosts_changed) = (RwLock::default(), Notify::new());
        Self { regions, hosts_changed, silent_after }
    }

    /// After how long without a word a region is silent (DESIGN 4: 2 s by default).
    #[must_use]
    pub const fn silent_after(&self) -> Duration {
        self.silent_after
    }

    /// Looks at one region without copying it.
    pub fn region<T>(
        &self,
        region: &RegionId,
        look: impl FnOnce(Option<&Known>) -> T,
    ) -> T {
        look(self.read().get(region))
    }

    /// Changes what is known of one region.
    pub fn update(&self, region: &RegionId, change: impl FnOnce(&mut Known)) {
        let mut regions =
            self.regions.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = regions.entry(region.clone()).or_default();
        let before = known.hosts.clone();
        change(known);
        let changed = known.hosts != before;
        drop(regions);
        if changed {
            self.hosts_changed.notify_one();
        }
    }

    /// Shows what is free on a region's own hosts as soon as its books say so, ahead of what
    /// the hosts report next.
    pub fn show_free(&self, region: &RegionId, hosts: &[HostView]) {
        self.update(region, |known| {
            for item in &mut known.hosts {
                if let Some(view) = hosts.iter().find(|view| view.id == item.id) {
                    item.free = view.free;
                    item.schedulable = view.schedulable;
                }
            }
        });
    }

    /// What is known of one guest, and when its region was last heard from.
    pub fn guest(
        &self,
        region: &RegionId,
        vm: &VmId,
    ) -> (Option<Duration>, Option<Arc<InstanceReport>>) {
        self.region(region, |known| {
            known.map_or((None, None), |known| {
                (known.heard_at, known.guests.get(vm).cloned())
            })
        })
    }

    /// Waits until some region's hosts changed. For one waiter.
    pub async fn hosts_changed(&self) {
        self.hosts_changed.notified().await;
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<RegionId, Known>> {
        self.regions.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
