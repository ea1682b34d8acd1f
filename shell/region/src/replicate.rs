//! Keeps a copy of the disks of this region's VMs in another region, for those that ask for it
//! (D2, F31): chooses the place by the full filter of placement, tells both hosts, and writes
//! into the VM's record whether the copy has every write. What to do next is decided by
//! `dwcp_controller::replica`; nothing here has to be remembered but how long a host has not
//! answered. What is peculiar to replicas that follow later is in [`rounds`].
//!
//! Whoever keeps a copy removes it when no record says that it should: see [`keeper`].

pub mod keeper;
mod rounds;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_api::host::{CopyOrder, CopyPlace, StandbyBody};
use dwcp_api::peer::ReserveBody;
use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::migration::Site;
use dwcp_controller::ownership::{Place, Replica, VmRecord, begin_replica, part, trust};
use dwcp_controller::placement::{Alternative, Policy, place_elsewhere};
use dwcp_controller::replica::{HostSeen, Next, Seen, is_relied_on, next};
use dwcp_runtime::clock::Clock;
use dwcp_runtime::crash::crash_point;
use dwcp_types::{CopyId, HostId, Power, RegionId, Timestamp, VmId, ZoneId};
use futures_util::StreamExt;
use tokio::time::timeout;
use tracing::info;

use crate::claims::{self, Claims, Missed};
use crate::events::Events;
use crate::fleet::FleetKeeper;
use crate::lifecycle::Lifecycle;
use crate::migrate::{Board, Reach};
use crate::mirror::{Change, Mirror};
use crate::replicate::rounds::{Rounds, round_of};
use crate::world::World;

/// How often each VM's copy is looked at when nothing is known to have changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// VMs that are looked after at the same time.
const AT_ONCE: usize = 16;
/// How long a place that was not found is not looked for again.
const CHOOSE_AGAIN: Duration = Duration::from_secs(10);
/// How often a host is told again what it was told.
const TELL_AGAIN: Duration = Duration::from_secs(3);
/// Time for one word with the host that keeps a copy: it makes a disk and starts a process.
const STANDBY_TIME_MAX: Duration = Duration::from_secs(5);
/// A region whose round trip is not known is taken as the farthest.
const RTT_MS_UNKNOWN: u64 = 1_000;

/// See the module.
#[derive(Debug)]
pub struct Replicator {
    /// This daemon's region.
    pub region: RegionId,
    /// Changes records.
    pub lifecycle: Lifecycle,
    /// The records.
    pub mirror: Arc<Mirror>,
    /// The fleet, to choose places in.
    pub fleet: Arc<FleetKeeper>,
    /// How VMs are placed.
    pub policy: Policy,
    /// What guests are seen.
    pub world: Arc<World>,
    /// The way to hosts of any region.
    pub reach: Reach,
    /// The way to the books of any region.
    pub claims: Arc<Claims>,
    /// Where to note what happened.
    pub events: Events,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// What is known of moves.
    pub board: Arc<Board>,
    /// What is remembered of each VM.
    pub cares: Mutex<BTreeMap<VmId, Care>>,
}

/// What is remembered of a VM; all of it may be lost.
#[derive(Clone, Debug, Default)]
pub struct Care {
    /// The name of a host in its certificate.
    subject: Option<(HostId, String)>,
    /// The place is not looked for before.
    choose_at: Duration,
    /// The door of the copy that is written.
    door: Option<(CopyId, CopyPlace)>,
    /// Since when its host has not answered.
    silent_since: Option<Duration>,
    told_standby: Option<(StandbyBody, Duration)>,
    told_host: Option<(CopyOrder, Duration)>,
    noted: String,
    rounds: Rounds,
}

impl Replicator {
    /// Looks after copies for ever.
    pub async fn run(self: Arc<Self>) {
        let mut changes = self.mirror.changes();
        loop {
            let own = self.mirror.vms(None, usize::MAX, |record| self.cares_for(record));
            {
                let mut cares = self.cares();
                // Both are in the order of names.
                let cared_for = |vm: &VmId| {
                    own.binary_search_by(|record| record.request.id.cmp(vm)).is_ok()
                };
                cares.retain(|vm, _| cared_for(vm));
            }
            let moving = self.board.disks_under_way();
            let mut looks = futures_util::stream::iter(own)
                .map(|record| {
                    let moves = moving.contains(&record.request.id);
                    self.look_after(record, moves)
                })
                .buffer_unordered(AT_ONCE);
            while looks.next().await.is_some() {}
            drop(looks);
            let concerns = async {
                loop {
                    match changes.recv().await {
                        Ok(Change::Vm { after: Some(record), .. })
                            if self.cares_for(&record) =>
                        {
                            return;
                        }
                        Ok(_) => {}
                        // What was missed is looked at like all else.
                        Err(_) => return,
                    }
                }
            };
            // Either way all are looked at.
            drop(timeout(LOOK_EVERY, concerns).await);
        }
    }

