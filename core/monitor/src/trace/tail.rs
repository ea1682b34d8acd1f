//! Which traces are kept (M10, F70, F87): decided at a trace's home once it is over.
//!
//! A trace is over when an entry has ended and nothing new came for [`SETTLED`], or when nothing
//! came for [`SILENT`]. Then it is kept when something failed, when it was slower than 99 of 100
//! of its operation, when it was asked for, when few of its operation are kept anyway, and
//! otherwise by the last bits of its id: every region that applies the same rate keeps the same
//! traces.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SPANS_MAX, Span, TraceId};
use crate::digest::Sketch;

/// Traces that are not decided yet (DETAILS M9).
pub const PENDING_MAX: usize = 10_000;
/// Spans of all of them; some hundred bytes each.
const PENDING_SPANS_MAX: usize = 100_000;
/// Nothing new for so long after an entry ended: the others' batches have come by then.
const SETTLED: Duration = Duration::from_secs(4);
/// Nothing new for so long without an entry that ended: its process is gone or still at it.
const SILENT: Duration = Duration::from_secs(60);
/// How long a decision is known, for spans that come late.
const KNOWN: Duration = Duration::from_mins(10);
/// Decisions that are known.
const KNOWN_MAX: usize = 100_000;
/// Operations whose times are known; more names than there are operations are somebody's mischief.
const OPERATIONS_MAX: usize = 500;
/// An operation's times say what is slow from so many on.
const TIMES_MIN: u64 = 100;
/// After so many the times are counted anew, so that what is slow is slow by today's measure.
const TIMES_MAX: u64 = 10_000;
/// 99 of 100.
const P99_PPM: u32 = 990_000;
/// All of something, in parts per million.
const WHOLE_PPM: u64 = 1_000_000;

/// What operators choose (O6, O40).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How many of the traces in which nothing failed or was slow are kept, in parts per million.
    pub rate_ppm: u32,
    /// So many of each operation are kept in a minute whatever the rate: what is done rarely is
    /// seen, what is done often is sampled.
    pub each_minute: u32,
}

impl Rules {
    /// Whether the rate keeps a trace: consistent for the same id everywhere.
    #[must_use]
    pub fn samples(&self, trace: TraceId) -> bool {
        // The largest random part is 2^56 - 1.
        let threshold = (u128::from(self.rate_ppm) << 56) / u128::from(WHOLE_PPM);
        u128::from(trace.random()) < threshold
    }
}

/// Why a trace is kept.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Something in it failed.
    Failed,
    /// Whoever began it, or what it is of, wants it kept.
    Asked,
    /// It was slower than 99 of 100 of its operation.
    Slow,
    /// Few of its operation were kept in this minute.
    Rare,
    /// The rate says so.
    Sampled,
}

impl Why {
    /// As a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Asked => "asked",
            Self::Slow => "slow",
            Self::Rare => "rare",
            Self::Sampled => "sampled",
        }
    }
}

/// Why a span is not kept although its trace may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// It cannot be true.
    Refused,
    /// Its trace has [`SPANS_MAX`] already.
    TooMany,
}

/// What becomes of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It waits with its trace.
    Pending,
    /// Its trace is kept already, and it belongs to it.
    Late(Box<Span>),
    /// Its trace was not kept.
    Unwanted,
    /// It is lost.
    Dropped(Dropped),
}

/// A trace that was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Which.
    pub trace: TraceId,
    /// What came of it.
    pub spans: Vec<Span>,
    /// Why it is kept; it is not when absent.
    pub why: Option<Why>,
    /// It was decided early, to make room.
    pub early: bool,
}

#[derive(Debug)]
struct Pending {
    number: u64,
    spans: Vec<Span>,
    /// When the last span came.
    heard: Duration,
    entered: bool,
}

impl Pending {
    fn due(&self) -> Duration {
        self.heard.saturating_add(if self.entered { SETTLED } else { SILENT })
    }
}

/// How long an operation takes: now, and in the count before.
#[derive(Debug, Default)]
struct Times {
    now: Sketch,
    before: Option<u64>,
    /// Which minute it is, and how many were kept in it because they are rare.
    minute: u64,
    kept: u32,
}

impl Times {
    /// More than this is slow, once enough is known.
    fn slow(&self) -> Option<u64> {
        let counted =
            (self.now.count() >= TIMES_MIN).then(|| self.now.percentile(P99_PPM));
        let p99 = self.before.or_else(|| counted.flatten())?;
        // Times are known within 0.8 %: what is that near to it is not slow.
        Some(p99.saturating_add(p99 / 50))
    }

    fn count(&mut self, took_us: u64) {
        self.now.record(took_us);
        if self.now.count() >= TIMES_MAX {
            self.before = self.now.percentile(P99_PPM);
            self.now = Sketch::default();
        }
    }

    /// Whether one more is kept because few are.
    fn is_rare(&mut self, rules: &Rules, now: Duration) -> bool {
        let minute = now.as_secs() / 60;
        if minute != self.minute {
            (self.minute, self.kept) = (minute, 0);
        }
        let rare = self.kept < rules.each_minute;
        self.kept += u32::from(rare);
        rare
    }
}

