//! Feeds the proxy, and writes its access log.
//!
//! The proxy asks nobody either: it is handed tables, and knows other regions by certificates that
//! follow their files.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use dwcp_edge::Network;
use dwcp_edge::proxy::{
    AccessLine, Carried, Counters, Front, Group, Listening, Probe, Server, ServiceSpec,
    Sites, Trust, View, Ward,
};
use dwcp_runtime::clock::Clock;
use dwcp_runtime::tls::{
    ClientConfig, ClientTls, Credentials, ExpectedServer, FrontTls, Identity, Peer,
    ServerConfig, ServerTls,
};
use dwcp_types::RegionId;
use serde::Serialize;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::sync::{mpsc, watch};
use tracing::{error, info};

use super::Router;
use super::sessions::Sealer;
use crate::config::{Federation, Prefix, Reach};

/// Lines of the access log that wait to be written: as many as come in a tenth of a second.
const LINES_MAX: usize = 8_192;
/// Length of the access log, in bytes, at which it is begun anew; the one before is kept.
const LOG_LEN_MAX: u64 = 256 << 20;

/// Where a proxy is opened.
#[derive(Debug)]
pub(crate) struct Place<'p> {
    pub(crate) federation: &'p Federation,
    pub(crate) region: &'p RegionId,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) credentials: &'p Credentials,
    /// The folder of the daemon's data.
    pub(crate) data: &'p std::path::Path,
}

/// A proxy that is bound and does not answer yet.
#[derive(Debug)]
pub(crate) struct RequestPlane {
    server: Server,
    sites: Sites,
    wards: Vec<Ward>,
    counters: Arc<Counters>,
    log: Option<(mpsc::Receiver<AccessLine>, PathBuf)>,
}

impl RequestPlane {
    /// Binds it.
    ///
    /// # Errors
    ///
    /// When the address is in use or not this machine's, or a certificate cannot be used.
    pub(crate) async fn bind(place: Place<'_>) -> anyhow::Result<Self> {
        let Place { federation, region, address, .. } = place;
        let config = &federation.routing.proxy;
        let tls = config.tls.as_ref();
        let tls =
            tls.map(|tls| FrontTls::load(&tls.certificate, &tls.key)).transpose()?;
        let tls = tls.map(|tls| -> Arc<dyn Front> { Arc::new(Shown(tls)) });
        let (lines, log) = if config.access_log {
            let (lines, log) = mpsc::channel(LINES_MAX);
            (Some(lines), Some((log, place.data.join("access.log"))))
        } else {
            (None, None)
        };
        let listening = Listening {
            address,
            limits: config.limits,
            trusted: networks(&config.trusted),
            preface: networks(&config.preface),
            explains: networks(&config.explains),
            tls,
            log: lines,
        };
        let regions = federation.regions.iter().map(|spec| &spec.region.id);
        let counters = Arc::new(Counters::of(regions));
        let mut server = Server::bind(listening, counters.clone(), region.as_str())
            .await
            .with_context(|| format!("cannot take requests at {address}"))?;
        let (sites, wards) = sites(&place)?;
        server
            .bind_ports(&sites)
            .await
            .with_context(|| format!("cannot take connections at {}", address.ip()))?;
        info!(%address, "taking requests");
        Ok(Self { server, sites, wards, counters, log })
    }

    /// What it counts.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }
}

fn networks(prefixes: &[Prefix]) -> Vec<Network> {
    let network =
        |prefix: &Prefix| Network { address: prefix.base(), len: prefix.bits(), cell: 0 };
    prefixes.iter().map(network).collect()
}

fn sites(place: &Place<'_>) -> anyhow::Result<(Sites, Vec<Ward>)> {
    let (federation, own) = (place.federation, place.region);
    let mut wards = Vec::new();
    let services = federation.routing.services.iter().map(|spec| {
        let reach = &spec.reach;
        let group = reach.upstreams.get(own).map(|servers| {
            let servers: Vec<Arc<str>> =
                servers.iter().map(|server| server.to_string().into()).collect();
            let (group, ward) = Group::new(&servers, probe(reach));
            wards.push(ward);
            group
        });
        let hosts = spec.hosts.iter().chain(&reach.domains);
        ServiceSpec {
            id: spec.service.id.clone(),
            hosts: hosts.map(ToString::to_string).collect(),
            regions: reach.upstreams.keys().cloned().collect(),
            group,
            passing: reach.passing,
            session: spec.service.sticky.then_some(reach.session_timeout),
        }
    });
    let services = services.collect();
    let others = federation.regions.iter().filter(|spec| spec.region.id != *own);
    let peers: BTreeMap<RegionId, Arc<str>> = others
        .filter_map(|spec| {
            let at = spec.proxy_endpoint.as_ref()?.to_string();
            Some((spec.region.id.clone(), at.into()))
        })
        .collect();
    let trust = Certificates::load(place.credentials, peers.keys())?;
    Ok((Sites::new(own.clone(), services, peers, Some(Arc::new(trust))), wards))
}

