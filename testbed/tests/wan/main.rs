//! Behind an emulated WAN: the bed itself, and federations on it. Needs root and /dev/net/tun.
//!
//! A binary of its own, so that few of these run at once: each has a thread that must be on time.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

mod anycast;
mod bed;
mod clients;
mod drills;
mod federations;
mod load;
mod moves;
mod nemesis;
mod partitions;
mod program;
mod routes;

use dwcp_testbed::wan::Links;
use dwcp_testbed::workspace;

/// The example's regions and round trips.
fn t1() -> Links {
    Links::of_federation(&workspace().join("deploy/t1/federation.yaml"))
}
