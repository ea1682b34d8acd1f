//! End to end: real daemons and agents, real connections, real crashes.
//!
//! One binary, so that it links once.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]
#![expect(clippy::print_stderr, reason = "a skipped test says why")]

mod approvals;
mod connections;
mod crashes;
mod datagrams;
mod doorways;
mod engine;
mod evacuation;
mod examples;
mod failover;
mod fronts;
mod full_disk;
mod guests;
mod incidents;
mod kept;
mod levels;
mod lifecycle;
mod local;
mod lost_source;
mod mail;
mod metrics;
mod moves;
mod names;
mod outages;
mod overview;
mod places;
mod placing;
mod prometheus;
mod proxy;
mod relays;
mod replicas;
mod rounds;
mod routing;
mod sessions;
mod shards;
mod silences;
mod stand_ins;
mod starting;
mod state;
mod supervised;
mod traces;
mod trials;

use dwcp_testbed::{HostPlan, RegionPlan};

/// Three regions that are nearly as good for clients at home, each with a host.
fn three_near() -> Vec<RegionPlan> {
    let near = [("one", 30), ("two", 10), ("three", 20)];
    let region =
        |(id, ms)| RegionPlan::new(id).latency_ms(ms).host(HostPlan::of_slots(4));
    near.map(region).to_vec()
}
