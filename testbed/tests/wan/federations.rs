//! Federations whose regions are apart.

use std::sync::Arc;

use dwcp_testbed::wan::Bed;
use dwcp_testbed::{Federation, HostPlan, Plan, RegionPlan, content, set, until};

#[test]
fn the_example_runs_behind_its_round_trips_and_a_cut_off_region_is_missed_until_it_is_back()
 {
    let links = crate::t1();
    let names = links.regions();
    let regions: Vec<&str> = names.iter().map(String::as_str).collect();
    let Some(bed) = Bed::new(&regions, &links) else { return };
    let bed = Arc::new(bed);
    bed.block_on(async {
        let region = |id: &&str| RegionPlan::new(id).host(HostPlan::of_slots(1));
        let plan = Plan::simulated(regions.iter().map(region).collect()).behind(&links);
        let federation = Federation::start_on(&bed, plan).await;
        let near = federation.at("eu-west-1");
        let far = federation.at("au-southeast-1");
        bed.isolate("au-southeast-1");
        near.write("cache:x", &set("1")).await.unwrap();
        assert_eq!(far.read("cache:x").await.unwrap().value, None);
        bed.heal_all();
        until("the write is everywhere", || async {
            let entry = far.read("cache:x").await.map_err(|error| error.to_string())?;
            let seen = entry.value == content("1");
            if seen { Ok(()) } else { Err(format!("{entry:?}")) }
        })
        .await;
        federation.end();
    });
}
