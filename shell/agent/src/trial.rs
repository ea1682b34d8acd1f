//! Trials of failovers: a copy that this host keeps of a VM is forked and started, connected to
//! nothing, while the VM runs elsewhere and its copy goes on following.
//!
//! One task owns each trial from its first file to its last. A trial ends by itself, when its time
//! is over, and nothing of it outlives the agent for long: what an agent left that was killed is
//! removed by the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_api::host::{TrialBody, TrialReport, TrialStage};
use dwcp_runtime::crash::crash_point;
use dwcp_types::{CopyId, ReservationId, VmId};
use dwcp_vm::{GuestSpec, Process};
use futures_util::future::join_all;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::hypervisor::{Hypervisor, HypervisorError};
use crate::standby::{StandbyError, Standbys};

/// Where each has its folder, below the data folder.
pub(crate) const TRIALS: &str = "trials";
/// Trials of one host at the same time.
const TRIALS_MAX: usize = 16;
/// How often a guest is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Pause before what could not be removed is tried again.
const CLEAR_AGAIN: Duration = Duration::from_secs(2);
/// How much of the console is looked through, and how much of it is told.
const CONSOLE_SEEN: u32 = 65_536;
const CONSOLE_TOLD: usize = 4_096;

/// Why nothing is tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialRefused {
    /// The VM is tried already.
    #[error("its failover is being tried already (trial {id})")]
    Tried {
        /// By which trial.
        id: String,
    },
    /// Too many at once.
    #[error("{TRIALS_MAX} failovers are being tried on this host already")]
    Busy,
}

/// See the module.
#[derive(Debug)]
pub struct Trials {
    standbys: Arc<Standbys>,
    /// What runs the guests that are tried.
    apart: Arc<dyn Hypervisor>,
    swept: OnceCell<()>,
    running: Mutex<BTreeMap<VmId, Running>>,
}

/// One trial as others see it.
#[derive(Debug)]
struct Running {
    body: TrialBody,
    until: Instant,
    seen: watch::Receiver<Seen>,
    /// Says that it is to end.
    end: watch::Sender<bool>,
}

/// How far it is.
#[derive(Clone, Debug)]
struct Seen {
    stage: TrialStage,
    copy: Option<CopyId>,
    failure: Option<String>,
    copied_ms: Option<u64>,
    started_ms: Option<u64>,
    printed_ms: Option<u64>,
    console: String,
    /// Nothing of it is left on the host.
    is_gone: bool,
}

impl Seen {
    const fn begun() -> Self {
        Self {
            stage: TrialStage::Copying,
            copy: None,
            failure: None,
            copied_ms: None,
            started_ms: None,
            printed_ms: None,
            console: String::new(),
            is_gone: false,
        }
    }
}

