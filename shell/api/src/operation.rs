//! What an HTTP operation is: one declaration from which the server's route, the typed client
//! and the OpenAPI document are all made, so that they cannot disagree (`docs/adr/0002`).
//!
//! Every operation has one JSON object of parameters (path and query together), one JSON body
//! and one JSON reply. A parameter that appears in the path as `{name}` is filled in there;
//! the others go into the query.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The HTTP methods in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads; changes nothing.
    Get,
    /// Does something.
    Post,
    /// Sets something to a value; doing it twice is doing it once.
    Put,
    /// Removes something; doing it twice is doing it once.
    Delete,
}

impl Method {
    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// One HTTP operation.
pub trait Operation: 'static {
    /// Its name in the OpenAPI document, in snake case.
    const ID: &'static str;
    /// The method.
    const METHOD: Method;
    /// The path, with `{name}` for each parameter that is part of it.
    const PATH: &'static str;
    /// What it is for, in one sentence.
    const SUMMARY: &'static str;
    /// Whether it answers with a stream of events, of which the reply is the first.
    const STREAMS: bool = false;
    /// Path and query parameters: a flat struct of scalars and options.
    type Params: Serialize + DeserializeOwned + JsonSchema + Send + Sync;
    /// The request's body; `()` for none.
    type Body: Serialize + DeserializeOwned + JsonSchema + Send + Sync;
    /// The reply; `()` for none.
    type Reply: Serialize + DeserializeOwned + JsonSchema + Send + Sync;
}

/// Declares operations: `Name = METHOD "path" "summary", Params, Body => Reply;`.
#[macro_export]
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $method:ident $path:literal $id:literal $summary:literal,
        $params:ty, $body:ty => $reply:ty;)*) => {$(
        $(#[$doc])*
        #[doc = $summary]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl $crate::Operation for $name {
            const ID: &'static str = $id;
            const METHOD: $crate::Method = $crate::Method::$method;
            const PATH: &'static str = $path;
            const SUMMARY: &'static str = $summary;
            type Params = $params;
            type Body = $body;
            type Reply = $reply;
        }
    )*

        /// These operations, for the OpenAPI document.
        #[must_use]
        pub fn described() -> Vec<$crate::Described> {
            vec![$($crate::Described::of::<$name>()),*]
        }
    };
}

/// No parameters.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema,
)]
pub struct NoParams {}
