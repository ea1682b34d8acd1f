//! The small languages of the command line: sizes, durations, money, `key:value` lists, rules.
//!
//! Every refusal says where, what is wrong there, and how to write it. Nothing is guessed: a
//! number whose unit is not clear is refused or, where a unit is converted, told.

mod constraints;
mod list;
mod moment;
mod quantity;
mod rule;
mod scalar;
mod spec;

pub(crate) use constraints::ConstraintPatch;
pub(crate) use moment::moment;
pub(crate) use quantity::{Quantity, Unit};
pub(crate) use rule::{affinity, label, label_filter, latency_entry, origin};
pub(crate) use scalar::{
    WatchEvery, dollars, duration, health_score, milliseconds, share_ppm, thousandths,
    watch_every,
};
pub(crate) use spec::SpecPatch;
