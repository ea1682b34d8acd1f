//! End to end: real daemons and agents, real connections, real crashes.
//!
//! One binary, so that it links once.

mod crashes;
mod doorways;
mod examples;
mod full_disk;
mod guests;
mod lifecycle;
mod outages;
mod placing;
mod starting;
