//! The values in memory, and what is known of each.
//!
//! Sums over buckets (for [`crate::reconcile`]) are brought up to date only when they are asked
//! for: a key that is written a thousand times between two comparisons is digested once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Hlc;
use crate::crdt::{Kind, Value};
use crate::frontier::Frontier;
use crate::reconcile::{BUCKETS, Sums, bucket_of};
use crate::replica::input::Key;
use crate::replica::view::{ClassId, View};
use crate::shard::{hash, mix};

/// What a key costs in memory beyond its own bytes and those of its value, about.
const ENTRY_BYTES: usize = 256;

/// The digest of a key that is not there.
pub(crate) const ABSENT: u64 = 0;

/// Where a value that shows nothing is on its way out; see [`crate::replica::collect`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Doom {
    /// It is not, or it shows something.
    #[default]
    None,
    /// In the round that is still open.
    Open,
    /// In the round that waits for all members.
    Waiting,
}

/// A key's value and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The value; shared with frames on their way.
    pub(crate) value: Arc<Value>,
    /// When it was last written; kept for keys that live for a time.
    pub(crate) stamp: Hlc,
    /// The hash of the key.
    pub(crate) hash: u64,
    /// Who holds it.
    pub(crate) class: ClassId,
    /// Where its policy is.
    pub(crate) policy: u16,
    /// The batch with its last change.
    pub(crate) batch: u64,
    /// The batch with the last change that this replica made itself.
    pub(crate) own_batch: u64,
    /// When it last changed, by the monotonic clock.
    pub(crate) changed: Duration,
    /// What it contains beyond what came by push.
    pub(crate) beyond: Option<Box<Frontier>>,
    /// Whether it is on its way out.
    pub(crate) doom: Doom,
    /// Bytes of its encoding, about.
    pub(crate) len: usize,
    digest: Option<u64>,
    /// What it adds to its bucket's sum at present.
    counted: u64,
    /// Whether it is among the stale.
    stale: bool,
}

impl Entry {
    /// The digest of the value.
    pub(crate) fn digest(&mut self) -> u64 {
        let value = &self.value;
        *self.digest.get_or_insert_with(|| digest_of(value))
    }

    /// What it should add to its bucket: nothing when it shows nothing, so that a replica that
    /// has collected it and one that has not are alike.
    fn weight(&mut self) -> u64 {
        if self.value.is_bottom() { 0 } else { mix(self.hash ^ mix(self.digest())) }
    }
}

/// The digest of a value, never that of an absent one.
pub(crate) fn digest_of(value: &Value) -> u64 {
    value.digest().max(ABSENT + 1)
}

/// All values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    entries: BTreeMap<Key, Entry>,
    by_hash: BTreeSet<(u64, Key)>,
    stale: Vec<Key>,
    sums: Vec<Sums>,
    bytes: usize,
}

