//! A value of any kind: what a key holds, what a delta is, what frames and rows carry.

use super::bounded::Bounded;
use super::error::{JoinError, UpdateError};
use super::gcounter::GCounter;
use super::gset::GSet;
use super::kind::Kind;
use super::limit::JOINED_BYTES_MAX;
use super::lww::Lww;
use super::mv::Mv;
use super::ormap::OrMap;
use super::orset::OrSet;
use super::pncounter::PnCounter;
use super::reading::Reading;
use super::register::Register;
use super::update::{Update, Writer};
use crate::clock::{Dot, Hlc};
use crate::codec::{DecodeError, Sink, Source};
use crate::digest::Mixer;

/// A value or a delta, of one of the kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A counter that only grows.
    GCounter(GCounter),
    /// A counter that goes up and down.
    PnCounter(PnCounter),
    /// A set that only grows.
    GSet(GSet),
    /// A set whose elements can be removed.
    OrSet(OrSet),
    /// The bytes with the latest stamp.
    Lww(Lww),
    /// All bytes that nobody has overwritten knowingly.
    Mv(Mv),
    /// Named fields.
    OrMap(OrMap),
    /// A counter of rights.
    Bounded(Bounded),
    /// Bytes with a timestamp.
    Register(Register),
}

impl Value {
    /// The empty value of a kind: joining it changes nothing.
    #[must_use]
    pub fn bottom(kind: Kind) -> Self {
        match kind {
            Kind::GCounter => Self::GCounter(GCounter::default()),
            Kind::PnCounter => Self::PnCounter(PnCounter::default()),
            Kind::GSet => Self::GSet(GSet::default()),
            Kind::OrSet => Self::OrSet(OrSet::default()),
            Kind::Lww => Self::Lww(Lww::default()),
            Kind::Mv => Self::Mv(Mv::default()),
            Kind::OrMap => Self::OrMap(OrMap::default()),
            Kind::Bounded => Self::Bounded(Bounded::default()),
            Kind::Register => Self::Register(Register::default()),
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::GCounter(_) => Kind::GCounter,
            Self::PnCounter(_) => Kind::PnCounter,
            Self::GSet(_) => Kind::GSet,
            Self::OrSet(_) => Kind::OrSet,
            Self::Lww(_) => Kind::Lww,
            Self::Mv(_) => Kind::Mv,
            Self::OrMap(_) => Kind::OrMap,
            Self::Bounded(_) => Kind::Bounded,
            Self::Register(_) => Kind::Register,
        }
    }

    /// The delta of an update. The value itself is as it was: join the delta to change it.
    ///
    /// The value must hold every earlier update of the same actor to this key.
    ///
    /// # Errors
    ///
    /// When the kind has no such update, or a limit or a right forbids it.
    pub fn update(&self, update: &Update, by: &Writer) -> Result<Self, UpdateError> {
        use Update as Of;
        Ok(match (self, update) {
            (Self::GCounter(on), Of::Increment(n)) => {
                Self::GCounter(on.increment(by.actor, *n)?)
            }
            (Self::PnCounter(on), Of::Add(n)) => Self::PnCounter(on.add(by.actor, *n)?),
            (Self::GSet(on), Of::Insert(element)) => {
                Self::GSet(on.insert(element.clone())?)
            }
            (Self::OrSet(on), Of::Insert(element)) => {
                Self::OrSet(on.insert(element.clone(), by)?)
            }
            (Self::OrSet(on), Of::Remove(element)) => Self::OrSet(on.remove(element)),
            (Self::OrSet(on), Of::Delete) => Self::OrSet(on.clear()),
            (Self::Lww(_), Of::Set(value)) => {
                Self::Lww(Lww::write(Some(value.clone()), by)?)
            }
            (Self::Lww(_), Of::Delete) => Self::Lww(Lww::write(None, by)?),
            (Self::Mv(on), Of::Write { value, seen }) => Self::Mv(match value {
                Some(value) => on.write(value.clone(), seen, by)?,
                None => on.delete(seen)?,
            }),
            (Self::Mv(on), Of::Delete) => Self::Mv(on.clear()),
            (Self::OrMap(on), Of::Field { name, kind, update }) => {
                Self::OrMap(on.field(name.clone(), *kind, update, by)?)
            }
            (Self::OrMap(on), Of::RemoveField(name)) => {
                Self::OrMap(on.remove_field(name))
            }
            (Self::OrMap(on), Of::Delete) => Self::OrMap(on.clear()),
            (Self::Bounded(on), update) => Self::Bounded(on.update(update, by.actor)?),
            (Self::Register(_), Of::Store { lamport, value }) => {
                Self::Register(Register::store(*lamport, by.actor, value.clone())?)
            }
            (_, update) => return Err(UpdateError::unfit(self.kind(), update)),
        })
    }

