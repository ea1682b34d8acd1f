//! Tests of placement as a whole; what concerns one file is tested there.

mod exactness;
mod filters;
mod giving_way;
mod oracle;
pub(crate) mod random;
mod source;
