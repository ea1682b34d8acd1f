//! This region's own lease: taken, renewed, and passed on to its hosts.
//!
//! Order kept in one renewal: the hosts' clocks are read, then the engine is asked, then the
//! grants go out. A grant thus counts from before the renewal, whatever is slow on the way. In
//! a new term nothing is granted before all records were read after it began: under the fence
//! that may have been before it another region may have taken a VM over. They are read beside
//! the renewals: with many VMs, far from the engine's leader, that takes longer than a lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::host::{ClockReading, GrantLease, LeaseBody, LeaseGrant};
use dwcp_api::{Client, NoParams};
use dwcp_controller::failover::{ACTIVE_KEY, Log, Trigger};
use dwcp_controller::lease::{LeaseRecord, LeaseState, Terms, lease_key};
use dwcp_controller::ownership::VMS_PREFIX;
use dwcp_runtime::clock::Clock;
use dwcp_runtime::strong::{
    Compare, KeyValue, Op, OpId, StrongEngine, StrongError, Txn, TxnOutcome,
};
use dwcp_types::{Epoch, HostId, RegionId, VmId};
use futures_util::future::join_all;
use tracing::{info, warn};

use super::{Hosts, Records};
use crate::commit::stored;
use crate::mirror::read_pages;

/// Time for a host to say what its clock shows, and for a grant: well under a renewal, so that
/// a host that hangs costs the others nothing.
const HOST_TIME_MAX: Duration = Duration::from_millis(300);

/// A term: since when, and the records as they were read after it began.
#[derive(Clone, Debug)]
struct Term {
    number: u64,
    /// Every VM's record at that reading, by revision; nothing before it is done.
    records: Option<Arc<Baseline>>,
}

#[derive(Debug)]
struct Baseline {
    revision: u64,
    vms: BTreeMap<VmId, u64>,
}

impl Baseline {
    /// The revision of the newest record.
    fn newest(&self) -> u64 {
        self.vms.values().copied().max().unwrap_or_default()
    }
}

/// This region's lease.
#[derive(Clone, Debug)]
pub struct Tenure {
    region: RegionId,
    terms: Terms,
    engine: Arc<dyn StrongEngine>,
    mirror: Records,
    hosts: Hosts,
    clock: Arc<dyn Clock>,
    term: Option<Term>,
    asked_at: Option<Duration>,
    /// The hosts' clocks before the last renewal that was done.
    readings: Readings,
}

/// What hosts' clocks showed.
type Readings = Arc<BTreeMap<HostId, ClockReading>>;

/// What came of a renewal.
#[derive(Debug)]
pub(super) struct Renewed {
    term: Option<Term>,
    asked_at: Option<Duration>,
    readings: Readings,
}

/// The records as they were read after a term began.
#[derive(Debug)]
pub(super) struct Baselined {
    term: u64,
    records: Result<Baseline, StrongError>,
}

impl Tenure {
    /// A lease that is not taken yet.
    #[must_use]
    pub fn new(
        region: RegionId,
        terms: Terms,
        (engine, mirror): (Arc<dyn StrongEngine>, Records),
        hosts: Hosts,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let hosts = hosts.into_iter();
        let hosts =
            hosts.map(|(id, client)| (id, client.with_call_time_max(HOST_TIME_MAX)));
        let hosts = hosts.collect();
        let (term, asked_at, readings) = (None, None, Readings::default());
        Self { region, terms, engine, mirror, hosts, clock, term, asked_at, readings }
    }

    pub(super) const fn terms(&self) -> Terms {
        self.terms
    }

    pub(super) fn engine(&self) -> Arc<dyn StrongEngine> {
        self.engine.clone()
    }

    /// Whether it is time to renew, as seen at a beat: half a beat early is better than half a
    /// beat late.
    pub(super) fn is_due(&self) -> bool {
        let now = self.clock.monotonic();
        let every = self.terms.renew_every();
        self.asked_at.is_none_or(|at| now.saturating_sub(at) + every / 4 >= every)
    }

    pub(super) fn settle(&mut self, renewed: Renewed) {
        self.term = renewed.term.map(|term| self.with_known_records(term));
        self.asked_at = renewed.asked_at.max(self.asked_at);
        self.readings = renewed.readings;
    }