    /// Takes in what the other has: a delta or a state. Whether anything changed.
    ///
    /// # Errors
    ///
    /// When the other is of another kind.
    pub fn join(&mut self, other: &Self) -> Result<bool, JoinError> {
        match (&mut *self, other) {
            (Self::GCounter(ours), Self::GCounter(theirs)) => Ok(ours.join(theirs)),
            (Self::PnCounter(ours), Self::PnCounter(theirs)) => Ok(ours.join(theirs)),
            (Self::GSet(ours), Self::GSet(theirs)) => Ok(ours.join(theirs)),
            (Self::OrSet(ours), Self::OrSet(theirs)) => Ok(ours.join(theirs)),
            (Self::Lww(ours), Self::Lww(theirs)) => Ok(ours.join(theirs)),
            (Self::Mv(ours), Self::Mv(theirs)) => Ok(ours.join(theirs)),
            (Self::OrMap(ours), Self::OrMap(theirs)) => Ok(ours.join(theirs)),
            (Self::Bounded(ours), Self::Bounded(theirs)) => Ok(ours.join(theirs)),
            (Self::Register(ours), Self::Register(theirs)) => Ok(ours.join(theirs)),
            (ours, theirs) => Err(JoinError { ours: ours.kind(), theirs: theirs.kind() }),
        }
    }

    /// What a caller sees.
    #[must_use]
    pub fn read(&self) -> Reading {
        match self {
            Self::GCounter(value) => Reading::Count(value.total()),
            Self::PnCounter(value) => Reading::Balance(value.balance()),
            Self::GSet(value) => Reading::Set(value.iter().cloned().collect()),
            Self::OrSet(value) => Reading::Set(value.iter().cloned().collect()),
            Self::Lww(value) => Reading::Latest(value.get().cloned()),
            Self::Mv(value) => {
                Reading::Siblings { values: value.values(), seen: value.seen() }
            }
            Self::OrMap(value) => Reading::Fields(value.read()),
            Self::Bounded(value) => Reading::Bounded(value.read()),
            Self::Register(value) => Reading::Register {
                lamport: value.lamport(),
                actor: value.actor(),
                value: value.get().cloned(),
            },
        }
    }

