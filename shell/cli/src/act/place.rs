//! `place-vm` and `explain`.
//!
//! A placement is asked for with a token, so that asking again is safe: what was done is
//! answered again, not done twice. That is why this command, and no other, asks again by
//! itself when there was no answer; always with the same token.

use std::io::Read;

use dwcp_api::public::{
    CreateVm, ExplainPlacement, ExplainRequest, GetVm, PlaceReply, PlaceVm, VmDetail,
    VmParams,
};
use dwcp_api::{CallError, ErrorCode, NoParams};
use dwcp_controller::ownership::ClientToken;
use dwcp_types::{PlacementRequest, Power, VmId};

use super::request::draft;
use super::{show, wait};
use crate::app::Run;
use crate::arguments::{ExplainArgs, PlaceArgs};
use crate::failure::{Failure, Kind, is_certificate_alert};
use crate::session::Session;
use crate::view;

/// How often a placement is asked for: the first time and three times more, half a second, one
/// and two seconds apart, which bridges a daemon's restart.
const TRIES_MAX: u32 = 4;

/// Places a VM.
pub(super) async fn place(run: &mut Run<'_>, args: PlaceArgs) -> Result<(), Failure> {
    let token = args.token.map_or_else(new_token, Ok)?;
    let request = draft(run, args.request)?.finish(&name_of(&token)?)?;
    let body = PlaceVm {
        request,
        client_token: Some(token),
        image: args.image,
        dry_run: args.dry_run,
        preempt: args.preempt,
    };
    let session = run.session()?;
    let reply = ask(run, &session, &body).await?;
    let found = reply.vm.is_some() || reply.explanation.decision.chosen.is_some();
    if let (Some(vm), true) = (&reply.vm, args.wait) {
        let detail = wait_for(run, &session, &reply, &vm.id).await?;
        return if run.format().is_for_people() {
            Ok(())
        } else {
            show(run, &detail, view::vm)
        };
    }
    show(run, &reply, view::placed)?;
    if found {
        return Ok(());
    }
    Err(Failure::new(Kind::Refused, format!("no region takes VM {}", body.request.id)))
}

/// People see the placement first and then the progress; programs one reply, the VM in full.
async fn wait_for(
    run: &mut Run<'_>,
    session: &Session,
    reply: &PlaceReply,
    vm: &VmId,
) -> Result<VmDetail, Failure> {
    if run.format().is_for_people() {
        show(run, reply, view::placed)?;
    }
    wait::until_phase(run, session, vm, Power::Running).await
}

async fn ask(
    run: &mut Run<'_>,
    session: &Session,
    body: &PlaceVm,
) -> Result<PlaceReply, Failure> {
    let mut pause = session.pace.retry;
    for attempt in 1.. {
        let error = match session.try_call::<CreateVm>(&NoParams {}, body).await {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        if attempt >= TRIES_MAX || !may_pass(&error) {
            return Err(refused(run, error, body));
        }
        if run.format().is_for_people() {
            let next = attempt + 1;
            run.terminal.note(&format!(
                "{error}; asking again with the same token ({next} of {TRIES_MAX})"
            ));
        }
        session.pause(pause).await;
        pause = pause.saturating_mul(2);
    }
    Err(Failure::new(Kind::Failed, "nothing was asked"))
}

/// Whether the same question may get an answer in a moment.
fn may_pass(error: &CallError) -> bool {
    match error {
        CallError::Unreachable { .. } | CallError::Timeout { .. } => true,
        CallError::Protocol { reason, .. } => !is_certificate_alert(reason),
        CallError::Tls { .. } => false,
        CallError::Api(error) => matches!(
            error.code,
            ErrorCode::Indeterminate | ErrorCode::Unavailable | ErrorCode::Busy
        ),
    }
}

/// The failure, with the reasons as a table and, where there is a doubt, how to end it.
fn refused(run: &Run<'_>, error: CallError, body: &PlaceVm) -> Failure {
    let doubt = match &error {
        CallError::Api(error) => error.code == ErrorCode::Indeterminate,
        CallError::Protocol { reason, .. } => !is_certificate_alert(reason),
        CallError::Timeout { .. } => true,
        CallError::Unreachable { .. } | CallError::Tls { .. } => false,
    };
    let failure = Failure::of_call(error, true);
    if let (true, Some(token)) = (doubt && !body.dry_run, &body.client_token) {
        return failure.with_remedy(format!(
            "look with `dwcp-cli vm describe {0}`, or ask again with the same request and --id {0} --token {token}",
            body.request.id
        ));
    }
    let Failure::Told(told) = &failure else { return failure };
    let details = told.details.as_ref().filter(|_| run.format().is_for_people());
    let Some((table, smallest)) = details.and_then(|why| view::refusal(why, run.look()))
    else {
        return failure;
    };
    let failure =
        failure.with_table(table, format!("no region takes VM {}", body.request.id));
    match smallest {
        Some(smallest) => failure.with_remedy(smallest),
        None => failure,
    }
}

/// Explains where a VM would go, or why it is where it is.
pub(super) async fn explain(run: &mut Run<'_>, args: ExplainArgs) -> Result<(), Failure> {
    let session = run.session()?;
    let Some(vm) = args.vm else {
        let name = name_of(&new_token()?)?;
        let request = draft(run, args.request)?.finish(&name)?;
        let body = ExplainRequest { request };
        let why = session.call::<ExplainPlacement>(&NoParams {}, &body).await?;
        return show(run, &why, view::explanation);
    };
    let detail = session.call::<GetVm>(&VmParams { vm }, &()).await?;
    let body = ExplainRequest { request: stored_request(&detail) };
    let why = session.call::<ExplainPlacement>(&NoParams {}, &body).await?;
    show(run, &why, |why, look| {
        format!("{}\n{}", view::still_there(&detail), view::explanation(why, look))
    })
}

/// The request that a VM was placed with.
fn stored_request(detail: &VmDetail) -> PlacementRequest {
    let item = &detail.item;
    PlacementRequest {
        id: item.id.clone(),
        tenant: item.tenant.clone(),
        shape: item.shape,
        vm_type: detail.vm_type,
        constraints: detail.constraints.clone(),
        origins: detail.origins.clone(),
        strategy: Some(detail.strategy),
        priority: item.priority,
        tier: item.tier,
        on_region_loss: detail.on_region_loss,
        replica_max_age_s: detail.replica_max_age_s,
        labels: item.labels.clone(),
    }
}

/// A token that nobody else has: 128 random bits.
fn new_token() -> Result<ClientToken, Failure> {
    let mut bits = [0_u8; 16];
    let read = std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bits));
    read.map_err(|error| {
        Failure::new(Kind::Failed, format!("/dev/urandom cannot be read: {error}"))
            .with_remedy("name a token yourself with --token")
    })?;
    let token = format!("cli-{:032x}", u128::from_be_bytes(bits));
    ClientToken::new(&token).map_err(|error| Failure::usage(error.to_string()))
}

/// The name of a VM whose user named none: from its token, so that asking again with the
/// token is asking for the same VM.
fn name_of(token: &ClientToken) -> Result<VmId, Failure> {
    let short: String =
        token.as_str().trim_start_matches("cli-").chars().take(12).collect();
    VmId::new(&format!("vm-{short}")).map_err(|error| Failure::usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_give_a_name() {
        let (one, other) = (new_token().unwrap(), new_token().unwrap());
        assert_ne!(one, other);
        assert_eq!(name_of(&one).unwrap().as_str().len(), "vm-".len() + 12);
        assert_eq!(name_of(&one).unwrap(), name_of(&one).unwrap());
    }
}
