//! The planes that face clients: bound at start, fed while they run, and drained at the end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use dwcp_api::{Client, Routes};
use dwcp_runtime::tls::Credentials;
use dwcp_types::RegionId;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::places::address;
use super::{Core, Options, spawn};
use crate::config::{Federation, RegionSpec};
use crate::routing::{
    AnnounceDoor, AnnouncePlane, AnycastApi, NamePlane, Place, RequestPlane, Router,
};
use crate::scrape::Counted;

/// What faces clients in this region.
#[derive(Debug, Default)]
pub(super) struct Planes {
    names: Option<NamePlane>,
    requests: Option<RequestPlane>,
    announcements: Option<AnnouncePlane>,
}

/// Ends announcements, and then the proxy, in order. Dropped, it ends them too.
#[derive(Debug)]
pub(super) struct Drain {
    stop: watch::Sender<bool>,
    /// Closed when nothing is under way any more.
    under_way: watch::Receiver<()>,
}

impl Planes {
    /// Binds those that the configuration gives this region.
    pub(super) async fn bind(
        federation: &Federation,
        spec: &RegionSpec,
        options: &Options,
        credentials: &Credentials,
    ) -> anyhow::Result<Self> {
        let region = &spec.region.id;
        let announcements = AnnouncePlane::of(federation, region);
        let names = match &spec.dns_endpoint {
            Some(endpoint) => {
                let address = address(endpoint).await?;
                NamePlane::bind(&federation.routing, region, address).await?
            }
            None => None,
        };
        let requests = match &spec.proxy_endpoint {
            Some(endpoint) => {
                let own = address(endpoint).await?;
                let shared = announcements.as_ref().map(AnnouncePlane::listens);
                let ip = shared.unwrap_or_else(|| own.ip());
                let (address, data) = (SocketAddr::new(ip, own.port()), &*options.data);
                let place = Place { federation, region, address, credentials, data };
                Some(RequestPlane::bind(place).await?)
            }
            None => None,
        };
        Ok(Self { names, requests, announcements })
    }

    /// How its announcements stand, in a region that makes some.
    pub(super) fn announced(&self) -> Option<Arc<AnnounceDoor>> {
        self.announcements.as_ref().map(AnnouncePlane::door)
    }

    /// What they count.
    pub(super) fn counted(&self) -> Counted {
        Counted {
            names: self.names.as_ref().map(NamePlane::counters),
            requests: self.requests.as_ref().map(RequestPlane::counters),
            announced: self.announced(),
        }
    }

    /// Starts them.
    pub(super) fn spawn(
        self,
        (router, peers): (&Arc<Router>, &BTreeMap<RegionId, Client>),
        tasks: &mut JoinSet<&'static str>,
    ) -> Drain {
        if let Some(names) = self.names {
            spawn(tasks, "the name server", router.clone().answer_names(names));
        }
        let (stop, stopped) = watch::channel(false);
        let (busy, under_way) = watch::channel(());
        let (announced, mut gone) = watch::channel(());
        if let Some(plane) = self.announcements {
            let peers = peers.clone();
            let (router, busy) = (router.clone(), busy.clone());
            let asked = stopped.clone();
            spawn(tasks, "the announcements", async move {
                router.announce(plane, peers, begun(asked.clone())).await;
                drop((announced, busy));
                ends_with_the_daemon(asked).await;
            });
        } else {
            drop(announced);
        }
        if let Some(requests) = self.requests {
            let router = router.clone();
            spawn(tasks, "the proxy", async move {
                let asked = stopped.clone();
                // Whoever still comes by a shared address is answered.
                let stop = async move {
                    begun(asked).await;
                    while gone.changed().await.is_ok() {}
                };
                router.answer_requests(requests, stop).await;
                drop(busy);
                ends_with_the_daemon(stopped).await;
            });
        }
        Drain { stop, under_way }
    }
}

impl Core {
    /// Says how shared addresses stand.
    pub(super) fn anycast(&self, own: Option<Arc<AnnounceDoor>>) -> Routes {
        AnycastApi::routes(&self.region, own, &self.peers)
    }
}

/// Waits until the daemon stops.
async fn begun(mut asked: watch::Receiver<bool>) {
    drop(asked.wait_for(|stop| *stop).await);
}

/// In order a plane ends with the daemon, and not the daemon with it.
async fn ends_with_the_daemon(mut stopped: watch::Receiver<bool>) {
    if stopped.wait_for(|stop| *stop).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

impl Drain {
    /// No new connections, and no more requests on those that there are.
    pub(super) fn begin(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until nothing is under way, as long as the proxy allows.
    pub(super) async fn ended(mut self) {
        while self.under_way.changed().await.is_ok() {}
    }
}
