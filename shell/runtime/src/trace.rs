//! Makes spans: what this process does within traces (M10; the values are `dwcp_monitor::trace`).
//!
//! ```text
//!   Tracer::serve ─▶ a task's current span ─▶ span("reserve", …) ─▶ … ─▶ a queue of ended spans
//!                                          └▶ context(), which a call takes along
//! ```
//!
//! The current span belongs to the task, so nothing is handed through functions that do not care;
//! work in another task goes on in the same trace by [`carry`]. Where there is no current span
//! nothing is made, and it costs a look at the task. A span whose future is dropped ends then, as
//! one that failed: what was given up is not lost.

mod trail;

pub use trail::Trail;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dwcp_monitor::trace::{Context, Kind, Lane, Span, SpanId, TAGS_MAX, TraceId, mixed};
use futures_util::future::BoxFuture;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;

use crate::clock::Clock;

/// Spans that wait to be taken (M10); beyond that they are dropped and counted.
const QUEUE_MAX: usize = 10_000;

/// Work that a span is made of. It is on the heap, because each function that takes a future by value
/// makes room for it twice: with spans within spans a daemon's stack would not hold them.
pub type Work<'a, T> = BoxFuture<'a, T>;

tokio::task_local! {
    static CURRENT: Current;
}

/// The span that a task is in.
#[derive(Clone)]
struct Current {
    tracer: Tracer,
    context: Context,
    tags: Arc<Mutex<BTreeMap<String, String>>>,
}

/// What a process makes spans with.
#[derive(Clone)]
pub struct Tracer {
    shared: Arc<Shared>,
}

struct Shared {
    lane: Lane,
    clock: Arc<dyn Clock>,
    on: AtomicBool,
    ended: mpsc::Sender<Span>,
    dropped: AtomicU64,
    seed: u64,
    made: AtomicU64,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("lane", &self.shared.lane).finish_non_exhaustive()
    }
}

/// A moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    wall_us: u64,
    steady: Duration,
}

/// What a span is, before it begins.
#[derive(Clone, Copy, Debug)]
struct Beginning {
    context: Context,
    parent: Option<SpanId>,
    entry: bool,
    kind: Kind,
}

impl Tracer {
    /// One for a process, and where its ended spans come out.
    #[must_use]
    pub fn new(lane: Lane, clock: Arc<dyn Clock>) -> (Self, mpsc::Receiver<Span>) {
        let (ended, spans) = mpsc::channel(QUEUE_MAX);
        let mut seed = [0; 8];
        // Without randomness ids repeat those of another process at worst.
        SystemRandom::new().fill(&mut seed).ok();
        let shared = Shared {
            lane,
            clock,
            on: AtomicBool::new(true),
            ended,
            dropped: AtomicU64::new(0),
            seed: u64::from_ne_bytes(seed),
            made: AtomicU64::new(0),
        };
        (Self { shared: Arc::new(shared) }, spans)
    }

    /// Begins to make spans, or ends it. What runs already goes on.
    pub fn turn(&self, on: bool) {
        self.shared.on.store(on, Ordering::Relaxed);
    }

    /// Spans that nobody took in time.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Answers a request that another process of the federation makes as part of a trace.
    ///
    /// # Errors
    ///
    /// Those of `work`.
    pub async fn serve<T, E: Fault>(
        &self,
        from: Context,
        name: &str,
        work: Work<'_, Result<T, E>>,
    ) -> Result<T, E> {
        let beginning = Beginning {
            context: Context { span: self.span_id(), ..from },
            parent: Some(from.span),
            entry: false,
            kind: Kind::Server,
        };
        self.run(name, beginning, work).await
    }

