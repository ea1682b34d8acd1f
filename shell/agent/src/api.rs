//! The operations of `dwcp_api::host` on an agent: one plain function each, which whatever
//! server there is binds to its route.

use std::time::Duration;

use dwcp_api::host::{
    Acknowledged, ClockReading, Console, ConsoleParams, CopyOrder, CopyPlace, HostReport,
    InForce, InstanceParams, Instruction, LeaseBody, MachineParams, MachineReport,
    MoveOrder, MoveParams, MoveReport, ReportParams, StandbyBody, StandbyItem,
    StandbyList, StandbyParams, TRIAL_SECONDS_MAX, TrialBody, TrialParams, TrialReport,
};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_runtime::crash::crash_point;
use dwcp_types::{CopyId, VmId, VmShape};
use dwcp_vm::migration::{self, Incoming, Outgoing, Ports};
use dwcp_vm::{Accelerator, Given, Grant, GuestSpec};

use crate::handle::{AgentHandle, ConsoleError, CopyRefused, PutError, Stopping};
use crate::hypervisor::HypervisorError;
use crate::lease;
use crate::news::Cursor;
use crate::standby::StandbyError;
use crate::trial::TrialRefused;

/// Longest that a stage is held back.
const MOVE_WAIT_MAX_MS: u64 = 10_000;

/// Most bytes of one reading of a console.
const CONSOLE_READ_MAX: u32 = 65_536;

/// `put_instance`.
///
/// # Errors
///
/// 409 when a later instruction is in force, 503 when the disk is full, 504 when it is not
/// sure that the instruction is kept.
pub async fn put_instance(
    agent: &AgentHandle,
    params: InstanceParams,
    body: Instruction,
) -> Result<Acknowledged, ApiError> {
    let Instruction { epoch, generation, power, shape, image, address, .. } = body;
    let Instruction { lease_bound, copied, disk_from, .. } = body;
    let guest = GuestSpec { shape, image, address, lease_bound, copied, disk_from };
    let instruction = dwcp_vm::Instruction { epoch, generation, power, guest };
    let vm = params.vm;
    crash_point("agent-before-record");
    let put = agent.put(vm.clone(), instruction).await;
    crash_point("agent-after-record");
    match put {
        Ok(taken) => Ok(Acknowledged { repeated: taken.repeated }),
        Err(error) => Err(put_error(vm.as_str(), &error)),
    }
}

fn put_error(vm: &str, error: &PutError) -> ApiError {
    let message = format!("VM {vm}: {error}");
    match error {
        PutError::Refused(refused) => {
            let (epoch, generation) = refused.in_force();
            ApiError::new(ErrorCode::Conflict, message)
                .with_remedy(
                    "read the VM's record again and give its current instruction",
                )
                .with_details(&InForce { epoch, generation })
        }
        PutError::Move(_) => ApiError::new(ErrorCode::Conflict, message)
            .with_remedy("wait until the move is over, or cancel it (migrate cancel)"),
        PutError::NotKept { .. } => ApiError::new(ErrorCode::Unavailable, message)
            .with_remedy("make room on the host's disk; nothing was done"),
        PutError::Unsure { .. } => ApiError::new(ErrorCode::Indeterminate, message)
            .with_remedy("give the same instruction again"),
        PutError::Busy { .. } => ApiError::new(ErrorCode::Busy, message),
        PutError::Stopping => stopping(),
    }
}

/// `put_move`.
///
/// # Errors
///
/// 409 when it contradicts what is in force; else as [`put_instance`].
pub async fn put_move(
    agent: &AgentHandle,
    params: InstanceParams,
    body: MoveOrder,
) -> Result<Acknowledged, ApiError> {
    let vm = params.vm;
    let order = order_of(body)?;
    match agent.put_move(vm.clone(), order).await {
        Ok(taken) => Ok(Acknowledged { repeated: taken.repeated }),
        Err(error) => Err(put_error(vm.as_str(), &error)),
    }
}