    fn cares_for(&self, record: &VmRecord) -> bool {
        record.request.keeps_replica()
            && record.owner.region == self.region
            && record.power != Power::Deleted
    }

    async fn look_after(&self, record: Arc<VmRecord>, moves: bool) {
        let vm = record.request.id.clone();
        let mut care = self.cares().get(&vm).cloned().unwrap_or_default();
        let looked = match record.replica.as_deref() {
            // A place that is chosen now may be no place where the VM goes.
            None if moves => self.rest(&record, &mut care).await,
            None => self.begin(&record, &mut care).await,
            Some(replica) => self.carry_on(&record, (replica, moves), &mut care).await,
        };
        if let Err(error) = looked {
            let text = format!("its replica waits: {error}");
            if care.noted != text {
                info!(%vm, %error, "a replica waits");
                self.events.note(Some(&vm), &text).await;
                care.noted = text;
            }
        }
        self.cares().insert(vm, care);
    }

    fn cares(&self) -> MutexGuard<'_, BTreeMap<VmId, Care>> {
        self.cares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the first place. Until there is one the guest runs without.
    async fn begin(&self, record: &VmRecord, care: &mut Care) -> Result<(), ApiError> {
        self.rest(record, care).await?;
        self.choose(record, care).await
    }

    /// Has the guest run without a copy.
    async fn rest(&self, record: &VmRecord, care: &mut Care) -> Result<(), ApiError> {
        let copy = CopyId::first_of(record.owner.epoch);
        let round = round_of(record, None);
        let alone = CopyOrder { copy, relied_on: false, to: None, round };
        self.tell_host(record, alone, care).await
    }

    /// Chooses a place, holds its storage, and writes it into the record.
    async fn choose(&self, record: &VmRecord, care: &mut Care) -> Result<(), ApiError> {
        let now = self.clock.monotonic();
        if care.choose_at > now {
            return Ok(());
        }
        care.choose_at = now.saturating_add(CHOOSE_AGAIN);
        let mut refusal = None;
        for at in self.places(record)? {
            match self.place_at(record, &at).await {
                Ok(what) => {
                    *care = Care::default();
                    self.tell(&record.request.id, &what, care).await;
                    return Ok(());
                }
                Err(error) => refusal = Some(error),
            }
        }
        let none = || {
            let message = "no other region may keep it and has room";
            ApiError::new(ErrorCode::Refused, message)
        };
        Err(refusal.unwrap_or_else(none))
    }

    /// Where the copy may be, the nearest first: each write of the guest waits for it. A copy
    /// obeys all that its VM does (F31), so the region could also run the VM.
    fn places(&self, record: &VmRecord) -> Result<Vec<Alternative>, ApiError> {
        let mut request = record.request.clone();
        if let Some(replica) = &record.replica {
            request.constraints.forbidden_regions.insert(replica.at.region.clone());
        }
        let decided = self.fleet.look(|fleet| {
            place_elsewhere(fleet, &self.region, &[&request], None, &self.policy)
        });
        let decision = decided.into_iter().flatten().next().ok_or_else(|| {
            ApiError::new(ErrorCode::Unavailable, "the fleet does not show its VM yet")
        })?;
        let mut places = decision.places();
        places.sort_by_key(|at| self.rtt_ms(&at.region));
        Ok(places)
    }

    fn rtt_ms(&self, to: &RegionId) -> u64 {
        self.mirror.rtt_ms(&self.region, to).unwrap_or(RTT_MS_UNKNOWN)
    }

