//! What traces cost: the making of a span, the way of one to its home, its decision, and its place
//! on the disk.
//!
//! A trace is like that of a placement in another region: 13 spans of three processes. Times are of
//! the thread's CPU.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dwcp_api::trace::peer::{BATCH_MAX, SpanBatch};
use dwcp_monitor::trace::{Kind, Lane, Rules, Span, SpanId, Tail, Trace, TraceId};
use dwcp_runtime::clock::SystemClock;
use dwcp_runtime::segments::Segments;
use dwcp_runtime::strong::StrongError;
use dwcp_runtime::trace::{Tracer, span, tag};
use dwcp_types::RegionId;
use rustix::time::ClockId;

use super::super::Measurement;
use super::super::nanos::{float, now};
use super::super::scratch::Scratch;

/// Names of the spans of one trace, as they end, and by which process.
const SPANS: [(&str, usize); 13] = [
    ("decide", 0),
    ("reserve", 1),
    ("reserve", 0),
    ("engine_write", 1),
    ("commit_reservation", 1),
    ("commit_reservation", 0),
    ("place_vm", 0),
    ("put_instance", 2),
    ("put_instance", 1),
    ("create_disk", 2),
    ("start_guest", 2),
    ("resume_guest", 2),
    ("guest_starts", 1),
];
const PLACES: [(&str, &str); 3] =
    [("us-east-1", "dwcpd"), ("eu-west-1", "dwcpd"), ("eu-west-1", "eu-west-1-h1")];
const TRACES: u64 = 20_000;
const TRACES_QUICK: u64 = 1_000;
/// Kept of those that are like any other, as the default is.
const RULES: Rules = Rules { rate_ppm: 10_000, each_minute: 5 };

/// Measures.
pub(super) fn measure(quick: bool) -> anyhow::Result<Vec<Measurement>> {
    let traces = if quick { TRACES_QUICK } else { TRACES };
    let spans: Vec<Span> = (1..=traces).flat_map(trace).collect();
    Ok(vec![made(traces)?, taken(&spans)?, stored(traces)?, shown(traces)])
}

fn trace(number: u64) -> Vec<Span> {
    let id = TraceId::of("bench", &number.to_string());
    let span = |(at, (name, place)): (usize, &(&str, usize))| {
        let (region, process) = PLACES[*place];
        let head = *name == "place_vm";
        Span {
            trace: id,
            id: SpanId::of(id, &at.to_string()),
            parent: (!head).then(|| SpanId::of(id, "6")),
            entry: head,
            keep: false,
            name: (*name).to_owned(),
            kind: if *place == 0 { Kind::Client } else { Kind::Server },
            region: RegionId::new(region).expect("it is an id"),
            process: process.to_owned(),
            start_us: 1_796_000_000_000_000 + number * 1_000 + at as u64 * 37,
            took_us: 900 + number % 4_000,
            failed: None,
            tags: BTreeMap::from([("vm".to_owned(), format!("web-{number}"))]),
        }
    };
    SPANS.iter().enumerate().map(span).collect()
}

fn each(took: u64, count: u64) -> f64 {
    float(took) / float(count.max(1)) / 1e3
}

/// One span within another, with a tag, until it waits to be sent.
fn made(traces: u64) -> anyhow::Result<Measurement> {
    let lane = Lane {
        region: RegionId::new("us-east-1").context("it is an id")?,
        process: "dwcpd".to_owned(),
    };
    let (tracer, mut ended) = Tracer::new(lane, Arc::new(SystemClock::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let spans = traces * 5;
    let begun = now(ClockId::ThreadCPUTime);
    runtime.block_on(async {
        for _ in 0..spans / 500 {
            let work = Box::pin(async {
                for _ in 0..499 {
                    let part = async {
                        tag("vm", "web-1");
                        Ok::<(), StrongError>(())
                    };
                    span("reserve", part).await?;
                }
                Ok::<(), StrongError>(())
            });
            tracer.enter(None, "place_vm", work).await.ok();
            while ended.try_recv().is_ok() {}
        }
    });
    let took = now(ClockId::ThreadCPUTime) - begun;
    Ok(Measurement {
        name: "monitor.span".to_owned(),
        value: each(took, spans / 500 * 500),
        unit: "us",
        method: "thread CPU to make one span with a tag, until it waits to be sent"
            .to_owned(),
        peer: None,
    })
}

/// Read from the wire and decided.
fn taken(spans: &[Span]) -> anyhow::Result<Measurement> {
    let batches: Result<Vec<Vec<u8>>, _> = spans
        .chunks(BATCH_MAX)
        .map(|chunk| serde_json::to_vec(&SpanBatch { spans: chunk.to_vec() }))
        .collect();
    let batches = batches?;
    let mut tail = Tail::default();
    let (mut at, mut kept) = (Duration::ZERO, 0);
    let begun = now(ClockId::ThreadCPUTime);
    for batch in &batches {
        let batch: SpanBatch = serde_json::from_slice(batch)?;
        at += Duration::from_millis(100);
        for span in batch.spans {
            black_box(tail.take(span, at));
        }
        kept += tail.judge(&RULES, at).iter().filter(|it| it.why.is_some()).count();
    }
    let rest = tail.judge(&RULES, at + Duration::from_mins(2));
    kept += rest.iter().filter(|it| it.why.is_some()).count();
    let took = now(ClockId::ThreadCPUTime) - begun;
    let spans = u64::try_from(spans.len())?;
    Ok(Measurement {
        name: "monitor.spans".to_owned(),
        value: 1e6 / each(took, spans),
        unit: "1/s",
        method: format!(
            "spans a CPU-second that a home reads from JSON and decides, {kept} of {} traces kept",
            spans / 13
        ),
        peer: None,
    })
}

/// What kept ones take.
fn stored(traces: u64) -> anyhow::Result<Measurement> {
    let folder = Scratch::new("traces")?;
    let (mut segments, _) = Segments::open(folder.path(), |_, _| {})?;
    let begun = now(ClockId::ThreadCPUTime);
    for number in 1..=traces {
        segments.add(1, &serde_json::to_vec(&trace(number))?)?;
    }
    let took = now(ClockId::ThreadCPUTime) - begun;
    let spans = traces * 13;
    Ok(Measurement {
        name: "monitor.span_on_disk".to_owned(),
        value: float(segments.bytes()) / float(spans),
        unit: "B",
        method: format!(
            "bytes a span of kept traces, each packed by itself; {:.1} us of CPU a span",
            each(took, spans)
        ),
        peer: None,
    })
}

/// Put together for a reader.
fn shown(traces: u64) -> Measurement {
    let rounds = traces / 10;
    let mut took = 0;
    for number in 1..=rounds {
        let spans = trace(number);
        let begun = now(ClockId::ThreadCPUTime);
        black_box(Trace::of(spans));
        took += now(ClockId::ThreadCPUTime) - begun;
    }
    Measurement {
        name: "monitor.trace".to_owned(),
        value: each(took, rounds),
        unit: "us",
        method: "thread CPU to put 13 spans together: tree, clocks, critical path"
            .to_owned(),
        peer: None,
    }
}
