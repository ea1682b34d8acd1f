//! The kinds that another implementation has too, side by side with it.
//!
//! Both exchange whole states only: its deltas are operations that must come in order.

use crdts::{CmRDT, CvRDT};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{apply, writer};
use crate::bytes::Bytes;
use crate::crdt::{Kind, Reading, Update, Value, Writer};

const REPLICAS: u8 = 3;

/// A replica as the other implementation has it.
trait Peer: Default + Clone {
    /// Does something at random and says what update that is.
    fn act(&mut self, ours: &Value, replica: u8, pick: [u8; 2]) -> Update;
    fn merge(&mut self, other: Self);
    fn reads(&self, reading: &Reading);
}

fn word(pick: u8) -> String {
    format!("{}", pick % 4)
}

#[derive(Clone, Default)]
struct Growing(crdts::GCounter<u8>);

impl Peer for Growing {
    fn act(&mut self, _: &Value, replica: u8, [_, b]: [u8; 2]) -> Update {
        let amount = u64::from(b) + 1;
        self.0.apply(self.0.inc_many(replica, amount));
        Update::Increment(amount)
    }

    fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }

    fn reads(&self, reading: &Reading) {
        let total = self.0.read().to_string().parse().unwrap();
        assert_eq!(*reading, Reading::Count(total));
    }
}

#[derive(Clone, Default)]
struct UpAndDown(crdts::PNCounter<u8>);

impl Peer for UpAndDown {
    fn act(&mut self, _: &Value, replica: u8, [a, b]: [u8; 2]) -> Update {
        let amount = u64::from(b) + 1;
        if a % 2 == 0 {
            self.0.apply(self.0.inc_many(replica, amount));
            return Update::Add(amount.cast_signed());
        }
        self.0.apply(self.0.dec_many(replica, amount));
        Update::Add(-amount.cast_signed())
    }

    fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }

    fn reads(&self, reading: &Reading) {
        let balance = self.0.read().to_string().parse().unwrap();
        assert_eq!(*reading, Reading::Balance(balance));
    }
}

#[derive(Clone, Default)]
struct GrowingSet(crdts::GSet<String>);

impl Peer for GrowingSet {
    fn act(&mut self, _: &Value, _: u8, [a, _]: [u8; 2]) -> Update {
        self.0.insert(word(a));
        Update::Insert(word(a).as_str().into())
    }

    fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }

    fn reads(&self, reading: &Reading) {
        assert_eq!(*reading, Reading::Set(sorted(self.0.read())));
    }
}

#[derive(Clone, Default)]
struct Set(crdts::Orswot<String, u8>);

impl Peer for Set {
    fn act(&mut self, _: &Value, replica: u8, [a, b]: [u8; 2]) -> Update {
        let element = word(a);
        if b % 3 == 0 {
            let context = self.0.contains(&element).derive_rm_ctx();
            self.0.apply(self.0.rm(element.clone(), context));
            return Update::Remove(element.as_str().into());
        }
        let context = self.0.read_ctx().derive_add_ctx(replica);
        self.0.apply(self.0.add(element.clone(), context));
        Update::Insert(element.as_str().into())
    }

    fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }

    fn reads(&self, reading: &Reading) {
        assert_eq!(*reading, Reading::Set(sorted(self.0.read().val)));
    }
}

#[derive(Clone, Default)]
struct Siblings {
    register: crdts::MVReg<String, u8>,
    writes: u32,
}

impl Peer for Siblings {
    fn act(&mut self, ours: &Value, replica: u8, [a, _]: [u8; 2]) -> Update {
        // Each write its own text: the other keeps equal ones of two writers apart.
        self.writes += 1;
        let text = format!("{}-{replica}-{}", word(a), self.writes);
        let context = self.register.read_ctx().derive_add_ctx(replica);
        self.register.apply(self.register.write(text.clone(), context));
        let Reading::Siblings { seen, .. } = ours.read() else {
            unreachable!("siblings")
        };
        Update::Write { value: Some(text.as_str().into()), seen }
    }

    fn merge(&mut self, other: Self) {
        self.register.merge(other.register);
    }

    fn reads(&self, reading: &Reading) {
        let Reading::Siblings { values, .. } = reading else { unreachable!("siblings") };
        assert_eq!(*values, sorted(self.register.read().val));
    }
}

fn sorted(words: impl IntoIterator<Item = String>) -> Vec<Bytes> {
    let mut words: Vec<_> = words.into_iter().map(|word| word.as_str().into()).collect();
    words.sort();
    words
}

fn side_by_side<P: Peer>(kind: Kind, steps: &[(u8, u8, [u8; 2])]) {
    let mut replicas = vec![(Value::bottom(kind), P::default()); usize::from(REPLICAS)];
    for (seq, (what, at, pick)) in (1..).zip(steps) {
        let at = at % REPLICAS;
        if what % 3 == 0 {
            let (ours, theirs) = replicas[usize::from(pick[0] % REPLICAS)].clone();
            let here = &mut replicas[usize::from(at)];
            here.0.join(&ours).unwrap();
            here.1.merge(theirs);
        } else {
            let (ours, theirs) = &mut replicas[usize::from(at)];
            let update = theirs.act(ours, at, *pick);
            let by: Writer = writer(u16::from(at), seq);
            apply(ours, &update, &by);
        }
        let (ours, theirs) = &replicas[usize::from(at)];
        theirs.reads(&ours.read());
    }
}

macro_rules! side_by_side {
    ($($name:ident: $peer:ty, $kind:expr;)*) => {$(
        proptest! {
            #[test]
            fn $name(steps in vec((any::<u8>(), any::<u8>(), any::<[u8; 2]>()), 0..80)) {
                side_by_side::<$peer>($kind, &steps);
            }
        }
    )*};
}

side_by_side! {
    growing_counters_agree: Growing, Kind::GCounter;
    counters_agree: UpAndDown, Kind::PnCounter;
    growing_sets_agree: GrowingSet, Kind::GSet;
    sets_agree: Set, Kind::OrSet;
    siblings_agree: Siblings, Kind::Mv;
}