    /// Stands for the whole state: equal states have equal digests, on every machine, and two
    /// states that differ have equal ones by chance only. Large sets keep theirs along, so it
    /// costs little.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut mixer = Mixer::new();
        mixer.put(&[self.kind().code()]);
        match self {
            Self::GSet(value) => value.put_digest(&mut mixer),
            Self::OrSet(value) => value.put_digest(&mut mixer),
            Self::Mv(value) => value.put_digest(&mut mixer),
            Self::OrMap(value) => value.put_digest(&mut mixer),
            Self::GCounter(value) => value.encode(&mut mixer),
            Self::PnCounter(value) => value.encode(&mut mixer),
            Self::Lww(value) => value.encode(&mut mixer),
            Self::Bounded(value) => value.encode(&mut mixer),
            Self::Register(value) => value.encode(&mut mixer),
        }
        mixer.finish()
    }

    /// Appends its one encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put(&[self.kind().code()]);
        match self {
            Self::GCounter(value) => value.encode(out),
            Self::PnCounter(value) => value.encode(out),
            Self::GSet(value) => value.encode(out),
            Self::OrSet(value) => value.encode(out),
            Self::Lww(value) => value.encode(out),
            Self::Mv(value) => value.encode(out),
            Self::OrMap(value) => value.encode(out),
            Self::Bounded(value) => value.encode(out),
            Self::Register(value) => value.encode(out),
        }
    }

    /// The value that was encoded. Hostile bytes are refused, at a cost that grows with their
    /// number and not with what they claim.
    ///
    /// # Errors
    ///
    /// When the bytes are not what [`Self::encode`] makes of some value.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > JOINED_BYTES_MAX {
            let (bytes, max) = (bytes.len(), JOINED_BYTES_MAX);
            return Err(DecodeError::TooLarge { what: "a value", bytes, max });
        }
        let mut from = Source::new(bytes);
        let code = from.byte()?;
        let value = match Kind::from_code(code).ok_or(DecodeError::UnknownKind(code))? {
            Kind::GCounter => Self::GCounter(GCounter::decode(&mut from)?),
            Kind::PnCounter => Self::PnCounter(PnCounter::decode(&mut from)?),
            Kind::GSet => Self::GSet(GSet::decode(&mut from)?),
            Kind::OrSet => Self::OrSet(OrSet::decode(&mut from)?),
            Kind::Lww => Self::Lww(Lww::decode(&mut from)?),
            Kind::Mv => Self::Mv(Mv::decode(&mut from)?),
            Kind::OrMap => Self::OrMap(OrMap::decode(&mut from)?),
            Kind::Bounded => Self::Bounded(Bounded::decode(&mut from)?),
            Kind::Register => Self::Register(Register::decode(&mut from)?),
        };
        from.end()?;
        Ok(value)
    }

    /// Whether a reader sees nothing. What is left is knowledge of what was removed. It may go
    /// when [`Self::is_covered`] by what this replica has received, nothing as old as
    /// [`Self::stamp`] can come any more, and every replica that may hold the key has received
    /// what this one has.
    #[must_use]
    pub fn is_bottom(&self) -> bool {
        match self {
            Self::GCounter(value) => value.is_bottom(),
            Self::PnCounter(value) => value.is_bottom(),
            Self::GSet(value) => value.is_empty(),
            Self::OrSet(value) => value.is_empty(),
            Self::Lww(value) => value.get().is_none(),
            Self::Mv(value) => value.is_bottom(),
            Self::OrMap(value) => value.is_empty(),
            Self::Bounded(value) => value.is_bottom(),
            Self::Register(value) => value.is_bottom(),
        }
    }

    /// The stamp that a deletion must outlive: while a write with an older one can still come, a
    /// bottom value must stay. None for kinds that do not go by stamps.
    #[must_use]
    pub fn stamp(&self) -> Option<Hlc> {
        if let Self::Lww(value) = self { value.stamp() } else { None }
    }

    /// Whether every mutation that this value knows of, present or removed, is covered. A removal
    /// can come before what it removes, from another author: who forgets the value in between
    /// takes the removed for new.
    ///
    /// `covers` must be without gaps: of each actor, everything up to some number. Kinds without
    /// removal know of nothing and are always covered.
    #[must_use]
    pub fn is_covered(&self, covers: impl Fn(Dot) -> bool) -> bool {
        match self {
            Self::OrSet(value) => value.is_covered(covers),
            Self::Mv(value) => value.is_covered(covers),
            Self::OrMap(value) => value.is_covered(covers),
            Self::GCounter(_)
            | Self::PnCounter(_)
            | Self::GSet(_)
            | Self::Lww(_)
            | Self::Bounded(_)
            | Self::Register(_) => true,
        }
    }
}