impl Running {
    fn report(&self) -> TrialReport {
        let seen = self.seen.borrow().clone();
        let left = self.until.saturating_duration_since(Instant::now());
        TrialReport {
            id: self.body.id.clone(),
            as_of: self.body.as_of,
            stage: seen.stage,
            copy: seen.copy,
            failure: seen.failure,
            copied_ms: seen.copied_ms,
            started_ms: seen.started_ms,
            printed_ms: seen.printed_ms,
            console: seen.console,
            ends_in_ms: millis(left),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Trials {
    /// Removes what an earlier agent left, on the side.
    ///
    /// # Errors
    ///
    /// When their folder cannot be made.
    pub(crate) fn open(
        hypervisor: &dyn Hypervisor,
        standbys: Arc<Standbys>,
    ) -> Result<Arc<Self>, HypervisorError> {
        let trials = Arc::new(Self {
            standbys,
            apart: hypervisor.for_trials()?,
            swept: OnceCell::new(),
            running: Mutex::default(),
        });
        let swept = Arc::clone(&trials);
        tokio::spawn(async move { swept.sweep().await });
        Ok(trials)
    }

    /// Removes what an earlier agent left; once.
    async fn sweep(&self) {
        let remove = async || {
            let left = self.apart.list().unwrap_or_else(|error| {
                tracing::warn!(reason = error.told(), "trials are not looked through");
                Vec::new()
            });
            join_all(left.iter().map(|vm| self.clear(vm))).await;
        };
        self.swept.get_or_init(remove).await;
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<VmId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a trial; asking again tells how far it is.
    ///
    /// # Errors
    ///
    /// When this VM is tried under another id, or too many are.
    pub fn begin(
        self: &Arc<Self>,
        vm: &VmId,
        body: TrialBody,
    ) -> Result<TrialReport, TrialRefused> {
        let mut running = self.running();
        if let Some(known) = running.get(vm) {
            if known.body.id == body.id {
                return Ok(known.report());
            }
            if !known.seen.borrow().is_gone {
                return Err(TrialRefused::Tried { id: known.body.id.to_string() });
            }
        }
        let going_on = |it: &&Running| !it.seen.borrow().is_gone;
        if running.values().filter(going_on).count() >= TRIALS_MAX {
            return Err(TrialRefused::Busy);
        }
        let now = Instant::now();
        let until = now + Duration::from_secs(body.seconds.into());
        let (tell, seen) = watch::channel(Seen::begun());
        let (end, ends) = watch::channel(false);
        let trial = Trial {
            all: Arc::clone(self),
            vm: vm.clone(),
            body: body.clone(),
            begun: now,
            tell,
        };
        let entry = Running { body, until, seen, end };
        let report = entry.report();
        running.insert(vm.clone(), entry);
        tokio::spawn(trial.run(until, ends));
        Ok(report)
    }

    /// How far the trial of a VM is; nothing when there is none.
    #[must_use]
    pub fn report(&self, vm: &VmId) -> Option<TrialReport> {
        self.running().get(vm).map(Running::report)
    }

    /// Ends the trial of a VM, or only this one, and waits until nothing of it is left. Ending none
    /// is ending one.
    pub async fn end(&self, vm: &VmId, only: Option<&ReservationId>) {
        let known = {
            let running = self.running();
            let meant = |it: &&Running| only.is_none_or(|id| it.body.id == *id);
            running.get(vm).filter(meant).map(|running| {
                // Nobody hears it when the task is over.
                running.end.send(true).unwrap_or_default();
                (running.body.id.clone(), running.seen.clone())
            })
        };
        let Some((id, mut seen)) = known else { return };
        // An error says that its task is gone, and that is the end too.
        drop(seen.wait_for(|seen| seen.is_gone).await);
        self.forget(vm, &id);
    }

    /// Forgets this trial of a VM, of which nothing is left.
    fn forget(&self, vm: &VmId, id: &ReservationId) {
        let mut running = self.running();
        if running.get(vm).is_some_and(|it| it.body.id == *id) {
            running.remove(vm);
        }
    }

    /// Removes whatever there is of a VM's trial, and tries until nothing is left: what it held is
    /// given to others then.
    async fn clear(&self, vm: &VmId) {
        let copier = self.standbys.hypervisor();
        let cleared = async || {
            // The guest first: it runs on what others are given now.
            self.apart.kill(vm, false).await?;
            copier.end_fork(vm).await?;
            self.apart.delete(vm).await
        };
        while let Err(error) = cleared().await {
            tracing::warn!(%vm, reason = error.told(), "a trial is removed later");
            sleep(CLEAR_AGAIN).await;
        }
    }
}

/// One trial as its task has it.
#[derive(Debug)]
struct Trial {
    all: Arc<Trials>,
    vm: VmId,
    body: TrialBody,
    begun: Instant,
    tell: watch::Sender<Seen>,
}

impl Trial {
    async fn run(self, until: Instant, mut ends: watch::Receiver<bool>) {
        // Either the word, or that nobody can say it any more.
        let told = async { drop(ends.wait_for(|end| *end).await) };
        let over = async {
            tokio::select! { () = told => {} () = sleep_until(until) => {} }
        };
        tokio::pin!(over);
        if let Err(reason) = self.tried(&mut over).await {
            self.update(|seen| {
                seen.stage = TrialStage::Failed;
                seen.failure = Some(reason);
            });
        }
        crash_point("trial-before-clear");
        self.all.clear(&self.vm).await;
        let failed = self.tell.borrow().stage == TrialStage::Failed;
        self.update(|seen| seen.is_gone = true);
        if failed {
            // Why is told as long as anybody may ask.
            over.await;
        }
        self.all.forget(&self.vm, &self.body.id);
    }

    /// Has the guest run until it is over.
    async fn tried(
        &self,
        over: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<(), String> {
        let (all, vm) = (&self.all, &self.vm);
        let told = |error: HypervisorError| error.told();
        tokio::select! {
            () = all.sweep() => {}
            () = &mut *over => return Ok(()),
        }
        tokio::select! {
            forked = all.standbys.fork(vm, self.body.copy) => {
                let copy = forked.map_err(|error: StandbyError| error.to_string())?;
                self.update(|seen| {
                    seen.copy = Some(copy);
                    seen.copied_ms = Some(self.elapsed());
                    seen.stage = TrialStage::Starting;
                });
            }
            () = &mut *over => return Ok(()),
        }
        let guest = GuestSpec {
            shape: self.body.shape,
            image: self.body.image.clone(),
            ..GuestSpec::default()
        };
        all.apart.create_disk(vm, &guest).await.map_err(told)?;
        crash_point("trial-before-start");
        // Not cut short: a process that is just made could not be found again.
        all.apart.start(vm, &guest, false).await.map_err(told)?;
        crash_point("trial-after-start");
        self.update(|seen| {
            seen.started_ms = Some(self.elapsed());
            seen.stage = TrialStage::Running;
        });
        tokio::select! {
            ended = self.watched() => Err(ended),
            () = over => Ok(()),
        }
    }

    /// Looks at the guest until its process is gone, and says so.
    async fn watched(&self) -> String {
        loop {
            let sighting = self.all.apart.observe(&self.vm).await;
            let part = self.all.apart.console(&self.vm, None, CONSOLE_SEEN).await;
            let bytes = part.map(|part| part.bytes).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let expect = self.body.expect.as_deref();
            let as_it_should = expect.is_none_or(|expect| text.contains(expect));
            self.update(|seen| {
                seen.console = last_of(&text);
                if as_it_should && seen.stage == TrialStage::Running {
                    seen.stage = TrialStage::Passed;
                    seen.printed_ms = expect.map(|_| self.elapsed());
                }
            });
            if sighting.observation.process == Process::Gone {
                return "the guest's process ended".to_owned();
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn elapsed(&self) -> u64 {
        millis(self.begun.elapsed())
    }

    fn update(&self, change: impl FnOnce(&mut Seen)) {
        self.tell.send_modify(change);
    }
}

/// The end of a text, from a whole character on.
fn last_of(text: &str) -> String {
    let from = text.len().saturating_sub(CONSOLE_TOLD);
    text.char_indices().filter(|(at, _)| *at >= from).map(|(_, c)| c).collect()
}

#[cfg(test)]
mod tests {
    use dwcp_api::host::StandbyBody;
    use dwcp_types::{Epoch, Gib, TenantId, VmShape};
    use dwcp_vm::Scale;

    use super::*;
    use crate::simulated::Simulated;

    fn body(id: &str, seconds: u32) -> TrialBody {
        TrialBody {
            id: ReservationId::new(id).unwrap(),
            tenant: TenantId::new("acme").unwrap(),
            copy: CopyId::first_of(Epoch::FIRST),
            as_of: None,
            shape: VmShape { storage: Gib::new(1), ..VmShape::default() },
            image: None,
            expect: None,
            seconds,
        }
    }

    struct Host {
        data: tempfile::TempDir,
        trials: Arc<Trials>,
    }

    impl Host {
        async fn with_copies_of(vms: &[VmId]) -> Self {
            let data = tempfile::tempdir().unwrap();
            let driver: Arc<dyn Hypervisor> =
                Arc::new(Simulated::open(data.path(), Scale::default()).unwrap());
            let standbys =
                Arc::new(Standbys::in_folder(data.path(), Arc::clone(&driver)));
            for vm in vms {
                let order = StandbyBody {
                    copy: CopyId::first_of(Epoch::FIRST),
                    whole: None,
                    exists: false,
                    round: None,
                    storage: Gib::new(1),
                    from: "CN=h".to_owned(),
                };
                standbys.keep(vm, order).await.unwrap();
            }
            let trials = Trials::open(driver.as_ref(), standbys).unwrap();
            Self { data, trials }
        }

        async fn is_there(&self, vm: &VmId, stage: TrialStage) -> TrialReport {
            let mut seen = self.trials.running()[vm].seen.clone();
            seen.wait_for(|seen| seen.stage == stage).await.unwrap();
            self.trials.report(vm).unwrap()
        }

        fn files(&self) -> usize {
            std::fs::read_dir(self.data.path().join(TRIALS)).unwrap().count()
        }
    }

    fn vm(name: &str) -> VmId {
        VmId::new(name).unwrap()
    }

    #[tokio::test]
    async fn a_vm_is_tried_by_one_at_a_time_and_asking_again_tells_how_far_it_is() {
        let web = vm("web");
        let host = Host::with_copies_of(std::slice::from_ref(&web)).await;
        host.trials.begin(&web, body("t1", 60)).unwrap();
        let passed = host.is_there(&web, TrialStage::Passed).await;
        assert!(passed.console.contains("READY web"), "{passed:?}");
        let again = host.trials.begin(&web, body("t1", 60)).unwrap();
        assert_eq!((again.id, again.stage), (passed.id, TrialStage::Passed));
        let other = host.trials.begin(&web, body("t2", 60)).unwrap_err();
        assert!(other.to_string().contains("trial t1"), "{other}");
        host.trials.end(&web, None).await;
        assert_eq!((host.files(), host.trials.report(&web)), (0, None));
        host.trials.begin(&web, body("t2", 60)).unwrap();
        host.trials.end(&web, Some(&ReservationId::new("t1").unwrap())).await;
        assert!(host.trials.report(&web).is_some(), "that one was meant");
        host.trials.end(&web, Some(&ReservationId::new("t2").unwrap())).await;
        assert_eq!((host.files(), host.trials.report(&web)), (0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_leaves_its_reason_until_its_time_is_over() {
        let host = Host::with_copies_of(&[]).await;
        let web = vm("web");
        host.trials.begin(&web, body("t1", 60)).unwrap();
        let mut seen = host.trials.running()[&web].seen.clone();
        seen.wait_for(|seen| seen.is_gone).await.unwrap();
        let report = host.trials.report(&web).unwrap();
        assert_eq!(report.stage, TrialStage::Failed);
        let failure = report.failure.unwrap();
        assert!(failure.contains("is not kept on this host"), "{failure}");
        // Another may be tried meanwhile, and takes its place.
        host.trials.begin(&web, body("t2", 30)).unwrap();
        sleep(Duration::from_secs(40)).await;
        assert_eq!((host.files(), host.trials.report(&web)), (0, None));
    }

    #[tokio::test]
    async fn a_host_tries_so_many_at_once() {
        let all: Vec<_> = (0..=TRIALS_MAX).map(|n| vm(&format!("vm-{n}"))).collect();
        let host = Host::with_copies_of(&all).await;
        for (n, vm) in all.iter().take(TRIALS_MAX).enumerate() {
            host.trials.begin(vm, body(&format!("t{n}"), 60)).unwrap();
        }
        let last = all.last().unwrap();
        let busy = host.trials.begin(last, body("more", 60)).unwrap_err();
        assert!(matches!(busy, TrialRefused::Busy), "{busy}");
        host.trials.end(&all[0], None).await;
        host.trials.begin(last, body("more", 60)).unwrap();
    }

    #[test]
    fn the_end_of_a_console_is_told_in_whole_characters() {
        let text = format!("x{}", "ö".repeat(CONSOLE_TOLD));
        let told = last_of(&text);
        assert_eq!(told, "ö".repeat(CONSOLE_TOLD / 2));
        assert_eq!(last_of("short"), "short");
    }
}
