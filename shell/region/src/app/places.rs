//! Where this daemon and its parts listen, as the configuration says.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, anyhow};
use dwcp_api::Client;
use dwcp_types::RegionId;

use super::{Net, Options};
use crate::config::{Endpoint, Federation, RegionSpec};

pub(super) fn region_spec(
    federation: &Federation,
    options: &Options,
) -> anyhow::Result<RegionSpec> {
    federation.region(&options.region).cloned().ok_or_else(|| {
        let names: Vec<&str> =
            federation.regions.iter().map(|spec| spec.region.id.as_str()).collect();
        anyhow!(
            "{} has no region {}; it has {}",
            options.config.display(),
            options.region,
            names.join(", ")
        )
    })
}

pub(super) fn no_endpoint(region: &RegionId) -> anyhow::Error {
    anyhow!(
        "region {region} has no endpoint; add `endpoint: HOST:PORT` to it in federation.yaml"
    )
}

pub(super) async fn address(endpoint: &Endpoint) -> anyhow::Result<SocketAddr> {
    let found = tokio::net::lookup_host((endpoint.host(), endpoint.port())).await;
    let mut found = found.with_context(|| format!("cannot resolve {endpoint}"))?;
    found.next().ok_or_else(|| anyhow!("{endpoint} has no address"))
}

/// The client of one region's daemon.
pub(super) fn client_of(
    federation: &Federation,
    net: &Net,
    region: &RegionId,
) -> anyhow::Result<Client> {
    let spec = federation.region(region).ok_or_else(|| no_endpoint(region))?;
    let (_, client) = net.region(spec)?.ok_or_else(|| no_endpoint(region))?;
    Ok(client)
}

/// The clients of all others.
pub(super) fn peers(
    federation: &Federation,
    own: &RegionId,
    net: &Net,
) -> anyhow::Result<BTreeMap<RegionId, Client>> {
    let others = federation.regions.iter().filter(|spec| spec.region.id != *own);
    others.filter_map(|spec| net.region(spec).transpose()).collect()
}
