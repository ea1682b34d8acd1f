//! ST-20: when a replica's deadline has come and it is told that time has passed, the next one
//! lies in the future: whoever waits for it would spin else.

use super::{Found, Statement};

pub(super) const STATEMENT: Statement =
    Statement { id: "ST-20", statement: "a tick moves the deadline of a replica on" };

pub(super) fn found(node: usize) -> Found {
    Some((STATEMENT, format!("the deadline of {node} stays in the past")))
}