    /// The term with the records that were read while it was renewed.
    fn with_known_records(&self, term: Term) -> Term {
        let known = self.term.as_ref().filter(|known| known.number == term.number);
        let records = term.records.or_else(|| known?.records.clone());
        Term { records, ..term }
    }

    /// Reads the records as they are after the term began; nothing where that is done, or there
    /// is no term.
    pub(super) fn reading(
        &self,
    ) -> Option<impl Future<Output = Baselined> + Send + 'static> {
        let term = self.term.as_ref().filter(|term| term.records.is_none())?.number;
        let engine = self.engine.clone();
        Some(async move { Baselined { term, records: baseline(engine.as_ref()).await } })
    }

    /// Takes the records in, unless the term is another one by now. Says whether the lease can
    /// be passed on for it.
    pub(super) fn take(&mut self, read: Baselined) -> bool {
        let records = match read.records {
            Ok(records) => records,
            Err(reason) => {
                info!(%reason, "records are read later; nothing is granted yet");
                return false;
            }
        };
        let term = self.term.as_mut().filter(|term| term.number == read.term);
        let Some(term) = term else { return false };
        term.records = Some(Arc::new(records));
        true
    }

    /// Renews, or takes the lease, and passes it on.
    pub(super) fn renewal(&self) -> impl Future<Output = Renewed> + Send + 'static {
        let tenure = self.clone();
        async move {
            let readings = tenure.read_clocks().await;
            let asked_at = tenure.clock.monotonic();
            match tenure.renew().await {
                Ok(term) => {
                    tenure.grant(&term, &readings).await;
                    let readings = Arc::new(readings);
                    Renewed { term: Some(term), asked_at: Some(asked_at), readings }
                }
                Err(reason) => {
                    info!(%reason, "the region's lease is not renewed");
                    let readings = tenure.readings;
                    Renewed { term: tenure.term, asked_at: None, readings }
                }
            }
        }
    }

    /// Passes the last renewal on once more, for guests that came since. It lasts no longer for
    /// that: its time counts from the same readings.
    pub(super) fn passing_on(&mut self) -> impl Future<Output = ()> + Send + 'static {
        // A microsecond later, so that an earlier grant that was held up on its way does not
        // replace this one.
        let later = |it: &ClockReading| ClockReading {
            now_us: it.now_us.saturating_add(1),
            ..it.clone()
        };
        let readings = self.readings.iter();
        let readings = readings.map(|(host, it)| (host.clone(), later(it))).collect();
        self.readings = Arc::new(readings);
        let tenure = self.clone();
        async move {
            if let Some(term) = &tenure.term {
                tenure.grant(term, &tenure.readings).await;
            }
        }
    }

    async fn read_clocks(&self) -> BTreeMap<HostId, ClockReading> {
        let read = |(host, client): (&HostId, &Client)| {
            let (host, client) = (host.clone(), client.clone());
            async move {
                let body = LeaseBody::default();
                let reading = client.call::<GrantLease>(&NoParams {}, &body).await;
                Some((host, reading.ok()?))
            }
        };
        join_all(self.hosts.iter().map(read)).await.into_iter().flatten().collect()
    }

    /// Writes the next record over the one that is there, comparing it.
    async fn renew(&self) -> Result<Term, StrongError> {
        let key = lease_key(&self.region);
        let found = self.engine.get(&key).await?;
        let before = found.as_ref().and_then(read);
        if let Some(LeaseRecord { state: LeaseState::Fenced { by }, .. }) = &before {
            self.obey_operator(by).await?;
        }
        let mine = before.as_ref().zip(self.term.as_ref()).filter(|(before, term)| {
            before.term == term.number && matches!(before.state, LeaseState::Held { .. })
        });
        let (next, term) = match mine
            .and_then(|(before, term)| Some((before.renewed()?, term.clone())))
        {
            Some(renewed) => renewed,
            None => {
                let next = LeaseRecord::acquired(before.as_ref(), &self.region);
                let term = Term { number: next.term, records: None };
                (next, term)
            }
        };
        let value = stored(&next)?;
        let txn = Txn {
            compare: vec![Compare::as_found(&key, found.as_ref())],
            then: vec![Op::Put { key, value, lease: None }],
            op_id: Some(OpId::random()),
        };
        match self.engine.txn(txn).await? {
            TxnOutcome::Committed { .. } => {
                if term.records.is_none() {
                    info!(term = term.number, "the region holds its lease");
                }
                Ok(term)
            }
            TxnOutcome::Conflict { .. } => Err(StrongError::Unavailable {
                reason: "somebody else wrote the lease; it is read again".to_owned(),
            }),
        }
    }

    /// A lease that an operator took away from a living region is not taken back while that
    /// failover is under way: its VMs are to start elsewhere.
    async fn obey_operator(&self, by: &str) -> Result<(), StrongError> {
        let Some(kv) = self.engine.get(ACTIVE_KEY).await? else { return Ok(()) };
        let log = serde_json::from_slice::<Log>(&kv.value).ok();
        let wanted =
            |log: &Log| log.id == by && matches!(log.trigger, Trigger::Operator { .. });
        if log.as_ref().is_some_and(wanted) {
            return Err(StrongError::Unavailable {
                reason: format!(
                    "an operator's failover {by} of this region is under way"
                ),
            });
        }
        Ok(())
    }

    async fn grant(&self, term: &Term, readings: &BTreeMap<HostId, ClockReading>) {
        let Some(baseline) = &term.records else { return };
        if self.mirror.vms_revision() < baseline.newest() {
            // What a grant does not name ends. The last one still holds for some seconds.
            info!(
                "the records of VMs are not followed yet; the lease is passed on later"
            );
            return;
        }
        let mut permits = self.permits(baseline);
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let grants = readings.iter().filter_map(|(host, from)| {
            let client = self.hosts.get(host)?.clone();
            let grant = LeaseGrant {
                from: from.clone(),
                pause_after_ms: millis(self.terms.pause_after()),
                kill_after_ms: millis(self.terms.kill_after()),
                vms: permits.remove(host).unwrap_or_default(),
            };
            let body = LeaseBody { grant: Some(grant) };
            let host = host.clone();
            Some(async move {
                if let Err(reason) = client.call::<GrantLease>(&NoParams {}, &body).await
                {
                    warn!(%host, %reason, "a host is not granted the lease");
                }
            })
        });
        join_all(grants.collect::<Vec<_>>()).await;
    }

    /// Which bound guests may run where: those of this region whose record in the mirror is
    /// surely not older than the term.
    fn permits(&self, baseline: &Baseline) -> BTreeMap<HostId, BTreeMap<VmId, Epoch>> {
        let own = self.mirror.vms(None, usize::MAX, |record| {
            record.owner.region == self.region && record.request.is_failover_protected()
        });
        let mut permits: BTreeMap<HostId, BTreeMap<VmId, Epoch>> = BTreeMap::new();
        for record in own {
            let vm = &record.request.id;
            let Some(stored) = self.mirror.vm(vm) else { continue };
            let known_at = baseline.vms.get(vm).copied().unwrap_or(baseline.revision + 1);
            if stored.mod_revision < known_at || stored.record.owner != record.owner {
                continue;
            }
            let vms = permits.entry(record.owner.host.clone()).or_default();
            vms.insert(vm.clone(), record.owner.epoch);
        }
        permits
    }
}

async fn baseline(engine: &dyn StrongEngine) -> Result<Baseline, StrongError> {
    let mut vms = BTreeMap::new();
    let take = |page: Vec<KeyValue>| {
        for kv in page {
            let name = kv.key.strip_prefix(VMS_PREFIX);
            if let Some(vm) = name.and_then(|name| VmId::new(name).ok()) {
                vms.insert(vm, kv.mod_revision);
            }
        }
    };
    let revision = read_pages(engine, VMS_PREFIX, take).await?;
    Ok(Baseline { revision, vms })
}

fn read(kv: &KeyValue) -> Option<LeaseRecord> {
    let record = serde_json::from_slice(&kv.value);
    record.inspect_err(|reason| warn!(%reason, "the own lease cannot be read")).ok()
}

#[cfg(test)]
mod tests;
