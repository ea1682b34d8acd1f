//! `vm list|describe|start|stop|pause|resume|delete`.

use dwcp_api::public::{
    DeleteVm, GetVm, GetVms, ListVms, PAGE_MAX, PutVmPower, SetPower, VmList, VmParams,
};
use dwcp_types::{Power, VmId};

use super::{answers_yes, show, show_or_watch, wait};
use crate::app::Run;
use crate::arguments::{DeleteArgs, PowerArgs, VmListArgs, VmName};
use crate::failure::Failure;
use crate::session::Session;
use crate::view;

/// All VMs that are asked for, page by page.
pub(super) async fn list(run: &mut Run<'_>, args: VmListArgs) -> Result<(), Failure> {
    let filter = ListVms {
        tenant: args.tenant,
        region: args.region,
        label: args.label.or(args.filter),
        after: None,
        limit: None,
    };
    let most = args.limit.unwrap_or(u64::MAX);
    let session = run.session()?;
    let ask = async |_: &Run<'_>| pages(&session, filter.clone(), most).await;
    show_or_watch(run, args.watch, ask, view::vms).await
}

/// Reads pages until there are enough or no more. Names rise from page to page, so that a
/// service that repeats a page cannot keep this going for ever.
pub(super) async fn pages(
    session: &Session,
    mut filter: ListVms,
    most: u64,
) -> Result<VmList, Failure> {
    let mut all = VmList { items: Vec::new(), next: None, age_ms: 0 };
    loop {
        let left = most - u64::try_from(all.items.len()).unwrap_or(u64::MAX).min(most);
        filter.limit = Some(u32::try_from(left).unwrap_or(PAGE_MAX).min(PAGE_MAX));
        let page = session.call::<GetVms>(&filter, &()).await?;
        all.items.extend(page.items);
        all.age_ms = all.age_ms.max(page.age_ms);
        all.next = page.next.filter(|next| filter.after.as_ref() < Some(next));
        let enough = u64::try_from(all.items.len()).unwrap_or(u64::MAX) >= most;
        if all.next.is_none() || enough {
            return Ok(all);
        }
        filter.after.clone_from(&all.next);
    }
}

/// One VM.
pub(super) async fn describe(run: &mut Run<'_>, name: VmName) -> Result<(), Failure> {
    let params = VmParams { vm: name.vm };
    let reply = run.session()?.call::<GetVm>(&params, &()).await?;
    show(run, &reply, view::vm)
}

/// What is wanted of a VM.
pub(super) async fn set_power(
    run: &mut Run<'_>,
    args: PowerArgs,
    power: Power,
) -> Result<(), Failure> {
    let params = VmParams { vm: args.vm.clone() };
    let session = run.session()?;
    let reply = session.call::<PutVmPower>(&params, &SetPower { power }).await?;
    if !args.wait {
        return show(run, &reply, view::vm_changed);
    }
    let detail = wait::until_phase(run, &session, &args.vm, power).await?;
    show(run, &detail, view::vm)
}

/// Deletes a VM, after asking a person.
pub(super) async fn delete(run: &mut Run<'_>, args: DeleteArgs) -> Result<(), Failure> {
    let session = run.session()?;
    if !args.yes && !confirmed(run, &args.vm)? {
        return Err(Failure::usage(format!("{} is left as it is", args.vm)));
    }
    let params = VmParams { vm: args.vm.clone() };
    let reply = session.call::<DeleteVm>(&params, &()).await?;
    if args.wait {
        wait::until_gone(run, &session, &args.vm).await?;
        return show(run, &reply, |item, _| format!("{} is gone\n", item.id));
    }
    show(run, &reply, view::vm_changed)
}

fn confirmed(run: &mut Run<'_>, vm: &VmId) -> Result<bool, Failure> {
    if !run.surroundings.interactive {
        return Err(Failure::usage(format!("deleting {vm} deletes its disk as well"))
            .with_remedy("say --yes when nobody can be asked"));
    }
    Ok(answers_yes(run, &format!("delete {vm} and its disk?")))
}
