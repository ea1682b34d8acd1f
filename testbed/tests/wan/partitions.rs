//! Five regions behind the example's round trips, parted while clients in every region write at
//! every level: who must be served is, who must not be is refused, and nothing that was
//! acknowledged is lost (the table of levels in docs/design/state.md).

use std::collections::BTreeSet;
use std::sync::Arc;

use dwcp_api::state::{StateLevel, StateValue, Text};
use dwcp_sim::state::oracle::register::linearizable;
use dwcp_testbed::wan::Bed;
use dwcp_testbed::{Federation, HostPlan, Plan, RegionPlan, etcd_program, until};

use crate::load::{LEVELS, Load, Told, key};

/// Answers after which clients are believed to be served: more than were under way before.
const SERVED: u64 = 5;

/// The regions of the example, that of the engine's leader first.
const REGIONS: [&str; 5] =
    ["us-east-1", "eu-west-1", "ap-south-1", "sa-east-1", "au-southeast-1"];

/// One partition.
struct Scenario {
    name: &'static str,
    /// Parts the bed.
    strike: fn(&Bed),
    /// The regions that have no majority.
    minority: &'static [&'static str],
}

const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "alone",
        strike: |bed| bed.isolate("au-southeast-1"),
        minority: &["au-southeast-1"],
    },
    Scenario {
        name: "two-of-five",
        strike: |bed| bed.part(&["us-east-1", "sa-east-1"]),
        minority: &["us-east-1", "sa-east-1"],
    },
    Scenario {
        name: "unheard",
        // It hears all others and none hears it.
        strike: |bed| {
            for other in REGIONS.iter().filter(|other| **other != "eu-west-1") {
                bed.cut_way("eu-west-1", other);
            }
        },
        minority: &["eu-west-1"],
    },
];

#[test]
fn whatever_the_partition_each_level_keeps_its_promise_on_both_sides() {
    let links = crate::t1();
    let has_engine = etcd_program().is_some();
    let Some(bed) = Bed::new(&REGIONS, &links).filter(|_| has_engine) else { return };
    let bed = Arc::new(bed);
    bed.block_on(async {
        let region = |id: &&str| RegionPlan::new(id).host(HostPlan::of_slots(1));
        let plan = Plan::simulated(REGIONS.iter().map(region).collect());
        let federation = Federation::start_on(&bed, plan.behind(&links).on_etcd()).await;
        federation.connected(&REGIONS).await;
        for scenario in &SCENARIOS {
            play(&bed, &federation, scenario).await;
        }
        federation.end();
    });
}

async fn play(bed: &Bed, federation: &Federation, scenario: &Scenario) {
    let load = Load::start(federation, &REGIONS, scenario.name);
    let everywhere: Vec<_> = pairs(|_, _| true);
    served(&load, &everywhere, "before the partition").await;

    (scenario.strike)(bed);
    let needs_majority = |level| matches!(level, StateLevel::Quorum | StateLevel::Strong);
    let is_minority = |region| scenario.minority.contains(&region);
    let without = pairs(|region, level| is_minority(region) && needs_majority(level));
    let with = pairs(|region, level| !(is_minority(region) && needs_majority(level)));
    let weak = pairs(|_, level| !needs_majority(level));
    let failures = |pairs: &[Pair]| -> Vec<_> {
        let told = pairs.iter().map(|pair| told(&load, pair));
        told.map(|told| (told.refused, told.unknown)).collect()
    };
    let served_so_far =
        || without.iter().map(|pair| told(&load, pair).served).collect::<Vec<_>>();
    let failed_before = failures(&weak);
    // First an outcome may be unknown, and a question that was under way served. Who was refused
    // once stays so. Those whom the partition leaves a majority may wait for an election.
    refused(&load, &without).await;
    let served_before = served_so_far();
    served(&load, &with, "in the partition").await;
    refused(
        &load,
        &pairs(|region, level| is_minority(region) && level == StateLevel::Quorum),
    )
    .await;
    assert_eq!(served_before, served_so_far(), "served without a majority: {without:?}");
    assert_eq!(failed_before, failures(&weak), "not served: {weak:?}");

    bed.heal_all();
    served(&load, &everywhere, "after the partition").await;
    let all = load.stop().await;
    for level in [StateLevel::Quorum, StateLevel::Strong] {
        let accesses: Vec<_> =
            all[&level].iter().flat_map(|told| told.accesses.clone()).collect();
        let verdict = linearizable(&accesses);
        assert_eq!(verdict, Ok(()), "{level:?}, {}: {accesses:#?}", scenario.name);
    }
    for level in [StateLevel::Eventual, StateLevel::Local] {
        converged(federation, &key(scenario.name, level), &all[&level]).await;
    }
}

