//! The operations of `dwcp_api::host` on an agent: one plain function each, which whatever
//! server there is binds to its route.

use std::time::Duration;

use dwcp_api::host::{
    Acknowledged, Console, ConsoleParams, HostReport, InForce, InstanceParams,
    Instruction, ReportParams,
};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_runtime::crash::crash_point;
use dwcp_vm::GuestSpec;

use crate::handle::{AgentHandle, ConsoleError, PutError, Stopping};
use crate::news::Cursor;

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
    let Instruction { epoch, generation, power, shape, image, address } = body;
    let guest = GuestSpec { shape, image, address };
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
        PutError::NotKept { .. } => ApiError::new(ErrorCode::Unavailable, message)
            .with_remedy("make room on the host's disk; nothing was done"),
        PutError::Unsure { .. } => ApiError::new(ErrorCode::Indeterminate, message)
            .with_remedy("give the same instruction again"),
        PutError::Busy { .. } => ApiError::new(ErrorCode::Busy, message),
        PutError::Stopping => stopping(),
    }
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
