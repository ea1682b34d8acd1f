//! Routing by what the lines between regions measure, while they are as they are and while one
//! is cut.

use std::sync::Arc;

use dwcp_api::NoParams;
use dwcp_api::routing::{GetRoutingLatency, RoutingLatency};
use dwcp_router::LegView;
use dwcp_testbed::wan::Bed;
use dwcp_testbed::{Door, Federation, HostPlan, Plan, RegionPlan, until};
use dwcp_types::{Bps, RegionId};

/// The way from one region to another.
fn way<'a>(reply: &'a RoutingLatency, from: &str, to: &str) -> Option<&'a LegView> {
    let row = reply.rows.iter().find(|row| row.is_region && row.from == from)?;
    row.to.get(&RegionId::new(to).unwrap())
}

/// Asks until the way is as wanted.
async fn found(
    door: &Door,
    what: &str,
    (from, to): (&str, &str),
    wanted: impl Fn(&LegView) -> bool,
) -> RoutingLatency {
    until(what, || async {
        let reply = door.call::<GetRoutingLatency>(&NoParams {}, &()).await;
        let reply = reply.map_err(|error| error.to_string())?;
        let leg = way(&reply, from, to).cloned();
        if leg.as_ref().is_some_and(&wanted) {
            Ok(reply)
        } else {
            Err(format!("{leg:?}"))
        }
    })
    .await
}

#[test]
fn ways_are_measured_in_every_region_and_lead_around_a_line_that_is_cut() {
    let links = crate::t1();
    let names = links.regions();
    let regions: Vec<&str> = names.iter().map(String::as_str).collect();
    let Some(bed) = Bed::new(&regions, &links) else { return };
    let bed = Arc::new(bed);
    bed.block_on(async {
        let region = |id: &&str| RegionPlan::new(id).host(HostPlan::of_slots(1));
        let plan = Plan::simulated(regions.iter().map(region).collect()).behind(&links);
        let federation = Federation::start_on(&bed, plan).await;
        let door = federation.at("ap-south-1");

        // Each of the others' lines, as this region hears of them.
        for from in &regions {
            for to in regions.iter().filter(|to| *to != from) {
                let all = |leg: &LegView| leg.measured == Bps::ONE;
                let reply = found(&door, "it is measured", (from, to), all).await;
                let rtt = way(&reply, from, to).unwrap().direct_rtt.unwrap();
                let emulated = links.rtt(from, to);
                assert!(
                    u128::from(rtt.get()) >= emulated.as_micros(),
                    "{from} to {to}: {rtt} is less than the line takes, {emulated:?}"
                );
            }
        }

        let pair = ("us-east-1", "eu-west-1");
        bed.cut(pair.0, pair.1);
        let around =
            found(&door, "it is gone around", pair, |leg| leg.via.is_some()).await;
        assert_eq!(way(&around, pair.0, pair.1).unwrap().loss_ppm, 0);
        let other = ("us-east-1", "sa-east-1");
        assert_eq!(way(&around, other.0, other.1).unwrap().via, None);
        bed.heal_all();
        found(&door, "it is straight again", pair, |leg| leg.via.is_none()).await;
        federation.end();
    });
}
