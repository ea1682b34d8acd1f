//! Binds the operations to HTTP on the agent's local socket, `DATA/agent.sock`.
//!
//! The socket is for whoever may read the data folder (its owner), so it needs no TLS; the
//! same router goes behind TLS for the region's daemon.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use axum::Json;
use axum::Router;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use dwcp_api::host::{
    ConsoleParams, InstanceParams, Instruction, PutInstance, ReadConsole, ReadHostReport,
    ReportParams,
};
use dwcp_api::{ApiError, ErrorCode, Operation};
use dwcp_types::VmId;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use crate::api;
use crate::handle::AgentHandle;

/// An instruction has some hundred bytes.
const BODY_MAX: usize = 64 * 1024;

/// The agent's operations.
pub fn router(agent: AgentHandle) -> Router {
    Router::new()
        .route(PutInstance::PATH, put(put_instance))
        .route(ReadHostReport::PATH, get(read_host_report))
        .route(ReadConsole::PATH, get(read_console))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(agent)
}

async fn put_instance(
    State(agent): State<AgentHandle>,
    path: Result<UrlPath<VmId>, PathRejection>,
    body: Result<Json<Instruction>, JsonRejection>,
) -> Response {
    let (UrlPath(vm), Json(body)) = match (path, body) {
        (Ok(path), Ok(body)) => (path, body),
        (Err(error), _) => return invalid(&error.body_text()),
        (_, Err(error)) => return invalid(&error.body_text()),
    };
    answer(api::put_instance(&agent, InstanceParams { vm }, body).await)
}

async fn read_host_report(
    State(agent): State<AgentHandle>,
    query: Result<Query<ReportParams>, QueryRejection>,
) -> Response {
    match query {
        Ok(Query(params)) => answer(api::read_host_report(&agent, params).await),
        Err(error) => invalid(&error.body_text()),
    }
}

#[derive(Debug, Deserialize)]
struct Part {
    offset: Option<u64>,
    limit: Option<u32>,
}

async fn read_console(
    State(agent): State<AgentHandle>,
    path: Result<UrlPath<VmId>, PathRejection>,
    query: Result<Query<Part>, QueryRejection>,
) -> Response {
    let (UrlPath(vm), Query(Part { offset, limit })) = match (path, query) {
        (Ok(path), Ok(query)) => (path, query),
        (Err(error), _) => return invalid(&error.body_text()),
        (_, Err(error)) => return invalid(&error.body_text()),
    };
    answer(api::read_console(&agent, ConsoleParams { vm, offset, limit }).await)
}

fn invalid(reason: &str) -> Response {
    answer::<()>(Err(ApiError::new(ErrorCode::Invalid, reason)))
}

fn answer<T: Serialize>(result: Result<T, ApiError>) -> Response {
    match result {
        Ok(reply) => Json(reply).into_response(),
        Err(error) => {
            let status = StatusCode::from_u16(error.code.status());
            let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, Json(error)).into_response()
        }
    }
}

/// Why the local socket cannot be served.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot serve the local socket {path}: {source}; its path may have 107 bytes at most"
)]
pub struct LocalError {
    path: PathBuf,
    source: io::Error,
}

/// The local socket, bound. Only the holder of the data folder's lock may call this: it
/// replaces the socket of an agent that died.
///
/// # Errors
///
/// When the socket cannot be made.
pub fn bind_local(data: &Path) -> Result<UnixListener, LocalError> {
    let path = data.join("agent.sock");
    let bind = || {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bind().map_err(|source| LocalError { path: path.clone(), source })
}
