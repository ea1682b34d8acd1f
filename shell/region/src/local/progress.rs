//! Tells how far the start of a local federation is, and what to do next.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use dwcp_api::public::{GetStatus, RegionStatus, StatusReply};
use dwcp_api::{CallError, Client, NoParams};
use dwcp_runtime::tls::{ClientTls, Credentials, ExpectedServer, Identity};
use dwcp_types::{HealthState, RegionId};

use super::Layout;
use crate::config::Federation;

/// How long the federation may take to be healthy: ten times a cold start on two cores.
const HEALTHY_WITHIN: Duration = Duration::from_secs(120);

/// How often progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Says when each region is healthy, until all are.
pub(super) async fn show_until_healthy(
    layout: &Layout,
    federation: &Federation,
    say: fn(&str),
) -> anyhow::Result<()> {
    let mut said = BTreeMap::new();
    let mut last = "no daemon answers yet".to_owned();
    let waited = tokio::time::timeout(HEALTHY_WITHIN, async {
        loop {
            match status(layout, federation).await {
                Ok(status) if tell(&status, federation, &mut said, say) => return,
                Ok(status) => last = missing(&status, federation),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    if waited.await.is_err() {
        bail!(
            "the federation is not healthy after {HEALTHY_WITHIN:?}: {last}; the logs are in {}",
            layout.logs().display()
        );
    }
    Ok(())
}

async fn status(layout: &Layout, federation: &Federation) -> anyhow::Result<StatusReply> {
    // Every region is asked until one answers: which starts first is not known.
    let mut last = None;
    for spec in &federation.regions {
        let Some(endpoint) = &spec.endpoint else { continue };
        let credentials = Credentials::in_dir(&layout.admin(), "admin");
        let who = Identity::Region(spec.region.id.clone());
        let tls = ClientTls::load(credentials, ExpectedServer::Identity(who))
            .context("the credentials are not made yet")?;
        let client = Client::new(&[format!("https://{endpoint}")], tls)?;
        match client.call::<GetStatus>(&NoParams {}, &()).await {
            Ok(status) => return Ok(status),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(
        || anyhow::anyhow!("no region has an endpoint"),
        |error: CallError| anyhow::anyhow!(error),
    ))
}

/// Says what is new; whether all regions are healthy.
fn tell(
    status: &StatusReply,
    federation: &Federation,
    said: &mut BTreeMap<RegionId, bool>,
    say: fn(&str),
) -> bool {
    for region in &status.regions {
        let healthy = region.health.state == HealthState::Healthy;
        if healthy && said.insert(region.id.clone(), true) != Some(true) {
            say(&format!("  {:<16} healthy  ({})", region.id, drivers(region)));
        }
    }
    let expected = federation.regions.iter().filter(|spec| spec.endpoint.is_some());
    status.engine.reachable
        && expected.map(|spec| &spec.region.id).all(|id| said.contains_key(id))
}

fn drivers(region: &RegionStatus) -> String {
    let notes = region.notes.join("; ");
    let drivers = region.drivers.join(", ");
    if notes.is_empty() { drivers } else { format!("{drivers}; {notes}") }
}

fn missing(status: &StatusReply, federation: &Federation) -> String {
    if !status.engine.reachable {
        return format!("the strong engine at {} does not answer", status.engine.host);
    }
    let healthy = |id: &RegionId| {
        let region = status.regions.iter().find(|region| region.id == *id);
        region.is_some_and(|region| region.health.state == HealthState::Healthy)
    };
    let missing = federation.regions.iter().map(|spec| &spec.region.id);
    let missing: Vec<_> =
        missing.filter(|id| !healthy(id)).map(ToString::to_string).collect();
    format!("not healthy yet: {}", missing.join(", "))
}

/// What to do next.
pub(super) fn hints(federation: &Federation) -> String {
    format!(
        "\nThe federation of {} regions is up. Next, in another terminal:\n\
         \n  ./dwcp cli federation status\
         \n  ./dwcp cli federation place-vm --name web-1 --tenant me --spec \"cpu:2,memory:2048,storage:10\" --wait\
         \n  ./dwcp cli federation vm list\
         \n  ./dwcp cli federation vm console web-1\
         \n  ./dwcp down                      stops it all (so does Ctrl-C where it runs)\n",
        federation.regions.len()
    )
}
