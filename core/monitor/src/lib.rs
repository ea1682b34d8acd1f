//! Decides how healthy a region is, what is an incident and who is told of it, and whether a service
//! level is kept. Performs nothing.

mod health;
pub mod incident;
pub mod sla;

pub use health::{
    DEGRADED_MIN, Deduction, HEALTHY_MIN, HealthReport, LATENCY_HIGH, LATENCY_RAISED,
    Observation, Reason, Sample, health, reported,
};
