//! Traces of what outlives a process: moves and failovers, whose steps are written down in the
//! strong engine. Their ids follow from their names, so whoever carries one on after a crash goes on
//! with the same trace, and a step that two tell is one span.

use std::collections::BTreeMap;

use dwcp_monitor::trace::{Context, Kind, Span, SpanId, TraceId};
use dwcp_runtime::trace::{Tracer, Work};
use dwcp_types::{RegionId, Timestamp};

/// The span of the whole.
const WHOLE: &str = "";

/// What tells such a trace.
#[derive(Clone, Debug)]
pub(crate) struct Saga {
    tracer: Tracer,
    region: RegionId,
    /// `move` or `failover`.
    kind: &'static str,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Whole<'a> {
    /// Its name.
    pub(crate) id: &'a str,
    /// From when to when.
    pub(crate) from: Timestamp,
    /// Until when.
    pub(crate) to: Timestamp,
    /// Why it failed.
    pub(crate) failed: Option<String>,
    /// What else is known.
    pub(crate) tags: BTreeMap<String, String>,
}

impl Saga {
    pub(crate) const fn new(
        tracer: Tracer,
        region: RegionId,
        kind: &'static str,
    ) -> Self {
        Self { tracer, region, kind }
    }

    fn context(&self, id: &str, step: &str) -> Context {
        let trace = TraceId::of(self.kind, id);
        Context { trace, span: SpanId::of(trace, step), keep: true }
    }

    /// Does something as part of a step.
    pub(crate) async fn within<T>(
        &self,
        (id, step): (&str, &str),
        work: Work<'_, T>,
    ) -> T {
        self.tracer.within(self.context(id, step), work).await
    }

    /// A step is over.
    pub(crate) fn stepped(
        &self,
        (id, step): (&str, &str),
        (from, to): (Timestamp, Timestamp),
    ) {
        let whole = self.context(id, WHOLE);
        let of = self.context(id, step);
        let name = format!("{} {step}", self.kind);
        self.tracer
            .tell(Span { parent: Some(whole.span), ..self.span(of, name, (from, to)) });
    }

    /// All of it is over.
    pub(crate) fn ended(&self, whole: Whole<'_>) {
        let of = self.context(whole.id, WHOLE);
        let span = self.span(of, self.kind.to_owned(), (whole.from, whole.to));
        let mut tags = whole.tags;
        tags.insert("id".to_owned(), whole.id.to_owned());
        self.tracer.tell(Span { entry: true, failed: whole.failed, tags, ..span });
    }

    fn span(
        &self,
        of: Context,
        name: String,
        (from, to): (Timestamp, Timestamp),
    ) -> Span {
        Span {
            trace: of.trace,
            id: of.span,
            parent: None,
            entry: false,
            keep: true,
            name,
            kind: Kind::Internal,
            region: self.region.clone(),
            // Who tells it puts itself here.
            process: String::new(),
            start_us: from.as_millis().saturating_mul(1_000),
            took_us: u64::try_from(to.since(from).as_micros()).unwrap_or(u64::MAX),
            failed: None,
            tags: BTreeMap::new(),
        }
    }
}