    /// Answers a request from outside of the federation, where a trace enters it: the caller's
    /// where it has one.
    ///
    /// # Errors
    ///
    /// Those of `work`.
    pub async fn enter<T, E: Fault>(
        &self,
        from: Option<Context>,
        name: &str,
        work: Work<'_, Result<T, E>>,
    ) -> Result<T, E> {
        let trace = from.map_or_else(|| self.trace_id(), |from| from.trace);
        let keep = from.is_some_and(|from| from.keep);
        let beginning = Beginning {
            context: Context { trace, span: self.span_id(), keep },
            parent: from.map(|from| from.span),
            entry: true,
            kind: Kind::Server,
        };
        self.run(name, beginning, work).await
    }

    /// Does something as part of a span that is told elsewhere, such as a step of a move.
    pub async fn within<T>(&self, context: Context, work: Work<'_, T>) -> T {
        if !self.shared.on.load(Ordering::Relaxed) {
            return work.await;
        }
        let tags = Arc::default();
        CURRENT.scope(Current { tracer: self.clone(), context, tags }, work).await
    }

    /// Now, for a part that begins and ends in different places.
    #[must_use]
    pub fn moment(&self) -> Moment {
        let clock = &self.shared.clock;
        Moment { wall_us: clock.now_micros(), steady: clock.monotonic() }
    }

    /// Tells a part of a span that began at `since` and ends now.
    pub fn tell_part<const N: usize>(
        &self,
        of: Context,
        name: &str,
        since: Moment,
        tags: [(&str, String); N],
    ) {
        let took = self.shared.clock.monotonic().saturating_sub(since.steady);
        let Lane { region, process } = self.shared.lane.clone();
        self.tell(Span {
            trace: of.trace,
            id: self.span_id(),
            parent: Some(of.span),
            entry: false,
            keep: of.keep,
            name: name.to_owned(),
            kind: Kind::Internal,
            region,
            process,
            start_us: since.wall_us,
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            failed: None,
            tags: tags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        });
    }

    /// Hands on a span of another process, which says itself where it is.
    pub fn hand_on(&self, span: Span) {
        if self.shared.on.load(Ordering::Relaxed) {
            self.end(span);
        }
    }

    /// Tells a span that was not made here, with this process's place in it.
    pub fn tell(&self, span: Span) {
        if !self.shared.on.load(Ordering::Relaxed) {
            return;
        }
        let Lane { region, process } = self.shared.lane.clone();
        self.end(Span { region, process, ..span });
    }

    async fn run<T, E: Fault>(
        &self,
        name: &str,
        beginning: Beginning,
        work: Work<'_, Result<T, E>>,
    ) -> Result<T, E> {
        if !self.shared.on.load(Ordering::Relaxed) {
            return work.await;
        }
        let mut open = Open::begin(self, name, beginning);
        let current = open.current.clone();
        let result = CURRENT.scope(current, work).await;
        if let Some(span) = &mut open.span {
            span.failed = result.as_ref().err().and_then(Fault::fault);
        }
        result
    }

