//! Between the API's words and the core's.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dwcp_api::state::{Budget, StateKind, StateLevel, StateUpdate, StateValue, Text};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_state::{
    Actor, BoundedReading, Bytes, DottedVersion, Kind, Level, OpId, Reading, Refusal,
    Token, Update,
};
use dwcp_types::RegionId;

/// A level of the core.
pub(crate) const fn level(level: StateLevel) -> Level {
    match level {
        StateLevel::Eventual => Level::Eventual,
        StateLevel::Local => Level::Local,
        StateLevel::Quorum => Level::Quorum,
        StateLevel::Strong => Level::Strong,
    }
}

/// A level of the API.
pub(crate) const fn shown_level(level: Level) -> StateLevel {
    match level {
        Level::Eventual => StateLevel::Eventual,
        Level::Local => StateLevel::Local,
        Level::Quorum => StateLevel::Quorum,
        Level::Strong => StateLevel::Strong,
    }
}

/// A kind of the core; nothing for records of the engine.
pub(crate) const fn kind(kind: StateKind) -> Option<Kind> {
    Some(match kind {
        StateKind::Counter => Kind::GCounter,
        StateKind::UpDownCounter => Kind::PnCounter,
        StateKind::GrowSet => Kind::GSet,
        StateKind::Set => Kind::OrSet,
        StateKind::Last => Kind::Lww,
        StateKind::Siblings => Kind::Mv,
        StateKind::Map => Kind::OrMap,
        StateKind::Bounded => Kind::Bounded,
        StateKind::Register => Kind::Register,
        StateKind::Strong => return None,
    })
}

/// A kind of the API.
pub(crate) const fn shown_kind(kind: Kind) -> StateKind {
    match kind {
        Kind::GCounter => StateKind::Counter,
        Kind::PnCounter => StateKind::UpDownCounter,
        Kind::GSet => StateKind::GrowSet,
        Kind::OrSet => StateKind::Set,
        Kind::Lww => StateKind::Last,
        Kind::Mv => StateKind::Siblings,
        Kind::OrMap => StateKind::Map,
        Kind::Bounded => StateKind::Bounded,
        Kind::Register => StateKind::Register,
    }
}

