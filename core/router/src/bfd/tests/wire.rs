//! Two sessions over a wire that loses, delays and is cut.

use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::{MS, number, settings};

/// A packet that was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Duration,
    by: usize,
    packet: Packet,
}

struct Wire {
    now: Duration,
    ends: [Session; 2],
    settings: [Settings; 2],
    /// Names given to sessions.
    named: u32,
    under_way: Vec<(Duration, usize, Packet)>,
    /// By who sends: how late packets arrive, and of a thousand how many are lost.
    late: [Duration; 2],
    lost: [u32; 2],
    chance: u64,
    sent: Vec<Sent>,
    /// When an end heard last.
    heard_at: [Duration; 2],
}

impl Wire {
    /// As it is after what happened, each for so many milliseconds.
    fn after(settings: [Settings; 2], events: Vec<(Event, u32)>) -> Self {
        let mut wire = Self::new(settings);
        for (event, ms) in events {
            match event {
                Event::Loses(lost) => wire.lost = lost,
                Event::Late(late) => wire.late = late.map(|ms| MS * ms),
                Event::Restarts(end) => wire.restart(end),
                Event::ShutsDown(end) => wire.ends[end].shut_down(),
            }
            wire.run(MS * ms);
        }
        wire
    }

    fn new(settings: [Settings; 2]) -> Self {
        let ends = [0, 1].map(|at: u32| {
            let own = number(at + 1);
            Session::new(settings[usize::from(at == 1)], own, at.into())
        });
        Self {
            now: Duration::from_secs(100),
            ends,
            settings,
            named: 2,
            under_way: Vec::new(),
            late: [MS; 2],
            lost: [0; 2],
            chance: 7,
            sent: Vec::new(),
            heard_at: [Duration::ZERO; 2],
        }
    }

    /// A new life of one end, which knows of nothing.
    fn restart(&mut self, end: usize) {
        self.named += 1;
        let own = number(self.named);
        self.ends[end] = Session::new(self.settings[end], own, self.named.into());
    }

    fn is_lost(&mut self, by: usize) -> bool {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u32::try_from((self.chance >> 33) % 1_000).unwrap() < self.lost[by]
    }

    fn send(&mut self) {
        for by in 0..2 {
            while let Some(packet) = self.ends[by].due(self.now) {
                self.sent.push(Sent { at: self.now, by, packet });
                if !self.is_lost(by) {
                    self.under_way.push((self.now + self.late[by], 1 - by, packet));
                }
            }
        }
    }