/// How servers of a service are probed.
fn probe(reach: &Reach) -> Probe {
    let carried = reach.passing.map(|passing| passing.carried);
    match (&reach.health_path, carried) {
        (Some(path), _) => Probe::Request(path.as_str().into()),
        (None, Some(Carried::Datagrams)) => Probe::Datagram,
        (None, Some(Carried::Connections) | None) => Probe::Connection,
    }
}

/// What clients are shown.
#[derive(Debug)]
struct Shown(FrontTls);

impl Front for Shown {
    fn current(&self) -> Arc<ServerConfig> {
        self.0.current()
    }
}

/// How regions' proxies know each other.
#[derive(Debug)]
struct Certificates {
    server: ServerTls,
    clients: BTreeMap<RegionId, ClientTls>,
}

impl Certificates {
    fn load<'r>(
        credentials: &Credentials,
        peers: impl Iterator<Item = &'r RegionId>,
    ) -> anyhow::Result<Self> {
        let server = ServerTls::load(credentials.clone())?;
        let client = |id: &RegionId| {
            let who = ExpectedServer::Identity(Identity::Region(id.clone()));
            Ok((id.clone(), ClientTls::load(credentials.clone(), who)?))
        };
        let clients = peers.map(client).collect::<anyhow::Result<_>>()?;
        Ok(Self { server, clients })
    }
}

impl Trust for Certificates {
    fn server(&self, protocol: &[u8]) -> Arc<ServerConfig> {
        self.server.speaking(protocol)
    }

    fn client(&self, region: &RegionId, protocol: &[u8]) -> Option<Arc<ClientConfig>> {
        self.clients.get(region).map(|client| client.speaking(protocol))
    }

    fn region(&self, certificate: &[u8]) -> Option<RegionId> {
        match Peer::from_der(certificate).ok()?.identity {
            Identity::Region(region) => Some(region),
            Identity::Host { .. }
            | Identity::Engine(_)
            | Identity::Admin(_)
            | Identity::Monitor(_) => None,
        }
    }
}

impl Router {
    /// Answers requests by the newest table until `stop` completes, and then those that are under
    /// way.
    pub(crate) async fn answer_requests(
        self: Arc<Self>,
        plane: RequestPlane,
        stop: impl Future<Output = ()> + Send,
    ) {
        let RequestPlane { server, mut sites, wards, log, .. } = plane;
        let mut beside = tokio::task::JoinSet::new();
        if self.parts.config.services.iter().any(|spec| spec.service.sticky) {
            let sealer = Sealer::new(self.parts.inventory.clock.clone());
            beside.spawn(sealer.clone().follow(self.parts.engine.clone()));
            sites = sites.sealed_by(sealer);
        }
        let sites = Arc::new(sites);
        let (views, newest) = watch::channel(Arc::new(View::new(sites.clone(), None)));
        for ward in wards {
            beside.spawn(ward.run());
        }
        let clock = self.parts.inventory.clock.clone();
        let log = async {
            if let Some((lines, path)) = log {
                write(lines, path, clock).await;
            }
        };
        let shown = self.follow_tables(|steering| {
            views.send_replace(Arc::new(View::new(sites.clone(), Some(steering))));
        });
        // The log ends when the last of its senders has, with the server.
        tokio::select! {
            ((), ()) = async { tokio::join!(server.run(newest, stop), log) } => {}
            () = shown => {}
        }
    }
}

/// A line.
#[derive(Debug, Serialize)]
struct Line<'l> {
    at_ms: u64,
    #[serde(flatten)]
    record: &'l AccessLine,
}

/// Writes lines until nobody sends any. A disk that fails costs lines and no request.
async fn write(
    mut lines: mpsc::Receiver<AccessLine>,
    path: PathBuf,
    clock: Arc<dyn Clock>,
) {
    let mut broken = false;
    let mut log = None;
    while let Some(record) = lines.recv().await {
        let line = Line { at_ms: clock.now().as_millis(), record: &record };
        let Ok(mut line) = serde_json::to_vec(&line) else { continue };
        line.push(b'\n');
        let rest = lines.is_empty();
        let written = append(&mut log, &path, &line, rest).await;
        if let Err(reason) = &written
            && !broken
        {
            error!(path = %path.display(), %reason, "the access log cannot be written");
        }
        broken = written.is_err();
    }
}

/// An open log and its length in bytes.
type Log = (BufWriter<File>, u64);

async fn append(
    log: &mut Option<Log>,
    path: &PathBuf,
    line: &[u8],
    flush: bool,
) -> io::Result<()> {
    let (mut file, len) = match log.take() {
        Some(open) if open.1 < LOG_LEN_MAX => open,
        Some((mut full, _)) => {
            full.flush().await?;
            fs::rename(path, path.with_extension("log.1")).await?;
            open(path).await?
        }
        None => open(path).await?,
    };
    file.write_all(line).await?;
    if flush {
        file.flush().await?;
    }
    let len = len.saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX));
    *log = Some((file, len));
    Ok(())
}

async fn open(path: &PathBuf) -> io::Result<Log> {
    // Paths may hold what is nobody else's business.
    let file =
        OpenOptions::new().create(true).append(true).mode(0o600).open(path).await?;
    let len = file.metadata().await?.len();
    Ok((BufWriter::new(file), len))
}
