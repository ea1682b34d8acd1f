//! Rows in memory laid over those of a backend, as one sequence in order of their keys.

use std::iter::Peekable;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::super::{Backend, Fault, Visitor};
use super::Rows;

/// The rows that lie above, those that were shown already taken out.
type Above = Peekable<std::collections::btree_map::IntoIter<String, Option<Bytes>>>;

/// Shows the rows of a prefix after a key: those above where there are any, else the backend's.
pub(super) fn visit<B: Backend>(
    backend: &B,
    above: Rows,
    prefix: &str,
    after: Option<&str>,
    row: &mut Visitor<'_>,
) -> Result<(), Fault> {
    let mut above = above.into_iter().peekable();
    let mut stopped = false;
    backend.visit(prefix, after, &mut |key, stored| {
        let mut next = show_before(&mut above, Some(key), row)?;
        if next.is_continue() {
            next = match above.next_if(|(above, _)| above == key) {
                Some((_, None)) => ControlFlow::Continue(()),
                Some((_, Some(value))) => row(key, &value)?,
                None => row(key, stored)?,
            };
        }
        stopped = next.is_break();
        Ok(next)
    })?;
    if !stopped {
        // Whether the visitor goes on matters to nobody behind the last row.
        let _last = show_before(&mut above, None, row)?;
    }
    Ok(())
}

/// Shows the rows above that come before a key of the backend, or all that are left.
fn show_before(
    above: &mut Above,
    key: Option<&str>,
    row: &mut Visitor<'_>,
) -> Result<ControlFlow<()>, Fault> {
    let comes_before = |above: &str| key.is_none_or(|key| above < key);
    while let Some((above, value)) = above.next_if(|(above, _)| comes_before(above)) {
        if let Some(value) = value
            && row(&above, &value)? == ControlFlow::Break(())
        {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}
