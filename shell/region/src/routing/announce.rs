//! Announces shared addresses to the router next to this region, as long as it is fit to answer,
//! and says how that stands in all regions (R11 to R13).
//!
//! The verdict is the core's (`dwcp_router::anycast`), of what this daemon knows of its own region and
//! what the others of a group say once a second: whether they are fit, and whether their routers were
//! told. The session is the edge's. Fit is a region that is enabled, is not drained or emptied, and
//! can bring a request for the service anywhere; how its hosts of VMs fare is another matter. While
//! the daemon stops the addresses go first, and the proxy answers on until they are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_api::peer::GetPeerAnycast;
use dwcp_api::routing::{AnycastBfd, AnycastItem, AnycastReply, GetAnycast};
use dwcp_api::{ApiError, Client, NoParams, Routes};
use dwcp_edge::anycast::{Neighbor, Spoken, Watched, speak, watch_over};
use dwcp_router::anycast::{Fitness, Gate, Why};
use dwcp_router::bfd::{Diagnostic, State};
use dwcp_router::{Class, Key, decide};
use dwcp_types::{RegionId, ServiceId, millis};
use tokio::sync::watch;
use tracing::{info, warn};

use super::Router;
use crate::bind::bind;
use crate::config::{Federation, GroupSpec};
use crate::fan::ask_each;
use crate::{peer_api, public_api};

/// How often is looked: what is known of regions changes as often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the others of a group are asked, and time for an answer: also of whoever operators ask.
const ASK_EVERY: Duration = Duration::from_secs(1);
const PEER_TIME_MAX: Duration = Duration::from_secs(2);
/// What another region said longer ago says nothing: two answers may be missed.
const SAID_AGE_MAX: Duration = Duration::from_secs(3);

/// What this region announces, to whom, and how that stands.
#[derive(Debug)]
pub(crate) struct AnnouncePlane {
    region: RegionId,
    neighbor: Neighbor,
    groups: Vec<GroupSpec>,
    standing: Arc<Announced>,
}

/// When another region last said that it is fit and announces, by group.
type Said = Mutex<BTreeMap<String, Duration>>;

/// How announcements stand in this region.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    verdicts: Mutex<BTreeMap<String, Why>>,
    spoken: watch::Sender<Spoken>,
    /// The way to the router.
    watched: watch::Sender<Watched>,
}

impl AnnouncePlane {
    /// What the file wants of a region; nothing when it shares no address.
    pub(crate) fn of(federation: &Federation, region: &RegionId) -> Option<Self> {
        let anycast = &federation.routing.anycast;
        let router = anycast.routers.iter().find(|router| router.region == *region)?;
        let shared = |group: &&GroupSpec| group.regions.contains(region);
        let groups: Vec<_> = anycast.groups.iter().filter(shared).cloned().collect();
        let (neighbor, standing) = (router.neighbor.clone(), Arc::default());
        let region = region.clone();
        (!groups.is_empty()).then_some(Self { region, neighbor, groups, standing })
    }

    /// Where requests are taken in a region that shares addresses: at all that it has, because the
    /// shared ones may come and go.
    pub(crate) fn listens(&self) -> IpAddr {
        if self.groups.iter().any(|group| group.virtual_ip.is_ipv6()) {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        }
    }

    /// How it stands, for whoever asks.
    pub(crate) fn door(&self) -> Arc<AnnounceDoor> {
        Arc::new(AnnounceDoor {
            region: self.region.clone(),
            router: self.neighbor.address.to_string(),
            bfd: self.neighbor.bfd.is_some(),
            groups: self.groups.clone(),
            standing: self.standing.clone(),
        })
    }
}

impl Announced {
    fn verdicts(&self) -> MutexGuard<'_, BTreeMap<String, Why>> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Router {
    /// Announces until `stop` completes, and then until all is taken back. `peers` are the daemons
    /// of all other regions: those that share an address are asked.
    pub(crate) async fn announce(
        self: Arc<Self>,
        plane: AnnouncePlane,
        mut peers: BTreeMap<RegionId, Client>,
        stop: impl Future<Output = ()> + Send,
    ) {
        let AnnouncePlane { neighbor, groups, standing, .. } = plane;
        peers.retain(|id, _| groups.iter().any(|group| group.regions.contains(id)));
        let (want, wanted) = watch::channel(Arc::default());
        let (bfd, router) = (neighbor.bfd, neighbor.address);
        let (over, mut is_over) = watch::channel(());
        let (spoken, watched) = (standing.spoken.clone(), standing.watched.clone());
        let session = async {
            speak(neighbor, wanted, spoken, standing.watched.subscribe()).await;
            drop(over);
        };
        // In order it ends after the session: while that lasts its way is watched.
        let way = async {
            let Some(bfd) = bfd else { return };
            let stop = async { while is_over.changed().await.is_ok() {} };
            watch_over(bfd, router, stop, watched).await;
        };
        let said = Said::default();
        let looks = async {
            tokio::select! {
                () = self.look(&groups, (&standing, &said), &want) => {}
                () = self.ask_others(&peers, &said) => {}
                () = stop => {}
            }
            // Nobody wants anything any more: the session takes all back, and ends.
            want.send_replace(Arc::default());
            drop(want);
        };
        tokio::join!(session, way, looks);
    }

