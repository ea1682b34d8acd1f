//! Our proxy on one thread: before servers of requests, or of connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use dwcp_edge::proxy::{
    Carried, Counters, Group, Listening, Passing, Probe, Server, ServiceSpec, Sites, View,
};
use dwcp_edge::{Clients, Steering};
use dwcp_router::{FailMode, Requirement, Standing, Table};
use rustix::time::ClockId;
use tokio::sync::{oneshot, watch};

use super::{HOST, free};
use crate::bench::nanos::{float, now};
use crate::bench::routing::world::world;

/// What it passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Requests,
    Connections,
}

/// What is carried for a second of CPU time, when so much is asked of it.
pub(super) fn round(
    origin: SocketAddr,
    what: What,
    ask: impl FnOnce(SocketAddr) -> anyhow::Result<f64>,
) -> anyhow::Result<f64> {
    let (completed, nanos) = before(&[origin], what, ask)?;
    Ok(completed / (float(nanos) / 1e9))
}

/// Runs it before these servers while somebody asks: what that one says, and the CPU time that was
/// taken, in nanoseconds.
pub(super) fn before<T>(
    origins: &[SocketAddr],
    what: What,
    ask: impl FnOnce(SocketAddr) -> anyhow::Result<T>,
) -> anyhow::Result<(T, u64)> {
    let (said, heard) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let origins: Vec<Arc<str>> =
        origins.iter().map(|origin| origin.to_string().into()).collect();
    let server = std::thread::spawn(move || serve((&origins, what), &said, stopped));
    // When it could not be bound the thread has ended and says why.
    let asked = heard.recv().map(ask);
    drop(stop);
    let nanos = server.join().map_err(|_| anyhow!("the proxy panicked"))??;
    Ok((asked??, nanos))
}

/// Answers until told to stop; the CPU time that it took.
fn serve(
    (origins, what): (&[Arc<str>], What),
    said: &mpsc::Sender<SocketAddr>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<u64> {
    let table = table()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let own = table.inputs().sites.first().context("a region")?.id.clone();
        let listening = Listening::at(free()?);
        let counters = Arc::new(Counters::of([&own]));
        let mut server = Server::bind(listening, counters, own.as_str()).await?;
        let probe = match what {
            What::Requests => Probe::Request("/".into()),
            What::Connections => Probe::Connection,
        };
        let (group, ward) = Group::new(origins, probe);
        let service = ServiceSpec {
            id: table.inputs().services.first().context("a service")?.id.clone(),
            hosts: vec![HOST.to_owned()],
            regions: [own.clone()].into(),
            group: Some(group),
            passing: (what == What::Connections).then_some(Passing {
                carried: Carried::Connections,
                port: 0,
                idle_time_max: Duration::from_mins(1),
                announce: None,
            }),
            session: None,
        };
        let id = service.id.clone();
        let sites = Sites::new(own, vec![service], BTreeMap::new(), None);
        server.bind_ports(&sites).await?;
        let address = server.port(&id).map_or_else(|| server.address(), Ok)?;
        let steering = Steering {
            table: Arc::new(table),
            standing: Standing::ALL,
            clients: Arc::new(Clients::new(&[], 0)),
        };
        let view = Arc::new(View::new(Arc::new(sites), Some(steering)));
        said.send(address).context("nobody asks")?;
        let (_views, newest) = watch::channel(view);
        let start = now(ClockId::ThreadCPUTime);
        tokio::select! {
            () = ward.run() => {}
            () = server.run(newest, async { drop(stopped.await) }) => {}
        }
        Ok(now(ClockId::ThreadCPUTime) - start)
    })
}

/// The table of the other benchmarks, whose first service is this region's only.
fn table() -> anyhow::Result<Table> {
    let mut inputs = world(0);
    inputs.sites.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    let own = inputs.sites.first().context("a region")?.id.clone();
    inputs.services.iter_mut().for_each(|service| service.fail = FailMode::Open);
    let first = inputs.services.first_mut().context("a service")?;
    first.regions = [own].into();
    first.requirements = [Requirement::default(); 3];
    Table::build(inputs, 1, None).map_err(|why| anyhow!("{why:?}"))
}
