//! The regions' records in the strong engine: added, enabled, disabled (O7).
//!
//! A daemon writes its own region's record from its configuration file when it starts. Whether
//! the region is enabled is the operator's word and survives that.

use std::sync::Arc;

use dwcp_api::public::AddRegion;
use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::evacuation::Evacuation;
use dwcp_controller::ownership::region_key;
use dwcp_runtime::strong::{
    Compare, KeyValue, Op, OpId, StrongEngine, StrongError, Txn, TxnOutcome,
};
use dwcp_types::RegionId;

use crate::commit::encoded;
use crate::engine;
use crate::mirror::Mirror;
use crate::records::RegionRecord;

/// Attempts when others change the same record at the same time.
const ATTEMPTS_MAX: u32 = 16;

/// Reads and changes region records.
#[derive(Clone, Debug)]
pub struct RegionRecords {
    /// The engine that holds them.
    pub engine: Arc<dyn StrongEngine>,
    /// Their copy.
    pub mirror: Arc<Mirror>,
}

impl RegionRecords {
    /// One region.
    ///
    /// # Errors
    ///
    /// When there is none of this name.
    pub fn get(&self, region: &RegionId) -> Result<Arc<RegionRecord>, ApiError> {
        let stored = self.mirror.region(region).ok_or_else(|| no_such_region(region))?;
        Ok(stored.record)
    }

    /// Adds a region.
    ///
    /// # Errors
    ///
    /// When there is one of this name, or what is said of it makes no sense.
    pub async fn add(&self, asked: AddRegion) -> Result<RegionRecord, ApiError> {
        check(&asked)?;
        let (region, endpoint) = (asked.region, asked.endpoint);
        let record = RegionRecord { region, endpoint, evacuation: None };
        let key = region_key(&record.region.id);
        let txn = put(Compare::absent(key.clone()), key, &record)?;
        match self.engine.txn(txn).await.map_err(|e| engine::failed(&e))? {
            TxnOutcome::Committed { .. } => Ok(record),
            TxnOutcome::Conflict { .. } => {
                let message = format!("region {} exists already", record.region.id);
                Err(ApiError::new(ErrorCode::Conflict, message).with_remedy(
                    "choose another id, or `region describe` the one that is there",
                ))
            }
        }
    }

    /// Says whether a region takes new VMs.
    ///
    /// # Errors
    ///
    /// When there is none of this name, it is being emptied, or the engine does not answer.
    pub async fn set_enabled(
        &self,
        region: &RegionId,
        enabled: bool,
    ) -> Result<RegionRecord, ApiError> {
        let emptied = |record: &RegionRecord| record.evacuation.is_some();
        let changed = self.told(region, |record| {
            record.region.enabled = enabled && !emptied(record);
        });
        let record = changed.await?;
        if enabled && emptied(&record) {
            let message = format!("region {region} is being emptied");
            return Err(ApiError::new(ErrorCode::Conflict, message).with_remedy(
                format!(
                    "call that off first: dwcp-cli federation evacuate cancel {region}"
                ),
            ));
        }
        Ok(record)
    }

    /// Closes a region for new VMs and has it emptied, or leaves those in it that are still
    /// there. It stays closed until it is enabled again.
    ///
    /// # Errors
    ///
    /// When there is none of this name or the engine does not answer.
    pub async fn evacuate(
        &self,
        region: &RegionId,
        evacuation: Option<&Evacuation>,
    ) -> Result<RegionRecord, ApiError> {
        let changed = self.told(region, |record| {
            record.region.enabled &= evacuation.is_none();
            record.evacuation = evacuation.cloned();
        });
        changed.await
    }

    async fn told(
        &self,
        region: &RegionId,
        change: impl Fn(&mut RegionRecord),
    ) -> Result<RegionRecord, ApiError> {
        let changed = self.change(region, change).await;
        changed.map_err(|e| engine::failed(&e))?.ok_or_else(|| no_such_region(region))
    }

    /// Writes this daemon's own region as its configuration file has it.
    ///
    /// # Errors
    ///
    /// When the engine does not answer.
    pub async fn announce(&self, configured: &RegionRecord) -> Result<(), StrongError> {
        let id = &configured.region.id;
        let key = region_key(id);
        let first = put(Compare::absent(key.clone()), key, configured)
            .map_err(|error| StrongError::Malformed { reason: error.message })?;
        if matches!(self.engine.txn(first).await?, TxnOutcome::Committed { .. }) {
            return Ok(());
        }
        self.change(id, |record| {
            let (enabled, evacuation) = (record.region.enabled, record.evacuation.take());
            *record = configured.clone();
            record.region.enabled = enabled;
            record.evacuation = evacuation;
        })
        .await?;
        Ok(())
    }

    async fn change(
        &self,
        region: &RegionId,
        change: impl Fn(&mut RegionRecord),
    ) -> Result<Option<RegionRecord>, StrongError> {
        let malformed = |reason: String| StrongError::Malformed { reason };
        for _ in 0..ATTEMPTS_MAX {
            let Some(kv) = self.engine.get(&region_key(region)).await? else {
                return Ok(None);
            };
            let mut record = decoded(&kv).map_err(malformed)?;
            let before = record.clone();
            change(&mut record);
            if record == before {
                return Ok(Some(record));
            }
            let txn = put(Compare::unchanged(&kv), kv.key, &record)
                .map_err(|error| malformed(error.message))?;
            if matches!(self.engine.txn(txn).await?, TxnOutcome::Committed { .. }) {
                return Ok(Some(record));
            }
        }
        Err(StrongError::Unavailable {
            reason: format!("region {region} is being changed by others all the time"),
        })
    }
}

fn put(compare: Compare, key: String, record: &RegionRecord) -> Result<Txn, ApiError> {
    let value = encoded(record).map_err(|m| ApiError::new(ErrorCode::Internal, m))?;
    Ok(Txn {
        compare: vec![compare],
        then: vec![Op::Put { key, value, lease: None }],
        op_id: Some(OpId::random()),
    })
}

fn decoded(kv: &KeyValue) -> Result<RegionRecord, String> {
    serde_json::from_slice(&kv.value)
        .map_err(|reason| format!("the record {} cannot be read: {reason}", kv.key))
}

pub(crate) fn no_such_region(region: &RegionId) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no region {region}"))
        .with_remedy("`dwcp-cli federation region list` shows what there is")
}

/// Refuses what could never be scored (F82).
fn check(asked: &AddRegion) -> Result<(), ApiError> {
    let region = &asked.region;
    let refuse = |what: &str, remedy: &str| {
        let message = format!("region {}: {what}", region.id);
        Err(ApiError::new(ErrorCode::Invalid, message).with_remedy(remedy))
    };
    if region.availability_zones.is_empty() {
        return refuse("it has no availability zone", "name at least one");
    }
    if !(1..=100).contains(&region.priority) {
        return refuse("its priority is out of range", "use 1 to 100");
    }
    let (lat, lon) = (region.location.latitude, region.location.longitude);
    if !(-90.0..=90.0).contains(&lat) || !(-180.0..=180.0).contains(&lon) {
        return refuse(
            "its location is not on the earth",
            "latitude is -90 to 90, longitude -180 to 180",
        );
    }
    if asked
        .endpoint
        .rsplit_once(':')
        .is_none_or(|(_, port)| port.parse::<u16>().is_err())
    {
        return refuse("its endpoint is no HOST:PORT", "for example 192.0.2.10:8443");
    }
    Ok(())
}
