//! Registers are linearizable: every read shows a write that could be the last one by then.

use std::time::Duration;

use proptest::prelude::*;

use super::net::{Net, bytes, id, key, membership};
use crate::crdt::{Reading, Update};
use crate::replica::{Answer, Op, RequestId};

/// What was asked: when, and until when it was open.
#[derive(Clone, Debug)]
struct Asked {
    request: RequestId,
    /// The number that was written; none for a read.
    wrote: Option<u32>,
    from: Duration,
    until: Option<Duration>,
    /// The number that was read.
    saw: Option<u32>,
}

#[derive(Clone, Debug)]
enum Event {
    Write(u16),
    Read(u16),
    Crash(u16),
    Cut(u16, u16),
    Heal,
    Run(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let replica = || 1_u16..=3;
    let event = prop_oneof![
        4 => replica().prop_map(Event::Write),
        6 => replica().prop_map(Event::Read),
        1 => replica().prop_map(Event::Crash),
        1 => (replica(), replica()).prop_map(|(one, other)| Event::Cut(one, other)),
        1 => Just(Event::Heal),
        6 => (1_u64..150).prop_map(Event::Run),
    ];
    proptest::collection::vec(event, 1..50)
}

fn play(net: &mut Net, events: Vec<Event>) -> Vec<Asked> {
    let mut asked: Vec<Asked> = Vec::new();
    let mut written = 0;
    for event in events {
        match event {
            Event::Write(at) => {
                written += 1;
                let update = Update::Set(bytes(&written.to_string()));
                let op = Op::Update { key: key("reg/x"), update, op_id: None };
                asked.push(begin(net, at, op, Some(written)));
            }
            Event::Read(at) => {
                let op = Op::Get { key: key("reg/x"), max_staleness: None };
                asked.push(begin(net, at, op, None));
            }
            Event::Crash(at) => {
                net.crash(id(at));
                net.start(id(at));
            }
            Event::Cut(one, other) => net.cut(id(one), id(other)),
            Event::Heal => net.heal(),
            Event::Run(millis) => {
                for _ in 0..millis.div_ceil(10) {
                    net.step();
                    close(net, &mut asked);
                }
            }
        }
    }
    net.heal();
    for _ in 0..700 {
        net.step();
        close(net, &mut asked);
    }
    asked
}

fn begin(net: &mut Net, at: u16, op: Op, wrote: Option<u32>) -> Asked {
    let from = net.now;
    let request = net.ask(id(at), op, None, None);
    Asked { request, wrote, from, until: None, saw: None }
}

/// Notes when an answer came, and what it showed.
fn close(net: &Net, asked: &mut [Asked]) {
    for one in asked.iter_mut().filter(|one| one.until.is_none()) {
        match net.outcomes.get(&one.request) {
            Some(Ok(Answer::Read(read))) => {
                one.until = Some(net.now);
                one.saw = Some(number(read.reading.as_ref()));
            }
            Some(Ok(_)) => one.until = Some(net.now),
            // A refused read says nothing; a refused write may still be done at any time.
            Some(Err(_)) | None => {}
        }
    }
}

fn number(reading: Option<&Reading>) -> u32 {
    match reading {
        Some(Reading::Register { value: Some(value), .. }) => {
            std::str::from_utf8(value).unwrap().parse().unwrap()
        }
        _ => 0,
    }
}

/// What cannot be if each operation happened at one moment while it was open. For writes that
/// are all different it is enough that no read shows a write of its future, or one that another
/// write, or a read of another, has certainly followed before the read began.
fn violation(asked: &[Asked]) -> Option<String> {
    let write = |number: u32| asked.iter().find(|one| one.wrote == Some(number));
    for read in asked.iter().filter(|one| one.saw.is_some()) {
        let saw = read.saw?;
        if saw > 0 && write(saw)?.from > read.until? {
            return Some(format!("{read:?} shows what was not asked for yet"));
        }
        // A write is certainly in place before something when it, or a read of it, has ended.
        for other in
            asked.iter().filter(|one| one.wrote.is_some_and(|wrote| wrote != saw))
        {
            let number = other.wrote?;
            let seen = asked.iter().filter(|one| one.saw == Some(number));
            let in_place = seen.filter_map(|one| one.until).chain(other.until).min();
            let over = in_place.is_some_and(|end| end < read.from);
            let followed = saw == 0 || certainly_before(asked, saw, other.from);
            if over && followed {
                return Some(format!(
                    "{read:?} shows {saw}, after {number} was in place"
                ));
            }
        }
    }
    None
}

/// Whether a write was certainly in place before a moment.
fn certainly_before(asked: &[Asked], number: u32, moment: Duration) -> bool {
    let seen = asked.iter().filter(|one| one.saw == Some(number));
    let write = asked.iter().filter(|one| one.wrote == Some(number));
    seen.chain(write).filter_map(|one| one.until).any(|until| until < moment)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_read_shows_a_write_that_may_be_the_last(
        seed in any::<u64>(),
        loss in 0_u64..1_000,
        events in events(),
    ) {
        let mut net = Net::new(seed, membership(&["a", "b", "c"]));
        (net.loss, net.delay_ms) = (loss, 80);
        net.run_secs(1);
        let asked = play(&mut net, events);
        let violation = violation(&asked);
        prop_assert!(violation.is_none(), "{} {asked:#?}", violation.unwrap_or_default());
    }
}
