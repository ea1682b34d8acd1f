//! The client's own name for one attempt to change something.
//!
//! The same alphabet as an identifier, because it becomes a part of a key. A type of its own,
//! because a token that is passed for a VM id would create a VM twice.

use std::fmt;
use std::str::FromStr;

use dwcp_types::ReservationId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a text is not a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a client token; use 1 to 63 of A-Z a-z 0-9 . _ - beginning with a letter or digit"
)]
pub struct TokenError {
    text: String,
}

/// Longest part of a refused token that is quoted, in characters.
const QUOTE_LEN_MAX: usize = 80;

/// A client's token: sending a request again with the same token does it once.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ClientToken(ReservationId);

impl ClientToken {
    /// Checks and makes a token.
    ///
    /// # Errors
    ///
    /// When it is empty, over 63 bytes, or has a character that is not allowed.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let refused = |_| TokenError { text: text.chars().take(QUOTE_LEN_MAX).collect() };
        ReservationId::new(text).map(Self).map_err(refused)
    }

    /// The token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<String> for ClientToken {
    type Error = TokenError;

    fn try_from(text: String) -> Result<Self, TokenError> {
        Self::new(&text)
    }
}

impl From<ClientToken> for String {
    fn from(token: ClientToken) -> Self {
        token.as_str().to_owned()
    }
}

impl FromStr for ClientToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        Self::new(text)
    }
}

impl fmt::Display for ClientToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ClientToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
