//! What the table says is what the oracle says, for every key of random worlds, before and
//! after they change; and what is explained is what was decided.

use std::collections::BTreeSet;

use dwcp_types::RegionId;
use proptest::prelude::*;

use super::oracle::{Answered, Question};
use super::random::{self, Random};
use crate::decide::{Decision, Key, Path, Reason, Standing, decide, decide_for};
use crate::explain::explain;
use crate::input::Inputs;
use crate::rendezvous::{draw, salt};
use crate::service::{Class, Service};
use crate::table::Table;

/// Every key of a table, with clients and requests drawn.
fn keys(inputs: &Inputs, random: &mut Random) -> Vec<Key> {
    let mut keys = Vec::new();
    for service in 0..inputs.services.len() {
        for class in Class::ALL {
            for cell in 0..inputs.cells.len() {
                keys.push(Key {
                    cell: u32::try_from(cell).unwrap(),
                    service: u16::try_from(service).unwrap(),
                    class,
                    client: random.next(),
                    request: random.next(),
                });
            }
        }
    }
    keys
}

fn question<'a>(
    inputs: &'a Inputs,
    key: &Key,
    down: &'a BTreeSet<RegionId>,
) -> Question<'a> {
    let service = &inputs.services[usize::from(key.service)];
    Question {
        inputs,
        service,
        wanted: service.requirements[key.class as usize],
        cell: &inputs.cells[key.cell as usize],
        down,
    }
}

/// The stored answer in the oracle's words.
fn stored(table: &Table, key: &Key) -> Vec<Answered> {
    let (_, entry) = table.entry(key).unwrap();
    let id = |site: u8| table.inputs().sites.get(usize::from(site)).map(|s| s.id.clone());
    (0..4)
        .filter_map(|at| {
            Some(Answered {
                id: id(entry.sites[at])?,
                relay: id(entry.relays[at]),
                share: entry.shares()[at].into(),
                failed: crate::Refusals::of_soft(entry.failed[at]).iter().collect(),
            })
        })
        .collect()
}

/// Whose turn it is in an answer of which only some are up.
fn turn<'a>(
    answer: &'a [Answered],
    down: &BTreeSet<RegionId>,
    seed: u64,
) -> Option<&'a Answered> {
    let up: Vec<&Answered> = answer.iter().filter(|a| !down.contains(&a.id)).collect();
    let sharing = up.iter().filter(|a| a.share > 0);
    let drawn = sharing.min_by(|a, b| {
        let cost = |a: &Answered| u128::from(draw(seed, salt(a.id.as_str())));
        (cost(a) * u128::from(b.share)).cmp(&(cost(b) * u128::from(a.share)))
    });
    drawn.or_else(|| up.first()).copied()
}

fn seed(service: &Service, key: &Key) -> u64 {
    if service.sticky { key.client } else { key.request }
}

/// Holds a decision to an answer of the oracle.
fn same(
    table: &Table,
    decision: &Decision,
    wanted: Option<&Answered>,
    down: &BTreeSet<RegionId>,
) -> Result<(), TestCaseError> {
    let region = decision.region_id(table);
    prop_assert_eq!(region, wanted.map(|wanted| &wanted.id));
    let Some(wanted) = wanted else { return Ok(()) };
    let via = match decision.path {
        Path::Direct => None,
        Path::Via(relay) => Some(table.region(relay).clone()),
    };
    prop_assert_eq!(via, wanted.relay.clone().filter(|relay| !down.contains(relay)));
    let failed: BTreeSet<_> = decision.failed.iter().collect();
    prop_assert_eq!(&failed, &wanted.failed);
    prop_assert_eq!(decision.meets(), wanted.failed.is_empty());
    Ok(())
}

fn some_down(
    inputs: &Inputs,
    table: &Table,
    random: &mut Random,
) -> (Standing, BTreeSet<RegionId>) {
    let mut standing = Standing::ALL;
    let mut down = BTreeSet::new();
    let of = random.pick(&[1, 2, 4, 100]);
    for site in &inputs.sites {
        if random.one_in(of) {
            standing = standing.without(table.region_ix(&site.id).unwrap());
            down.insert(site.id.clone());
        }
    }
    (standing, down)
}

/// Holds every key of a table to the oracle, and gives back the oracle's answers.
fn hold(
    table: &Table,
    before: Option<(&[Vec<Answered>], &Table)>,
    random: &mut Random,
) -> Result<Vec<Vec<Answered>>, TestCaseError> {
    let inputs = table.inputs();
    let nobody = BTreeSet::new();
    let (standing, down) = some_down(inputs, table, random);
    let mut answers = Vec::new();
    for (at, key) in keys(inputs, random).iter().enumerate() {
        let question = question(inputs, key, &nobody);
        let past = before.map(|(answers, then)| {
            let passed = inputs.now.as_millis() - then.built_at().as_millis();
            (answers[at].as_slice(), passed)
        });
        let answer = question.answer(past);
        prop_assert_eq!(&stored(table, key), &answer);

        let seed = seed(question.service, key);
        let all = decide(table, Standing::ALL, key);
        same(table, &all, turn(&answer, &nobody, seed), &nobody)?;
        let some = decide(table, standing, key);
        if answer.is_empty() || turn(&answer, &down, seed).is_some() {
            same(table, &some, turn(&answer, &down, seed), &down)?;
            prop_assert!(!some.reasons.has(Reason::WeighedAnew));
        } else {
            let anew = Question { down: &down, ..question }.answer(None);
            same(table, &some, turn(&anew, &nobody, seed), &nobody)?;
            prop_assert!(some.reasons.has(Reason::WeighedAnew));
        }
        for (standing, decision) in [(Standing::ALL, all), (standing, some)] {
            explained(table, standing, key, &decision)?;
        }
        answers.push(answer);
    }
    Ok(answers)
}

