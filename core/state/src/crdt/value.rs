//! A value of any kind: what a key holds, what a delta is, what frames and rows carry.

use super::error::{DecodeError, JoinError, UpdateError};
use super::gcounter::GCounter;
use super::kind::Kind;
use super::limit::JOINED_BYTES_MAX;
use super::lww::Lww;
use super::reading::Reading;
use super::register::Register;
use super::update::{Update, Writer};
use crate::clock::Hlc;
use crate::codec::{Sink, Source};
use crate::digest::Mixer;

/// A value or a delta, of one of the kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A counter that only grows.
    GCounter(GCounter),
    /// The bytes with the latest stamp.
    Lww(Lww),
    /// Bytes with a timestamp.
    Register(Register),
    /// A kind that is not made yet: always empty.
    Unmade(Kind),
}

impl Value {
    /// The empty value of a kind: joining it changes nothing.
    #[must_use]
    pub fn bottom(kind: Kind) -> Self {
        match kind {
            Kind::GCounter => Self::GCounter(GCounter::default()),
            Kind::Lww => Self::Lww(Lww::default()),
            Kind::Register => Self::Register(Register::default()),
            Kind::PnCounter
            | Kind::GSet
            | Kind::OrSet
            | Kind::Mv
            | Kind::OrMap
            | Kind::Bounded => Self::Unmade(kind),
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::GCounter(_) => Kind::GCounter,
            Self::Lww(_) => Kind::Lww,
            Self::Register(_) => Kind::Register,
            Self::Unmade(kind) => *kind,
        }
    }

    /// The delta of an update. The value itself is as it was: join the delta to change it.
    ///
    /// # Errors
    ///
    /// When the kind has no such update, or a limit or a right forbids it.
    pub fn update(&self, update: &Update, by: &Writer) -> Result<Self, UpdateError> {
        match (self, update) {
            (Self::GCounter(value), Update::Increment(amount)) => {
                value.increment(by.actor, *amount).map(Self::GCounter)
            }
            (Self::Lww(value), Update::Set(bytes)) => {
                value.set(Some(bytes.clone()), by).map(Self::Lww)
            }
            (Self::Lww(value), Update::Delete) => value.set(None, by).map(Self::Lww),
            (Self::Register(_), Update::Store { lamport, value }) => {
                Register::store(*lamport, by.actor, value.clone()).map(Self::Register)
            }
            (Self::Unmade(kind), _) => Err(UpdateError::NotMadeYet { kind: *kind }),
            (_, Update::Delete) => Err(UpdateError::CannotForget { kind: self.kind() }),
            _ => {
                let (kind, update) = (self.kind(), update.name());
                Err(UpdateError::WrongKind { kind, update })
            }
        }
    }

    /// Takes in what the other has: a delta or a state. Whether anything changed.
    ///
    /// # Errors
    ///
    /// When the other is of another kind.
    pub fn join(&mut self, other: &Self) -> Result<bool, JoinError> {
        match (&mut *self, other) {
            (Self::GCounter(ours), Self::GCounter(theirs)) => Ok(ours.join(theirs)),
            (Self::Lww(ours), Self::Lww(theirs)) => Ok(ours.join(theirs)),
            (Self::Register(ours), Self::Register(theirs)) => Ok(ours.join(theirs)),
            (Self::Unmade(ours), Self::Unmade(theirs)) if ours == theirs => Ok(false),
            (ours, theirs) => Err(JoinError { ours: ours.kind(), theirs: theirs.kind() }),
        }
    }

    /// What a caller sees.
    #[must_use]
    pub fn read(&self) -> Reading {
        match self {
            Self::GCounter(value) => Reading::Count(value.total()),
            Self::Lww(value) => Reading::Latest(value.get().cloned()),
            Self::Register(value) => Reading::Register {
                lamport: value.lamport(),
                actor: value.actor(),
                value: value.get().cloned(),
            },
            Self::Unmade(_) => Reading::Latest(None),
        }
    }

    /// Equal states have equal digests, on every machine.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut mixer = Mixer::new();
        self.put(&mut mixer);
        mixer.finish()
    }

    /// Appends its one encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.put(out);
    }

    fn put(&self, out: &mut impl Sink) {
        out.put(&[self.kind().code()]);
        match self {
            Self::GCounter(value) => value.encode(out),
            Self::Lww(value) => value.encode(out),
            Self::Register(value) => value.encode(out),
            Self::Unmade(_) => {}
        }
    }

    /// The value that was encoded. Hostile bytes are refused and cost no more than their length.
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
        let kind = Kind::from_code(code).ok_or(DecodeError::UnknownKind(code))?;
        let value = match kind {
            Kind::GCounter => Self::GCounter(GCounter::decode(&mut from)?),
            Kind::Lww => Self::Lww(Lww::decode(&mut from)?),
            Kind::Register => Self::Register(Register::decode(&mut from)?),
            Kind::PnCounter
            | Kind::GSet
            | Kind::OrSet
            | Kind::Mv
            | Kind::OrMap
            | Kind::Bounded => Self::Unmade(kind),
        };
        from.end()?;
        Ok(value)
    }

    /// Whether a reader sees nothing. What is left is knowledge of what was removed, and may go
    /// when every replica that may hold the key has it.
    #[must_use]
    pub fn is_bottom(&self) -> bool {
        match self {
            Self::GCounter(value) => value.is_bottom(),
            Self::Lww(value) => value.get().is_none(),
            Self::Register(value) => value.is_bottom(),
            Self::Unmade(_) => true,
        }
    }

    /// The stamp that a deletion must outlive: while a write with an older one can still come, a
    /// bottom value must stay. None for kinds that do not go by stamps.
    #[must_use]
    pub fn stamp(&self) -> Option<Hlc> {
        match self {
            Self::Lww(value) => value.stamp(),
            Self::GCounter(_) | Self::Register(_) | Self::Unmade(_) => None,
        }
    }
}
