//! Waiting until a VM is as it is wanted, and telling how it goes.
//!
//! A report counts only when it answers the newest instruction: one of an older generation
//! may still say `failed` of what was asked before. A federation that does not answer for a
//! moment is asked again until the time is over.

use std::time::Duration;

use dwcp_api::public::{GetVm, VmDetail, VmParams};
use dwcp_types::{Power, VmId, VmPhase};

use crate::app::Run;
use crate::failure::{Failure, Kind};
use crate::session::Session;
use crate::text;

/// Waits until a VM is seen as it is wanted.
///
/// # Errors
///
/// When it fails, is gone, or the time is over.
pub(super) async fn until_phase(
    run: &mut Run<'_>,
    session: &Session,
    vm: &VmId,
    power: Power,
) -> Result<VmDetail, Failure> {
    let wanted = match power {
        Power::Running => VmPhase::Running,
        Power::Paused => VmPhase::Paused,
        Power::Stopped | Power::Deleted => VmPhase::Stopped,
    };
    let params = VmParams { vm: vm.clone() };
    let mut progress = Progress::new(session, vm);
    loop {
        match session.call::<GetVm>(&params, &()).await {
            Ok(detail) => {
                let seen = seen(&detail);
                progress.tell(run, session, text::phase_word(seen));
                if seen == wanted {
                    return Ok(detail);
                }
                if seen == VmPhase::Failed {
                    return Err(failed(&detail));
                }
            }
            Err(failure) if failure.may_pass() => {
                progress.tell(run, session, "the federation does not answer");
            }
            Err(failure) => return Err(failure),
        }
        progress.pause(session, text::phase_word(wanted)).await?;
    }
}

/// Waits until a VM is gone.
///
/// # Errors
///
/// When the time is over.
pub(super) async fn until_gone(
    run: &mut Run<'_>,
    session: &Session,
    vm: &VmId,
) -> Result<(), Failure> {
    let params = VmParams { vm: vm.clone() };
    let mut progress = Progress::new(session, vm);
    loop {
        match session.call::<GetVm>(&params, &()).await {
            Ok(detail) => {
                progress.tell(run, session, text::phase_word(detail.item.phase));
            }
            Err(failure) if failure.is_not_found() => return Ok(()),
            Err(failure) if failure.may_pass() => {
                progress.tell(run, session, "the federation does not answer");
            }
            Err(failure) => return Err(failure),
        }
        progress.pause(session, "gone").await?;
    }
}

/// What is seen of a VM in answer to the newest instruction.
fn seen(detail: &VmDetail) -> VmPhase {
    let current = detail.observed.as_ref().is_some_and(|observed| {
        (observed.epoch, observed.generation) >= (detail.item.epoch, detail.generation)
    });
    if current { detail.item.phase } else { VmPhase::Pending }
}

fn failed(detail: &VmDetail) -> Failure {
    let item = &detail.item;
    let reason = detail.observed.as_ref().and_then(|observed| observed.error.as_deref());
    let reason = reason.unwrap_or("its host does not say why");
    Failure::new(Kind::Failed, format!("{} failed on {}: {reason}", item.id, item.host))
        .with_remedy(format!(
            "see `dwcp-cli vm events {0}` and `dwcp-cli vm console {0}`",
            item.id
        ))
}

/// How a wait goes: told when it changes, bounded in time.
struct Progress {
    vm: VmId,
    began: Duration,
    last: String,
}

impl Progress {
    fn new(session: &Session, vm: &VmId) -> Self {
        Self { vm: vm.clone(), began: session.monotonic(), last: String::new() }
    }

    fn tell(&mut self, run: &mut Run<'_>, session: &Session, now: &str) {
        if self.last != now && run.format().is_for_people() {
            let since = text::age(session.monotonic().saturating_sub(self.began));
            run.terminal.tell(&format!("{}: {now} ({since})\n", self.vm));
        }
        now.clone_into(&mut self.last);
    }

    async fn pause(&self, session: &Session, wanted: &str) -> Result<(), Failure> {
        let waited = session.monotonic().saturating_sub(self.began);
        if waited >= session.wait_time_max {
            let message = format!(
                "{} is not {wanted} after {}; last seen: {}",
                self.vm,
                text::age(waited),
                self.last
            );
            return Err(Failure::new(Kind::Failed, message).with_remedy(format!(
                "it goes on; look with `dwcp-cli vm describe {}`, or wait with a longer --timeout",
                self.vm
            )));
        }
        session.pause(session.pace.poll).await;
        Ok(())
    }
}
