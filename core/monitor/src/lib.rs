//! Decides how healthy a region is, what of its measurements is kept and merged, what is an incident
//! and who is told of it, and whether a service level is kept. Performs nothing.

pub mod digest;
mod health;
pub mod history;
pub mod incident;
mod metric;
pub mod sla;
pub mod trace;
mod varint;

pub use metric::{Metric, UnknownMetric};

pub use health::{
    DEGRADED_MIN, Deduction, HEALTHY_MIN, HealthReport, LATENCY_HIGH, LATENCY_RAISED,
    Observation, Reason, Sample, health, reported,
};
