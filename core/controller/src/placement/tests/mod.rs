//! Tests of placement as a whole; what concerns one file is tested there.

mod exactness;
mod filters;
mod giving_way;
pub(crate) mod oracle;
pub(crate) mod random;
pub(crate) mod source;