/// The number of an operation id: texts outside, a number inside.
///
/// 128 bits of SHA-256: two ids that somebody chose do not meet by chance.
pub(crate) fn op_number(text: &str) -> u128 {
    let digest = dwcp_runtime::digest::sha256(text.as_bytes());
    digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// An operation id of the core.
pub(crate) fn op_id(text: &str) -> OpId {
    let bytes = op_number(text).to_be_bytes();
    let half = |range: std::ops::Range<usize>| {
        bytes[range].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    OpId { client: half(0..8), number: half(8..16) }
}

/// A session token as text.
pub(crate) fn token_text(token: &Token) -> String {
    // Plain values: they can always be written.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(token).unwrap_or_default())
}

/// Longest session token: a thousand replicas at some 20 bytes each.
const TOKEN_LEN_MAX: usize = 32 << 10;

/// A session token from its text.
pub(crate) fn token(text: &str) -> Result<Token, ApiError> {
    let bytes = (text.len() <= TOKEN_LEN_MAX)
        .then(|| URL_SAFE_NO_PAD.decode(text).ok())
        .flatten();
    bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(|| foreign_token("session"))
}

fn foreign_token(what: &str) -> ApiError {
    invalid(
        format!("`{what}` is no token of this federation"),
        &format!("hand in the `{what}` of an earlier answer as it came"),
    )
}

/// What a write may refer to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a> {
    /// The `context` of an earlier answer.
    pub(crate) context: Option<&'a str>,
    /// This replica's own actor.
    pub(crate) me: Actor,
}

/// The change that is meant, for a value of a kind.
pub(crate) fn update(
    update: &StateUpdate,
    of: Kind,
    around: Around<'_>,
    actor_of: &impl Fn(&RegionId) -> Option<Actor>,
) -> Result<Vec<Update>, ApiError> {
    let one = |update: Update| Ok(vec![update]);
    match update {
        StateUpdate::Set { value } => one(set(bytes(value)?, of, around.context)?),
        StateUpdate::Delete if of == Kind::Mv && around.context.is_some() => {
            one(Update::Write { value: None, seen: seen(around.context)? })
        }
        StateUpdate::Delete if of == Kind::Register => {
            one(Update::Store { lamport: 0, value: None })
        }
        StateUpdate::Delete => one(Update::Delete),
        StateUpdate::Increment { by } => one(increment(*by, of)?),
        StateUpdate::Add { elements } => {
            elements.iter().map(|element| Ok(Update::Insert(bytes(element)?))).collect()
        }
        StateUpdate::Remove { elements } => {
            elements.iter().map(|element| Ok(Update::Remove(bytes(element)?))).collect()
        }
        StateUpdate::Field { field, kind: inner, update: change } => {
            let inner = kind(*inner).ok_or_else(|| {
                invalid("a field cannot be a record of the engine", "choose another kind")
            })?;
            let changes = self::update(change, inner, around, actor_of)?;
            let name = Bytes::from(field.as_bytes());
            let field = |update: Update| Update::Field {
                name: name.clone(),
                kind: inner,
                update: Box::new(update),
            };
            Ok(changes.into_iter().map(field).collect())
        }
        StateUpdate::RemoveField { field } => {
            one(Update::RemoveField(Bytes::from(field.as_bytes())))
        }
        StateUpdate::Spend { amount } => one(Update::Spend(*amount)),
        StateUpdate::Refund { amount } => {
            one(Update::Release { by: around.me, amount: *amount })
        }
        StateUpdate::Transfer { amount, to } => {
            let to = actor_of(to).ok_or_else(|| {
                invalid(
                    format!("region {to} has no replica that is known here"),
                    "see `dwcp-cli federation state replicas`",
                )
            })?;
            one(Update::Transfer { to, amount: *amount })
        }
        StateUpdate::Mint { .. } => Err(invalid(
            "rights are minted through the strong engine",
            "send the mint to the key itself, not to a field of a map",
        )),
    }
}

fn set(value: Bytes, of: Kind, context: Option<&str>) -> Result<Update, ApiError> {
    Ok(match of {
        Kind::Register => Update::Store { lamport: 0, value: Some(value) },
        Kind::Mv => Update::Write { value: Some(value), seen: seen(context)? },
        Kind::Lww
        | Kind::GCounter
        | Kind::PnCounter
        | Kind::GSet
        | Kind::OrSet
        | Kind::OrMap
        | Kind::Bounded => Update::Set(value),
    })
}

fn seen(context: Option<&str>) -> Result<DottedVersion, ApiError> {
    let Some(text) = context else { return Ok(DottedVersion::new()) };
    text.parse().map_err(|_| foreign_token("context"))
}

fn increment(by: i64, of: Kind) -> Result<Update, ApiError> {
    if of == Kind::PnCounter {
        return Ok(Update::Add(by));
    }
    u64::try_from(by).map(Update::Increment).map_err(|_| {
        invalid(
            "a counter of this kind only rises",
            "use a key whose rule is up-down-counter, or spend from a bounded one",
        )
    })
}

fn bytes(text: &Text) -> Result<Bytes, ApiError> {
    content(text).map(Bytes::from)
}

/// The bytes that a text means.
pub(crate) fn content(text: &Text) -> Result<Vec<u8>, ApiError> {
    text.bytes().ok_or_else(|| {
        invalid(
            "`base64` is no base64",
            "encode the bytes with padding, RFC 4648 section 4",
        )
    })
}

fn invalid(message: impl Into<String>, remedy: &str) -> ApiError {
    ApiError::new(ErrorCode::Invalid, message).with_remedy(remedy)
}

/// What a reading shows, and the context to replace it with.
pub(crate) fn shown(
    reading: &Reading,
    me: Actor,
) -> (Option<StateValue>, Option<String>) {
    let Reading::Siblings { values, seen } = reading else {
        return (value(reading, me), None);
    };
    let context = Some(seen.to_string());
    let many = values.iter().map(|value| Text::of(value)).collect::<Vec<_>>();
    ((!many.is_empty()).then_some(StateValue::Many(many)), context)
}

fn value(reading: &Reading, me: Actor) -> Option<StateValue> {
    Some(match reading {
        Reading::Count(count) => {
            StateValue::Number(i64::try_from(*count).unwrap_or(i64::MAX))
        }
        Reading::Balance(balance) => StateValue::Number(*balance),
        Reading::Set(elements) => {
            StateValue::Many(elements.iter().map(|element| Text::of(element)).collect())
        }
        Reading::Siblings { values, .. } => {
            StateValue::Many(values.iter().map(|value| Text::of(value)).collect())
        }
        Reading::Latest(content) | Reading::Register { value: content, .. } => {
            StateValue::Content(Text::of(content.as_ref()?))
        }
        Reading::Fields(fields) => {
            let shown = fields.iter().filter_map(|field| {
                let name = String::from_utf8_lossy(&field.name).into_owned();
                Some((name, value(&field.reading, me)?))
            });
            StateValue::Fields(shown.collect())
        }
        Reading::Bounded(rights) => StateValue::Budget(budget(rights, me)),
    })
}

fn budget(rights: &BoundedReading, me: Actor) -> Budget {
    Budget {
        available_here: rights.rights.get(&me).copied().unwrap_or(0),
        available: rights.minted.saturating_sub(rights.used),
        used: rights.used,
    }
}

/// A refusal as the API tells it.
pub(crate) fn refused(refusal: &Refusal, op_id: Option<&str>) -> ApiError {
    let text = refusal.to_string();
    let (message, remedy) = text.split_once("; ").unwrap_or((&text, ""));
    let error = ApiError::new(code(refusal), message);
    let error = if remedy.is_empty() { error } else { error.with_remedy(remedy) };
    match (refusal, op_id) {
        (Refusal::NotHeld { holders, .. }, _) => {
            error.with_details(&serde_json::json!({ HOLDERS: holders }))
        }
        (refusal, Some(id)) if refusal.may_be_done() => {
            error.with_details(&serde_json::json!({ "op_id": id }))
        }
        (Refusal::StoreFailed { .. }, None) => error.with_remedy(
            "what was asked may still be done when it works again: read the key before asking \
             again, or name the next write with an operation id",
        ),
        _ => error,
    }
}

/// The regions that hold a key, in the details of a refusal by one that does not.
const HOLDERS: &str = "holders";

/// Whether a key was refused because other regions hold it.
pub(crate) fn is_elsewhere(error: &ApiError) -> bool {
    error.details.as_ref().is_some_and(|details| details.get(HOLDERS).is_some())
}

const fn code(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::OutOfRange { .. } | Refusal::TooLarge { .. } => ErrorCode::Invalid,
        Refusal::OpIdReused { .. } => ErrorCode::Conflict,
        Refusal::NoPolicy { .. }
        | Refusal::WrongPlane { .. }
        | Refusal::UseStrong { .. }
        | Refusal::LevelBelowFloor { .. }
        | Refusal::NotHeld { .. }
        | Refusal::Update { .. } => ErrorCode::Refused,
        Refusal::Busy { .. } => ErrorCode::Busy,
        Refusal::NotServing { .. }
        | Refusal::RegionUnavailable { .. }
        | Refusal::QuorumUnavailable { .. }
        | Refusal::TooStale { .. } => ErrorCode::Unavailable,
        Refusal::StoreFailed { .. }
        | Refusal::LevelNotReached { .. }
        | Refusal::Indeterminate { .. } => ErrorCode::Indeterminate,
    }
}

/// How long a request may take.
pub(crate) fn within(timeout_ms: Option<u64>) -> Duration {
    /// What a caller waits when it does not say: a region that dies is noticed within it.
    const DEFAULT: Duration = Duration::from_secs(5);
    timeout_ms.map_or(DEFAULT, Duration::from_millis).min(dwcp_state::WITHIN_MAX)
}
