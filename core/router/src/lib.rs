//! Decides which region answers a request, by which path, and which come next. Performs nothing.
//!
//! What is known of regions, links, places and services ([`Inputs`]) is weighed off the hot path
//! into a [`Table`] that never changes; [`decide()`] looks one entry up and picks. [`explain()`] is
//! the same code, told to take notes.
//!
//! Filter, then score (R8): every limit is a filter with a named reason (F86), and what stands
//! is ranked by six factors on fixed scales (F54), so that a region more or less never changes
//! the order of the others. Regions that are nearly as good share the requests by the room that
//! they have left, and shares move slowly (F53).
//!
//! Rejected: weighing at each request (an order of magnitude more work), a lock around a table
//! that changes (F56), and scores from the extremes of what stands.

mod age;
pub mod anycast;
pub mod bfd;
mod budget;
mod build;
mod client;
mod country;
mod decide;
mod explain;
mod input;
mod near;
mod place;
mod plan;
mod refusal;
mod rendezvous;
mod replay;
mod service;
pub mod session;
mod share;
mod table;
mod upstream;
mod weigh;
mod weights;

pub use budget::{RETRIES_MIN, RETRY_PERCENT, RetryBudget, WINDOW_S};
pub use build::Problem;
pub use client::{CLIENT_BITS_IPV4, CLIENT_BITS_IPV6, client_number};
pub use country::country_spot;
pub use decide::{
    Decision, Fallbacks, Key, Path, Reason, Reasons, RegionIx, Standing, decide,
    decide_by, decide_for,
};
pub use explain::{Candidate, Chosen, Explanation, FactorView, LegView, explain, ways};
pub use input::{
    Aged, CELLS_MAX, Cell, Inputs, Link, REGIONS_MAX, RoundTrip, SERVICES_MAX, Site, Spot,
};
pub use place::{distance_km, expected_rtt};
pub use refusal::{Refusal, Refusals};
pub use replay::{Outcome, Traffic, replay};
pub use service::{Class, FailMode, Protocol, Protocols, Requirement, Service};
pub use table::Table;
pub use upstream::{
    EJECTION, EJECTION_MAX, ERRORS_MAX, Evidence, PROBES_DOWN, PROBES_UP, UPSTREAMS_MAX,
    Upstreams, pick,
};
pub use weights::{Algorithm, FACTORS, Factor, Weights};

#[cfg(test)]
mod tests;
