//! The state plane of a daemon: this region's replica, its disk, its peers, its door.
//!
//! ```text
//!   membership (strong engine) --> task (owns the replica) <--> mesh (other regions)
//!                                    ^          |
//!                                   api       writer --> state.redb
//! ```
//!
//! A region without a `state_endpoint` has no replica; its door says so.

mod api;
mod engine_keys;
mod feed;
mod membership;
mod policies;
mod report;
mod shards;
mod start;
mod task;
mod translate;
mod writer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use dwcp_api::Client;
use dwcp_runtime::clock::Clock;
use dwcp_runtime::mesh::{
    self, Dictionary, Limits, MeshConfig, MeshEvents, MeshHandle, MeshPeer, Transport,
};
use dwcp_runtime::store::LocalStore;
use dwcp_runtime::strong::StrongEngine;
use dwcp_runtime::tls::Credentials;
use dwcp_state::shard::ShardMap;
use dwcp_state::{
    ClusterId, Member, Membership, Phase, Policies, Replica, ReplicaId, Settled,
};
use dwcp_types::RegionId;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

pub(crate) use api::{StateApi, routes};

use crate::config::{Federation, RegionSpec, StateTransport};
use crate::metrics::Metrics;

use self::engine_keys::EngineKeys;
use self::policies::Rules;
use self::shards::WantedAreas;
use self::start::Start;

/// What the plane is made from.
pub(crate) struct Opening<'a> {
    pub(crate) federation: &'a Federation,
    pub(crate) region: &'a RegionId,
    pub(crate) listen: SocketAddr,
    pub(crate) data: &'a Path,
    pub(crate) credentials: Credentials,
    pub(crate) engine: Arc<dyn StrongEngine>,
    pub(crate) peers: BTreeMap<RegionId, Client>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Everything that runs by itself, and the door.
pub(crate) struct Plane {
    pub(crate) api: Arc<StateApi>,
    pub(crate) tasks: Vec<(&'static str, BoxFuture<'static, ()>)>,
    /// Completes when the disk has failed for good.
    pub(crate) ended: BoxFuture<'static, String>,
}

/// Opens the replica's data and binds its address.
///
/// # Errors
///
/// When the data, the certificate or the address is not usable.
pub(crate) async fn open(opening: Opening<'_>) -> anyhow::Result<Plane> {
    let digest =
        dwcp_runtime::digest::sha256(opening.federation.state.cluster.as_bytes());
    let (mesh, events) = meshed(&opening, &digest).await?;
    let Opening { federation, region, data, engine, peers, clock, metrics, .. } = opening;
    let store = opened(data, region)?;
    let (view, followed) = watch::channel(None);
    let cluster = cluster_id(&digest);
    let start = Start {
        region: region.clone(),
        cluster,
        store: Arc::clone(&store),
        view: followed.clone(),
    };
    let replica = start.restored().with_context(|| {
        format!("cannot read the replicated state of region {region}")
    })?;
    view.send_replace(replica.as_ref().and_then(known));
    let (batches, to_write) = mpsc::channel(writer::BATCHES_MAX);
    let (written, persisted) = mpsc::channel(writer::BATCHES_MAX);
    let (settled, has_settled) = watch::channel(Settled::default());
    let (wanted, wanted_view) = watch::channel(Arc::default());
    let (first, first_wanted) = first_membership(federation, cluster)?;
    let (task, handle) = task::new(task::Parts {
        start,
        replica,
        mesh: mesh.clone(),
        events,
        batches,
        persisted,
        view: followed,
        settled,
        metrics: Arc::clone(&metrics),
        life: clock.now().as_millis(),
        clock,
    });
    let keeper = membership::Keeper {
        region: region.clone(),
        engine: Arc::clone(&engine),
        first,
        first_wanted,
        view,
        wanted,
        mesh: mesh.clone(),
        settled: has_settled,
        actor: handle.actor.clone(),
    };
    let api = StateApi {
        region: region.clone(),
        handle,
        mesh,
        engine: EngineKeys::new(Arc::clone(&engine)),
        rules: Rules::new(engine),
        wanted: wanted_view,
        peers,
        metrics,
    };
    Ok(Plane {
        api: Arc::new(api),
        ended: Box::pin(store.ended()),
        tasks: vec![
            ("the replica", Box::pin(task.run())),
            ("the replica's writer", Box::pin(writer::write(store, to_write, written))),
            ("the membership", Box::pin(keeper.run())),
        ],
    })
}

