//! `bench wan`: the five regions of T1 behind their round trips: how true the emulated WAN is, how
//! far regions are behind each other, and how fast they are level again after a pause or a
//! partition. Needs root, for network namespaces.
//!
//! Clients look on from outside the WAN, so what they wait for has come by the daemons' own way.

mod apart;
mod lines;

use std::sync::Arc;

use anyhow::Context;
use dwcp_testbed::wan::{Bed, Links};
use dwcp_testbed::{Federation, HostPlan, Plan, RegionPlan};

use super::{Measurement, Options};

/// The regions of T1; the first one's daemon hosts the engine.
pub(super) const REGIONS: [&str; 5] =
    ["us-east-1", "eu-west-1", "ap-south-1", "sa-east-1", "au-southeast-1"];

/// Measures.
pub(super) fn measure(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    crate::programs::build()?;
    let links = Links::of_federation(&crate::root()?.join("deploy/t1/federation.yaml"));
    let quick = options.quick;
    let mut measured = {
        let bed = Bed::new(&REGIONS, &links).context("there is no WAN here")?;
        lines::measure(&bed, &links, quick)?
    };
    let bed = Bed::new(&REGIONS, &links).context("there is no WAN here")?;
    let bed = Arc::new(bed);
    let region = |id: &&str| RegionPlan::new(id).host(HostPlan::of_slots(1));
    let plan = Plan::simulated(REGIONS.iter().map(region).collect()).behind(&links);
    measured.extend(bed.block_on(async {
        let mut federation = Federation::start_on(&bed, plan).await;
        federation.connected(&REGIONS).await;
        apart::measure(&bed, &mut federation, &links, quick).await
    })?);
    Ok(measured)
}

fn one(name: &str, value: f64, unit: &'static str, method: String) -> Measurement {
    Measurement { name: format!("wan.{name}"), value, unit, method, peer: None }
}
