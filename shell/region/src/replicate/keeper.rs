//! Removes copies that no record asks for any more: their VM was deleted, started from them, or
//! has its copy elsewhere. What the strong engine says decides, and a copy that is begun is in
//! the record before its host hears of it, so nothing is removed that is still wanted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::host::{DropStandby, ListStandbys, StandbyItem, StandbyParams};
use dwcp_api::{Client, NoParams};
use dwcp_controller::ownership::{VmRecord, vm_key};
use dwcp_runtime::strong::StrongEngine;
use dwcp_types::{HostId, RegionId};
use tracing::{info, warn};

/// How often.
const EVERY: Duration = Duration::from_secs(30);

/// Removes copies from the hosts of one region.
#[derive(Debug)]
pub struct Keeper {
    /// The region.
    pub region: RegionId,
    /// The records.
    pub engine: Arc<dyn StrongEngine>,
    /// Its hosts.
    pub hosts: BTreeMap<HostId, Client>,
}

impl Keeper {
    /// Looks for ever.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(EVERY).await;
            for (host, client) in &self.hosts {
                self.look_at(host, client).await;
            }
        }
    }

    async fn look_at(&self, host: &HostId, client: &Client) {
        // A host that is away is looked at the next time.
        let Ok(kept) = client.call::<ListStandbys>(&NoParams {}, &()).await else {
            return;
        };
        for item in kept.items {
            let stored = match self.engine.get(&vm_key(&item.vm)).await {
                Ok(stored) => stored,
                Err(reason) => {
                    info!(%reason, "copies are looked at later");
                    return;
                }
            };
            let record: Option<VmRecord> = match stored {
                None => None,
                Some(kv) => match serde_json::from_slice(&kv.value) {
                    Ok(record) => Some(record),
                    Err(reason) => {
                        warn!(vm = %item.vm, %reason, "a record is unreadable");
                        continue;
                    }
                },
            };
            if !is_wanted(record.as_ref(), &self.region, host, &item) {
                self.drop_it(host, client, item).await;
            }
        }
    }

    async fn drop_it(&self, host: &HostId, client: &Client, item: StandbyItem) {
        let StandbyItem { vm, copy, .. } = item;
        let params =
            StandbyParams { vm: vm.clone(), epoch: copy.epoch, number: copy.number };
        match client.call::<DropStandby>(&params, &()).await {
            Ok(()) => info!(%vm, %host, %copy, "a copy that nobody wants is removed"),
            Err(reason) => warn!(%vm, %host, %reason, "a copy is removed later"),
        }
    }
}

/// Whether a record asks for what a host keeps: as the VM's replica, or as the disk that it is
/// to start from here.
fn is_wanted(
    record: Option<&VmRecord>,
    region: &RegionId,
    host: &HostId,
    item: &StandbyItem,
) -> bool {
    let Some(record) = record else { return false };
    let replica = record.replica.as_ref();
    let keeps = replica.is_some_and(|it| it.at.region == *region && it.at.host == *host);
    let here = record.owner.region == *region && record.owner.host == *host;
    let from = record.disk_from;
    keeps || (here && (from == Some(item.copy) || (from.is_some() && from == item.whole)))
}
