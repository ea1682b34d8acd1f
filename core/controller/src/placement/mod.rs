//! Which region, zone and host a VM should go to, and why not the others.
//!
//! Filter, then score (F22): every constraint is a hard filter with a named reason; what
//! stands is ranked by five weighted factors in basis points; the first place wins exactly.
//! Everything here is a function of a [`Fleet`] and a request. Nothing is booked: the region
//! that owns the capacity asks the same feasibility function again when it reserves (F21).
//!
//! Rejected: caching decisions (F20), stopping at the first region that fits (F28), sampling
//! hosts, and floats in scores.

mod bits;
mod bound;
mod capacity;
mod decision;
mod explanation;
mod fleet;
mod group;
mod lanes;
mod locality;
mod loss;
mod near;
mod policy;
mod preemption;
mod query;
mod rank;
mod reason;
mod relax;
mod room;
mod screen;
mod validate;

pub use capacity::{Flavour, FlavourFit, RegionCapacity, capacity, default_flavours};
pub use decision::{
    ALTERNATIVES_MAX, Alternative, Choice, Decision, Factor, Factors, RefusalCount,
    decide,
};
pub use explanation::{Explanation, RegionVerdict, Verdict, explain};
pub use fleet::Fleet;
pub(crate) use loss::places_elsewhere;
pub use loss::{
    RegionLoss, Requests, Stranded, Verdict as AdmissionVerdict, admit, is_judged,
    n_minus_1, place_elsewhere,
};
pub use policy::{Admission, Policy, Weights};
pub use preemption::{Preemption, VICTIMS_MAX, Victim, plan_preemption};
pub use query::need;
pub use reason::{Reason, ReasonKind, Shortage};
pub use relax::{Change, Relaxation};
pub use validate::{
    AFFINITY_MAX, Contradiction, ORIGINS_MAX, WEIGHT_MAX, validate, validate_names,
};

#[cfg(test)]
pub(crate) mod tests;
