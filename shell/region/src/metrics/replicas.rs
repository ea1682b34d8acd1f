//! Replicas of disks that follow later, for whoever scrapes this daemon: the oldest of each region
//! and how many are late, from the records, which every daemon has (F2, F64). One number for each
//! VM was rejected: thirty thousand of them.

use std::sync::atomic::AtomicU64;

use dwcp_types::OnRegionLoss;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::inventory::Following;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    region: String,
    mode: &'static str,
}

/// Hands out how they fare at this moment.
pub(crate) fn show(all: &mut Registry, replicas: &[Following]) {
    let age = Family::<Of, Gauge<f64, AtomicU64>>::default();
    let (count, late) = (Family::<Of, Gauge>::default(), Family::<Of, Gauge>::default());
    for it in replicas {
        let of = Of { region: it.region.to_string(), mode: word(it.mode) };
        count.get_or_create(&of).inc();
        late.get_or_create(&of).inc_by(i64::from(it.late));
        if let Some(seconds) = it.age.map(|age| age.as_secs_f64()) {
            let oldest = age.get_or_create(&of);
            oldest.set(oldest.get().max(seconds));
        }
    }
    all.register("vm_replicas", "VMs whose disk follows later in another region", count);
    all.register(
        "vm_replicas_late",
        "Those of which nothing is there yet, or that are over twice as old as they may be",
        late,
    );
    all.register_with_unit(
        "vm_replica_age",
        "How old the oldest of them is",
        Unit::Seconds,
        age,
    );
}

/// How a replica follows, as a word.
const fn word(mode: OnRegionLoss) -> &'static str {
    match mode {
        OnRegionLoss::StayDown => "stay-down",
        OnRegionLoss::RestartFromImage => "restart-from-image",
        OnRegionLoss::SyncReplica => "sync-replica",
        OnRegionLoss::AsyncReplica => "async-replica",
        OnRegionLoss::SnapshotReplica => "snapshot-replica",
    }
}
