//! ST-16: what was stored can be loaded, what was sent is read as it was written, and a request
//! is answered once.

use super::{Found, Statement};

pub(super) const STATEMENT: Statement =
    Statement { id: "ST-16", statement: "what is stored and sent can be read again" };

pub(super) fn found(text: String) -> Found {
    Some((STATEMENT, text))
}
