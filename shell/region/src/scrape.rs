//! The door of Prometheus: `GET /metrics` in the OpenMetrics text format.
//!
//! Administrators, regions and whoever has a `monitor` certificate, which opens nothing else,
//! may come in.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dwcp_api::{ApiError, Caller, ErrorCode, failure};
use dwcp_edge::{dns, proxy};
use dwcp_runtime::tls::Identity;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::incidents::Incidents;
use crate::inventory::Inventory;
use crate::metrics::{Metrics, regions, replicas, show_levels};
use crate::routing::AnnounceDoor;
use crate::state::StateApi;
use crate::traces::Traces;

/// What the text says of itself.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What every name begins with.
const PREFIX: &str = "dwcp_federation";

/// Answers scrapes.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    pub(crate) metrics: Arc<Metrics>,
    /// None in a region without a replica.
    pub(crate) state: Option<Arc<StateApi>>,
    pub(crate) inventory: Inventory,
    /// What is promised of regions, and how they fare.
    pub(crate) incidents: Arc<Incidents>,
    pub(crate) traces: Arc<Traces>,
    pub(crate) counted: Counted,
}

/// What the planes that face clients have counted; none where a region has no such plane.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) names: Option<Arc<dns::Counters>>,
    pub(crate) requests: Option<Arc<proxy::Counters>>,
    pub(crate) announced: Option<Arc<AnnounceDoor>>,
}

impl Scrape {
    async fn answer(&self, caller: Caller) -> Result<String, ApiError> {
        match caller.identity {
            Identity::Admin(_) | Identity::Region(_) | Identity::Monitor(_) => {}
            Identity::Host { .. } | Identity::Engine(_) => {
                let who = "whoever has a monitor's or an administrator's certificate";
                return Err(caller.forbidden(who));
            }
        }
        let mut all = Registry::with_prefix(PREFIX);
        self.metrics.register(&mut all);
        self.metrics.show_engine(&mut all, self.inventory.mirror.reachable());
        regions::show(&mut all, &self.inventory.regions());
        show_levels(&mut all, &self.incidents.levels());
        replicas::show(&mut all, &self.inventory.replicas());
        self.metrics.show_traces(&mut all, &self.traces.standing());
        if let Some(names) = &self.counted.names {
            self.metrics.show_names(&mut all, names);
        }
        if let Some(requests) = &self.counted.requests {
            self.metrics.show_requests(&mut all, requests);
        }
        if let Some(announced) = &self.counted.announced {
            self.metrics.show_announced(&mut all, &announced.items());
        }
        if let Some(state) = &self.state {
            // Before the first membership there is nothing to show.
            if let Ok(replica) = state.report().await {
                self.metrics.show(&mut all, &replica);
            }
        }
        let mut text = String::new();
        encode(&mut text, &all).map_err(|reason| {
            ApiError::new(
                ErrorCode::Internal,
                format!("metrics cannot be shown: {reason}"),
            )
        })?;
        Ok(text)
    }
}

/// Adds the door.
pub(crate) fn door(router: Router, scrape: Scrape) -> Router {
    let answer = move |request: Request| {
        let (scrape, caller) = (scrape.clone(), Caller::of(&request));
        async move {
            let text = match caller {
                Ok(caller) => scrape.answer(caller).await,
                Err(error) => Err(error),
            };
            text.map_or_else(|error| failure(&error), shown)
        }
    };
    router.route("/metrics", get(answer))
}

fn shown(text: String) -> Response {
    ([(axum::http::header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}
