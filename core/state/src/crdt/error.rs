//! Why a value refuses an update or a join.

use super::bounded::MintId;
use super::kind::Kind;
use super::update::Update;
use crate::clock::Actor;

/// Why an update is not made; the value is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The update belongs to another kind.
    #[error("{update} is not an update of a {kind}; see the kind of the key's policy")]
    WrongKind {
        /// The value's kind.
        kind: Kind,
        /// What was asked.
        update: &'static str,
    },
    /// A number would not fit any more.
    #[error("the {kind} would pass the largest number it can hold; begin a new one")]
    Overflow {
        /// The value's kind.
        kind: Kind,
    },
    /// Some part is longer than allowed.
    #[error("{what} has {bytes} bytes, over {max}; split it")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// There are too many of something.
    #[error("the {kind} would have over {max} {what}; begin a new one")]
    TooMany {
        /// The value's kind.
        kind: Kind,
        /// Of what.
        what: &'static str,
        /// What is allowed.
        max: usize,
    },
    /// Writers that do not read pile up values.
    #[error(
        "the register has {siblings} concurrent values, the most there may be; read them and write with what the reading says was seen"
    )]
    TooManySiblings {
        /// How many there are.
        siblings: usize,
    },
    /// The kind has no deletion.
    #[error(
        "a {kind} cannot be deleted as a whole; choose a kind that can forget, or store nothing in a register"
    )]
    CannotForget {
        /// The value's kind.
        kind: Kind,
    },
    /// A number of a mutation was used before: a replica that lost what it wrote and goes on
    /// under its old name (F40).
    #[error(
        "mutation {seq} of {actor} was here before; start the replica under a new incarnation"
    )]
    DotReused {
        /// Who writes.
        actor: Actor,
        /// The number it gave.
        seq: u64,
    },
    /// What a caller says it saw can be no reading.
    #[error(
        "what was seen names more values than any reading; pass on what the reading gave, unchanged"
    )]
    NotSeen,
    /// Maps within maps within maps.
    #[error("the field lies deeper than {max} maps; use a key of its own")]
    TooDeep {
        /// What is allowed.
        max: usize,
    },
    /// The kind only exists as the value of a key.
    #[error("a {kind} cannot be a field of a map; use a key of its own")]
    NotAField {
        /// The field's kind.
        kind: Kind,
    },
    /// The writer has fewer rights than it wants to use.
    #[error(
        "{actor} has {have} of the {wanted} rights, {elsewhere} are known elsewhere; ask for a transfer or have more minted"
    )]
    RightsExhausted {
        /// Who writes.
        actor: Actor,
        /// What it has.
        have: u64,
        /// What it wants.
        wanted: u64,
        /// What others seem to have.
        elsewhere: u64,
    },
    /// Rights and uses of an actor are changed by it or its successor only.
    #[error(
        "{actor} may not decide for {owner}: ask a replica that lives under that number"
    )]
    NotTheOwner {
        /// Who writes.
        actor: Actor,
        /// Whose rights they are.
        owner: Actor,
    },
    /// More is given back than was used.
    #[error(
        "{by} has {used} in use, {amount} cannot be given back; give back each use once"
    )]
    NotUsed {
        /// Who used.
        by: Actor,
        /// What is in use.
        used: u64,
        /// What was to be given back.
        amount: u64,
    },
    /// One operation of the strong plane says two things.
    #[error(
        "the operation {id} minted something else before; read it from the strong engine"
    )]
    MintDiffers {
        /// The operation.
        id: MintId,
    },
}

impl UpdateError {
    /// The answer to an update that a kind does not have.
    pub(super) const fn unfit(kind: Kind, update: &Update) -> Self {
        if matches!(update, Update::Delete) {
            return Self::CannotForget { kind };
        }
        Self::WrongKind { kind, update: update.name() }
    }
}

/// Why two values do not join; neither changes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {theirs} does not join a {ours}; a key keeps the kind of its policy")]
pub struct JoinError {
    /// The value that was to change.
    pub ours: Kind,
    /// The one that was to be joined.
    pub theirs: Kind,
}
