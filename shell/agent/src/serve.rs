//! Binds the operations to HTTP: behind mutual TLS for the region's daemon, or on a local
//! socket, `DATA/agent.sock`, for whoever owns the data folder.
//!
//! Only the daemon of the agent's own region may instruct it. The local socket is there when
//! no address is configured; it needs no TLS, because the folder lets in only its owner.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use dwcp_api::host::{
    DropStandby, DropTrial, GetMachine, GetMove, GetTrial, GrantLease, ListStandbys,
    PutCopy, PutInstance, PutMove, PutStandby, PutTrial, ReadConsole, ReadHostReport,
};
use dwcp_api::{ApiError, Caller, Routes};
use dwcp_runtime::tls::{Identity, Peer};
use dwcp_types::{HostId, RegionId, Timestamp};
use tokio::net::UnixListener;

use crate::api;
use crate::handle::AgentHandle;

/// An instruction has some hundred bytes; a grant some forty for each of its guests, of which
/// a host has thousands at most.
pub(crate) const BODY_MAX: usize = 1024 * 1024;

/// Who the agent is, and so whom it obeys.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Its region, whose daemon instructs it.
    pub region: RegionId,
    /// Its host, under whose name its local socket speaks.
    pub host: HostId,
}

impl Owner {
    fn admit(&self, caller: &Caller) -> Result<(), ApiError> {
        let own_region = Identity::Region(self.region.clone());
        if caller.identity == own_region || caller.identity == self.local() {
            return Ok(());
        }
        Err(caller.forbidden(&own_region.to_string()))
    }

    fn local(&self) -> Identity {
        Identity::Host { region: self.region.clone(), host: self.host.clone() }
    }
}

/// The agent's operations.
#[must_use]
pub fn routes(agent: &AgentHandle, owner: &Owner) -> Routes {
    let owner = Arc::new(owner.clone());
    let parts = || (agent.clone(), Arc::clone(&owner));
    let (put, report, console, lease) = (parts(), parts(), parts(), parts());
    let (order, stage, machine) = (parts(), parts(), parts());
    let routes = with_copies(Routes::new().with_body_len_max(BODY_MAX), &parts);
    with_trials(routes, &parts)
        .bind::<PutInstance, _, _>(move |caller, params, body| {
            let (agent, owner) = put.clone();
            async move {
                owner.admit(&caller)?;
                api::put_instance(&agent, params, body).await
            }
        })
        .bind::<GrantLease, _, _>(move |caller, _, body| {
            let (agent, owner) = lease.clone();
            async move {
                owner.admit(&caller)?;
                api::grant_lease(&agent, body).await
            }
        })
        .bind::<ReadHostReport, _, _>(move |caller, params, ()| {
            let (agent, owner) = report.clone();
            async move {
                owner.admit(&caller)?;
                api::read_host_report(&agent, params).await
            }
        })
        .bind::<PutMove, _, _>(move |caller, params, body| {
            let (agent, owner) = order.clone();
            async move {
                owner.admit(&caller)?;
                api::put_move(&agent, params, body).await
            }
        })
        .bind::<GetMove, _, _>(move |caller, params, ()| {
            let (agent, owner) = stage.clone();
            async move {
                owner.admit(&caller)?;
                api::get_move(&agent, params).await
            }
        })
        .bind::<GetMachine, _, _>(move |caller, params, ()| {
            let (agent, owner) = machine.clone();
            async move {
                owner.admit(&caller)?;
                api::get_machine(&agent, params).await
            }
        })
        .bind::<ReadConsole, _, _>(move |caller, params, ()| {
            let (agent, owner) = console.clone();
            async move {
                owner.admit(&caller)?;
                api::read_console(&agent, params).await
            }
        })
}

/// Those about copies of disks.
fn with_copies(routes: Routes, parts: &dyn Fn() -> (AgentHandle, Arc<Owner>)) -> Routes {
    let (copy, keep, drop, kept) = (parts(), parts(), parts(), parts());
    routes
        .bind::<PutCopy, _, _>(move |caller, params, body| {
            let (agent, owner) = copy.clone();
            async move {
                owner.admit(&caller)?;
                api::put_copy(&agent, params, body).await
            }
        })
        .bind::<PutStandby, _, _>(move |caller, params, body| {
            let (agent, owner) = keep.clone();
            async move {
                owner.admit(&caller)?;
                api::put_standby(&agent, params, body).await
            }
        })
        .bind::<DropStandby, _, _>(move |caller, params, ()| {
            let (agent, owner) = drop.clone();
            async move {
                owner.admit(&caller)?;
                api::drop_standby(&agent, params).await
            }
        })
        .bind::<ListStandbys, _, _>(move |caller, _, ()| {
            let (agent, owner) = kept.clone();
            async move {
                owner.admit(&caller)?;
                api::list_standbys(&agent).await
            }
        })
}

/// Those about trials of failovers.
fn with_trials(routes: Routes, parts: &dyn Fn() -> (AgentHandle, Arc<Owner>)) -> Routes {
    let (put, get, end) = (parts(), parts(), parts());
    routes
        .bind::<PutTrial, _, _>(move |caller, params, body| {
            let (agent, owner) = put.clone();
            async move {
                owner.admit(&caller)?;
                api::put_trial(&agent, params, body).await
            }
        })
        .bind::<GetTrial, _, _>(move |caller, params, ()| {
            let (agent, owner) = get.clone();
            async move {
                owner.admit(&caller)?;
                api::get_trial(&agent, params).await
            }
        })
        .bind::<DropTrial, _, _>(move |caller, params, ()| {
            let (agent, owner) = end.clone();
            async move {
                owner.admit(&caller)?;
                api::drop_trial(&agent, params).await
            }
        })
}

/// The same for the local socket: whoever opens it speaks as the host.
pub fn local_router(agent: &AgentHandle, owner: &Owner) -> Router {
    let peer = Peer {
        identity: owner.local(),
        not_before: Timestamp::from_millis(0),
        not_after: Timestamp::from_millis(u64::MAX),
    };
    let speak = move |mut request: Request, next: Next| {
        request.extensions_mut().insert(peer.clone());
        async move { next.run(request).await }
    };
    routes(agent, owner).into_router().layer(from_fn(speak))
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