type Pair = (&'static str, StateLevel);

fn pairs(wanted: impl Fn(&'static str, StateLevel) -> bool) -> Vec<Pair> {
    let all = REGIONS.iter().flat_map(|region| LEVELS.map(|level| (*region, level)));
    all.filter(|(region, level)| wanted(region, *level)).collect()
}

fn told(load: &Load, (region, level): &Pair) -> Told {
    load.told(region, *level)
}

/// Waits until the clients of each pair were served several times more.
async fn served(load: &Load, pairs: &[Pair], when: &str) {
    let what = format!("clients are served {when}");
    more(load, pairs, (&what, SERVED), |told| told.served).await;
}

/// Waits until the clients of each pair were refused once more, knowing that nothing was done.
async fn refused(load: &Load, pairs: &[Pair]) {
    more(load, pairs, ("clients are refused", 1), |told| told.refused).await;
}

async fn more(
    load: &Load,
    pairs: &[Pair],
    (what, times): (&str, u64),
    count: fn(&Told) -> u64,
) {
    let counts =
        || -> Vec<u64> { pairs.iter().map(|pair| count(&told(load, pair))).collect() };
    let before = counts();
    until(what, || async {
        let wait = |(pair, (now, before)): (&Pair, (u64, &u64))| {
            (now < *before + times).then(|| (*pair, told(load, pair).unknown))
        };
        let now = counts().into_iter().zip(&before);
        let waited: Vec<_> = pairs.iter().zip(now).filter_map(wait).collect();
        if waited.is_empty() { Ok(()) } else { Err(waited) }
    })
    .await;
}

/// Waits until every region shows the same set; checks that it is what was acknowledged and
/// nothing that nobody asked for.
async fn converged(federation: &Federation, key: &str, told: &[Told]) {
    let added: BTreeSet<_> = told.iter().flat_map(|told| told.added.clone()).collect();
    let perhaps: BTreeSet<_> =
        told.iter().flat_map(|told| told.perhaps.clone()).collect();
    let shown = until("all regions show the same", || async {
        let mut shown = BTreeSet::new();
        for region in REGIONS {
            let entry = federation.at(region).read_at(key, StateLevel::Eventual).await;
            shown.insert(elements(entry.map_err(|error| error.to_string())?.value));
        }
        let has_all = shown.first().is_some_and(|shown| added.is_subset(shown));
        match shown.len() {
            1 if has_all => Ok(shown.pop_first().unwrap()),
            _ => Err(shown
                .iter()
                .map(|shown| added.difference(shown).count())
                .collect::<Vec<_>>())
            .map_err(|lacking| format!("{lacking:?} are lacking")),
        }
    })
    .await;
    let nobodys: Vec<_> = shown
        .iter()
        .filter(|one| !added.contains(*one) && !perhaps.contains(*one))
        .collect();
    assert!(nobodys.is_empty(), "{nobodys:?}");
}

fn elements(value: Option<StateValue>) -> BTreeSet<String> {
    let Some(StateValue::Many(elements)) = value else { return BTreeSet::new() };
    let text = |element| match element {
        Text::Plain(text) => text,
        Text::Binary { .. } => panic!("not an element of this test"),
    };
    elements.into_iter().map(text).collect()
}