/// The lines to the other replicas; what arrives before there is a replica waits.
async fn meshed(
    opening: &Opening<'_>,
    digest: &[u8; 32],
) -> anyhow::Result<(MeshHandle, MeshEvents)> {
    let region = opening.region;
    mesh::bind(MeshConfig {
        me: region.clone(),
        cluster: mesh_cluster(digest),
        listen: opening.listen,
        credentials: opening.credentials.clone(),
        peers: mesh_peers(opening.federation, region),
        dictionary: Dictionary::built_in(),
        limits: Limits::default(),
        clock: Arc::clone(&opening.clock),
    })
    .await
    .with_context(|| format!("cannot listen for peers of region {region}"))
}

/// The disk of a replica.
fn opened(data: &Path, region: &RegionId) -> anyhow::Result<Arc<LocalStore>> {
    LocalStore::open(&data.join("state.redb"))
        .map(Arc::new)
        .with_context(|| format!("cannot open the replicated state of region {region}"))
}

/// The membership that a replica followed when it ended.
fn known(replica: &Replica) -> Option<Arc<Membership>> {
    Some(Arc::clone(replica.membership())).filter(|membership| membership.epoch > 0)
}

/// The number that the state of a federation goes by: half of the digest of its name.
fn cluster_id(digest: &[u8; 32]) -> ClusterId {
    ClusterId::new(digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte)))
}

/// The other regions that have a replica, and by what they are reached.
fn mesh_peers(federation: &Federation, region: &RegionId) -> Vec<MeshPeer> {
    let transport = match federation.state.transport {
        StateTransport::Auto => Transport::Auto,
        StateTransport::Quic => Transport::Quic,
        StateTransport::Tcp => Transport::Tcp,
    };
    let others = federation.regions.iter().filter(|spec| spec.region.id != *region);
    let peer = |spec: &RegionSpec| {
        let endpoint = spec.state_endpoint.as_ref()?.to_string();
        let region = spec.region.id.clone();
        Some(MeshPeer { region, endpoint: Some(endpoint), transport })
    };
    others.filter_map(peer).collect()
}

/// The same half of the digest as the transport names it.
fn mesh_cluster(digest: &[u8; 32]) -> mesh::ClusterId {
    let mut cluster = [0; 16];
    cluster.copy_from_slice(&digest[..16]);
    mesh::ClusterId(cluster)
}

/// Every region of the configuration that has a replica, under the configured rules; where their
/// slots are to be.
fn first_membership(
    federation: &Federation,
    cluster: ClusterId,
) -> anyhow::Result<(Membership, WantedAreas)> {
    let with_replica =
        federation.regions.iter().filter(|spec| spec.state_endpoint.is_some());
    let regions: Vec<RegionId> =
        with_replica.map(|spec| spec.region.id.clone()).collect();
    let member = |region: &RegionId| Member {
        region: region.clone(),
        admission: 1,
        phase: Phase::Active,
    };
    let members = (1..).map(ReplicaId::new).zip(regions.iter().map(member)).collect();
    let mut shards = ShardMap::single(policies::EVERYWHERE.into(), regions.clone());
    let voting = regions.into_iter().collect();
    let (mut rules, mut wanted_areas) = (Vec::new(), WantedAreas::new());
    for rule in &federation.state.rules {
        let wanted = policies::wanted_of(rule, &voting)
            .with_context(|| format!("the policy of {:?}", rule.prefix))?;
        let spread = wanted.as_ref().map(|wanted| (wanted, &voting));
        let policy = policies::policy(&mut shards, rule, spread, None);
        shards::want(&mut wanted_areas, &rule.prefix, wanted);
        rules.push((Arc::from(rule.prefix.as_str()), policy));
    }
    let policies = Policies::new(rules);
    let evicted = BTreeMap::new();
    let first = Membership { cluster, epoch: 1, members, evicted, policies, shards };
    first.check().context("the policies of `state` cannot be kept")?;
    Ok((first, wanted_areas))
}
