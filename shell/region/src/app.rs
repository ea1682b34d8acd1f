//! The daemon put together: every part, in the order in which they need each other.
//!
//! Addresses are bound and data is opened before anything runs, so that whatever is wrong with
//! a machine is said at start. Then each part runs as a task of its own; when one of them ends
//! the daemon ends, because a daemon that lost a part answers wrongly, and its supervisor starts
//! it again.

mod background;
mod guard;
mod moves;
mod net;
mod places;
mod placing;
mod planes;
mod traced;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use dwcp_api::host::InstanceReport;
use dwcp_api::{Client, Routes};
use dwcp_controller::ownership::VMS_PREFIX;
use dwcp_controller::placement::Policy;
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::http::{BoundServer, Limits};
use dwcp_runtime::report_log::ReportLog;
use dwcp_runtime::store::LocalStore;
use dwcp_runtime::strong::StrongEngine;
use dwcp_runtime::tls::{Credentials, ServerTls};
use dwcp_types::{HostId, RegionId, VmId};

use tokio::task::JoinSet;
use tracing::{info, warn};

use self::background::{announce, complain, open_books, policy, record, show_books};
use self::guard::Guard;
use self::net::Net;
use self::places::{address, client_of, no_endpoint, peers, region_spec};
use self::planes::{Drain, Planes};
use crate::books::Books;
use crate::chronicle::{self, Archive, Chronicle};
use crate::commit::Committer;
use crate::config::{EngineKind, Federation, RegionSpec};
use crate::controller::{self, Controller};
use crate::engine::{Engine, EngineView, Surroundings};
use crate::events::Events;
use crate::fleet::FleetKeeper;
use crate::host_link::{HostLink, Shared};
use crate::incidents::{self, Around, Incidents};
use crate::inventory::Inventory;
use crate::lifecycle::Lifecycle;
use crate::local_guests::LocalGuests;
use crate::meter::{Meter, metered};
use crate::metrics::Metrics;
use crate::migrate::Board;
use crate::mirror::{self, Mirror};
use crate::overview;
use crate::peer_api::{self, PeerApi};
use crate::peer_link;
use crate::public_api::{self, PublicApi};
use crate::reconcile::Reconciler;
use crate::records::{REGIONS_PREFIX, RegionRecord};
use crate::region_records::RegionRecords;
use crate::removal::Remover;
use crate::reservations::Reservations;
use crate::routing::Router;
use crate::scrape::{self, Scrape};
use crate::state::{self, Opening, Plane, StateApi};
use crate::status::Status;
use crate::tokens;
use crate::traces::{Beginnings, Traces};
use crate::trail::Followed;
use crate::world::World;

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The federation's configuration.
    pub config: PathBuf,
    /// Which of its regions this daemon is.
    pub region: RegionId,
    /// Where its data is.
    pub data: PathBuf,
    /// Its certificate, key and CA: `ca.crt`, `region.crt`, `region.key`.
    pub tls: PathBuf,
    /// Another strong engine than the configuration's.
    pub engine: Option<EngineKind>,
}

/// A daemon that is bound and loaded and does not run yet.
pub struct App {
    region: RegionId,
    server: BoundServer,
    routes: Routes,
    meter: Arc<Meter>,
    scrape: Scrape,
    clock: Arc<dyn Clock>,
    tasks: JoinSet<&'static str>,
    drain: Drain,
    chronicle: Arc<Chronicle>,
    traces: Arc<Traces>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("region", &self.region).finish_non_exhaustive()
    }
}

impl App {
    /// Opens and binds everything.
    ///
    /// # Errors
    ///
    /// When the configuration, the data, the certificate or the address is not usable.
    pub async fn new(options: &Options) -> anyhow::Result<Self> {
        let (mut federation, warnings) = Federation::load(&options.config)?;
        for warning in warnings {
            warn!(%warning, "configuration");
        }
        if let Some(kind) = options.engine {
            federation.engine.choose(kind)?;
        }
        let spec = region_spec(&federation, options)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let credentials = Credentials::in_dir(&options.tls, "region");
        credentials.check_validity(clock.now())?;
        let net = Net { credentials: credentials.clone() };
        let store = LocalStore::open(&options.data.join("region.redb"))
            .map(Arc::new)
            .with_context(|| {
                format!("cannot open the data of region {}", options.region)
            })?;
        let around = Surroundings {
            region: &options.region,
            data: &options.data,
            credentials: &credentials,
            clock: &clock,
        };
        let reach = |host: &RegionId| client_of(&federation, &net, host);
        let engine = Engine::open(federation.engine.choice(), &around, reach)?.traced();
        let beginnings = Beginnings::new(&options.region, &options.data, &clock)
            .context("cannot open the folder of traces")?;
        let endpoint =
            spec.endpoint.as_ref().ok_or_else(|| no_endpoint(&options.region))?;
        let tls = ServerTls::load(credentials)?;
        let server =
            BoundServer::bind(address(endpoint).await?, tls, Limits::default()).await?;
        let metrics = Arc::new(Metrics::new(options.region.clone()));
        let archive = Archive::open(options.data.join("history"), metrics.clone())?;
        let plane = state_plane(
            &federation,
            &spec,
            options,
            &net,
            (&engine.port, &clock, &metrics),
        )
        .await?;
        let planes = Planes::bind(&federation, &spec, options, &net.credentials).await?;
        let state = plane.as_ref().map(|plane| plane.api.clone());
        let parts = Parts {
            federation,
            spec,
            net,
            store,
            engine,
            clock,
            metrics,
            archive,
            plane,
            state,
            planes,
            beginnings,
        };
        parts.assemble(server)
    }

