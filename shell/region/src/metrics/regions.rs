//! The regions as this daemon sees them, for whoever scrapes it.
//!
//! Every daemon tells of every region: a dead one exports nothing, so that an alert on what it
//! says of itself would never fire (F64). A region of which nothing is heard has no score, which
//! is not the score 0; its age goes on.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::signed;
use crate::inventory::reserved;
use dwcp_api::public::RegionItem;
use dwcp_types::{Capacity, HealthState};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRegion {
    region: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Hosts {
    region: String,
    state: &'static str,
}

type Shares = Family<OfRegion, Gauge<f64, AtomicU64>>;

/// Hands out what is known of all regions at this moment.
pub(crate) fn show(all: &mut Registry, regions: &[RegionItem]) {
    let (score, enabled, vms) = (Family::default(), Family::default(), Family::default());
    let hosts = Family::<Hosts, Gauge>::default();
    let age = Shares::default();
    let mut active = 0;
    for item in regions {
        let of = OfRegion { region: item.region.id.to_string() };
        let set = |family: &Family<OfRegion, Gauge>, value: i64| {
            family.get_or_create(&of).set(value);
        };
        if !matches!(item.health.state, HealthState::Unknown) {
            set(&score, i64::from(item.health.score));
        }
        active += u64::from(matches!(
            item.health.state,
            HealthState::Healthy | HealthState::Degraded
        ));
        set(&enabled, i64::from(item.region.enabled));
        set(&vms, signed(item.vms));
        if let Some(millis) = item.age_ms {
            age.get_or_create(&of).set(Duration::from_millis(millis).as_secs_f64());
        }
        for (state, answers) in [("answers", true), ("silent", false)] {
            let count = item.hosts.iter().filter(|host| host.answers == answers).count();
            let labels = Hosts { region: of.region.clone(), state };
            hosts.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
    all.register(
        "region_health_score",
        "Health of a region as this daemon sees it, 0 to 100; none while nothing is heard of it \
         (O29)",
        score,
    );
    all.register("region_enabled", "Whether a region may take VMs, 1 or 0", enabled);
    all.register_with_unit(
        "region_report_age",
        "How old the newest report of a region is at this daemon",
        Unit::Seconds,
        age,
    );
    all.register(
        "active_regions",
        "Regions that are healthy or degraded, as this daemon sees them (DETAILS 2.4)",
        ConstGauge::new(active),
    );
    all.register("active_vms", "VMs that a region owns", vms);
    all.register("hosts", "Hosts of a region, by whether they answer it", hosts);
    utilization(all, regions);
}

/// What is reserved of what there is.
fn utilization(all: &mut Registry, regions: &[RegionItem]) {
    let (cpu, memory, storage) =
        (Shares::default(), Shares::default(), Shares::default());
    for item in regions {
        let of = OfRegion { region: item.region.id.to_string() };
        let set = |family: &Shares, amount: fn(&Capacity) -> u64| {
            if let Some(share) = reserved(amount(&item.total), amount(&item.free)) {
                family.get_or_create(&of).set(f64::from(share.get()) / 1e4);
            }
        };
        set(&cpu, |capacity| capacity.cpu);
        set(&memory, |capacity| capacity.memory.get());
        set(&storage, |capacity| capacity.storage.get());
    }
    let mut share = |what: &str, name: &str, family: Shares| {
        let help = format!("Share of a region's {what} that is reserved, 0 to 1");
        all.register(name, help, family);
    };
    share("CPU, as it is sold,", "cpu_utilization", cpu);
    share("memory", "memory_utilization", memory);
    share("storage", "storage_utilization", storage);
}