/// The traces that this region's daemon is the home of, until they are decided.
#[derive(Debug, Default)]
pub struct Tail {
    pending: BTreeMap<TraceId, Pending>,
    /// In the order in which they are due.
    due: BTreeSet<(Duration, TraceId)>,
    /// In the order in which they came.
    came: BTreeMap<u64, TraceId>,
    next: u64,
    spans: usize,
    known: BTreeMap<TraceId, bool>,
    forget: VecDeque<(Duration, TraceId)>,
    times: BTreeMap<String, Times>,
}

impl Tail {
    /// Traces that are not decided yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The spans of a trace that is not decided yet.
    #[must_use]
    pub fn waiting(&self, trace: TraceId) -> &[Span] {
        self.pending.get(&trace).map_or(&[], |pending| pending.spans.as_slice())
    }

    /// Takes a span that came at `now`, by a clock that nobody sets.
    pub fn take(&mut self, span: Span, now: Duration) -> Taken {
        let Some(span) = span.fitted() else { return Taken::Dropped(Dropped::Refused) };
        match self.known.get(&span.trace) {
            Some(true) => return Taken::Late(Box::new(span)),
            // What failed late is kept, with whatever comes after it: errors are all kept.
            Some(false) if span.failed.is_none() => return Taken::Unwanted,
            Some(false) => {
                self.known.insert(span.trace, true);
                return Taken::Late(Box::new(span));
            }
            None => {}
        }
        self.wait(span, now)
    }

    fn wait(&mut self, span: Span, now: Duration) -> Taken {
        let trace = span.trace;
        let next = &mut self.next;
        let came = &mut self.came;
        let pending = self.pending.entry(trace).or_insert_with(|| {
            *next += 1;
            came.insert(*next, trace);
            Pending { number: *next, spans: Vec::new(), heard: now, entered: false }
        });
        let was_due = pending.due();
        if pending.spans.len() >= SPANS_MAX && span.failed.is_none() && !span.entry {
            return Taken::Dropped(Dropped::TooMany);
        }
        if pending.spans.len() >= SPANS_MAX {
            // An error or an entry is worth more than the last span that is neither.
            let plain = |it: &Span| it.failed.is_none() && !it.entry;
            let Some(at) = pending.spans.iter().rposition(plain) else {
                return Taken::Dropped(Dropped::TooMany);
            };
            pending.spans.swap_remove(at);
            self.spans -= 1;
        }
        pending.heard = now;
        pending.entered |= span.entry;
        pending.spans.push(span);
        self.spans += 1;
        let due = pending.due();
        self.due.remove(&(was_due, trace));
        self.due.insert((due, trace));
        Taken::Pending
    }

    /// Decides what is over at `now`, and the oldest beyond what there is room for.
    pub fn judge(&mut self, rules: &Rules, now: Duration) -> Vec<Judged> {
        self.forget(now);
        let mut judged = Vec::new();
        while let Some((due, trace)) = self.due.first().copied()
            && due <= now
        {
            judged.extend(self.decide(trace, rules, (now, false)));
        }
        while (self.pending.len() > PENDING_MAX || self.spans > PENDING_SPANS_MAX)
            && let Some(trace) = self.came.values().next().copied()
        {
            judged.extend(self.decide(trace, rules, (now, true)));
        }
        judged
    }

    fn decide(
        &mut self,
        trace: TraceId,
        rules: &Rules,
        (now, early): (Duration, bool),
    ) -> Option<Judged> {
        let pending = self.pending.remove(&trace)?;
        self.due.remove(&(pending.due(), trace));
        self.came.remove(&pending.number);
        self.spans -= pending.spans.len();
        let why = self.why(&pending.spans, rules, now);
        self.known.insert(trace, why.is_some());
        self.forget.push_back((now, trace));
        Some(Judged { trace, spans: pending.spans, why, early })
    }

    fn why(&mut self, spans: &[Span], rules: &Rules, now: Duration) -> Option<Why> {
        let slow = self.is_slow(spans);
        if spans.iter().any(|span| span.failed.is_some()) {
            Some(Why::Failed)
        } else if spans.iter().any(|span| span.keep) {
            Some(Why::Asked)
        } else if slow {
            Some(Why::Slow)
        } else {
            let entry = spans.iter().find(|span| span.entry);
            let rare = entry
                .and_then(|entry| self.times.get_mut(&entry.name))
                .is_some_and(|times| times.is_rare(rules, now));
            let sampled = spans.first().is_some_and(|span| rules.samples(span.trace));
            rare.then_some(Why::Rare).or_else(|| sampled.then_some(Why::Sampled))
        }
    }

    /// Whether an entry was slow, and counts each among its operation's.
    fn is_slow(&mut self, spans: &[Span]) -> bool {
        let mut any = false;
        for span in spans.iter().filter(|span| span.entry) {
            if self.times.len() >= OPERATIONS_MAX && !self.times.contains_key(&span.name)
            {
                continue;
            }
            let times = self.times.entry(span.name.clone()).or_default();
            any |= times.slow().is_some_and(|slow| span.took_us > slow);
            times.count(span.took_us);
        }
        any
    }

    fn forget(&mut self, now: Duration) {
        let is_old = |decided: Duration| now.saturating_sub(decided) > KNOWN;
        while let Some((decided, trace)) = self.forget.front().copied()
            && (is_old(decided) || self.forget.len() > KNOWN_MAX)
        {
            self.forget.pop_front();
            self.known.remove(&trace);
        }
    }
}
