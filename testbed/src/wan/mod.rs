//! A WAN in user space: regions as network namespaces, joined by one thread that delays, loses,
//! narrows and cuts what passes between them.
//!
//! [`Bed`] is the door. Below it, what decides is pure and proved by itself ([`mod@line`], [`fabric`],
//! [`route`], [`packet`]); what acts is thin ([`emulator`], [`namespace`]).
//!
//! Rejected: the kernel's netem, which many kernels lack, and which cannot tell how late it is.

mod bed;
mod emulator;
mod fabric;
mod lateness;
mod line;
mod links;
mod namespace;
mod order;
mod packet;
mod route;
mod router;
mod shape;
mod socket;

pub use bed::{BRIDGE, Bed, BedPlan, GATEWAY, OBSERVER};
pub use lateness::LatenessReport;
pub use line::LineReport;
pub use links::Links;
pub use order::{NamedLine, Order, OrderError, Report};
pub use router::{REGIONS_AS, ROUTER_AS, Router, Speech};
pub use shape::Shape;
pub use socket::{Door, ask};