    /// Runs until `shutdown` completes, or until a part ends by itself.
    ///
    /// # Errors
    ///
    /// When a part ended by itself.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> anyhow::Result<()> {
        let router = scrape::door(self.routes.into_router(), self.scrape);
        let router = metered(router, self.meter, self.clock.clone());
        let (ended_tx, ended_rx) = tokio::sync::oneshot::channel();
        let mut tasks = self.tasks;
        let watcher = tokio::spawn(async move {
            let ended = tasks.join_next().await;
            tasks.shutdown().await;
            let what = match ended {
                Some(Ok(name)) => format!("{name} ended"),
                Some(Err(reason)) => format!("a part failed: {reason}"),
                None => "nothing ran".to_owned(),
            };
            ended_tx.send(what).unwrap_or_default();
        });
        info!(region = %self.region, address = %self.server.address(), "serving");
        let mut broken = None;
        let stop = async {
            tokio::select! {
                () = shutdown => {}
                what = ended_rx => broken = what.ok(),
            }
            self.drain.begin();
        };
        self.server.serve(router, self.clock, stop).await;
        self.drain.ended().await;
        watcher.abort();
        self.chronicle.write();
        self.traces.finish();
        match broken {
            Some(what) => Err(anyhow!("{what}; the daemon stops to be started again")),
            None => Ok(()),
        }
    }
}

/// What everything else is made from.
struct Parts {
    federation: Federation,
    spec: RegionSpec,
    net: Net,
    store: Arc<LocalStore>,
    engine: Engine,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    archive: Archive,
    plane: Option<Plane>,
    planes: Planes,
    state: Option<Arc<StateApi>>,
    beginnings: Beginnings,
}

impl Parts {
    fn assemble(mut self, server: BoundServer) -> anyhow::Result<App> {
        let record = record(&self.spec)?;
        let (engine_door, is_keeper) = (self.engine.door.take(), self.engine.is_keeper);
        let mut tasks = JoinSet::new();
        let (plane, planes) = (self.plane.take(), std::mem::take(&mut self.planes));
        spawn(&mut tasks, "the region's store", complain(self.store.ended()));
        spawn(&mut tasks, "the strong engine", complain(self.engine.port.ended()));
        let (state, store) = (self.state.clone(), self.store.clone());
        let core = Core::open(self, &mut tasks)?;
        spawn(&mut tasks, "the router", core.router.clone().run(store));
        let scrape = core.scrape(state, planes.counted());
        core.spawn(&mut tasks, record);
        let mut routes = core.routes();
        if let Some(plane) = plane {
            core.measure(&plane, &mut tasks);
            spawn(&mut tasks, "the replica's store", complain(plane.ended));
            plane
                .tasks
                .into_iter()
                .for_each(|(name, task)| spawn(&mut tasks, name, task));
            routes = routes.merge(state::routes(&plane.api));
        }
        routes = routes.merge(core.anycast(planes.announced()));
        let drain = planes.spawn((&core.router, &core.peers), &mut tasks);
        if is_keeper {
            let sweep = tokens::sweep(core.engine.clone(), core.clock.clone());
            spawn(&mut tasks, "the token sweep", sweep);
        }
        let look = core.engine_view.clone().run(is_keeper);
        spawn(&mut tasks, "the look at the engine", look);
        if let Some(door) = engine_door {
            routes = routes.merge(door);
        }
        let Core { region, meter, clock, chronicle, traces, .. } = core;
        let routes = routes.traced(traces.tracer());
        Ok(App {
            region,
            server,
            routes,
            meter,
            scrape,
            clock,
            tasks,
            drain,
            chronicle,
            traces,
        })
    }
}

