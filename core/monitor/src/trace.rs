//! Traces (M10, O6): what one request did, in every process and region that it went through.
//!
//! ```text
//!   spans of every process ─▶ the trace's home, one region's daemon ─▶ Tail: keep it, or not
//!                                                                        └─▶ Trace: tree, clocks,
//!                                                                            critical path
//! ```
//!
//! What is kept is decided when a trace is over (F70), because only then it is known whether it
//! failed or was slow. Times of different clocks are never subtracted from each other: what a
//! call took on the way is what its caller waited less what the callee needed, each by its own
//! clock.

mod context;
mod critical;
mod skew;
mod span;
mod tail;
#[cfg(test)]
mod tests;
mod tree;

pub use context::{Context, ContextError, IdError, SpanId, TraceId, mixed};
pub use skew::{Lane, Offset};
pub use span::{Kind, SPANS_MAX, Span, TAGS_MAX, TEXT_MAX};
pub use tail::{Dropped, Judged, PENDING_MAX, Rules, Tail, Taken, Why};
pub use tree::{LaneClock, Row, Trace};
