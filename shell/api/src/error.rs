//! The one shape of every error that the API returns.

use dwcp_runtime::trace::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of failure it is; decides the HTTP status and the CLI's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is malformed or contradicts itself: 400.
    Invalid,
    /// No certificate, or one that does not allow this: 403.
    Forbidden,
    /// What was named does not exist: 404.
    NotFound,
    /// It clashes with what is there, for example the same token with another body, an older
    /// epoch, or a changed record: 409.
    Conflict,
    /// The request is understood and the answer is no, with reasons, for example because no
    /// region fits: 422.
    Refused,
    /// Too much at once; try again after a while: 429.
    Busy,
    /// A defect of ours or a broken part: 500.
    Internal,
    /// A part that is needed does not answer; nothing was done: 503.
    Unavailable,
    /// A part stopped answering midway; it may or may not have been done, and asking again
    /// with the same token is safe: 504.
    Indeterminate,
}

impl ErrorCode {
    /// Its name on the wire and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::Indeterminate => "indeterminate",
        }
    }

    /// The HTTP status that goes with it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Refused => 422,
            Self::Busy => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
            Self::Indeterminate => 504,
        }
    }
}

/// An error as the API returns it.
#[derive(
    Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, thiserror::Error,
)]
#[error("{message}")]
pub struct ApiError {
    /// The kind.
    pub code: ErrorCode,
    /// What went wrong, with the place, in one sentence.
    pub message: String,
    /// What the caller can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Anything structured that belongs to it, such as the explanation of a refused placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
}

impl Fault for ApiError {
    /// A request that is malformed, forbidden, or of what is not there is its caller's own; a
    /// placement that is refused is told, because somebody waits for its VM.
    fn fault(&self) -> Option<String> {
        use ErrorCode::{Conflict, Forbidden, Invalid, NotFound};
        let is_callers = matches!(self.code, Invalid | Forbidden | NotFound | Conflict);
        (!is_callers).then(|| self.message.clone())
    }
}

impl ApiError {
    /// An error with a message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), remedy: None, details: None }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same with something structured.
    #[must_use]
    pub fn with_details(mut self, details: &impl Serialize) -> Self {
        self.details = serde_json::to_value(details).ok();
        self
    }
}