/// This region's part in replicated state; none for a region without a `state_endpoint`.
async fn state_plane(
    federation: &Federation,
    spec: &RegionSpec,
    options: &Options,
    net: &Net,
    (engine, clock, metrics): (&Arc<dyn StrongEngine>, &Arc<dyn Clock>, &Arc<Metrics>),
) -> anyhow::Result<Option<Plane>> {
    let Some(endpoint) = &spec.state_endpoint else { return Ok(None) };
    let opening = Opening {
        federation,
        region: &options.region,
        listen: address(endpoint).await?,
        data: &options.data,
        credentials: net.credentials.clone(),
        engine: engine.clone(),
        peers: peers(federation, &options.region, net)?,
        clock: clock.clone(),
        metrics: metrics.clone(),
    };
    state::open(opening).await.map(Some)
}

/// The parts that others hold on to.
struct Core {
    region: RegionId,
    policy: Policy,
    engine: Arc<dyn StrongEngine>,
    engine_view: Arc<EngineView>,
    clock: Arc<dyn Clock>,
    books: Books,
    events: Events,
    mirror: Arc<Mirror>,
    world: Arc<World>,
    meter: Arc<Meter>,
    chronicle: Arc<Chronicle>,
    metrics: Arc<Metrics>,
    log: Arc<ReportLog<VmId, Arc<InstanceReport>>>,
    fleet: Arc<FleetKeeper>,
    committer: Committer,
    reservations: Arc<Reservations>,
    inventory: Inventory,
    router: Arc<Router>,
    status: Arc<Status>,
    moves_at_once: u32,
    board: Arc<Board>,
    hosts: BTreeMap<HostId, Client>,
    peers: BTreeMap<RegionId, Client>,
    guard: Guard,
    incidents: Arc<Incidents>,
    traces: Arc<Traces>,
    followed: Arc<Followed>,
    controller: Arc<Controller>,
}

impl Core {
    /// Opens the books and events, starts their tasks, and makes the rest.
    fn open(parts: Parts, tasks: &mut JoinSet<&'static str>) -> anyhow::Result<Self> {
        let Parts { federation, spec, net, store, engine, clock, metrics, .. } = parts;
        let Parts { archive, state, beginnings, .. } = parts;
        let Engine { port: engine, view: engine_view, .. } = engine;
        let region = spec.region.id.clone();
        let peers = peers(&federation, &region, &net)?;
        let (books, events) = open_books(&region, &store, &clock, tasks)?;
        let mirror = Mirror::new(clock.clone());
        let world = Arc::new(World::new(federation.failover.timing.detection()));
        let meter = Arc::new(Meter::default());
        let zones = federation.user_zones.iter().map(|zone| zone.view.clone()).collect();
        let fleet = FleetKeeper::new(mirror.clone(), world.clone(), zones, clock.clone());
        let committer = Committer::new(region.clone(), books.clone(), engine.clone());
        let inventory = Inventory {
            mirror: mirror.clone(),
            world: world.clone(),
            fleet: fleet.clone(),
            clock: clock.clone(),
        };
        let shared = (&world, &metrics, &engine, &clock);
        let (traces, followed) =
            traced::start(beginnings, (&federation, &region), &peers, shared, tasks);
        let reservations =
            Reservations::new(books.clone(), committer.clone(), followed.clone());
        let guard = Guard::of(&federation);
        let router = Router::new(&federation, &region, &inventory, &engine, &metrics)?;
        let seen = guard.wardship.is_some().then(|| guard.seen.subscribe());
        let interval = federation.monitoring.interval;
        let chronicle = Chronicle::new(region.clone(), interval, clock.clone(), archive);
        let around =
            Around::new((&inventory, &engine, &metrics), (seen, &chronicle), state);
        let incidents = Incidents::new(&federation, &region, around)?;
        let decides = (fleet.clone(), metrics.clone());
        let controller =
            Controller::new(region.clone(), decides, peers.clone(), clock.clone());
        Ok(Self {
            controller,
            policy: policy(&federation),
            reservations: Arc::new(reservations),
            router,
            moves_at_once: federation.controller.max_concurrent_migrations,
            board: Arc::default(),
            status: Status::new(
                region.clone(),
                engine_view.clone(),
                inventory.clone(),
                (meter.clone(), chronicle.clone(), incidents.clone()),
                clock.clone(),
            ),
            log: Arc::new(ReportLog::new(clock.now().as_millis())),
            hosts: net.hosts(&spec)?,
            peers,
            guard,
            region,
            engine,
            engine_view,
            clock,
            books,
            events,
            mirror,
            world,
            meter,
            chronicle,
            incidents,
            traces,
            followed,
            metrics,
            fleet,
            committer,
            inventory,
        })
    }

