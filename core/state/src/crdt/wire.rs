//! How the parts that kinds share are written.

use super::error::DecodeError;
use crate::bytes::Bytes;
use crate::clock::{Actor, ReplicaId};
use crate::codec::{Sink, Source, put_bytes, put_number};

pub(super) fn put_actor(out: &mut impl Sink, actor: Actor) {
    put_number(out, u64::from(actor.replica.get()));
    put_number(out, u64::from(actor.incarnation));
}

pub(super) fn actor(from: &mut Source<'_>) -> Result<Actor, DecodeError> {
    const REFUSED: DecodeError = DecodeError::NotCanonical("an actor");
    let replica = u16::try_from(from.number()?).map_err(|_| REFUSED)?;
    let incarnation = u32::try_from(from.number()?).map_err(|_| REFUSED)?;
    Ok(Actor::new(ReplicaId::new(replica), incarnation))
}

pub(super) fn put_option(out: &mut impl Sink, value: Option<&Bytes>) {
    match value {
        None => out.put(&[0]),
        Some(bytes) => {
            out.put(&[1]);
            put_bytes(out, bytes);
        }
    }
}

pub(super) fn option(
    from: &mut Source<'_>,
    max: usize,
) -> Result<Option<Bytes>, DecodeError> {
    match from.byte()? {
        0 => Ok(None),
        1 => from.bytes(max).map(Some),
        _ => Err(DecodeError::NotCanonical("an option")),
    }
}

/// Keys come in order and once.
pub(super) fn ascending<T: Clone + Ord>(
    key: T,
    last: &mut Option<T>,
    what: &'static str,
) -> Result<T, DecodeError> {
    if last.as_ref().is_some_and(|last| *last >= key) {
        return Err(DecodeError::NotCanonical(what));
    }
    *last = Some(key.clone());
    Ok(key)
}

/// A number that is left out where it is zero.
pub(super) fn positive(number: u64, what: &'static str) -> Result<u64, DecodeError> {
    if number == 0 { Err(DecodeError::NotCanonical(what)) } else { Ok(number) }
}
