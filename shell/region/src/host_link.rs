//! The link to one host's agent: reads what the host sees, tells it what is wanted.
//!
//! Both directions are levels. The reader applies reports to the world; the writer compares
//! the records of this region with what the host obeys and instructs what differs, on every
//! change and every few seconds whether anything changed or not. Nothing here remembers what
//! was sent: a lost instruction is seen missing and sent again.
//!
//! A VM's record is only removed after its host had acknowledged its deletion and a report
//! that was asked for afterwards no longer shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dwcp_api::host::{
    HostFacts, HostReport, InstanceParams, InstanceReport, Instruction, PutInstance,
    ReadHostReport, ReportParams, SPANS_MAX,
};
use dwcp_api::public::HostItem;
use dwcp_api::{CallError, Client, ErrorCode};
use dwcp_controller::ledger;
use dwcp_controller::ownership::{VmRecord, instruction_for};
use dwcp_monitor::trace::Span;
use dwcp_runtime::clock::Clock;
use dwcp_runtime::crash::crash_point;
use dwcp_runtime::report_log::ReportLog;
use dwcp_runtime::trace::Tracer;
use dwcp_types::{Epoch, Generation, HostId, Power, RegionId, VmId, VmPhase};
use futures_util::StreamExt;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tracing::{info, warn};

use crate::books::Books;
use crate::events::Events;
use crate::lifecycle::Lifecycle;
use crate::mirror::{Change, Mirror};
use crate::removal::Remover;
use crate::trail::Followed;
use crate::world::World;

/// How long one report is waited for; also the heartbeat of a host that has no news.
const REPORT_WAIT: Duration = Duration::from_secs(1);

/// Pause after a report with news: what happens meanwhile comes in one report. A busy host
/// would else send one for each change, and each is a request over TLS, a turn of the books
/// and a report to every peer.
const GATHER: Duration = Duration::from_millis(25);

/// Pause before a host that failed to answer is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Time for one report, with its wait: a host that hangs is as silent as one that is gone.
const REPORT_TIME_MAX: Duration = Duration::from_millis(2_000);

/// Failures in a row before a host counts as silent. One that refuses connections is silent
/// after half a second, one that hangs after some four; neither is moved away from by itself.
const FAILURES_MAX: u32 = 2;

/// Time for one instruction: what it delays is the next change of the same host.
const INSTRUCTION_TIME_MAX: Duration = Duration::from_secs(5);

/// How often everything is compared, also when nothing is known to have changed.
const COMPARE_EVERY: Duration = Duration::from_secs(5);

/// Instructions on their way to one host at once.
const INSTRUCTIONS_MAX: usize = 16;

/// What every link of a region shares.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The region.
    pub region: RegionId,
    /// What is known of all regions.
    pub world: Arc<World>,
    /// What this region tells its peers of its guests.
    pub log: Arc<ReportLog<VmId, Arc<InstanceReport>>>,
    /// All records.
    pub mirror: Arc<Mirror>,
    /// The books.
    pub books: Books,
    /// Removes records of deleted VMs.
    pub remover: Remover,
    /// Marks pre-empted VMs that have their capacity back.
    pub lifecycle: Lifecycle,
    /// Where to note what happened.
    pub events: Events,
    /// Tells the warden that a guest waits for its grant; nothing where the region keeps no
    /// lease, and no guest is bound to one.
    pub lease: Option<Arc<Notify>>,
    /// Which requests instructions come from.
    pub(crate) followed: Arc<Followed>,
    /// Brings spans of hosts home.
    pub(crate) tracer: Tracer,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// The link to one host.
#[derive(Debug)]
pub struct HostLink {
    host: HostId,
    /// For instructions.
    client: Client,
    /// For reports.
    reports: Client,
    shared: Shared,
    seen: Mutex<Seen>,
    news: Notify,
}

