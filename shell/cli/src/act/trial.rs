//! `failover test`: begins trials, a few at a time, waits for each, and ends it.

use std::collections::VecDeque;
use std::time::Duration;

use dwcp_api::failover::{
    EndVmTrial, GetVmTrial, StartTrial, StartVmTrial, TrialItem, VmTrialParams,
};
use dwcp_api::host::{TRIAL_SECONDS_DEFAULT, TrialStage};
use dwcp_api::public::{GetVm, ListVms, VmParams};
use dwcp_types::{RegionId, Tier, VmId};
use serde::Serialize;

use super::{show, vm};
use crate::app::{Run, tell};
use crate::arguments::TrialArgs;
use crate::failure::{Failure, Kind};
use crate::session::Session;
use crate::view;

/// Trials under way at the same time.
const AT_ONCE: usize = 4;
/// How much longer than its time one is asked about.
const SLACK: Duration = Duration::from_secs(30);

/// What became of the trials that were asked for.
#[derive(Debug, Serialize)]
pub(crate) struct Trials {
    pub(crate) items: Vec<Tried>,
}

/// What became of one.
#[derive(Debug, Serialize)]
pub(crate) struct Tried {
    pub(crate) vm: VmId,
    pub(crate) passed: bool,
    /// As it was seen last; none when it did not begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trial: Option<TrialItem>,
    /// Why it did not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
}

impl Tried {
    fn failed(vm: VmId, trial: Option<TrialItem>, failure: String) -> Self {
        Self { vm, passed: false, trial, failure: Some(failure) }
    }
}

/// Tries failovers, or ends what was kept.
pub(super) async fn test(run: &mut Run<'_>, args: TrialArgs) -> Result<(), Failure> {
    let session = run.session()?;
    let vms = match &args.from_region {
        Some(region) => with_copies(&session, region).await?,
        None => args.vms.clone(),
    };
    if args.end {
        return end_all(run, &session, vms).await;
    }
    let seconds = u32::try_from(args.time.as_secs()).ok();
    let ask = StartTrial { expect: args.expect, seconds };
    let all = Trying::begin(&session, ask, args.keep);
    let trials = Trials { items: all.tried(run, vms).await };
    show(run, &trials, view::trials)?;
    let failures = trials.items.iter().filter(|it| !it.passed).count();
    if failures == 0 {
        return Ok(());
    }
    let message = format!("{failures} of {} did not pass", trials.items.len());
    Err(Failure::new(Kind::Failed, message)
        .with_remedy("the console of each is in `-o json`; its real guest runs on"))
}

/// Ends what was kept; one that cannot be ended keeps none of the others.
async fn end_all(
    run: &mut Run<'_>,
    session: &Session,
    vms: Vec<VmId>,
) -> Result<(), Failure> {
    let mut failures = 0;
    let all = vms.len();
    for vm in vms {
        let trial = VmTrialParams { vm, id: None };
        if let Err(failure) = session.call::<EndVmTrial>(&trial, &()).await {
            tell(&failure, run.format(), run.terminal);
            failures += 1;
        }
    }
    if failures == 0 {
        return Ok(());
    }
    let message = format!("{failures} of {all} end by themselves only; see above");
    Err(Failure::new(Kind::Failed, message))
}

/// The protected VMs of a region that have a copy elsewhere.
async fn with_copies(session: &Session, of: &RegionId) -> Result<Vec<VmId>, Failure> {
    let filter = ListVms { region: Some(of.clone()), ..ListVms::default() };
    let all = vm::pages(session, filter, u64::MAX).await?;
    let mut vms = Vec::new();
    for item in all.items.into_iter().filter(|item| item.tier == Tier::Protected) {
        let params = VmParams { vm: item.id.clone() };
        if session.call::<GetVm>(&params, &()).await?.replica.is_some() {
            vms.push(item.id);
        }
    }
    if vms.is_empty() {
        let message = format!("no VM of {of} has a copy in another region");
        return Err(Failure::new(Kind::NotFound, message).with_remedy(
            "place VMs with `--tier protected --on-region-loss async-replica` to have one",
        ));
    }
    Ok(vms)
}

/// Trials under way.
struct Trying<'a> {
    session: &'a Session,
    ask: StartTrial,
    keep: bool,
    active: Vec<(TrialItem, Duration)>,
    done: Vec<Tried>,
}

impl<'a> Trying<'a> {
    const fn begin(session: &'a Session, ask: StartTrial, keep: bool) -> Self {
        Self { session, ask, keep, active: Vec::new(), done: Vec::new() }
    }

