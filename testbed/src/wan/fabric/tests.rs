//! The fabric against a list of packets that is searched from end to end at every step.

use proptest::prelude::{Strategy, prop, prop_assert_eq, prop_oneof, proptest};

use super::*;

const NAMES: [&str; 4] = ["a", "b", "c", "o"];
/// Milliseconds from each region to each other.
const DELAYS: [[u64; 4]; 4] =
    [[0, 10, 25, 0], [10, 0, 5, 0], [30, 5, 0, 0], [0, 0, 0, 0]];

fn address(site: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, u8::try_from(site).unwrap(), 1)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn name(site: usize) -> String {
    NAMES[site].to_owned()
}

/// Three regions and an observer that is a wire away from all.
fn fabric() -> Fabric<usize> {
    let region = |site: usize| Region {
        name: name(site),
        prefix: (address(site), 24),
        observes: site == 3,
    };
    let mut fabric = Fabric::new((0..4).map(region).collect(), 1);
    for (from, delays) in DELAYS.iter().enumerate() {
        for (to, delay) in delays.iter().enumerate().filter(|(to, _)| *to != from) {
            let shape = Shape::delay(millis(*delay));
            let order = Order::Shape { from: name(from), to: name(to), shape };
            fabric.obey(&order).unwrap();
        }
    }
    fabric
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(usize, usize),
    Pass(u64),
    Cut(usize, usize),
    Heal(usize, usize),
    Part(usize),
    HealAll,
}

fn step() -> impl Strategy<Value = Step> {
    let pair = || (0_usize..4, 1_usize..4).prop_map(|(from, on)| (from, (from + on) % 4));
    prop_oneof![
        8 => pair().prop_map(|(from, to)| Step::Send(from, to)),
        4 => (0_u64..20).prop_map(Step::Pass),
        1 => pair().prop_map(|(from, to)| Step::Cut(from, to)),
        1 => pair().prop_map(|(from, to)| Step::Heal(from, to)),
        1 => (0_usize..3).prop_map(Step::Part),
        1 => prop::strategy::Just(Step::HealAll),
    ]
}

/// What the fabric should do, said again without queues.
#[derive(Default)]
struct Model {
    now: u64,
    /// Due, number, from, to.
    under_way: Vec<(u64, usize, usize, usize)>,
    cut: Vec<(usize, usize)>,
    sent: usize,
}

impl Model {
    fn cut(&mut self, from: usize, to: usize) {
        self.cut.push((from, to));
        self.under_way.retain(|(.., a, b)| (*a, *b) != (from, to));
    }

    fn send(&mut self, from: usize, to: usize) {
        if !self.cut.contains(&(from, to)) {
            let due = self.now + DELAYS[from][to];
            self.under_way.push((due, self.sent, from, to));
        }
        self.sent += 1;
    }

    fn arrivals(&mut self) -> Vec<(usize, usize)> {
        self.under_way.sort_unstable();
        let now = self.now;
        let due = self.under_way.iter().filter(|(due, ..)| *due <= now);
        let arrived = due.map(|(_, number, _, to)| (*to, *number)).collect();
        self.under_way.retain(|(due, ..)| *due > now);
        arrived
    }
}

proptest! {
    #[test]
    fn what_arrives_where_and_in_which_order_is_what_a_list_of_all_packets_says(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let (mut fabric, mut model) = (fabric(), Model::default());
        for step in steps {
            match step {
                Step::Send(from, to) => {
                    let now = millis(model.now);
                    let target = (address(to), 100);
                    fabric.enter(now, Site(from), target, model.sent).ok();
                    model.send(from, to);
                }
                Step::Pass(time) => model.now += time,
                Step::Cut(from, to) => {
                    fabric.obey(&Order::Cut { from: name(from), to: name(to) }).unwrap();
                    model.cut(from, to);
                }
                Step::Heal(from, to) => {
                    fabric.obey(&Order::Heal { from: name(from), to: name(to) }).unwrap();
                    model.cut.retain(|pair| *pair != (from, to));
                }
                Step::Part(site) => {
                    fabric.obey(&Order::Part { side: vec![name(site)] }).unwrap();
                    for other in (0..3).filter(|other| *other != site) {
                        model.cut(site, other);
                        model.cut(other, site);
                    }
                }
                Step::HealAll => {
                    fabric.obey(&Order::HealAll).unwrap();
                    model.cut.clear();
                }
            }
            let now = millis(model.now);
            let arrived: Vec<_> = std::iter::from_fn(|| fabric.leave(now))
                .map(|(site, number)| (site.0, number))
                .collect();
            prop_assert_eq!(arrived, model.arrivals());
        }
    }
}

#[test]
fn an_address_that_moves_takes_its_packets_along() {
    let mut fabric = fabric();
    let guest = Ipv4Addr::new(10, 99, 0, 5);
    let (a, b, c) = (Site(0), Site(1), Site(2));
    assert_eq!(fabric.enter(millis(0), a, (guest, 1), 0), Err(Dropped::Unroutable));
    for (region, expected, number) in [("b", b, 1), ("c", c, 2)] {
        let order = Order::Route { address: guest, region: region.to_owned() };
        fabric.obey(&order).unwrap();
        fabric.enter(millis(0), a, (guest, 1), number).unwrap();
        assert_eq!(fabric.leave(millis(100)), Some((expected, number)));
    }
    // Nothing goes back where it came from: that would be a loop.
    assert_eq!(fabric.enter(millis(0), c, (guest, 1), 3), Err(Dropped::Unroutable));
    let report = fabric.obey(&Order::Report).unwrap().unwrap();
    assert_eq!(report.unroutable, 2);
    assert_eq!(report.line("a", "c").packets, 1);
}

#[test]
fn an_order_that_names_what_is_not_there_says_what_is() {
    let mut fabric = fabric();
    let order = Order::Cut { from: "a".to_owned(), to: "x".to_owned() };
    let error = fabric.obey(&order).unwrap_err();
    assert_eq!(error.to_string(), "there is no region x; there are a, b, c, o");
    let order = Order::Heal { from: "a".to_owned(), to: "a".to_owned() };
    assert_eq!(fabric.obey(&order), Err(OrderError::SameRegion { name: name(0) }));
}