    fn end(&self, span: Span) {
        let sent = span.fitted().is_some_and(|it| self.shared.ended.try_send(it).is_ok());
        if !sent {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn random(&self) -> u64 {
        let number = self.shared.made.fetch_add(1, Ordering::Relaxed);
        mixed(self.shared.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn span_id(&self) -> SpanId {
        loop {
            if let Some(id) = SpanId::new(self.random()) {
                return id;
            }
        }
    }

    fn trace_id(&self) -> TraceId {
        loop {
            let number = u128::from(self.random()) << 64 | u128::from(self.random());
            if let Some(id) = TraceId::new(number) {
                return id;
            }
        }
    }
}

/// How an error looks in a span.
pub trait Fault {
    /// Why it failed; nothing when the answer is a refusal that is nobody's fault.
    fn fault(&self) -> Option<String>;
}

/// For what cannot fail.
impl Fault for std::convert::Infallible {
    fn fault(&self) -> Option<String> {
        match *self {}
    }
}

impl Fault for crate::strong::StrongError {
    fn fault(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A span that did not end yet.
struct Open {
    span: Option<Span>,
    began: Duration,
    current: Current,
}

impl Open {
    fn begin(tracer: &Tracer, name: &str, beginning: Beginning) -> Self {
        let Beginning { context, parent, entry, kind } = beginning;
        let Lane { region, process } = tracer.shared.lane.clone();
        let span = Span {
            trace: context.trace,
            id: context.span,
            parent,
            entry,
            keep: context.keep,
            name: name.to_owned(),
            kind,
            region,
            process,
            start_us: tracer.shared.clock.now_micros(),
            took_us: 0,
            failed: Some("it was given up".to_owned()),
            tags: BTreeMap::new(),
        };
        let began = tracer.shared.clock.monotonic();
        let current = Current { tracer: tracer.clone(), context, tags: Arc::default() };
        Self { span: Some(span), began, current }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(mut span) = self.span.take() else { return };
        let tracer = &self.current.tracer;
        let took = tracer.shared.clock.monotonic().saturating_sub(self.began);
        span.took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut tags = self.current.tags.lock().unwrap_or_else(PoisonError::into_inner);
        span.tags = std::mem::take(&mut *tags);
        drop(tags);
        tracer.end(span);
    }
}

/// Where in which trace this task is.
#[must_use]
pub fn context() -> Option<Context> {
    CURRENT.try_with(|current| current.context).ok()
}

/// Does a part of the current span's work, as a span of its own; without one it only does it.
///
/// # Errors
///
/// Those of `work`.
pub fn span<'a, T, E>(
    name: &'a str,
    work: impl Future<Output = Result<T, E>> + Send + 'a,
) -> impl Future<Output = Result<T, E>> + Send + 'a
where
    T: Send + 'a,
    E: Fault + Send + 'a,
{
    part(Kind::Internal, name, Box::pin(work))
}

/// The same for a call to another process, which takes [`context`] along.
///
/// # Errors
///
/// Those of `work`.
pub fn call<'a, T, E>(
    name: &'a str,
    work: impl Future<Output = Result<T, E>> + Send + 'a,
) -> impl Future<Output = Result<T, E>> + Send + 'a
where
    T: Send + 'a,
    E: Fault + Send + 'a,
{
    part(Kind::Client, name, Box::pin(work))
}

async fn part<T, E: Fault>(
    kind: Kind,
    name: &str,
    work: Work<'_, Result<T, E>>,
) -> Result<T, E> {
    let Ok(Current { tracer, context, .. }) = CURRENT.try_with(Clone::clone) else {
        return work.await;
    };
    let beginning = Beginning {
        context: Context { span: tracer.span_id(), ..context },
        parent: Some(context.span),
        entry: false,
        kind,
    };
    tracer.run(name, beginning, work).await
}

/// Takes the current span along into another task.
pub fn carry<T>(work: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
    let current = CURRENT.try_with(Clone::clone).ok();
    async move {
        match current {
            Some(current) => CURRENT.scope(current, work).await,
            None => work.await,
        }
    }
}

/// Notes something about the current span, where there is one; [`TAGS_MAX`] at most.
pub fn tag(key: &str, value: impl fmt::Display) {
    let noted: Result<(), _> = CURRENT.try_with(|current| {
        let mut tags = current.tags.lock().unwrap_or_else(PoisonError::into_inner);
        if tags.len() < TAGS_MAX {
            tags.insert(key.to_owned(), value.to_string());
        }
    });
    // Without a current span there is nothing to note it about.
    noted.unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use dwcp_types::{RegionId, Timestamp};

    use super::*;
    use crate::clock::ManualClock;

    #[derive(Debug)]
    struct Broken;

    impl Fault for Broken {
        fn fault(&self) -> Option<String> {
            Some("it broke".to_owned())
        }
    }

    fn tracer() -> (Tracer, mpsc::Receiver<Span>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(7)));
        let lane = Lane {
            region: RegionId::new("eu-west-1").unwrap(),
            process: "dwcpd".to_owned(),
        };
        let (tracer, spans) = Tracer::new(lane, clock.clone());
        (tracer, spans, clock)
    }

    fn all(spans: &mut mpsc::Receiver<Span>) -> Vec<Span> {
        std::iter::from_fn(|| spans.try_recv().ok()).collect()
    }

    #[tokio::test]
    async fn parts_are_within_what_they_are_part_of() {
        let (tracer, mut spans, clock) = tracer();
        let work = async {
            tag("vm", "web-1");
            clock.advance(Duration::from_millis(2));
            let inner: Result<(), Broken> = span("reserve", async {
                clock.advance(Duration::from_millis(3));
                Err(Broken)
            })
            .await;
            inner.unwrap_err();
            Ok::<_, Broken>(())
        };
        tracer.enter(None, "place_vm", Box::pin(work)).await.unwrap();
        let ended = all(&mut spans);
        let [inner, outer] = &ended[..] else { panic!("{ended:?}") };
        assert_eq!(inner.parent, Some(outer.id));
        assert_eq!(inner.trace, outer.trace);
        assert_eq!((inner.start_us, inner.took_us), (9_000, 3_000));
        assert_eq!((outer.start_us, outer.took_us), (7_000, 5_000));
        assert_eq!(inner.failed.as_deref(), Some("it broke"));
        assert_eq!(outer.failed, None);
        assert!(outer.entry && !inner.entry);
        assert_eq!(outer.tags["vm"], "web-1");
        assert!(inner.tags.is_empty());
    }

    #[tokio::test]
    async fn a_callers_trace_goes_on_and_is_kept_when_it_keeps_it() {
        let (tracer, mut spans, _) = tracer();
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let from: Context = text.parse().unwrap();
        let inner = async { Ok::<_, Broken>(context().unwrap()) };
        let seen = tracer.enter(Some(from), "place_vm", Box::pin(inner)).await.unwrap();
        let span = all(&mut spans).remove(0);
        assert_eq!((span.trace, span.parent), (from.trace, Some(from.span)));
        assert!(span.keep && span.entry && seen.keep);
        assert_eq!(seen.span, span.id);
    }

    #[tokio::test]
    async fn work_in_another_task_goes_on_in_the_same_trace() {
        let (tracer, mut spans, _) = tracer();
        let work = async {
            let other =
                carry(async { span("later", async { Ok::<_, Broken>(()) }).await });
            tokio::spawn(other).await.unwrap()?;
            let lost = async { span("nowhere", async { Ok::<_, Broken>(()) }).await };
            tokio::spawn(lost).await.unwrap()
        };
        tracer.enter(None, "place_vm", Box::pin(work)).await.unwrap();
        let names: Vec<String> = all(&mut spans).into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["later", "place_vm"]);
    }

    #[tokio::test]
    async fn what_is_given_up_is_told() {
        let (tracer, mut spans, _) = tracer();
        let never = tracer.enter(
            None,
            "place_vm",
            Box::pin(std::future::pending::<Result<(), Broken>>()),
        );
        tokio::select! {
            biased;
            _ = never => unreachable!(),
            () = async {} => {}
        }
        assert_eq!(all(&mut spans)[0].failed.as_deref(), Some("it was given up"));
    }

    #[tokio::test]
    async fn nothing_is_made_when_it_is_off_or_outside_of_a_trace() {
        let (tracer, mut spans, _) = tracer();
        let work = || async { span("reserve", async { Ok::<_, Broken>(()) }).await };
        work().await.unwrap();
        tracer.turn(false);
        tracer.enter(None, "place_vm", Box::pin(work())).await.unwrap();
        assert!(all(&mut spans).is_empty());
    }

    #[tokio::test]
    async fn what_nobody_takes_is_counted() {
        let (tracer, spans, _) = tracer();
        for _ in 0..QUEUE_MAX + 3 {
            tracer
                .enter(None, "place_vm", Box::pin(async { Ok::<_, Broken>(()) }))
                .await
                .unwrap();
        }
        assert_eq!(tracer.dropped(), 3);
        drop(spans);
    }
}