fn order_of(body: MoveOrder) -> Result<migration::MoveOrder, ApiError> {
    Ok(match body {
        MoveOrder::Send(order) => migration::MoveOrder::Out(Box::new(Outgoing {
            id: order.id,
            epoch: order.epoch,
            address: order.address,
            ports: Ports { disk: order.disk_port, memory: order.memory_port },
            name: order.name,
            bandwidth: order.bandwidth,
            downtime_ms: order.downtime_ms,
            cold: order.cold,
        })),
        MoveOrder::Receive(order) => migration::MoveOrder::In(Box::new(Incoming {
            id: order.id,
            epoch: order.epoch,
            guest: GuestSpec {
                shape: order.shape,
                image: order.image,
                address: order.address,
                ..GuestSpec::default()
            },
            machine: machine_of(&order.machine)?,
            from: order.from,
            cold: order.cold,
        })),
        MoveOrder::Abandon { id } => migration::MoveOrder::Abandon(id),
        MoveOrder::SourceLost { id } => migration::MoveOrder::SourceLost(id),
    })
}

fn machine_of(machine: &dwcp_api::host::Machine) -> Result<migration::Machine, ApiError> {
    let accelerator = match machine.accelerator.as_str() {
        "none" => None,
        "kvm" => Some(Accelerator::Kvm),
        "tcg" => Some(Accelerator::Tcg),
        other => {
            let message = format!("{other:?} is no accelerator");
            return Err(ApiError::new(ErrorCode::Invalid, message)
                .with_remedy("use kvm, tcg or none"));
        }
    };
    let given = Given { cpu: machine.cpu, memory: machine.memory };
    Ok(migration::Machine { accelerator, given, wired: machine.wired })
}

/// `get_move`.
///
/// # Errors
///
/// 503 when the agent is stopping.
pub async fn get_move(
    agent: &AgentHandle,
    params: MoveParams,
) -> Result<MoveReport, ApiError> {
    let MoveParams { vm, known, wait_ms } = params;
    let wait = Duration::from_millis(wait_ms.unwrap_or(0).min(MOVE_WAIT_MAX_MS));
    agent.read_move(&vm, known, wait).await.map_err(|Stopping| stopping())
}

/// `get_machine`.
///
/// # Errors
///
/// 409 when the VM's image or this host's certificate is missing; 503 when the guest's memory
/// cannot be measured.
pub async fn get_machine(
    agent: &AgentHandle,
    params: MachineParams,
) -> Result<MachineReport, ApiError> {
    let MachineParams { vm, cpu, memory, measure, image } = params;
    let hypervisor = &agent.hypervisor;
    let refused = |error: &HypervisorError| {
        ApiError::new(ErrorCode::Refused, format!("VM {vm}: {}", error.told()))
    };
    let shape = VmShape { cpu, memory, ..VmShape::default() };
    let guest = GuestSpec { shape, image, ..GuestSpec::default() };
    let machine = hypervisor.machine(&guest).map_err(|error| refused(&error))?;
    let doorway = hypervisor.doorway().map_err(|error| refused(&error))?;
    // One that is emulated is halted before any of its memory is sent.
    let is_emulated = machine.accelerator == Some(Accelerator::Tcg);
    let dirty_rate = if measure && !is_emulated {
        Some(hypervisor.dirty_rate(&vm).await.map_err(|error| {
            let message = format!("VM {vm}: {}", error.told());
            ApiError::new(ErrorCode::Unavailable, message)
                .with_remedy("try again when the guest runs")
        })?)
    } else {
        None
    };
    let accelerator = machine.accelerator.map_or("none", Accelerator::as_str);
    Ok(MachineReport {
        machine: dwcp_api::host::Machine {
            accelerator: accelerator.to_owned(),
            cpu: machine.given.cpu,
            memory: machine.given.memory,
            wired: machine.wired,
        },
        dirty_rate,
        disk: hypervisor.disk_use(&vm),
        address: agent.address(&vm).await.map_err(|Stopping| stopping())?,
        host_address: doorway.address,
        name: doorway.name,
        subject: doorway.subject,
    })
}

