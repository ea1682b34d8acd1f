//! End to end: real daemons and agents, real connections, real crashes.
//!
//! One binary, so that it links once.

mod crashes;
mod lifecycle;
mod outages;