    /// Goes to the next moment at which something happens, at most to this one.
    fn step(&mut self, until: Duration) {
        self.send();
        let wakes = self.ends.iter().filter_map(Session::wake_at);
        let arrives = self.under_way.iter().map(|(at, ..)| *at);
        let next = wakes.chain(arrives).min().unwrap_or(until);
        self.now = next.min(until).max(self.now);
        let now = self.now;
        let here = |(at, ..): &mut (Duration, usize, Packet)| *at <= now;
        for (_, to, packet) in self.under_way.extract_if(.., here).collect::<Vec<_>>() {
            let packet = Packet::read(&packet.write()).unwrap();
            if self.ends[to].hear(&packet, now).is_ok() {
                self.heard_at[to] = now;
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step(until);
        }
        self.send();
    }

    fn states(&self) -> [State; 2] {
        [self.ends[0].view().state, self.ends[1].view().state]
    }

    /// What both should agree on: the pause between packets.
    fn agreed(&self) -> Duration {
        self.settings[0].interval.max(self.settings[1].interval)
    }

    /// Two packets that nobody asked for and that tell the same are a pause apart. What changed
    /// may have been told by an answer between them.
    fn keeps_the_pauses(&self) -> Result<(), TestCaseError> {
        for end in 0..2 {
            let mut last: Option<&Sent> = None;
            let mut told = None;
            for it in self.sent.iter().filter(|it| it.by == end) {
                let Packet { state, own, diagnostic, is_final, .. } = it.packet;
                if told.replace((state, own, diagnostic))
                    != Some((state, own, diagnostic))
                {
                    last = None;
                }
                if is_final {
                    continue;
                }
                let least = self.settings[end].interval;
                let least = if state == State::Up { least } else { least.max(IDLE) };
                let pause = last.replace(it).map(|last| it.at - last.at);
                prop_assert!(pause.is_none_or(|it| it >= least * 3 / 4), "{pause:?}");
            }
        }
        Ok(())
    }

    /// Longer than anything takes to settle.
    fn settle(&mut self) {
        self.run(Duration::from_secs(60));
        self.sent.clear();
    }
}

fn any_settings() -> impl Strategy<Value = Settings> {
    (50..2_000_u32, 1..8_u8).prop_map(|(ms, times)| settings(MS * ms, times))
}

#[derive(Clone, Debug)]
enum Event {
    Loses([u32; 2]),
    Late([u32; 2]),
    Restarts(usize),
    ShutsDown(usize),
}

fn events() -> impl Strategy<Value = Vec<(Event, u32)>> {
    let share = prop_oneof![Just(0_u32), Just(1_000), 0..900_u32];
    let event = prop_oneof![
        prop::array::uniform2(share).prop_map(Event::Loses),
        prop::array::uniform2(0..200_u32).prop_map(Event::Late),
        (0..2_usize).prop_map(Event::Restarts),
        (0..2_usize).prop_map(Event::ShutsDown),
    ];
    prop::collection::vec((event, 1..5_000_u32), 0..12)
}

proptest! {
    /// Whatever happened before: when the wire works again both are up, with the times that they
    /// agree on, poll no more, and keep the pause.
    #[test]
    fn both_are_up_when_the_wire_works(
        one in any_settings(), other in any_settings(), events in events()
    ) {
        let mut wire = Wire::after([one, other], events);
        (wire.lost, wire.late) = ([0; 2], [MS; 2]);
        for end in 0..2 {
            if wire.ends[end].view().state == State::AdminDown {
                wire.restart(end);
            }
        }
        wire.settle();
        prop_assert_eq!(wire.states(), [State::Up; 2]);
        let failures = wire.ends.each_ref().map(|end| end.view().failures);
        wire.run(Duration::from_secs(60));
        let agreed = wire.agreed();
        for (end, session) in wire.ends.iter().enumerate() {
            let view = session.view();
            prop_assert_eq!(view.failures, failures[end]);
            prop_assert_eq!(view.transmit, agreed);
            let multiplier = u32::from(wire.settings[1 - end].multiplier.get());
            prop_assert_eq!(view.detection, Some(agreed * multiplier));
            let sent: Vec<_> = wire.sent.iter().filter(|it| it.by == end).collect();
            prop_assert!(sent.iter().all(|it| !it.packet.poll && !it.packet.is_final));
            let single = wire.settings[end].multiplier.get() == 1;
            let most = if single { agreed * 9 / 10 } else { agreed };
            for two in sent.windows(2) {
                let pause = two[1].at - two[0].at;
                prop_assert!((agreed * 3 / 4..=most).contains(&pause), "{pause:?}");
            }
        }
    }

    /// A way that is cut in one direction is found by who hears nothing, after exactly the agreed
    /// silence, and by the other from what that one says; a way back is found too.
    #[test]
    fn silence_is_found_after_the_time_of_detection(
        one in any_settings(), other in any_settings(), after in 0..4_000_u32
    ) {
        let mut wire = Wire::new([one, other]);
        wire.settle();
        wire.run(MS * after);
        wire.lost[0] = 1_000;
        let until = wire.now + Duration::from_secs(60);
        while wire.ends[1].view().state == State::Up && wire.now < until {
            wire.step(until);
            wire.send();
        }
        let multiplier = u32::from(one.multiplier.get());
        prop_assert_eq!(wire.now - wire.heard_at[1], wire.agreed() * multiplier);
        wire.run(2 * MS);
        let views = wire.ends.each_ref().map(Session::view);
        prop_assert_eq!(views.map(|view| view.state), [State::Down, State::Down]);
        prop_assert_eq!(views.map(|view| view.failures), [1, 1]);
        prop_assert_eq!(views[0].diagnostic, Diagnostic::NEIGHBOR_DOWN);
        prop_assert_eq!(views[0].remote_diagnostic, Some(Diagnostic::EXPIRED));
        prop_assert_eq!(views[1].diagnostic, Diagnostic::EXPIRED);
        prop_assert_eq!(views[1].remote, None);
        wire.lost = [0; 2];
        wire.settle();
        prop_assert_eq!(wire.states(), [State::Up; 2]);
    }

    /// While no packet is up, a second goes by between two; each change is told at once.
    #[test]
    fn nobody_is_flooded(
        one in any_settings(), other in any_settings(), events in events()
    ) {
        Wire::after([one, other], events).keeps_the_pauses()?;
    }
}

#[test]
fn new_times_are_asked_about_until_the_other_side_says_that_it_knows() {
    let mut wire = Wire::new([settings(100 * MS, 3), settings(100 * MS, 3)]);
    // Answers of the other end do not arrive, but its own packets do.
    while wire.ends[0].view().state != State::Up {
        wire.step(Duration::MAX);
    }
    let mut polls = 0;
    for _ in 0..5 {
        wire.now = wire.ends[0].wake_at().unwrap();
        let sent = wire.ends[0].due(wire.now).unwrap();
        polls += u32::from(sent.poll);
        assert_eq!(sent.tx_min, 100 * MS);
    }
    assert_eq!(polls, 5, "until it is answered");
    let answer = Packet {
        state: State::Up,
        diagnostic: Diagnostic::NONE,
        poll: false,
        is_final: true,
        demand: false,
        multiplier: wire.settings[1].multiplier,
        own: number(2),
        other: Some(number(1)),
        tx_min: 100 * MS,
        rx_min: 100 * MS,
    };
    wire.ends[0].hear(&answer, wire.now).unwrap();
    wire.now = wire.ends[0].wake_at().unwrap();
    assert!(!wire.ends[0].due(wire.now).unwrap().poll);
}

#[test]
fn an_answer_to_the_question_before_is_none_to_the_next() {
    let packet = |state, is_final| Packet {
        state,
        diagnostic: Diagnostic::NONE,
        poll: false,
        is_final,
        demand: false,
        multiplier: settings(MS, 3).multiplier,
        own: number(2),
        other: Some(number(1)),
        tx_min: 100 * MS,
        rx_min: 100 * MS,
    };
    let mut session = Session::new(settings(100 * MS, 3), number(1), 3);
    let mut now = Duration::from_secs(1);
    session.hear(&packet(State::Init, false), now).unwrap();
    assert!(session.due(now).unwrap().poll, "it is up, and sends more often");
    session.hear(&packet(State::Down, false), now).unwrap();
    assert!(session.due(now).unwrap().poll, "it is down, and sends less often");
    session.hear(&packet(State::Down, true), now).unwrap();
    let sent = session.due(now).unwrap();
    assert_eq!((sent.state, sent.poll), (State::Init, true));
    session.hear(&packet(State::Down, true), now).unwrap();
    now = session.wake_at().unwrap();
    assert!(!session.due(now).unwrap().poll);
}

#[test]
fn who_is_shut_down_is_no_failure() {
    let mut wire = Wire::new([settings(300 * MS, 3), settings(200 * MS, 5)]);
    wire.settle();
    assert!(!wire.ends[0].is_released());
    wire.ends[0].shut_down();
    assert!(!wire.ends[0].is_released(), "the other does not know yet");
    wire.run(10 * MS);
    assert_eq!(wire.states(), [State::AdminDown, State::Down]);
    assert!(wire.ends[0].is_released());
    let views = wire.ends.each_ref().map(Session::view);
    assert_eq!(views.map(|view| view.failures), [0, 0]);
    assert_eq!(views[1].remote_diagnostic, Some(Diagnostic::ADMIN_DOWN));
    // It stays so.
    wire.settle();
    assert_eq!(wire.states(), [State::AdminDown, State::Down]);
}

#[test]
fn one_that_restarts_is_a_failure_and_comes_up_again() {
    let mut wire = Wire::new([settings(300 * MS, 3), settings(300 * MS, 3)]);
    wire.settle();
    wire.restart(1);
    wire.run(10 * MS);
    assert_eq!(wire.ends[0].view().failures, 1, "its new life says that it is down");
    wire.settle();
    assert_eq!(wire.states(), [State::Up; 2]);
}

#[test]
fn who_wants_to_hear_nothing_is_told_nothing_but_when_it_asks() {
    let mut session = Session::new(settings(300 * MS, 3), number(1), 3);
    let now = Duration::from_secs(1);
    let asks = Packet {
        state: State::Down,
        diagnostic: Diagnostic::NONE,
        poll: true,
        is_final: false,
        demand: false,
        multiplier: settings(MS, 3).multiplier,
        own: number(2),
        other: Some(number(1)),
        tx_min: 100 * MS,
        rx_min: Duration::ZERO,
    };
    session.hear(&asks, now).unwrap();
    assert!(session.due(now).unwrap().is_final);
    assert_eq!(session.due(now), None);
    assert_eq!(session.wake_at(), Some(now + 900 * MS), "only its silence counts");
}

/// An answer tells that the other side was shut down, and the next life of that one is another
/// change: both are told at once.
#[test]
fn a_change_that_an_answer_told_is_no_reason_to_wait_with_the_next() {
    let events = vec![
        (Event::Loses([1_000, 0]), 1_695),
        (Event::Loses([1_000, 0]), 4_575),
        (Event::Late([0, 0]), 827),
        (Event::Loses([0, 0]), 1_025),
        (Event::ShutsDown(1), 1),
        (Event::Restarts(1), 1),
    ];
    let wire = Wire::after([settings(1_156 * MS, 2), settings(50 * MS, 2)], events);
    wire.keeps_the_pauses().unwrap();
    let last = wire.sent.iter().rfind(|it| it.by == 0 && !it.packet.is_final).unwrap();
    assert_eq!((last.packet.state, wire.now - last.at), (State::Init, MS));
}