/// `put_copy`.
///
/// # Errors
///
/// 404 when the host has no such VM, 409 when it obeys another epoch or a later order.
pub async fn put_copy(
    agent: &AgentHandle,
    params: InstanceParams,
    body: CopyOrder,
) -> Result<(), ApiError> {
    let vm = params.vm;
    let place = |to: CopyPlace| dwcp_vm::CopyPlace {
        address: to.address,
        port: to.port,
        name: to.name,
    };
    let order = dwcp_vm::CopyOrder {
        copy: body.copy,
        relied_on: body.relied_on,
        to: body.to.map(place),
        round: body.round,
    };
    agent.put_copy(vm.clone(), order).await.map_err(|refused| {
        let message = format!("VM {vm}: {refused}");
        match refused {
            CopyRefused::NoVm => ApiError::new(ErrorCode::NotFound, message),
            CopyRefused::OtherEpoch { .. } | CopyRefused::Over { .. } => {
                ApiError::new(ErrorCode::Conflict, message)
            }
            CopyRefused::Stopping => stopping(),
        }
    })
}

/// `put_standby`.
///
/// # Errors
///
/// 409 when the VM is this host's own, or a later copy of it is kept; 503 when its disk or its
/// door cannot be made.
pub async fn put_standby(
    agent: &AgentHandle,
    params: InstanceParams,
    body: StandbyBody,
) -> Result<CopyPlace, ApiError> {
    let vm = params.vm;
    if agent.knows(&vm).await.map_err(|Stopping| stopping())? {
        let message = format!("VM {vm} is on this host, which cannot keep its copy too");
        return Err(ApiError::new(ErrorCode::Conflict, message)
            .with_remedy("keep its copy in another region"));
    }
    let refused = |error: &StandbyError| standby_error(&vm, error);
    let port = agent.keep_standby(vm.clone(), body).await.map_err(|e| refused(&e))?;
    let doorway = agent.hypervisor.doorway();
    let doorway = doorway.map_err(|error| refused(&error.into()))?;
    Ok(CopyPlace { address: doorway.address, port, name: doorway.name })
}

/// `drop_standby`.
///
/// # Errors
///
/// 409 when a later copy is kept, 503 when something cannot be removed.
pub async fn drop_standby(
    agent: &AgentHandle,
    params: StandbyParams,
) -> Result<(), ApiError> {
    let StandbyParams { vm, epoch, number } = params;
    let dropped = agent.standbys().drop_up_to(&vm, CopyId { epoch, number }).await;
    dropped.map_err(|error| standby_error(&vm, &error))
}

/// `list_standbys`.
///
/// # Errors
///
/// 503 when the folder cannot be read.
pub async fn list_standbys(agent: &AgentHandle) -> Result<StandbyList, ApiError> {
    let kept = agent
        .standbys()
        .list()
        .map_err(|error| ApiError::new(ErrorCode::Unavailable, error.to_string()))?;
    let item = |(vm, order): (_, StandbyBody)| StandbyItem {
        vm,
        copy: order.copy,
        whole: order.whole,
    };
    Ok(StandbyList { items: kept.into_iter().map(item).collect() })
}

/// `put_trial`.
///
/// # Errors
///
/// 400 when it says what cannot be, 409 when the VM's failover is tried already, 429 when too
/// many are.
#[expect(clippy::unused_async, reason = "every handler has the same shape")]
pub async fn put_trial(
    agent: &AgentHandle,
    params: InstanceParams,
    body: TrialBody,
) -> Result<TrialReport, ApiError> {
    let vm = params.vm;
    if body.seconds == 0 || body.seconds > TRIAL_SECONDS_MAX {
        let message = format!("a trial takes 1 to {TRIAL_SECONDS_MAX} seconds");
        return Err(ApiError::new(ErrorCode::Invalid, message));
    }
    agent.trials().begin(&vm, body).map_err(|refused| {
        let message = format!("VM {vm}: {refused}");
        match refused {
            TrialRefused::Tried { .. } => ApiError::new(ErrorCode::Conflict, message)
                .with_remedy("wait for its end, or end it: failover test --end"),
            TrialRefused::Busy => ApiError::new(ErrorCode::Busy, message),
        }
    })
}

