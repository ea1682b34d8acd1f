//! The HTTP API: operations, wire types, the OpenAPI document and the typed client.
//!
//! Three doors, one style: the operator's API (`public`), what daemons ask of each other
//! (`peer`, `engine`), and what a region's daemon asks of a host's agent (`host`).

mod error;
pub mod host;
mod operation;

pub use error::{ApiError, ErrorCode};
pub use operation::{Method, NoParams, Operation};
