//! The federation at a glance (O10), as this daemon sees it. Every number is counted or
//! measured; what nothing is known of is absent, never zero.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dwcp_api::peer::MeterReading;
use dwcp_api::public::{RegionItem, RegionStatus, StatusReply};
use dwcp_runtime::clock::Clock;
use dwcp_types::{Bps, HealthState, RegionId, VmPhase};

use crate::chronicle::{Chronicle, OVER};
use crate::engine::EngineView;
use crate::incidents::Incidents;
use crate::inventory::Inventory;
use crate::meter::Meter;

/// How often it is checked whether every region was heard from.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// Checks that are kept: an hour of them.
const CHECKS_MAX: usize = 360;

/// Makes status replies.
#[derive(Debug)]
pub struct Status {
    region: RegionId,
    engine: Arc<EngineView>,
    inventory: Inventory,
    meter: Arc<Meter>,
    chronicle: Arc<Chronicle>,
    incidents: Arc<Incidents>,
    checks: Mutex<VecDeque<bool>>,
    clock: Arc<dyn Clock>,
}

impl Status {
    /// For one daemon.
    #[must_use]
    pub(crate) fn new(
        region: RegionId,
        engine: Arc<EngineView>,
        inventory: Inventory,
        (meter, chronicle, incidents): (Arc<Meter>, Arc<Chronicle>, Arc<Incidents>),
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self {
            region,
            engine,
            inventory,
            meter,
            chronicle,
            incidents,
            checks: Mutex::default(),
            clock,
        })
    }

    /// Checks, for ever, whether every region is heard from.
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(CHECK_EVERY).await;
            let regions = self.inventory.mirror.regions();
            let heard = |id: &RegionId| {
                self.inventory.fleet.health(id).state != HealthState::Unknown
            };
            let mut enabled = regions.iter().filter(|record| record.region.enabled);
            let all = enabled.all(|record| heard(&record.region.id));
            let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
            checks.push_back(all);
            while checks.len() > CHECKS_MAX {
                checks.pop_front();
            }
        }
    }

    /// The federation now.
    #[must_use]
    pub fn reply(&self) -> StatusReply {
        let items = self.inventory.regions();
        let regions: Vec<_> = items.iter().map(|item| self.region(item)).collect();
        let in_state = |state: HealthState| {
            count(regions.iter().filter(|region| region.health.state == state).count())
        };
        let meter = self.meters(&items);
        let ids: Vec<_> = regions.iter().map(|region| region.id.clone()).collect();
        StatusReply {
            answered_by: self.region.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: self.engine.status(&self.inventory.mirror),
            total_regions: count(regions.len()),
            healthy: in_state(HealthState::Healthy),
            degraded: in_state(HealthState::Degraded),
            unhealthy: in_state(HealthState::Unhealthy),
            unknown: in_state(HealthState::Unknown) + in_state(HealthState::Maintenance),
            total_vms: items.iter().map(|item| item.vms).sum(),
            running_vms: regions.iter().map(|region| region.running).sum(),
            latency_avg_us: meter.busy_us.checked_div(meter.requests),
            throughput_milli_rps: meter.requests_last_minute * 1_000 / 60,
            error_rate: (meter.requests > 0)
                .then(|| Bps::ratio(meter.errors, meter.requests)),
            sla_compliance: self.incidents.compliance().or_else(|| self.heard_all()),
            latency: self.chronicle.together(&ids, OVER),
            regions,
        }
    }

    /// The sums over all regions that are heard from; sums, so that means are weighted (F68).
    fn meters(&self, items: &[RegionItem]) -> MeterReading {
        let mut sum = MeterReading::default();
        for item in items {
            let id = &item.region.id;
            let reading = if *id == self.region {
                self.meter.read(self.clock.monotonic())
            } else {
                self.inventory
                    .world
                    .region(id, |known| known.map(|known| known.meter))
                    .unwrap_or_default()
            };
            sum.requests += reading.requests;
            sum.errors += reading.errors;
            sum.busy_us += reading.busy_us;
            sum.requests_last_minute += reading.requests_last_minute;
        }
        sum
    }

    /// The share of checks in which all were heard.
    fn heard_all(&self) -> Option<Bps> {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = checks.iter().filter(|kept| **kept).count();
        (!checks.is_empty()).then(|| Bps::ratio(count(kept), count(checks.len())))
    }

    fn region(&self, item: &RegionItem) -> RegionStatus {
        let region = &item.region;
        let running = self.inventory.world.region(&region.id, |known| {
            let heard = item.health.state != HealthState::Unknown;
            let known = known.filter(|_| heard);
            let guests = known.into_iter().flat_map(|known| known.guests.values());
            count(guests.filter(|guest| guest.phase == VmPhase::Running).count())
        });
        let mut drivers: Vec<String> = item
            .hosts
            .iter()
            .map(|host| format!("{}/{}", host.driver, host.accel))
            .collect();
        drivers.sort();
        drivers.dedup();
        RegionStatus {
            id: region.id.clone(),
            kind: region.kind,
            provider: region.cloud_provider.clone(),
            enabled: region.enabled,
            health: item.health,
            age_ms: item.age_ms,
            hosts_up: count(item.hosts.iter().filter(|host| host.answers).count()),
            hosts: count(item.hosts.len()),
            vms: item.vms,
            running,
            notes: notes(item),
            drivers,
        }
    }
}

fn notes(item: &RegionItem) -> Vec<String> {
    let mut notes = Vec::new();
    if item.hosts.iter().any(|host| host.driver == "simulated") {
        notes.push("simulated driver: no real VMs run here".to_owned());
    }
    if !item.region.enabled {
        notes.push("disabled: takes no new VMs".to_owned());
    }
    if item.age_ms.is_none() {
        notes.push("never heard from".to_owned());
    }
    notes
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
