//! A replica and its lines to the others as operators see them (O14, O15, O22 to O24, O33).

use std::collections::BTreeMap;
use std::time::Duration;

use dwcp_api::state::{PeerState, ReplicaReport};
use dwcp_runtime::mesh;
use dwcp_state::{Member, Membership, PeerStats, ReplicaId, Stats};
use dwcp_types::RegionId;

use super::task::Report;

/// Puts together what the replica and the mesh know.
pub(super) fn shown(
    region: &RegionId,
    view: &Membership,
    report: &Report,
    lines: &[mesh::PeerStats],
) -> ReplicaReport {
    let stats = &report.stats;
    let name = |id: &ReplicaId| view.members.get(id).map(|member| member.region.clone());
    let blocked = stats.collection_blocked_by.iter().filter_map(name);
    let doomed = whole(stats.doomed);
    let peers = stats.peers.iter().filter_map(|(id, peer)| {
        let member = view.members.get(id)?;
        let line = lines.iter().find(|line| line.peer == member.region);
        Some(peer_state(member, peer, line))
    });
    ReplicaReport {
        region: region.clone(),
        actor: report.actor.to_string(),
        standing: stats.standing.to_owned(),
        epoch: stats.epoch,
        settled: stats.settled.epoch,
        keys: whole(stats.keys.saturating_sub(stats.doomed)),
        state_bytes: whole(stats.bytes),
        log_deltas: whole(stats.log_records),
        lww_discarded: stats.counts.lww_discarded,
        conflicts: conflicts(stats),
        siblings_max: whole(stats.siblings_max),
        collection_blocked_by: blocked.map(|region| (region, doomed)).collect(),
        served: stats
            .counts
            .served
            .iter()
            .map(|(level, count)| (level.to_string(), *count))
            .collect(),
        digest: format!("{:016x}", report.digest),
        peers: peers.collect(),
    }
}

/// What met on its way, by kind and by what became of it (O24), and what it took to agree.
fn conflicts(stats: &Stats) -> BTreeMap<String, u64> {
    let met = stats.counts.conflicts.iter();
    let met = met.map(|((kind, became), count)| (format!("{kind}/{became}"), *count));
    met.chain([
        ("write_backs".to_owned(), stats.counts.write_backs),
        ("mismatches".to_owned(), stats.counts.mismatches),
    ])
    .collect()
}

fn peer_state(
    member: &Member,
    peer: &PeerStats,
    line: Option<&mesh::PeerStats>,
) -> PeerState {
    let carrier = line.and_then(|line| line.carrier);
    PeerState {
        region: member.region.clone(),
        connected: peer.reachable && carrier.is_some(),
        transport: carrier.map(|carrier| carrier.to_string().to_ascii_lowercase()),
        rtt_p50_us: line.and_then(|line| line.rtt_p50).map(micros),
        rtt_p99_us: line.and_then(|line| line.rtt_p99).map(micros),
        lag_ms: u64::try_from(peer.lag.as_millis()).ok(),
        queue_deltas: whole(peer.queue_records),
        queue_bytes: whole(peer.queue_bytes),
        queue_age_ms: u64::try_from(peer.queue_age.as_millis()).unwrap_or(u64::MAX),
        sent_bytes: line.map_or(0, |line| line.sent.wire_bytes),
        received_bytes: line.map_or(0, |line| line.received.wire_bytes),
        last_error: line
            .and_then(|line| line.last_error.as_ref())
            .map(ToString::to_string),
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn whole(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
