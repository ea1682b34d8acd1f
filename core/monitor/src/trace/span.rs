//! One thing that one process did within a trace.

use std::collections::BTreeMap;

use dwcp_types::RegionId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SpanId, TraceId};

/// Spans of one trace (M10).
pub const SPANS_MAX: usize = 1_000;
/// Tags of one span; the guide allows 128 (M10), nothing of ours has more than a few.
pub const TAGS_MAX: usize = 16;
/// Characters of a name, of a tag's key or value, or of why it failed.
pub const TEXT_MAX: usize = 200;
/// Longest span: a week, which is also how long traces are kept (M10).
const TOOK_MAX_US: u64 = 7 * 24 * 3_600 * 1_000_000;

/// Which side of a call a span is.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Neither: something that a process does by itself.
    #[default]
    Internal,
    /// Who asks, until it has the answer.
    Client,
    /// Who is asked, until it has answered.
    Server,
}

/// One thing that one process did within a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    /// The trace.
    pub trace: TraceId,
    /// It.
    pub id: SpanId,
    /// What it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SpanId>,
    /// The federation was entered here: what it is part of, if anything, is not ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub entry: bool,
    /// The trace is kept whatever the rate says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
    /// What was done, as an operation's name: `place_vm`.
    pub name: String,
    /// Which side of a call.
    #[serde(default)]
    pub kind: Kind,
    /// In which region.
    pub region: RegionId,
    /// By which process there: `dwcpd`, or an agent's host.
    pub process: String,
    /// When it began, in microseconds since 1970 by that process's clock.
    pub start_us: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// What else is known of it. No secrets and nothing of users: names that records have too
    /// (F31).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl Span {
    /// When it ended, by the same clock.
    #[must_use]
    pub const fn end_us(&self) -> u64 {
        self.start_us.saturating_add(self.took_us)
    }

    /// It within its limits; nothing when its times cannot be true.
    #[must_use]
    pub fn fitted(mut self) -> Option<Self> {
        if self.took_us > TOOK_MAX_US || self.start_us.checked_add(self.took_us).is_none()
        {
            return None;
        }
        fit(&mut self.name);
        fit(&mut self.process);
        if let Some(why) = &mut self.failed {
            fit(why);
        }
        let tags = std::mem::take(&mut self.tags).into_iter().take(TAGS_MAX);
        self.tags = tags
            .map(|(mut key, mut value)| {
                fit(&mut key);
                fit(&mut value);
                (key, value)
            })
            .collect();
        Some(self)
    }
}

/// Cuts a text to its limit, and what a terminal would obey out of it.
fn fit(text: &mut String) {
    if text.chars().any(char::is_control) {
        *text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    }
    if let Some((at, _)) = text.char_indices().nth(TEXT_MAX) {
        text.truncate(at);
    }
}
