//! The agent as a whole: one conformance suite over both hypervisors, the agent with the
//! simulated one, and the agent's program with real guests.
//!
//! Tests with real guests need QEMU and the image (`guest/build.sh target/guest`, or
//! `DWCP_GUEST_IMAGE`); without them they say so and pass.

#![allow(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]
#![allow(clippy::cognitive_complexity, reason = "a guest's life is told in its order")]

mod agent;
mod conformance;
mod guests;
mod lease;
mod moves;
mod rig;
mod rounds;
mod taps;