/// `get_trial`.
///
/// # Errors
///
/// 404 when there is none.
#[expect(clippy::unused_async, reason = "every handler has the same shape")]
pub async fn get_trial(
    agent: &AgentHandle,
    params: InstanceParams,
) -> Result<TrialReport, ApiError> {
    agent.trials().report(&params.vm).ok_or_else(|| {
        let message = format!("no failover of VM {} is tried on this host", params.vm);
        ApiError::new(ErrorCode::NotFound, message)
    })
}

/// `drop_trial`.
///
/// # Errors
///
/// None but those of the way here.
pub async fn drop_trial(
    agent: &AgentHandle,
    params: TrialParams,
) -> Result<(), ApiError> {
    agent.trials().end(&params.vm, params.id.as_ref()).await;
    Ok(())
}

fn standby_error(vm: &VmId, error: &StandbyError) -> ApiError {
    let message = format!("VM {vm}: {error}");
    match error {
        StandbyError::Older { .. } | StandbyError::NotKept { .. } => {
            ApiError::new(ErrorCode::Conflict, message)
        }
        StandbyError::Store(_) | StandbyError::Hypervisor(_) => {
            ApiError::new(ErrorCode::Unavailable, message)
                .with_remedy("look at that host's disk and its agent's log")
        }
    }
}

/// `grant_lease`.
///
/// # Errors
///
/// 503 when the grant cannot be written for the watchdog, or the agent is stopping; then it
/// is not in force.
pub async fn grant_lease(
    agent: &AgentHandle,
    body: LeaseBody,
) -> Result<ClockReading, ApiError> {
    let lease = agent.lease();
    if let Some(grant) = body.grant
        && grant.from.boot == lease.boot()
    {
        let millis = Duration::from_millis;
        let grant = Grant {
            from: Duration::from_micros(grant.from.now_us),
            pause_after: millis(grant.pause_after_ms),
            kill_after: millis(grant.kill_after_ms),
            vms: grant.vms,
        };
        agent
            .grant(grant)
            .await
            .map_err(|error| ApiError::new(ErrorCode::Unavailable, error.to_string()))?;
    }
    let now_us = u64::try_from(lease::now().as_micros()).unwrap_or(u64::MAX);
    Ok(ClockReading { boot: lease.boot().to_owned(), now_us })
}

/// `read_host_report`.
///
/// # Errors
///
/// 503 when the agent is stopping.
pub async fn read_host_report(
    agent: &AgentHandle,
    params: ReportParams,
) -> Result<HostReport, ApiError> {
    let ReportParams { incarnation, begun, after, wait_ms } = params;
    let cursor = begun.zip(after).map(|(begun, after)| Cursor { begun, after });
    let wait = Duration::from_millis(wait_ms.unwrap_or(0));
    agent.report(incarnation, cursor, wait).await.map_err(|Stopping| stopping())
}

/// `read_console`.
///
/// # Errors
///
/// 404 when the host has no record of the VM, 500 when the file cannot be read.
pub async fn read_console(
    agent: &AgentHandle,
    params: ConsoleParams,
) -> Result<Console, ApiError> {
    let ConsoleParams { vm, offset, limit } = params;
    let limit = limit.unwrap_or(CONSOLE_READ_MAX).min(CONSOLE_READ_MAX);
    match agent.console(&vm, offset, limit).await {
        Ok(Some(part)) => Ok(Console {
            offset: part.offset,
            next: part.offset.saturating_add(part.bytes.len() as u64),
            text: String::from_utf8_lossy(&part.bytes).into_owned(),
        }),
        Ok(None) => {
            let message = format!("there is no VM {vm} on this host");
            Err(ApiError::new(ErrorCode::NotFound, message)
                .with_remedy("ask the host that owns it: dwcp-cli vm describe"))
        }
        Err(ConsoleError::Stopping(Stopping)) => Err(stopping()),
        Err(ConsoleError::Unreadable(error)) => {
            Err(ApiError::new(ErrorCode::Internal, format!("VM {vm}: {}", error.told())))
        }
    }
}

fn stopping() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, "the agent is stopping")
        .with_remedy("try again when it is back; its guests run on")
}