impl Store {
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.entries.get_mut(key)
    }

    /// The entry of a key, made empty where there is none.
    pub(crate) fn entry(&mut self, key: &Key, place: Place) -> &mut Entry {
        if !self.entries.contains_key(key) {
            self.insert(key, Arc::new(Value::bottom(place.kind)), place);
        }
        self.entries.get_mut(key).expect("it is there or was put there")
    }

    /// Puts a value where none is.
    pub(crate) fn insert(&mut self, key: &Key, value: Arc<Value>, place: Place) {
        let hash = hash(key.as_bytes());
        let entry = Entry {
            value,
            stamp: Hlc::ZERO,
            hash,
            class: place.class,
            policy: place.policy,
            batch: 0,
            own_batch: 0,
            changed: Duration::ZERO,
            beyond: None,
            doom: Doom::None,
            len: 0,
            digest: None,
            counted: 0,
            stale: true,
        };
        self.stale.push(Arc::clone(key));
        self.by_hash.insert((hash, Arc::clone(key)));
        self.bytes += key.len() * 2 + ENTRY_BYTES;
        self.entries.insert(Arc::clone(key), entry);
    }

    /// Notes that a value has changed and is `len` bytes long, about.
    pub(crate) fn changed(&mut self, key: &Key, len: usize) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.bytes = (self.bytes + len).saturating_sub(entry.len);
        entry.len = len;
        entry.digest = None;
        if !entry.stale {
            entry.stale = true;
            self.stale.push(Arc::clone(key));
        }
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.by_hash.remove(&(entry.hash, Arc::clone(key)));
        if let Some(sums) = self.sums.get_mut(usize::from(entry.class)) {
            sums.subtract(bucket_of(entry.hash), entry.counted);
        }
        self.bytes = self.bytes.saturating_sub(entry.len + key.len() * 2 + ENTRY_BYTES);
        Some(entry)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes in memory, about.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// The keys from `from` on, in order.
    pub(crate) fn from(&self, from: &str) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.range::<str, _>((Bound::Included(from), Bound::Unbounded))
    }

    /// The keys of a hash: nearly always one.
    pub(crate) fn keys_of(&self, hash: u64) -> impl Iterator<Item = &Key> {
        let from = (hash, Key::from(""));
        self.by_hash
            .range(from..)
            .take_while(move |(other, _)| *other == hash)
            .map(|(_, key)| key)
    }

    /// The keys of a bucket in the order of their hashes.
    pub(crate) fn keys_in(&self, bucket: usize) -> Vec<Key> {
        let from = (crate::reconcile::first_hash(bucket), Key::from(""));
        let inside = self.by_hash.range(from..);
        let inside = inside.take_while(|(hash, _)| bucket_of(*hash) == bucket);
        inside.map(|(_, key)| Arc::clone(key)).collect()
    }

    /// The sums over the classes that a peer may hold, up to date.
    pub(crate) fn sums(&mut self, visible: impl Fn(ClassId) -> bool) -> Sums {
        self.refresh();
        let mut total = Sums::new();
        for (class, sums) in (0..).zip(&self.sums) {
            if visible(class) {
                total.add_all(sums);
            }
        }
        total
    }

    fn refresh(&mut self) {
        for key in std::mem::take(&mut self.stale) {
            let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.stale)
            else {
                continue;
            };
            entry.stale = false;
            // What nobody holds is compared with nobody.
            if entry.class == ClassId::MAX {
                continue;
            }
            let weight = entry.weight();
            let class = usize::from(entry.class);
            if self.sums.len() <= class {
                self.sums.resize_with(class + 1, Sums::new);
            }
            self.sums[class].subtract(bucket_of(entry.hash), entry.counted);
            self.sums[class].add(bucket_of(entry.hash), weight);
            entry.counted = weight;
        }
    }

    /// Finds policy and class of every key again, as another view has them. Keys without any
    /// are held by nobody.
    pub(crate) fn reclassify(&mut self, view: &View) {
        self.sums.clear();
        self.stale = self.entries.keys().map(Arc::clone).collect();
        for (key, entry) in &mut self.entries {
            entry.counted = 0;
            entry.stale = true;
            let place = Place::of(view, key);
            let place = place.filter(|place| place.kind == entry.value.kind());
            entry.class = place.map_or(ClassId::MAX, |place| place.class);
            entry.policy = place.map_or(u16::MAX, |place| place.policy);
        }
    }
}

/// Where a key belongs, by the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    pub(crate) class: ClassId,
    pub(crate) policy: u16,
}

impl Place {
    /// The place of a key of this plane.
    pub(crate) fn of(view: &View, key: &str) -> Option<Self> {
        let (place, policy) = view.policy(key)?;
        if policy.plane != crate::policy::Plane::Replicated {
            return None;
        }
        let class = view.class_of(key, place)?;
        Some(Self { kind: policy.kind, class, policy: place })
    }
}

const _: () = assert!(BUCKETS <= u16::MAX as usize);
