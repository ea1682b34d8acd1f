//! The way from this daemon to others.

use std::collections::BTreeMap;

use dwcp_api::Client;
use dwcp_runtime::tls::{ClientTls, Credentials, ExpectedServer, Identity};
use dwcp_types::{HostId, RegionId};

use crate::config::{Endpoint, HostSpec, RegionSpec};

/// The connections of one daemon to the others.
pub(super) struct Net {
    pub(super) credentials: Credentials,
}

impl Net {
    pub(super) fn client(
        &self,
        endpoint: &Endpoint,
        who: Identity,
    ) -> anyhow::Result<Client> {
        let tls =
            ClientTls::load(self.credentials.clone(), ExpectedServer::Identity(who))?;
        Ok(Client::new(&[format!("https://{endpoint}")], tls)?)
    }

    pub(super) fn region(
        &self,
        spec: &RegionSpec,
    ) -> anyhow::Result<Option<(RegionId, Client)>> {
        let Some(endpoint) = &spec.endpoint else { return Ok(None) };
        let id = spec.region.id.clone();
        let client = self.client(endpoint, Identity::Region(id.clone()))?;
        Ok(Some((id, client)))
    }

    pub(super) fn hosts(
        &self,
        spec: &RegionSpec,
    ) -> anyhow::Result<BTreeMap<HostId, Client>> {
        let region = &spec.region.id;
        let client = |host: &HostSpec| {
            let who = Identity::Host { region: region.clone(), host: host.id.clone() };
            Ok((host.id.clone(), self.client(&host.agent, who)?))
        };
        spec.hosts.iter().map(client).collect()
    }
}
