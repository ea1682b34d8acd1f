//! The planes that face clients: bound at start, fed while they run, and drained at the end.

use std::sync::Arc;

use dwcp_runtime::tls::Credentials;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::places::address;
use super::{Options, spawn};
use crate::config::{Federation, RegionSpec};
use crate::routing::{NamePlane, Place, RequestPlane, Router};
use crate::scrape::Counted;

/// What faces clients in this region.
#[derive(Debug, Default)]
pub(super) struct Planes {
    names: Option<NamePlane>,
    requests: Option<RequestPlane>,
}

/// Ends the proxy in order. Dropped, it ends it too.
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
        let names = match &spec.dns_endpoint {
            Some(endpoint) => {
                let address = address(endpoint).await?;
                NamePlane::bind(&federation.routing, region, address).await?
            }
            None => None,
        };
        let requests = match &spec.proxy_endpoint {
            Some(endpoint) => {
                let (address, data) = (address(endpoint).await?, &*options.data);
                let place = Place { federation, region, address, credentials, data };
                Some(RequestPlane::bind(place).await?)
            }
            None => None,
        };
        Ok(Self { names, requests })
    }

    /// What they count.
    pub(super) fn counted(&self) -> Counted {
        Counted {
            names: self.names.as_ref().map(NamePlane::counters),
            requests: self.requests.as_ref().map(RequestPlane::counters),
        }
    }

    /// Starts them.
    pub(super) fn spawn(
        self,
        router: &Arc<Router>,
        tasks: &mut JoinSet<&'static str>,
    ) -> Drain {
        if let Some(names) = self.names {
            spawn(tasks, "the name server", router.clone().answer_names(names));
        }
        let (stop, mut stopped) = watch::channel(false);
        let (busy, under_way) = watch::channel(());
        if let Some(requests) = self.requests {
            let router = router.clone();
            spawn(tasks, "the proxy", async move {
                let mut asked = stopped.clone();
                let stop = async move { drop(asked.wait_for(|stop| *stop).await) };
                router.answer_requests(requests, stop).await;
                drop(busy);
                // In order it ends with the daemon, and not the daemon with it.
                if stopped.wait_for(|stop| *stop).await.is_ok() {
                    std::future::pending::<()>().await;
                }
            });
        }
        Drain { stop, under_way }
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