    async fn place_at(
        &self,
        record: &VmRecord,
        at: &Alternative,
    ) -> Result<String, ApiError> {
        let body = ReserveBody {
            id: claims::attempt()?,
            request: record.request.clone(),
            zone: at.zone.clone(),
            host: at.host.clone(),
            victims: Vec::new(),
        };
        let held = self.claims.reserve(&at.region, body).await.map_err(|missed| {
            let (Missed::TryNext(error) | Missed::Final(error)) = missed;
            error
        })?;
        crash_point("replica-after-reserve");
        let region = at.region.clone();
        let place = Place { region, zone: held.zone, host: held.host };
        let was = record.replica.clone();
        let id = held.id.clone();
        let to = place.clone();
        let done = self.change(record, move |now, record| {
            let same = record.replica == was;
            same.then(|| begin_replica(record, to.clone(), id.clone(), now))
        });
        if !done.await? {
            self.claims.give_back(&at.region, &held.id).await;
            let message = "the VM was changed by others meanwhile";
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        crash_point("replica-after-begin");
        // If this is lost the region finds it in the record.
        if let Err(reason) = self.claims.keep_for_replica(&at.region, &held.id).await {
            info!(region = %at.region, %reason, "a replica's storage is kept later");
        }
        Ok(format!("its replica is made on {} in {}", place.host, place.region))
    }

    async fn carry_on(
        &self,
        record: &VmRecord,
        (replica, moves): (&Replica, bool),
        care: &mut Care,
    ) -> Result<(), ApiError> {
        let host = self.host_seen(record);
        let from = self.subject(record, care).await?;
        let body = StandbyBody {
            copy: replica.copy,
            whole: replica.whole.map(|whole| whole.copy),
            exists: replica.is_in_sync()
                || host.is_some_and(|host| host.written == Some(replica.copy)),
            round: round_of(record, replica.base),
            storage: record.request.shape.storage,
            from,
        };
        let kept = self.tell_standby(record, replica, body, care).await;
        let now = self.clock.monotonic();
        care.silent_since = match &kept {
            Ok(()) => None,
            Err(_) => care.silent_since.or(Some(now)),
        };
        let seen = Seen {
            host,
            standby_silent_for: care.silent_since.map(|at| now.saturating_sub(at)),
            moves,
        };
        match next(record, replica, &seen) {
            Next::Keep => {}
            Next::Trust => {
                let copy = replica.copy;
                let what = format!("its replica in {} is in sync", replica.at.region);
                let trusted = move |now, record: &VmRecord| trust(record, copy, now);
                return self.write(record, trusted, &what, care).await;
            }
            Next::Seal(as_of) => {
                return self.seal(record, replica, as_of, care).await;
            }
            Next::Part(why) if record.request.replica_age_max().is_some() => {
                return self.skip(record, replica, (why, &seen), care).await;
            }
            Next::Part(why) => {
                let copy = replica.copy;
                let what = format!(
                    "its replica in {} is not in sync: {}; it is made again",
                    replica.at.region,
                    why.text()
                );
                let parted = move |now, record: &VmRecord| {
                    let same = record.replica.as_ref().is_some_and(|it| it.copy == copy);
                    same.then(|| part(record, now)).flatten()
                };
                return self.write(record, parted, &what, care).await;
            }
            Next::Replace => return self.choose(record, care).await,
        }
        let order = self.order(record, replica, &seen, care);
        care.rounds.told(&order, now);
        // What a host does about a copy that is relied on stands while its door is not known.
        if order.to.is_some() || !order.relied_on {
            self.tell_host(record, order, care).await?;
        }
        kept
    }

    /// What its own host is told.
    fn order(
        &self,
        record: &VmRecord,
        replica: &Replica,
        seen: &Seen,
        care: &Care,
    ) -> CopyOrder {
        let open = !seen.moves && self.is_due(record, replica, care);
        let door = care.door.as_ref().filter(|(copy, _)| *copy == replica.copy && open);
        CopyOrder {
            copy: replica.copy,
            relied_on: is_relied_on(record, replica, seen),
            to: door.map(|(_, door)| door.clone()),
            round: round_of(record, replica.base),
        }
    }

    async fn write(
        &self,
        record: &VmRecord,
        change: impl Fn(Timestamp, &VmRecord) -> Option<VmRecord>,
        what: &str,
        care: &mut Care,
    ) -> Result<(), ApiError> {
        if self.write_quietly(record, change).await? {
            self.tell(&record.request.id, what, care).await;
        }
        Ok(())
    }

    /// The same, without telling; says whether it was done.
    async fn write_quietly(
        &self,
        record: &VmRecord,
        change: impl Fn(Timestamp, &VmRecord) -> Option<VmRecord>,
    ) -> Result<bool, ApiError> {
        crash_point("replica-before-write");
        let done = self.change(record, change).await?;
        if done {
            crash_point("replica-after-write");
        }
        Ok(done)
    }

    async fn tell(&self, vm: &VmId, what: &str, care: &mut Care) {
        info!(%vm, what, "a replica goes on");
        self.events.note(Some(vm), what).await;
        care.noted = String::new();
    }

    /// Changes a record that is still this owner's; says whether it did.
    async fn change(
        &self,
        record: &VmRecord,
        change: impl Fn(Timestamp, &VmRecord) -> Option<VmRecord>,
    ) -> Result<bool, ApiError> {
        let done = AtomicBool::new(false);
        let attempt = |now: &VmRecord, at| {
            let ours = now.owner == record.owner && now.reservation == record.reservation;
            let next = if ours { change(at, now) } else { None };
            done.store(next.is_some(), Ordering::Relaxed);
            Ok(next.unwrap_or_else(|| now.clone()))
        };
        self.lifecycle.change(&record.request.id, attempt).await?;
        Ok(done.into_inner())
    }

    /// Has the other region's host keep the copy, and learns its door.
    async fn tell_standby(
        &self,
        record: &VmRecord,
        replica: &Replica,
        body: StandbyBody,
        care: &mut Care,
    ) -> Result<(), ApiError> {
        let now = self.clock.monotonic();
        let known = |(told, at): &(StandbyBody, Duration)| {
            *told == body && now.saturating_sub(*at) < TELL_AGAIN
        };
        if care.told_standby.as_ref().is_some_and(known) {
            return Ok(());
        }
        let at = site(&replica.at.region, &replica.at.zone, &replica.at.host);
        let told = self.reach.put_standby(&at, &record.request.id, &body);
        let told = timeout(STANDBY_TIME_MAX, told).await.unwrap_or_else(|_| {
            let message = format!("host {} does not answer", replica.at.host);
            Err(ApiError::new(ErrorCode::Unavailable, message))
        });
        care.told_standby = None;
        care.door = Some((replica.copy, told?));
        care.told_standby = Some((body, self.clock.monotonic()));
        Ok(())
    }

    /// Who its own host is to the one that keeps the copy.
    async fn subject(
        &self,
        record: &VmRecord,
        care: &mut Care,
    ) -> Result<String, ApiError> {
        if let Some((_, subject)) =
            care.subject.as_ref().filter(|(host, _)| *host == record.owner.host)
        {
            return Ok(subject.clone());
        }
        let own = site(&record.owner.region, &record.owner.zone, &record.owner.host);
        let what = (&record.request.id, &record.request.shape, record.image.as_str());
        let subject = self.reach.machine(&own, what, false).await?.subject;
        care.subject = Some((record.owner.host.clone(), subject.clone()));
        Ok(subject)
    }

    async fn tell_host(
        &self,
        record: &VmRecord,
        order: CopyOrder,
        care: &mut Care,
    ) -> Result<(), ApiError> {
        let now = self.clock.monotonic();
        let known = |(told, at): &(CopyOrder, Duration)| {
            *told == order && now.saturating_sub(*at) < TELL_AGAIN
        };
        if care.told_host.as_ref().is_some_and(known) {
            return Ok(());
        }
        let (host, vm) = (&record.owner.host, &record.request.id);
        match self.reach.put_copy(host, vm, &order).await {
            Ok(()) => {
                care.told_host = Some((order, now));
                Ok(())
            }
            // It has not heard of the VM yet, or holds on to what it was told: its report says
            // which, and what is decided next is decided on that.
            Err(error)
                if matches!(error.code, ErrorCode::NotFound | ErrorCode::Conflict) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn host_seen(&self, record: &VmRecord) -> Option<HostSeen> {
        let (_, guest) = self.world.guest(&self.region, &record.request.id);
        let guest = guest.filter(|guest| guest.epoch == record.owner.epoch)?;
        let copy = guest.copy.as_ref()?;
        Some(HostSeen {
            ordered: copy.ordered,
            relied_on: copy.relied_on,
            written: copy.written,
            equal: copy.equal,
            lost: copy.lost,
            held: copy.held,
            as_of: copy.as_of,
            since: copy.since,
        })
    }
}

fn site(region: &RegionId, zone: &ZoneId, host: &HostId) -> Site {
    Site { region: region.clone(), zone: zone.clone(), host: host.clone() }
}
