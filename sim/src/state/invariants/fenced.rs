//! ST-12: no frame to a region outside the fence has a byte of a fenced key: every such key and
//! value carries the canary, and the world looks for it in the bytes of the frame.

use super::{Found, Statement};

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-12",
    statement: "no frame to a region outside the fence has a byte of a fenced key",
};

pub(super) fn found(from: usize, to: usize, body: &str) -> Found {
    Some((STATEMENT, format!("{from} sends {to} {body}")))
}
