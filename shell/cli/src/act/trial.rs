//! `failover test`: begins trials, a few at a time, waits for each, and ends it.

use std::collections::VecDeque;

use dwcp_api::failover::{EndVmTrial, GetVmTrial, StartTrial, StartVmTrial, TrialItem};
use dwcp_api::host::TrialStage;
use dwcp_api::public::{GetVm, ListVms, VmParams};
use dwcp_types::{RegionId, Tier, VmId};
use serde::Serialize;

use super::{show, vm};
use crate::app::Run;
use crate::arguments::TrialArgs;
use crate::failure::{Failure, Kind};
use crate::session::Session;
use crate::view;

/// Trials under way at the same time.
const AT_ONCE: usize = 4;

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
        for vm in vms {
            session.call::<EndVmTrial>(&VmParams { vm }, &()).await?;
        }
        return Ok(());
    }
    let seconds = u32::try_from(args.time.as_secs()).ok();
    let ask = StartTrial { expect: args.expect, seconds };
    let trials = Trials { items: tried(run, &session, vms, &ask, args.keep).await? };
    show(run, &trials, view::trials)?;
    let failures = trials.items.iter().filter(|it| !it.passed).count();
    if failures == 0 {
        return Ok(());
    }
    let message =
        format!("{failures} of {} would not have come back", trials.items.len());
    Err(Failure::new(Kind::Failed, message)
        .with_remedy("the console of each is in `-o json`; its real guest runs on"))
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

/// Tries one after the other, a few at a time.
async fn tried(
    run: &mut Run<'_>,
    session: &Session,
    vms: Vec<VmId>,
    ask: &StartTrial,
    keep: bool,
) -> Result<Vec<Tried>, Failure> {
    let mut waiting = VecDeque::from(vms);
    let (mut active, mut done): (Vec<TrialItem>, Vec<Tried>) = (Vec::new(), Vec::new());
    while !waiting.is_empty() || !active.is_empty() {
        while active.len() < AT_ONCE
            && let Some(vm) = waiting.pop_front()
        {
            let params = VmParams { vm: vm.clone() };
            match session.call::<StartVmTrial>(&params, ask).await {
                Ok(item) => active.push(item),
                Err(failure) => done.push(refused(vm, failure)?),
            }
        }
        let mut still = Vec::new();
        for item in active {
            match looked(session, item).await? {
                Ok(item) => still.push(item),
                Err(tried) => {
                    if !(keep && tried.passed) {
                        end(session, &tried.vm).await?;
                    }
                    if run.format().is_for_people() {
                        let how = if tried.passed { "passed" } else { "failed" };
                        run.terminal.tell(&format!("{}: {how}\n", tried.vm));
                    }
                    done.push(*tried);
                }
            }
        }
        active = still;
        if !active.is_empty() {
            session.pause(session.pace.poll).await;
        }
    }
    done.sort_by(|a, b| a.vm.cmp(&b.vm));
    Ok(done)
}

/// The trial as it is now, or what became of it.
async fn looked(
    session: &Session,
    item: TrialItem,
) -> Result<Result<TrialItem, Box<Tried>>, Failure> {
    let vm = item.vm.clone();
    let ended = |tried| Ok(Err(Box::new(tried)));
    match session.call::<GetVmTrial>(&VmParams { vm: vm.clone() }, &()).await {
        Ok(now) => match now.report.stage {
            TrialStage::Copying | TrialStage::Starting | TrialStage::Running => {
                Ok(Ok(now))
            }
            TrialStage::Passed => {
                ended(Tried { vm, passed: true, trial: Some(now), failure: None })
            }
            TrialStage::Failed => {
                let why = now.report.failure.clone().unwrap_or_default();
                ended(Tried::failed(vm, Some(now), why))
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
            ended(Tried::failed(vm, Some(item), why.to_owned()))
        }
        Err(failure) if failure.may_pass() => Ok(Ok(item)),
        Err(failure) => Err(failure),
    }
}

/// One that did not begin.
fn refused(vm: VmId, failure: Failure) -> Result<Tried, Failure> {
    match failure {
        Failure::Told(told) => {
            let why = match told.remedy {
                Some(remedy) => format!("{}; {remedy}", told.message),
                None => told.message,
            };
            Ok(Tried::failed(vm, None, why))
        }
        Failure::Closed => Err(failure),
    }
}

/// Ends one; that it is gone already is no failure.
async fn end(session: &Session, vm: &VmId) -> Result<(), Failure> {
    match session.call::<EndVmTrial>(&VmParams { vm: vm.clone() }, &()).await {
        Err(failure) if !failure.is_not_found() && !failure.may_pass() => Err(failure),
        _ => Ok(()),
    }
}