fn explained(
    table: &Table,
    standing: Standing,
    key: &Key,
    decision: &Decision,
) -> Result<(), TestCaseError> {
    let told = explain(table, standing, key, None).unwrap();
    let chosen = &told.decision;
    prop_assert_eq!(chosen.region.as_ref(), decision.region_id(table));
    prop_assert_eq!(chosen.ttl_s, decision.ttl_s);
    prop_assert_eq!(chosen.meets, decision.meets());
    prop_assert_eq!(&chosen.reasons, &decision.reasons.iter().collect::<Vec<_>>());
    prop_assert_eq!(&chosen.failed, &decision.failed.iter().collect::<Vec<_>>());
    let fallbacks: Vec<_> =
        decision.fallbacks.iter().map(|at| table.region(at).clone()).collect();
    prop_assert_eq!(&chosen.fallbacks, &fallbacks);
    prop_assert_eq!(told.candidates.len(), table.inputs().sites.len());
    for candidate in &told.candidates {
        let parts =
            candidate.factors.iter().map(|part| u32::from(part.contribution.get()));
        let (sum, score) = (parts.sum::<u32>(), u32::from(candidate.score.get()));
        prop_assert!(sum <= score && score < sum + 6, "{} of {}", sum, score);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_table_says_what_the_oracle_says_before_and_after_the_world_changes(start: u64) {
        let mut random = Random::new(start);
        let Ok(table) = Table::build(random::inputs(&mut random), 1, None) else {
            return Ok(());
        };
        let answers = hold(&table, None, &mut random)?;
        let later = random::later(&mut random, table.inputs());
        let Ok(next) = Table::build(later, 2, Some(&table)) else { return Ok(()) };
        let answers = hold(&next, Some((&answers, &table)), &mut random)?;
        let later = random::later(&mut random, next.inputs());
        let Ok(last) = Table::build(later, 3, Some(&next)) else { return Ok(()) };
        hold(&last, Some((&answers, &next)), &mut random)?;
    }

    #[test]
    fn a_request_with_limits_of_its_own_is_weighed_by_them(start: u64) {
        let mut random = Random::new(start);
        let Ok(table) = Table::build(random::inputs(&mut random), 1, None) else {
            return Ok(());
        };
        let nobody = BTreeSet::new();
        let (standing, down) = some_down(table.inputs(), &table, &mut random);
        for key in keys(table.inputs(), &mut random) {
            let wanted = random::own(&mut random);
            let question =
                Question { wanted, ..question(table.inputs(), &key, &down) };
            let answer = question.answer(None);
            let decision = decide_for(&table, standing, &key, wanted);
            let turn = turn(&answer, &nobody, seed(question.service, &key));
            same(&table, &decision, turn, &nobody)?;
            let told = explain(&table, standing, &key, Some(wanted)).unwrap();
            prop_assert_eq!(told.decision.region.as_ref(), decision.region_id(&table));
            prop_assert_eq!(told.requirement, wanted);
        }
    }

    /// Scales are fixed: whoever comes or goes, two others keep their order (F54), as long as
    /// it was not their relay.
    #[test]
    fn a_region_more_or_less_changes_no_other_score(start: u64) {
        let mut random = Random::new(start);
        let mut inputs = random::inputs(&mut random);
        let Ok(table) = Table::build(inputs.clone(), 1, None) else { return Ok(()) };
        let keys = keys(table.inputs(), &mut random);
        let gone = inputs.sites.remove(0).id;
        for service in &mut inputs.services {
            service.regions.remove(&gone);
        }
        let Ok(fewer) = Table::build(inputs, 1, None) else { return Ok(()) };
        for key in keys {
            let before = explain(&table, Standing::ALL, &key, None).unwrap();
            let after = explain(&fewer, Standing::ALL, &key, None).unwrap();
            for old in before.candidates.iter().filter(|c| c.way.via.as_ref() != Some(&gone)) {
                if old.region != gone {
                    let new = after.candidates.iter().find(|c| c.region == old.region);
                    prop_assert_eq!(new.map(|new| new.score), Some(old.score));
                }
            }
        }
    }

    /// Shares add up, and nobody without a share is chosen while one with a share is up.
    #[test]
    fn clients_are_spread_by_shares(start: u64) {
        let mut random = Random::new(start);
        let Ok(table) = Table::build(random::inputs(&mut random), 1, None) else {
            return Ok(());
        };
        for key in keys(table.inputs(), &mut random) {
            let (_, entry) = table.entry(&key).unwrap();
            if decide(&table, Standing::ALL, &key).region.is_some() {
                let sum: u32 = entry.shares().into_iter().map(u32::from).sum();
                prop_assert_eq!(sum, 255);
            }
        }
    }
}
