//! What this daemon shows of regions and VMs: records from the mirror, observations from the
//! world, each with its age.

use std::sync::Arc;
use std::time::Duration;

use dwcp_api::ApiError;
use dwcp_api::host::InstanceReport;
use dwcp_api::public::{ListVms, PAGE_MAX, RegionItem, VmDetail, VmItem, VmList};
use dwcp_controller::ownership::{Observation, Seen, VmRecord, phase};
use dwcp_controller::replica::round::is_late;
use dwcp_runtime::clock::Clock;
use dwcp_types::{Bps, Capacity, OnRegionLoss, RegionId, Timestamp, millis};

use crate::fleet::FleetKeeper;
use crate::mirror::Mirror;
use crate::records::RegionRecord;
use crate::selector::Selector;
use crate::world::World;

/// Everything that can be shown.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// Records.
    pub mirror: Arc<Mirror>,
    /// Observations.
    pub world: Arc<World>,
    /// Health.
    pub fleet: Arc<FleetKeeper>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Inventory {
    /// One region.
    #[must_use]
    pub fn region(&self, record: &RegionRecord, vms: u64) -> RegionItem {
        let id = &record.region.id;
        let now = self.clock.monotonic();
        let (hosts, heard_at) = self.world.region(id, |known| {
            known.map(|known| (known.hosts.clone(), known.heard_at)).unwrap_or_default()
        });
        let sum = |of: fn(&dwcp_api::public::HostItem) -> Capacity| {
            hosts.iter().map(of).fold(Capacity::default(), |sum, part| sum.plus(&part))
        };
        RegionItem {
            region: record.region.clone(),
            endpoint: record.endpoint.clone(),
            evacuation: record.evacuation.clone(),
            health: self.fleet.health(id),
            age_ms: heard_at.map(|at| age_ms(now, at)),
            total: sum(|host| host.total),
            free: sum(|host| host.free),
            hosts,
            vms,
        }
    }

    /// How the replicas of all VMs fare that follow later.
    #[must_use]
    pub fn replicas(&self) -> Vec<Following> {
        let follow = |record: &VmRecord| record.request.replica_age_max().is_some();
        let now = self.clock.now();
        let following = |record: Arc<VmRecord>| {
            let age = replica_age(&record, now);
            let age_max = record.request.replica_age_max().unwrap_or_default();
            let late = age.is_none_or(|age| is_late(age, age_max));
            let region = record.owner.region.clone();
            Following { region, mode: record.request.on_region_loss, age, late }
        };
        let all = self.mirror.vms(None, usize::MAX, follow);
        all.into_iter().map(following).collect()
    }

    /// All regions.
    #[must_use]
    pub fn regions(&self) -> Vec<RegionItem> {
        let counts = self.mirror.vm_counts();
        let count = |id: &RegionId| counts.get(id).copied().unwrap_or_default();
        let records = self.mirror.regions();
        records
            .iter()
            .map(|record| self.region(record, count(&record.region.id)))
            .collect()
    }

    /// A page of VMs.
    ///
    /// # Errors
    ///
    /// When the label filter is malformed.
    pub fn list(&self, asked: &ListVms) -> Result<VmList, ApiError> {
        let selector = Selector::new(asked)?;
        let limit = asked.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let after = asked.after.as_ref();
        let records =
            self.mirror.vms(after, limit + 1, |record| selector.accepts(record));
        let next = (records.len() > limit).then(|| records[limit - 1].request.id.clone());
        let items = records.iter().take(limit).map(|record| self.item(record)).collect();
        let age = self.mirror.age().unwrap_or_default();
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Ok(VmList { items, next, age_ms })
    }

    /// One VM in short.
    #[must_use]
    pub fn item(&self, record: &VmRecord) -> VmItem {
        let request = &record.request;
        let (seen, _, _) = self.seen(record);
        VmItem {
            id: request.id.clone(),
            tenant: request.tenant.clone(),
            region: record.owner.region.clone(),
            zone: record.owner.zone.clone(),
            host: record.owner.host.clone(),
            epoch: record.owner.epoch,
            power: record.power,
            phase: phase(record, seen, self.clock.now()),
            shape: request.shape,
            priority: request.priority,
            tier: request.tier,
            home: record.home.clone(),
            labels: request.labels.clone(),
            created_at: record.created_at,
        }
    }

    /// One VM in full.
    pub fn detail(&self, record: &VmRecord) -> VmDetail {
        let request = &record.request;
        let (_, observed, heard_at) = self.seen(record);
        let now = self.clock.monotonic();
        VmDetail {
            item: self.item(record),
            generation: record.generation,
            vm_type: request.vm_type,
            on_region_loss: request.on_region_loss,
            replica: record.replica.as_deref().cloned(),
            replica_max_age_s: replica_age_max_s(record),
            replica_age_ms: replica_age(record, self.clock.now()).map(millis),
            recovered: record.recovered.as_deref().cloned(),
            constraints: request.constraints.clone(),
            origins: request.origins.clone(),
            strategy: request.strategy.unwrap_or_default(),
            score: record.decision.score,
            hourly_cost: record.decision.hourly_cost,
            expected_latency: record.decision.latency,
            observed_age_ms: observed.as_ref().and(heard_at).map(|at| age_ms(now, at)),
            observed: observed.map(|guest| guest.as_ref().clone()),
        }
    }

    /// A moment of the monotonic clock as the wall clock would have shown it.
    fn moment(&self, at: Duration) -> Timestamp {
        let age = age_ms(self.clock.monotonic(), at);
        Timestamp::from_millis(self.clock.now().as_millis().saturating_sub(age))
    }

    /// What is known of a VM's guest.
    fn seen(
        &self,
        record: &VmRecord,
    ) -> (Seen, Option<Arc<InstanceReport>>, Option<Duration>) {
        let owner = &record.owner;
        let (heard_at, guest) = self.world.guest(&owner.region, &record.request.id);
        let answers = self.world.region(&owner.region, |known| {
            known.is_some_and(|known| {
                known.hosts.iter().any(|host| host.id == owner.host && host.answers)
            })
        });
        let seen = match (heard_at, &guest) {
            _ if !answers => Seen::Unreachable,
            (None, _) => Seen::Unreachable,
            (Some(at), None) => Seen::Never(self.moment(at)),
            (Some(at), Some(guest)) => Seen::Reported(Observation {
                epoch: guest.epoch,
                generation: guest.generation,
                phase: guest.phase,
                at: self.moment(at),
            }),
        };
        (seen, guest, heard_at)
    }
}

fn age_ms(now: Duration, at: Duration) -> u64 {
    u64::try_from(now.saturating_sub(at).as_millis()).unwrap_or(u64::MAX)
}

/// The share of something that is reserved; nothing of nothing.
pub(crate) fn reserved(total: u64, free: u64) -> Option<Bps> {
    (total > 0).then(|| Bps::ratio(total.saturating_sub(free), total))
}

/// A replica that follows later.
#[derive(Clone, Debug)]
pub struct Following {
    /// Where the VM runs.
    pub region: RegionId,
    /// How it follows.
    pub mode: OnRegionLoss,
    /// How old it is; nothing while there is none.
    pub age: Option<Duration>,
    /// It is missing, or so old that it is to be said.
    pub late: bool,
}

/// How old what another region has of a VM's disk is, when that follows later.
fn replica_age(record: &VmRecord, now: Timestamp) -> Option<Duration> {
    record.request.replica_age_max()?;
    let whole = record.replica.as_ref()?.whole?;
    Some(now.since(whole.until))
}

fn replica_age_max_s(record: &VmRecord) -> Option<u32> {
    let age = record.request.replica_age_max()?;
    u32::try_from(age.as_secs()).ok()
}