    /// Tries one after the other, a few at a time.
    async fn tried(mut self, run: &mut Run<'_>, vms: Vec<VmId>) -> Vec<Tried> {
        let mut waiting = VecDeque::from(vms);
        while !waiting.is_empty() || !self.active.is_empty() {
            while self.active.len() < AT_ONCE
                && let Some(vm) = waiting.pop_front()
            {
                if let Some(later) = self.start(vm).await {
                    waiting.push_front(later);
                    break;
                }
            }
            for (item, since) in std::mem::take(&mut self.active) {
                match self.looked(item, since).await {
                    Ok(item) => self.active.push((item, since)),
                    Err(tried) => self.over(run, *tried).await,
                }
            }
            if !self.active.is_empty() {
                self.session.pause(self.session.pace.poll).await;
            }
        }
        self.done.sort_by(|a, b| a.vm.cmp(&b.vm));
        self.done
    }

    /// Begins one; gives it back when it has to wait for the room of those that are under way.
    async fn start(&mut self, vm: VmId) -> Option<VmId> {
        let params = VmParams { vm: vm.clone() };
        match self.session.call::<StartVmTrial>(&params, &self.ask).await {
            Ok(item) => self.active.push((item, self.session.monotonic())),
            Err(Failure::Told(told))
                if told.code == Kind::Refused && !self.active.is_empty() =>
            {
                return Some(vm);
            }
            Err(failure) => self.done.push(Tried::failed(vm, None, words(failure))),
        }
        None
    }

    /// The trial as it is now, or what became of it.
    async fn looked(
        &self,
        item: TrialItem,
        since: Duration,
    ) -> Result<TrialItem, Box<Tried>> {
        let vm = item.vm.clone();
        let failed = |item, why: &str| {
            Err(Box::new(Tried::failed(vm.clone(), Some(item), why.to_owned())))
        };
        let params = VmParams { vm: vm.clone() };
        match self.session.call::<GetVmTrial>(&params, &()).await {
            Ok(now) if now.report.id != item.report.id => {
                failed(item, "another trial took its place")
            }
            Ok(now) => match now.report.stage {
                TrialStage::Copying | TrialStage::Starting | TrialStage::Running => {
                    Ok(now)
                }
                TrialStage::Passed => Err(Box::new(Tried {
                    vm,
                    passed: true,
                    trial: Some(now),
                    failure: None,
                })),
                TrialStage::Failed => {
                    let why = now.report.failure.clone().unwrap_or_default();
                    failed(now, &why)
                }
            },
            Err(failure) if failure.is_not_found() => {
                let why = match item.report.stage {
                    TrialStage::Running => "it did not print that in time",
                    TrialStage::Copying
                    | TrialStage::Starting
                    | TrialStage::Passed
                    | TrialStage::Failed => {
                        "its time was over, somebody ended it, or its agent was started anew"
                    }
                };
                failed(item, why)
            }
            Err(failure) if failure.may_pass() && !self.is_late(since) => Ok(item),
            Err(failure) => {
                let why = words(failure);
                failed(item, &why)
            }
        }
    }

    /// Whether it has ended by itself, wherever it is.
    fn is_late(&self, since: Duration) -> bool {
        let time = self.ask.seconds.unwrap_or(TRIAL_SECONDS_DEFAULT);
        let time = Duration::from_secs(time.into()).saturating_add(SLACK);
        self.session.monotonic().saturating_sub(since) > time
    }

    /// Ends one that is not to be kept, and notes what became of it.
    async fn over(&mut self, run: &mut Run<'_>, tried: Tried) {
        if !(self.keep && tried.passed) {
            let id = tried.trial.as_ref().map(|trial| trial.report.id.clone());
            let trial = VmTrialParams { vm: tried.vm.clone(), id };
            // It ends by itself, too.
            drop(self.session.call::<EndVmTrial>(&trial, &()).await);
        }
        if run.format().is_for_people() {
            let how = if tried.passed { "passed" } else { "did not pass" };
            run.terminal.tell(&format!("{}: {how}\n", tried.vm));
        }
        self.done.push(tried);
    }
}

/// What is told of a failure, in a line.
fn words(failure: Failure) -> String {
    match failure {
        Failure::Told(told) => match told.remedy {
            Some(remedy) => format!("{}; {remedy}", told.message),
            None => told.message,
        },
        Failure::Closed => String::new(),
    }
}