    /// Notes for ever what the others of the groups say.
    async fn ask_others(&self, others: &BTreeMap<RegionId, Client>, said: &Said) {
        let mut tick = tokio::time::interval(ASK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let asked =
                ask_each::<GetPeerAnycast>(others.iter(), &NoParams {}, PEER_TIME_MAX);
            let (parts, _) = asked.await;
            let now = self.clock().monotonic();
            let all = parts.into_iter().flat_map(|part| part.items);
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            for item in all.filter(|item| item.fit && item.announced) {
                said.insert(item.group, now);
            }
        }
    }

    async fn look(
        &self,
        groups: &[GroupSpec],
        (standing, said): (&Announced, &Said),
        want: &watch::Sender<Arc<BTreeSet<IpAddr>>>,
    ) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut gates: Vec<Gate> = vec![Gate::default(); groups.len()];
        loop {
            tick.tick().await;
            // Before there is a table nothing is known, and nothing is announced.
            if self.made.borrow().is_none() {
                continue;
            }
            let now = self.clock().monotonic();
            let mut addresses = BTreeSet::new();
            for (group, gate) in groups.iter().zip(&mut gates) {
                let elsewhere = {
                    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    let at = said.get(&group.id);
                    at.is_some_and(|at| now.saturating_sub(*at) < SAID_AGE_MAX)
                };
                let why = gate.look(self.fitness(&group.service), elsewhere, now);
                if why.announces() {
                    addresses.insert(group.virtual_ip);
                }
                let before = standing.verdicts().insert(group.id.clone(), why);
                if before.map(Why::announces) != Some(why.announces()) {
                    let (announced, why) = (why.announces(), said_of(why));
                    let address = group.virtual_ip;
                    info!(group = group.id, %address, announced, why, "a shared address");
                    if let Some(warning) = lack(address).filter(|_| announced) {
                        warn!(group = group.id, %address, warning, "a shared address");
                    }
                }
            }
            want.send_if_modified(|before| {
                let changed = **before != addresses;
                if changed {
                    *before = Arc::new(addresses);
                }
                changed
            });
        }
    }

    /// How fit this region is to answer for a service.
    fn fitness(&self, service: &ServiceId) -> Fitness {
        let region = &self.parts.region;
        let record = self.parts.inventory.mirror.region(region);
        let drained = self.endpoint(region).is_some_and(|front| front.weight == 0);
        let emptied = record.as_ref().is_some_and(|it| it.record.evacuation.is_some());
        if record.is_some_and(|it| !it.record.region.enabled) {
            Fitness::Disabled
        } else if drained || emptied {
            Fitness::Draining
        } else if self.reaches(service) {
            Fitness::Fit
        } else {
            Fitness::Unreachable
        }
    }

    /// Whether a request that comes in here for a service can be brought anywhere.
    fn reaches(&self, service: &ServiceId) -> bool {
        let Some(made) = self.made.borrow().clone() else { return false };
        let table = &made.table;
        let cell = made.places.regions.iter().find(|(id, _)| **id == self.parts.region);
        let (Some((_, cell)), Some(service)) = (cell, table.service(service)) else {
            return false;
        };
        let key =
            Key { cell: *cell, service, class: Class::default(), client: 0, request: 0 };
        decide(table, self.standing_now(table), &key).region_id(table).is_some()
    }
}

fn said_of(why: Why) -> String {
    match why {
        Why::Fit => "it answers".to_owned(),
        Why::LastResort(fitness) => {
            format!("{}, and no other that is fit announces", fitness.as_str())
        }
        Why::Elsewhere(fitness) => format!("{}; others answer", fitness.as_str()),
        Why::Listens(fitness) => {
            format!("{}; it has just begun to listen for others", fitness.as_str())
        }
        Why::HeldDown => {
            "it answers again, and waits because it came and went".to_owned()
        }
    }
}