    /// Starts every part that runs by itself.
    fn spawn(&self, tasks: &mut JoinSet<&'static str>, record: RegionRecord) {
        for prefix in [VMS_PREFIX, REGIONS_PREFIX] {
            let follow = mirror::follow(self.mirror.clone(), self.engine.clone(), prefix);
            spawn(tasks, "the mirror", follow);
        }
        spawn(tasks, "the fleet", self.fleet.clone().run());
        spawn(tasks, "the roll-forward", self.committer.clone().roll_forward());
        spawn(tasks, "the status", self.status.clone().run());
        spawn(tasks, "the moves", self.migrations().run());
        spawn(tasks, "the evacuator", self.evacuator().run());
        self.watch(tasks);
        spawn(tasks, "the replicas", self.replicator().run());
        spawn(tasks, "the keeper of copies", self.keeper().run());
        let reconciler = Reconciler {
            region: self.region.clone(),
            engine: self.engine.clone(),
            books: self.books.clone(),
            events: self.events.clone(),
        };
        spawn(tasks, "the reconciler", reconciler.run());
        let shown =
            show_books(self.region.clone(), self.books.follow(), self.world.clone());
        spawn(tasks, "the view of the books", shown);
        spawn(tasks, "the announcement", announce(self.region_records(), record));
        for (host, client) in &self.hosts {
            let link = HostLink::new(host.clone(), client.clone(), self.shared());
            spawn(tasks, "a host's reader", link.clone().read());
            spawn(tasks, "a host's writer", link.instruct());
        }
        if let Some(wardship) = &self.guard.wardship {
            spawn(tasks, "the warden", self.warden(wardship).run());
        }
        if let Some(rescuer) = self.rescuer() {
            spawn(tasks, "the rescuer", rescuer.run());
        }
        for (peer, client) in &self.peers {
            let follow = peer_link::follow(
                peer.clone(),
                client.clone(),
                (self.world.clone(), self.chronicle.clone()),
                self.clock.clone(),
            );
            spawn(tasks, "a peer's link", follow);
        }
    }

    fn shared(&self) -> Shared {
        Shared {
            region: self.region.clone(),
            world: self.world.clone(),
            log: self.log.clone(),
            mirror: self.mirror.clone(),
            remover: Remover {
                engine: self.engine.clone(),
                mirror: self.mirror.clone(),
                books: self.books.clone(),
                events: self.events.clone(),
            },
            lifecycle: self.lifecycle(),
            books: self.books.clone(),
            events: self.events.clone(),
            lease: self.guard.lease(),
            followed: self.followed.clone(),
            tracer: self.traces.tracer().clone(),
            clock: self.clock.clone(),
        }
    }

    fn lifecycle(&self) -> Lifecycle {
        Lifecycle { engine: self.engine.clone(), clock: self.clock.clone() }
    }

    fn region_records(&self) -> RegionRecords {
        RegionRecords { engine: self.engine.clone(), mirror: self.mirror.clone() }
    }

    fn local_guests(&self) -> LocalGuests {
        LocalGuests {
            mirror: self.mirror.clone(),
            hosts: self.hosts.clone(),
            events: self.events.clone(),
        }
    }

    /// The doors of operators and of peers.
    fn routes(&self) -> Routes {
        let public = Arc::new(PublicApi {
            region: self.region.clone(),
            placer: self.placer(),
            lifecycle: self.lifecycle(),
            capacity: self.capacity(),
            inventory: self.inventory.clone(),
            regions: self.region_records(),
            status: self.status.clone(),
            local: self.local_guests(),
            rescuer: self.rescuer(),
            migrations: self.migrations(),
            trials: self.trials(),
            evacuator: self.evacuator(),
            router: self.router.clone(),
            peers: self.peers.clone(),
        });
        let peer = Arc::new(PeerApi {
            region: self.region.clone(),
            world: self.world.clone(),
            hosts: self.books.follow(),
            log: self.log.clone(),
            reservations: self.reservations.clone(),
            local: self.local_guests(),
            seen: self.guard.seen.subscribe(),
            reach: self.reach(),
            trials: self.trials(),
            meter: self.meter.clone(),
            chronicle: self.chronicle.clone(),
            clock: self.clock.clone(),
        });
        public_api::routes(&public)
            .merge(peer_api::routes(&peer))
            .merge(incidents::routes(&self.incidents))
            .merge(chronicle::routes(&self.measured()))
            .merge(self.traces.routes())
            .merge(overview::routes(&self.overviews()))
            .merge(controller::routes(&self.controller))
    }
}

fn spawn(
    tasks: &mut JoinSet<&'static str>,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(async move {
        task.await;
        name
    });
}
