//! How actors and versions are written inside values.

use super::actor::{Actor, ReplicaId};
use super::dot::Dot;
use super::dotted_version::DottedVersion;
use crate::codec::{DecodeError, Sink, Source, ascending, put_len, put_number};

pub(crate) fn put_actor(out: &mut impl Sink, actor: Actor) {
    put_number(out, u64::from(actor.replica.get()));
    put_number(out, u64::from(actor.incarnation));
}

pub(crate) fn actor(from: &mut Source<'_>) -> Result<Actor, DecodeError> {
    const REFUSED: DecodeError = DecodeError::NotCanonical("an actor");
    let replica = u16::try_from(from.number()?).map_err(|_| REFUSED)?;
    let incarnation = u32::try_from(from.number()?).map_err(|_| REFUSED)?;
    Ok(Actor::new(ReplicaId::new(replica), incarnation))
}

/// Each actor with its spans, as distances: how far after the last one it begins, how long it is.
/// The actors in the order that they were written.
pub(crate) fn put_version(out: &mut impl Sink, version: &DottedVersion) -> Vec<Actor> {
    let mut actors: Vec<(Actor, usize)> = Vec::new();
    for (after, _) in version.spans() {
        match actors.last_mut() {
            Some((actor, spans)) if *actor == after.actor => *spans += 1,
            _ => actors.push((after.actor, 1)),
        }
    }
    put_len(out, actors.len());
    let mut spans = version.spans();
    for (actor, count) in &actors {
        put_actor(out, *actor);
        put_len(out, *count);
        let mut last = 0;
        for (after, upto) in spans.by_ref().take(*count) {
            put_number(out, after.seq - last);
            put_number(out, upto - after.seq);
            last = upto;
        }
    }
    actors.into_iter().map(|(actor, _)| actor).collect()
}

pub(crate) fn version(
    from: &mut Source<'_>,
) -> Result<(DottedVersion, Vec<Actor>), DecodeError> {
    const REFUSED: DecodeError = DecodeError::NotCanonical("a span");
    let mut version = DottedVersion::new();
    let mut actors = Vec::new();
    let mut last_actor = None;
    for _ in 0..from.len(5)? {
        let actor = ascending(actor(from)?, &mut last_actor, "an actor")?;
        let spans = from.len(2)?;
        let mut last = 0_u64;
        for at in 0..spans {
            let (distance, length) = (from.number()?, from.number()?);
            let after = last.checked_add(distance).ok_or(REFUSED)?;
            last = after.checked_add(length).ok_or(REFUSED)?;
            if length == 0 || (at > 0 && distance == 0) {
                return Err(REFUSED);
            }
            version.extend(Dot::new(actor, after), last);
        }
        if spans == 0 {
            return Err(DecodeError::NotCanonical("an actor without a span"));
        }
        actors.push(actor);
    }
    Ok((version, actors))
}