/// What the reader tells the writer.
#[derive(Debug, Default)]
struct Seen {
    /// Whether the host answers and all it has was read once.
    complete: bool,
    /// Counts finished reads.
    reads: u64,
    /// What the host shows.
    obeyed: BTreeMap<VmId, Obeyed>,
    /// What it showed before it began anew, until it is read completely again.
    before: BTreeSet<VmId>,
    /// What was last noted of a VM, so that it is noted once.
    noted: BTreeMap<VmId, String>,
    /// Deletions that the host acknowledged, with the number of the first read that is sure
    /// to have been asked for afterwards.
    acknowledged: BTreeMap<VmId, (Epoch, Generation, u64)>,
    /// VMs that stop for more urgent ones.
    preempted: BTreeSet<VmId>,
}

/// What a host obeys of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Obeyed {
    version: (Epoch, Generation),
    /// Its guest is bound to the region's lease.
    lease_bound: bool,
}

impl HostLink {
    /// A link that is not running yet.
    #[must_use]
    pub fn new(host: HostId, client: Client, shared: Shared) -> Arc<Self> {
        let reports = client.clone().with_call_time_max(REPORT_TIME_MAX);
        let client = client.with_call_time_max(INSTRUCTION_TIME_MAX);
        let (seen, news) = (Mutex::default(), Notify::new());
        Arc::new(Self { host, client, reports, shared, seen, news })
    }

