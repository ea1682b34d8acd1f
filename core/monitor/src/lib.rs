//! Decides how healthy a region is. Performs nothing.

mod health;

pub use health::{
    DEGRADED_MIN, Deduction, HEALTHY_MIN, HealthReport, LATENCY_HIGH, LATENCY_RAISED,
    Observation, Reason, Sample, health, reported,
};
