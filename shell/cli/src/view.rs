//! Replies as people read them. Pure: a reply and a [`Look`] in, text out.

mod controller;
mod dashboard;
mod evacuate;
mod event;
mod failover;
mod measured;
mod migrate;
mod monitoring;
mod overview;
mod place;
mod region;
mod routing;
mod series;
mod silence;
mod sla;
mod state;
mod status;
mod trace;
mod trial;
mod vm;

pub(crate) use controller::{cache_stats, controller_metrics};
pub(crate) use dashboard::{dashboards, dashboards_imported};
pub(crate) use evacuate::{evacuation, evacuation_cancelled, evacuations};
pub(crate) use event::events;
pub(crate) use failover::{
    failover_denied, failover_history, failover_log, failover_plan, failover_requests,
    failover_status,
};
pub(crate) use measured::{history, history_csv, metrics};
pub(crate) use migrate::{begun, migration, migrations};
pub(crate) use monitoring::{incident, incidents};
pub(crate) use overview::{left, overview};
pub(crate) use place::{explanation, placed, refusal, still_there};
pub(crate) use region::{capacity, region, regions};
pub(crate) use routing::{
    routing_anycast, routing_config, routing_decision, routing_endpoints,
    routing_explained, routing_factors, routing_latency, routing_replay, routing_scores,
};
pub(crate) use series::series;
pub(crate) use silence::{silence, silence_ended, silence_made, silences};
pub(crate) use sla::{
    sla_created, sla_csv, sla_deleted, sla_explained, sla_history, sla_json,
    sla_markdown, sla_status, slas,
};
pub(crate) use state::{
    conflicts, key, key_changes, key_written, keys, lag_matrix, latency_matrix, policies,
    queue_depth, replicas, rule, shards,
};
pub(crate) use status::{global_status, status};
pub(crate) use trace::{trace, trace_aligned, traces, tracing};
pub(crate) use trial::trials;
pub(crate) use vm::{vm, vm_changed, vms};

use self::monitoring::answered;
use dwcp_types::{Health, HealthState, Timestamp, VmPhase};

use crate::table::Cell;
use crate::terminal::Tone;
use crate::text;

/// How a reply is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// With the columns of `-o wide`.
    pub(crate) wide: bool,
    /// With colours.
    pub(crate) colored: bool,
    /// When, for ages.
    pub(crate) now: Timestamp,
}

/// A health as a cell: `healthy 97`.
fn health(health: Health) -> Cell {
    let tone = match health.state {
        HealthState::Healthy => Tone::Good,
        HealthState::Degraded | HealthState::Maintenance | HealthState::Unknown => {
            Tone::Warn
        }
        HealthState::Unhealthy => Tone::Bad,
    };
    let word = text::health_word(health.state);
    if health.state == HealthState::Unknown {
        return Cell::toned(word, tone);
    }
    Cell::toned(format!("{word} {}", health.score), tone)
}

/// A phase as a cell.
fn phase(phase: VmPhase) -> Cell {
    let tone = match phase {
        VmPhase::Running => Tone::Good,
        VmPhase::Failed => Tone::Bad,
        VmPhase::Fenced | VmPhase::Unknown => Tone::Warn,
        VmPhase::Pending
        | VmPhase::Starting
        | VmPhase::Paused
        | VmPhase::Stopping
        | VmPhase::Stopped => Tone::Plain,
    };
    Cell::toned(text::phase_word(phase), tone)
}