    /// Reads reports for ever.
    pub async fn read(self: Arc<Self>) {
        let mut at = ReportParams::default();
        let mut failures = 0;
        loop {
            at.wait_ms = u64::try_from(REPORT_WAIT.as_millis()).ok();
            match self.reports.call::<ReadHostReport>(&at, &()).await {
                Ok(report) => {
                    failures = 0;
                    at.incarnation = Some(report.incarnation);
                    at.begun = Some(report.begun);
                    at.after = Some(report.seq);
                    let more = report.more;
                    let news = !report.changed.is_empty() || !report.removed.is_empty();
                    self.take(report).await;
                    if news && !more {
                        tokio::time::sleep(GATHER).await;
                    }
                }
                Err(reason) => {
                    failures += 1;
                    if failures == FAILURES_MAX {
                        self.silent(&reason).await;
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn take(&self, mut report: HostReport) {
        for span in std::mem::take(&mut report.spans).into_iter().take(SPANS_MAX) {
            self.shared.tracer.hand_on(self.of_host(span));
        }
        self.tell_books(&report.host).await;
        let came_back = self.show_host(&report.host);
        if came_back {
            let what = format!("host {} answers", self.host);
            self.shared.events.note(None, &what).await;
        }
        self.show_guests(report);
        self.news.notify_one();
    }

    /// A span as this host may say it: of itself only, and of a trace that is not its own to begin.
    fn of_host(&self, span: Span) -> Span {
        let region = self.shared.region.clone();
        Span { region, process: self.host.to_string(), entry: false, ..span }
    }

    async fn tell_books(&self, facts: &HostFacts) {
        let report = ledger::HostReport {
            id: self.host.clone(),
            zone: facts.zone.clone(),
            total: facts.capacity,
            ready: true,
        };
        if let Err(reason) = self.shared.books.report_host(report).await {
            warn!(host = %self.host, %reason, "the books do not take a host");
        }
    }

    /// Shows the host as it is now; says whether it was silent before.
    fn show_host(&self, facts: &HostFacts) -> bool {
        let now = self.shared.clock.monotonic();
        let hosts = self.shared.books.hosts();
        let view = hosts.iter().find(|host| host.id == self.host);
        let item = HostItem {
            id: self.host.clone(),
            zone: facts.zone.clone(),
            driver: facts.driver.clone(),
            accel: facts.accelerator.clone(),
            answers: true,
            schedulable: view.is_some_and(|view| view.schedulable),
            total: facts.capacity,
            free: view.map_or_else(Default::default, |view| view.free),
        };
        let mut came_back = false;
        self.shared.world.update(&self.shared.region, |known| {
            known.heard_at = Some(now);
            let at = known.hosts.iter().position(|host| host.id == self.host);
            match at {
                Some(at) => {
                    came_back = !known.hosts[at].answers;
                    known.hosts[at] = item;
                }
                None => {
                    came_back = true;
                    known.hosts.push(item);
                    known.hosts.sort_by(|a, b| a.id.cmp(&b.id));
                }
            }
        });
        came_back
    }

    fn show_guests(&self, report: HostReport) {
        let mut seen = self.lock();
        if report.complete {
            seen.complete = false;
            let before = std::mem::take(&mut seen.obeyed);
            seen.before.extend(before.into_keys());
        }
        for vm in &report.removed {
            seen.obeyed.remove(vm);
        }
        for guest in &report.changed {
            let version = (guest.epoch, guest.generation);
            let obeyed = Obeyed { version, lease_bound: guest.lease_bound };
            seen.obeyed.insert(guest.vm.clone(), obeyed);
        }
        let became_complete = !report.more && !seen.complete;
        seen.complete |= !report.more;
        seen.reads += 1;
        let mut gone: BTreeSet<VmId> = report.removed.into_iter().collect();
        if became_complete {
            // What this host showed before it began anew and does not show any more.
            gone.append(&mut seen.before);
            gone.retain(|vm| !seen.obeyed.contains_key(vm));
        }
        drop(seen);
        for vm in &gone {
            self.shared.log.remove(vm);
            self.shared.events.forget_guest(vm);
        }
        let changed = report.changed.into_iter().map(|guest| self.without_events(guest));
        let changed: Vec<_> = changed.collect();
        for guest in &changed {
            self.shared.followed.saw(guest);
            self.shared.log.put(&guest.vm, Arc::clone(guest));
        }
        self.shared.world.update(&self.shared.region, |known| {
            for vm in &gone {
                known.guests.remove(vm);
            }
            for guest in changed {
                known.guests.insert(guest.vm.clone(), guest);
            }
        });
    }

    /// Peers and lists need the state of a guest, not its history, which would be most of the
    /// bytes; that is kept here, for who asks for events.
    fn without_events(&self, mut guest: InstanceReport) -> Arc<InstanceReport> {
        self.shared.events.guest(&guest.vm, std::mem::take(&mut guest.events));
        Arc::new(guest)
    }

    async fn silent(&self, reason: &CallError) {
        warn!(host = %self.host, %reason, "a host does not answer");
        self.shared.world.update(&self.shared.region, |known| {
            for host in known.hosts.iter_mut().filter(|host| host.id == self.host) {
                host.answers = false;
                host.schedulable = false;
            }
        });
        self.lock().complete = false;
        if self.shared.books.host_silent(self.host.clone()).await.is_ok() {
            let what = format!("host {} does not answer: {reason}", self.host);
            self.shared.events.note(None, &what).await;
        }
    }

    /// Instructs for ever.
    pub async fn instruct(self: Arc<Self>) {
        let mut changes = self.shared.mirror.changes();
        let mut compare = tokio::time::interval(COMPARE_EVERY);
        compare.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wanted = tokio::select! {
                _ = compare.tick() => self.all(),
                () = self.news.notified() => self.waiting(),
                change = changes.recv() => match change {
                    // Only the name: by now the record may be newer.
                    Ok(Change::Vm { after: Some(record), .. }) => {
                        self.newest([&record.request.id])
                    }
                    Ok(Change::Vm { .. } | Change::Region) => Vec::new(),
                    Ok(Change::Reset) | Err(RecvError::Lagged(_)) => self.all(),
                    Err(RecvError::Closed) => return,
                },
            };
            let mut sending = futures_util::stream::iter(wanted)
                .map(|record| self.bring_about(record))
                .buffer_unordered(INSTRUCTIONS_MAX);
            while sending.next().await.is_some() {}
        }
    }

    /// The records of these VMs as they are now, those that are this host's.
    fn newest<'a>(&self, vms: impl IntoIterator<Item = &'a VmId>) -> Vec<Arc<VmRecord>> {
        let records = vms.into_iter().filter_map(|vm| self.shared.mirror.vm(vm));
        records.map(|stored| stored.record).filter(|record| self.owns(record)).collect()
    }

    /// Own records about which something may have to be done. Most are obeyed already; they
    /// are left out here, because making a future for each of thousands costs more than
    /// looking at them.
    fn all(&self) -> Vec<Arc<VmRecord>> {
        let mut own =
            self.shared.mirror.vms(None, usize::MAX, |record| self.owns(record));
        // Not within the look above: it holds the mirror's lock, and `standing` takes ours.
        own.retain(|record| self.is_due(record));
        own
    }

    fn is_due(&self, record: &VmRecord) -> bool {
        let settled =
            matches!(self.standing(record), Standing::Obeyed | Standing::Silent);
        !settled
            || record.preempted_by.is_some()
            || self.lock().preempted.contains(&record.request.id)
    }

    fn owns(&self, record: &VmRecord) -> bool {
        record.owner.region == self.shared.region && record.owner.host == self.host
    }

    /// Records that wait for the host's reports: deletions that it acknowledged, and VMs that
    /// stop for more urgent ones.
    fn waiting(&self) -> Vec<Arc<VmRecord>> {
        let waiting: BTreeSet<VmId> = {
            let seen = self.lock();
            seen.acknowledged.keys().chain(&seen.preempted).cloned().collect()
        };
        self.newest(&waiting)
    }

    /// Instructs the host unless it obeys this record already, or ends a deletion that it has
    /// carried out.
    async fn bring_about(&self, record: Arc<VmRecord>) {
        let standing = self.standing(&record);
        if record.preempted_by.is_some() && record.power != Power::Deleted {
            self.lock().preempted.insert(record.request.id.clone());
            return self.make_room(&record, standing).await;
        }
        self.lock().preempted.remove(&record.request.id);
        match standing {
            Standing::Obeyed | Standing::Silent => {}
            Standing::Behind => self.send(&record).await,
            Standing::Deleted => {
                self.lock().acknowledged.remove(&record.request.id);
                self.shared.remover.remove(&record).await;
            }
        }
    }

    /// Brings about a pre-empted VM: it gives its capacity back once its guest has stopped;
    /// wanted again, it starts only after it has its capacity again, and one that has not given
    /// it yet gives it first when someone waits for it.
    async fn make_room(&self, record: &VmRecord, standing: Standing) {
        if !record.is_parked() && self.has_room_again(record).await {
            return;
        }
        if standing == Standing::Behind {
            return self.send(record).await;
        }
        let vm = &record.request.id;
        let (_, guest) = self.shared.world.guest(&self.shared.region, vm);
        // Only this very wish seen fulfilled frees capacity: an older stop says nothing.
        let stopped = guest.is_some_and(|guest| {
            guest.phase == VmPhase::Stopped
                && (guest.epoch, guest.generation) == record.version()
        });
        if !stopped || standing != Standing::Obeyed {
            return;
        }
        crash_point("owner-before-park");
        if let Ok(Err(reason)) = self.shared.books.park(record.reservation.clone()).await
        {
            warn!(%vm, %reason, "a pre-empted VM's capacity is not given back");
        }
    }

    /// Takes the capacity of a pre-empted VM again, if it can be had.
    async fn has_room_again(&self, record: &VmRecord) -> bool {
        let vm = &record.request.id;
        match self.shared.books.unpark(record.reservation.clone()).await {
            Ok(Ok(_)) => {
                if let Err(reason) = self.shared.lifecycle.reinstate(record).await {
                    info!(%vm, %reason, "a pre-empted VM starts later");
                }
                true
            }
            Ok(Err(reason)) => {
                self.note_once(vm, format!("waits to start again: {reason}")).await;
                false
            }
            Err(reason) => {
                info!(%vm, %reason, "a pre-empted VM starts later");
                false
            }
        }
    }

    fn standing(&self, record: &VmRecord) -> Standing {
        let vm = &record.request.id;
        let seen = self.lock();
        if !seen.complete {
            return Standing::Silent;
        }
        if record.power == Power::Deleted
            && let Some((epoch, generation, read)) = seen.acknowledged.get(vm)
            && (*epoch, *generation) == record.version()
        {
            let gone = seen.reads >= *read && !seen.obeyed.contains_key(vm);
            return if gone { Standing::Deleted } else { Standing::Obeyed };
        }
        match seen.obeyed.get(vm) {
            Some(obeyed) if *obeyed == self.wanted(record) => Standing::Obeyed,
            _ => Standing::Behind,
        }
    }

    /// What the host shows once it obeys this record. Whether guests are bound changes with the
    /// configuration, without another record.
    fn wanted(&self, record: &VmRecord) -> Obeyed {
        let protected = record.request.is_failover_protected();
        let lease_bound = protected && self.shared.lease.is_some();
        Obeyed { version: record.version(), lease_bound }
    }

    async fn send(&self, record: &VmRecord) {
        let vm = &record.request.id;
        let wanted = instruction_for(record);
        let params = InstanceParams { vm: vm.clone() };
        let body = Instruction {
            epoch: wanted.epoch,
            generation: wanted.generation,
            power: wanted.power,
            shape: wanted.shape,
            image: (!wanted.image.is_empty()).then_some(wanted.image),
            address: None,
            lease_bound: self.wanted(record).lease_bound,
            copied: wanted.copied,
            disk_from: wanted.disk_from,
        };
        crash_point("owner-before-instruct");
        // Before it is: its host may say that the guest runs before this call has its answer.
        self.shared.followed.told(vm, record.version());
        let call = self.client.call::<PutInstance>(&params, &body);
        let told = self.shared.followed.trail.follow(vm, Box::pin(call)).await;
        crash_point("owner-after-instruct");
        match told {
            Ok(_) => {
                self.acknowledged(record);
                // It must not wait for the next renewal: that would be its halt in a move.
                let lease = self.shared.lease.as_ref().filter(|_| body.lease_bound);
                lease.inspect(|lease| lease.notify_one());
            }
            Err(CallError::Api(error)) if error.code == ErrorCode::Conflict => {
                self.note_once(vm, format!("instruction refused: {}", error.message))
                    .await;
            }
            Err(reason) => {
                info!(%vm, host = %self.host, %reason, "instruction not delivered");
            }
        }
    }

    /// Notes what goes wrong with a VM when it is news, not at every try.
    async fn note_once(&self, vm: &VmId, what: String) {
        let before = self.lock().noted.insert(vm.clone(), what.clone());
        if before.as_ref() != Some(&what) {
            warn!(%vm, host = %self.host, what);
            self.shared.events.note(Some(vm), &what).await;
        }
    }

    fn acknowledged(&self, record: &VmRecord) {
        let (epoch, generation) = record.version();
        let vm = record.request.id.clone();
        let mut seen = self.lock();
        seen.noted.remove(&vm);
        if record.power == Power::Deleted {
            // A read that is under way may have been answered before the acknowledgement;
            // the one after it cannot.
            let sure = seen.reads + 2;
            seen.acknowledged.insert(vm, (epoch, generation, sure));
        } else {
            // Until a report says otherwise: keeps the next comparison from sending it again.
            seen.obeyed.insert(vm, self.wanted(record));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a host stands to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nobody knows: the host is not completely read.
    Silent,
    /// It obeys the record, or is deleting as told.
    Obeyed,
    /// It does not obey the record yet.
    Behind,
    /// It has deleted the VM.
    Deleted,
}
