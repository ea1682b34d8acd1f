//! The source's own example: a map from `sourceRegion:targetService` to the best region (P6).
//!
//! Its text key is ambiguous and its update holds the lock while it computes (F56). A cell a
//! region and a typed key make the same table without either.

use dwcp_types::ServiceId;

use super::rules::{clients, region, service, world};
use crate::decide::{Key, Standing, decide};
use crate::service::Service;
use crate::table::Table;
use crate::weights::Algorithm;

#[test]
fn the_source_s_table_is_a_cell_for_each_region() {
    let sites = ["ap-south-1", "eu-west-1", "us-east-1"];
    // DETAILS 2.7: round trips between the source's regions, in milliseconds.
    let trips = [
        [("ap-south-1", 1), ("eu-west-1", 150), ("us-east-1", 200)],
        [("ap-south-1", 150), ("eu-west-1", 1), ("us-east-1", 75)],
        [("ap-south-1", 200), ("eu-west-1", 75), ("us-east-1", 1)],
    ];
    let mut inputs = world(
        sites.iter().map(|name| region(name)).collect(),
        clients(&trips[0]),
        service(Algorithm::Latency),
    );
    inputs.cells = trips.iter().map(|trips| clients(trips)).collect();
    let web = ServiceId::new("web").unwrap();
    let mut elsewhere = Service::new(web.clone(), Algorithm::Latency);
    elsewhere.regions = [region("eu-west-1").id].into();
    inputs.services.push(elsewhere);
    let table = Table::build(inputs, 1, None).unwrap();
    let best = |source: u32, service: &ServiceId| {
        let service = table.service(service).unwrap();
        let key = Key { cell: source, service, ..Key::default() };
        decide(&table, Standing::ALL, &key).region_id(&table).unwrap().to_string()
    };
    let api = ServiceId::new("api").unwrap();
    for (source, region) in sites.into_iter().enumerate() {
        let source = u32::try_from(source).unwrap();
        assert_eq!(best(source, &api), region);
        assert_eq!(best(source, &web), "eu-west-1");
    }
}