/// What is to be done when this machine does not have an address that it shares: who binds to one
/// that is not there is refused. Whether to announce does not depend on it: something in front of the
/// machine may take the address away, as some balancers do.
fn lack(address: IpAddr) -> Option<String> {
    let error = UdpSocket::bind((address, 0)).err()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    (error.kind() == ErrorKind::AddrNotAvailable).then(|| {
        format!(
            "the machine does not have {address}, and requests that come for it find nobody: \
             `ip address add {address}/{bits} dev lo`"
        )
    })
}

/// How announcements stand here.
#[derive(Debug)]
pub(crate) struct AnnounceDoor {
    region: RegionId,
    router: String,
    /// Whether the way to the router is watched.
    bfd: bool,
    groups: Vec<GroupSpec>,
    standing: Arc<Announced>,
}

impl AnnounceDoor {
    /// As it is told.
    pub(crate) fn items(&self) -> Vec<AnycastItem> {
        let spoken = self.standing.spoken.borrow().clone();
        let bfd = self.bfd.then(|| shown(&self.standing.watched.borrow()));
        let verdicts = self.standing.verdicts();
        let item = |group: &GroupSpec| {
            let verdict = verdicts.get(&group.id).copied();
            AnycastItem {
                group: group.id.clone(),
                service: group.service.clone(),
                address: group.virtual_ip,
                region: self.region.clone(),
                announced: spoken.announced.contains(&group.virtual_ip),
                wanted: verdict.is_some_and(Why::announces),
                fit: verdict.is_some_and(Why::is_fit),
                why: verdict.map_or_else(|| "nothing is known yet".to_owned(), said_of),
                router: self.router.clone(),
                reason: spoken.reason.clone(),
                bfd: bfd.clone(),
                warning: lack(group.virtual_ip),
            }
        };
        self.groups.iter().map(item).collect()
    }
}

/// How the way to the router stands.
fn shown(watched: &Watched) -> AnycastBfd {
    let session = watched.session.as_ref();
    let said = |diagnostic: Diagnostic| {
        (diagnostic != Diagnostic::NONE).then(|| diagnostic.as_str().to_owned())
    };
    let remote = session.and_then(|it| it.remote_diagnostic);
    AnycastBfd {
        state: session.map_or(State::Down, |it| it.state).as_str().to_owned(),
        remote_state: session.and_then(|it| it.remote).map(|it| it.as_str().to_owned()),
        transmit_ms: session.map(|it| millis(it.transmit)),
        detection_ms: session.and_then(|it| it.detection).map(millis),
        diagnostic: session.and_then(|it| said(it.diagnostic)),
        remote_diagnostic: remote.and_then(said),
        failures: session.map_or(0, |it| it.failures),
        discarded: watched.discarded,
        reason: watched.reason.clone(),
    }
}

/// Answers who asks how announcements stand, here and in other regions.
#[derive(Debug)]
pub(crate) struct AnycastApi {
    region: RegionId,
    own: Option<Arc<AnnounceDoor>>,
    peers: BTreeMap<RegionId, Client>,
}

impl AnycastApi {
    /// `own` where this region announces; `peers` are the daemons of all other regions.
    pub(crate) fn routes(
        region: &RegionId,
        own: Option<Arc<AnnounceDoor>>,
        peers: &BTreeMap<RegionId, Client>,
    ) -> Routes {
        let peers = peers.clone();
        let api = Arc::new(Self { region: region.clone(), own, peers });
        let operators = bind! { &api, public_api::admit,
            GetAnycast => anycast;
        };
        let others = bind! { &api, peer_api::admit,
            GetPeerAnycast => own_anycast;
        };
        operators.merge(others)
    }

    fn items(&self) -> Vec<AnycastItem> {
        self.own.as_ref().map(|own| own.items()).unwrap_or_default()
    }

    async fn anycast(&self, _: NoParams, (): ()) -> Result<AnycastReply, ApiError> {
        let peers = self.peers.iter();
        let asked = ask_each::<GetPeerAnycast>(peers, &NoParams {}, PEER_TIME_MAX);
        let (parts, missing) = asked.await;
        let mut items = self.items();
        items.extend(parts.into_iter().flat_map(|part| part.items));
        items.sort_by(|a, b| (&a.group, &a.region).cmp(&(&b.group, &b.region)));
        Ok(AnycastReply { answered_by: self.region.clone(), items, missing })
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn own_anycast(&self, _: NoParams, (): ()) -> Result<AnycastReply, ApiError> {
        let (answered_by, items) = (self.region.clone(), self.items());
        Ok(AnycastReply { answered_by, items, missing: Vec::new() })
    }
}
