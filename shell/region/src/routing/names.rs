//! Keeps the name server's view true: the newest table, who is up, and where regions answer.
//!
//! The name server asks nobody. When no table can be made, or the engine is gone, it answers by
//! the last view, in which regions that fall ill are left all the same.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use dwcp_edge::dns::{
    AddressBook, Addresses, Counters, Listening, Server, View, Zone, ZoneSpec,
};
use dwcp_router::Table;
use dwcp_types::RegionId;
use tokio::sync::watch;
use tracing::info;

use super::Router;
use crate::config::{DnsConfig, RoutingConfig};

/// A name server that is bound and does not answer yet.
#[derive(Debug)]
pub(crate) struct NamePlane {
    server: Server,
    zone: Arc<Zone>,
}

impl NamePlane {
    /// Binds it; nothing without a zone to answer for.
    ///
    /// # Errors
    ///
    /// When the address is in use or not this machine's.
    pub(crate) async fn bind(
        routing: &RoutingConfig,
        region: &RegionId,
        address: SocketAddr,
    ) -> anyhow::Result<Option<Self>> {
        let Some(dns) = &routing.dns else { return Ok(None) };
        let zone = zone(dns, routing, region)?;
        let answers_per_second = dns.answers_per_second;
        let server = Server::bind(Listening { address, answers_per_second })
            .await
            .with_context(|| format!("cannot answer names at {address}"))?;
        info!(zone = %dns.zone, %address, "answering names");
        Ok(Some(Self { server, zone: Arc::new(zone) }))
    }

    /// What it counts.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        self.server.counters()
    }
}

fn zone(
    dns: &DnsConfig,
    routing: &RoutingConfig,
    region: &RegionId,
) -> anyhow::Result<Zone> {
    let names = routing.services.iter().flat_map(|spec| {
        let id = &spec.service.id;
        spec.hosts.iter().map(move |name| (name.clone(), id.clone()))
    });
    let spec = ZoneSpec {
        apex: dns.zone.clone(),
        contact: dns.contact.clone(),
        name_servers: dns.name_servers.clone(),
        names: names.collect(),
        answers: dns.answers,
        identity: region.to_string(),
    };
    // The reader of the file has refused all that is wrong with it.
    Ok(Zone::new(spec)?)
}

impl Router {
    /// Answers names by the newest table, for ever.
    pub(crate) async fn answer_names(self: Arc<Self>, plane: NamePlane) {
        let NamePlane { server, zone } = plane;
        let (views, newest) = watch::channel(Arc::new(View::new(zone.clone(), None)));
        let shown = self.follow_tables(|steering| {
            let addresses = self.addresses(&steering.table);
            let view = View::new(zone.clone(), Some((steering, addresses)));
            views.send_replace(Arc::new(view));
        });
        tokio::join!(server.run(newest), shown);
    }

    fn addresses(&self, table: &Table) -> AddressBook {
        let regions = table.inputs().sites.iter().map(|site| &site.id);
        let known = regions.filter_map(|id| {
            let endpoint = self.endpoint(id)?;
            let ipv4 = match endpoint.ip {
                IpAddr::V4(ip) => Some(ip),
                IpAddr::V6(_) => None,
            };
            let ipv6 = match endpoint.ipv6 {
                Some(IpAddr::V6(ip)) => Some(ip),
                Some(IpAddr::V4(_)) | None => None,
            };
            Some((id.clone(), Addresses { ipv4, ipv6 }))
        });
        known.collect()
    }
}
