//! Recorded requests under two policies, by hand and against request after request.

use std::collections::BTreeMap;

use dwcp_types::{MicroUsd, Micros};
use proptest::prelude::*;

use super::random::{self, Random};
use super::rules::{clients, id, region, service, table, world};
use crate::decide::{Key, Standing, decide};
use crate::replay::{Traffic, replay};
use crate::service::Class;
use crate::table::Table;
use crate::weights::Algorithm;

const KEY: Key =
    Key { cell: 0, service: 0, class: Class::Interactive, client: 0, request: 0 };

#[test]
fn latency_and_cost_pull_the_same_requests_apart() {
    let under = |algorithm| {
        let mut near = region("near");
        near.egress_gb = MicroUsd::new(150_000);
        let mut cheap = region("cheap");
        cheap.egress_gb = MicroUsd::new(20_000);
        let mut service = service(algorithm);
        (service.kb_per_request, service.cpu_us_per_request) = (100, 0);
        let cell = clients(&[("near", 5), ("cheap", 80)]);
        let table = table(world(vec![near, cheap], cell, service));
        replay(&table, &[Traffic { key: KEY, requests: 2_000_000 }])
    };
    let fast = under(Algorithm::Latency);
    assert_eq!(fast.by_region, BTreeMap::from([(id("near"), 2_000_000)]));
    assert_eq!(fast.latency_mean, Some(Micros::from_millis(5)));
    // 2 million x 100 KB are 200 GB at 0.15 USD.
    assert_eq!(fast.cost_nano_usd, 30_000_000_000);
    let cheap = under(Algorithm::Cost);
    assert_eq!(cheap.latency_p95, Some(Micros::from_millis(80)));
    assert_eq!(cheap.cost_nano_usd, 4_000_000_000);
    assert_eq!((cheap.nowhere, cheap.broken, cheap.unknown), (0, 0, 0));
}

#[test]
fn a_percentile_is_the_nearest_rank_over_all_requests() {
    let mut inputs = world(
        vec![region("a"), region("b")],
        clients(&[("a", 10), ("b", 90)]),
        service(Algorithm::Latency),
    );
    inputs.cells.push(clients(&[("a", 90), ("b", 40)]));
    let table = table(inputs);
    let groups = |first, second| {
        replay(
            &table,
            &[
                Traffic { key: KEY, requests: first },
                Traffic { key: Key { cell: 1, ..KEY }, requests: second },
            ],
        )
    };
    assert_eq!(groups(95, 5).latency_p95, Some(Micros::from_millis(10)));
    assert_eq!(groups(94, 6).latency_p95, Some(Micros::from_millis(40)));
    assert_eq!(groups(50, 50).latency_mean, Some(Micros::from_millis(25)));
    assert_eq!(groups(0, 0).latency_mean, None);
    let lost = replay(&table, &[Traffic { key: Key { cell: 9, ..KEY }, requests: 7 }]);
    assert_eq!((lost.requests, lost.nowhere), (7, 7));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Shares are what clients that are drawn one by one come to.
    #[test]
    fn requests_one_by_one_come_to_the_same(start: u64) {
        const DRAWN: u32 = 20_000;
        let mut random = Random::new(start);
        let Ok(table) = Table::build(random::inputs(&mut random), 1, None) else {
            return Ok(());
        };
        let outcome = replay(&table, &[Traffic { key: KEY, requests: DRAWN.into() }]);
        let mut counts: BTreeMap<_, u64> = BTreeMap::new();
        for _ in 0..DRAWN {
            let key = Key { client: random.next(), request: random.next(), ..KEY };
            if let Some(region) = decide(&table, Standing::ALL, &key).region_id(&table) {
                *counts.entry(region.clone()).or_default() += 1;
            }
        }
        let regions: std::collections::BTreeSet<_> =
            counts.keys().chain(outcome.by_region.keys()).cloned().collect();
        for region in regions {
            let of = |all: &BTreeMap<_, u64>| all.get(&region).copied().unwrap_or(0);
            let (drawn, wanted) = (of(&counts), of(&outcome.by_region));
            // Six standard deviations of a share of a half.
            prop_assert!(drawn.abs_diff(wanted) < 450, "{} for {}", drawn, wanted);
        }
    }
}
