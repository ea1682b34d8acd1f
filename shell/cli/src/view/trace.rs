//! Traces for people: a list, and one as a waterfall.

use std::collections::BTreeMap;

use dwcp_api::trace::{TraceItem, TraceList, TraceReply, TracingReply};
use dwcp_monitor::trace::{Kind, Lane, LaneClock, Row, Trace};
use dwcp_types::{RegionId, Timestamp};

use super::Look;
use crate::table::{Cell, Sheet, Table, row};
use crate::terminal::Tone;
use crate::text;

/// Columns of the bars; with the names before them they fit a terminal of 120.
const BARS: u64 = 40;
/// Time that was waited for, and time that was not.
const WAITED: char = '█';
const BESIDE: char = '░';

/// Traces that are kept.
pub(crate) fn traces(list: &TraceList, look: Look) -> String {
    let heads =
        ["TRACE", "OPERATION", "VM", "ENTERED", "BEGAN", ">TOOK", ">SPANS", "KEPT"];
    let mut heads = heads.to_vec();
    heads.push(if look.wide { "REGIONS" } else { ">REGIONS" });
    heads.push("FAILED");
    let mut table = Table::new(&heads);
    for item in &list.items {
        table.push(line(item, look));
    }
    let mut out = table.render(look.colored);
    if list.items.is_empty() {
        out = "no trace is kept that is like that\n".to_owned();
    }
    if list.more {
        out += "there are more: `--limit`\n";
    }
    out += &missing(&list.missing);
    out + &format!("\nanswered by {}\n", list.answered_by)
}

fn line(item: &TraceItem, look: Look) -> Vec<Cell> {
    let regions = if look.wide {
        let names: Vec<&str> = item.regions.iter().map(RegionId::as_str).collect();
        names.join(" ")
    } else {
        item.regions.len().to_string()
    };
    let operation = if item.headless {
        format!("(part of) {}", item.operation)
    } else {
        item.operation.clone()
    };
    let failed = item.failed.as_deref().unwrap_or("-");
    let tone = if item.failed.is_some() { Tone::Bad } else { Tone::Plain };
    let mut row = row![
        item.trace,
        operation,
        item.vm.as_deref().unwrap_or("-"),
        &item.region,
        text::moment(Timestamp::from_millis(item.start_us / 1_000)),
        text::span_us(item.took_us),
        item.spans,
        item.why.as_str(),
        regions,
    ];
    row.push(Cell::toned(failed, tone));
    row
}

fn missing(regions: &[RegionId]) -> String {
    if regions.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = regions.iter().map(RegionId::as_str).collect();
    format!("{} did not answer: what only they keep is not here\n", names.join(", "))
}

/// One trace, each span where its own process's clock puts it.
pub(crate) fn trace(reply: &TraceReply, look: Look) -> String {
    waterfall(reply, look, false)
}

/// The same, by the clock of the first span as far as clocks are proved wrong.
pub(crate) fn trace_aligned(reply: &TraceReply, look: Look) -> String {
    waterfall(reply, look, true)
}

fn waterfall(reply: &TraceReply, look: Look, align: bool) -> String {
    let trace = &reply.trace;
    let ahead: BTreeMap<&Lane, i64> = if align {
        trace.lanes.iter().map(|it| (&it.lane, it.offset.ahead_us)).collect()
    } else {
        BTreeMap::new()
    };
    let scale = Scale::of(trace, &ahead);
    let axis = format!("0 to {}", text::span_us(scale.whole));
    let mut table = Table::new(&[
        "REGION",
        "PROCESS",
        "SPAN",
        ">BEGAN",
        ">TOOK",
        ">WAITED FOR",
        &axis,
    ]);
    for row in &trace.rows {
        let began = scale.began(row, &ahead);
        let failed = row.span.failed.is_some();
        let tone = if failed { Tone::Bad } else { Tone::Plain };
        let mut cells = row![&row.span.region, &row.span.process];
        cells.push(Cell::toned(name(row), tone));
        cells.extend(row![
            signed_us(began),
            text::span_us(row.span.took_us),
            if row.critical_us > 0 {
                text::span_us(row.critical_us)
            } else {
                "-".to_owned()
            },
            scale.bar(began, row),
        ]);
        table.push(cells);
    }
    let mut out = head(reply, look, align);
    out += &format!("\n{}", table.render(look.colored));
    for row in &trace.rows {
        if let Some(why) = &row.span.failed {
            out += &format!("\n{} failed in {}: {why}", row.span.name, row.span.region);
        }
    }
    out.trim_end().to_owned() + "\n"
}

/// A span's name below what it is part of.
fn name(row: &Row) -> String {
    let indent = usize::try_from(row.depth).unwrap_or(0).min(20);
    let kind = match row.span.kind {
        Kind::Client => " →",
        Kind::Server | Kind::Internal => "",
    };
    let lost = if row.lost_parent { " (of what is not known)" } else { "" };
    let failed = if row.span.failed.is_some() { " ✗" } else { "" };
    format!("{}{}{kind}{failed}{lost}", "  ".repeat(indent), row.span.name)
}

fn head(reply: &TraceReply, look: Look, align: bool) -> String {
    let trace = &reply.trace;
    let mut sheet = Sheet::default();
    sheet.line("trace", trace.trace);
    if let Some(head) = trace.head() {
        sheet.line("operation", &head.span.name);
        sheet.line("entered", &head.span.region);
        for (key, value) in &head.span.tags {
            sheet.line(key, value);
        }
    }
    let way = if trace.way_us > 0 {
        format!(", of which {} on the way between regions", text::span_us(trace.way_us))
    } else {
        String::new()
    };
    let kept = reply.why.map_or("not decided yet", |why| why.as_str());
    sheet
        .line("began", text::moment(Timestamp::from_millis(trace.start_us / 1_000)))
        .line("took", format!("{}{way}", text::span_us(trace.took_us)))
        .line("kept", kept);
    for clock in &trace.lanes {
        if let Some(said) = clock_said(clock, align) {
            sheet.line("clock", said);
        }
    }
    sheet.render(look.colored) + &missing(&reply.missing)
}

/// What is known of a clock that is not right.
fn clock_said(clock: &LaneClock, align: bool) -> Option<String> {
    let LaneClock { lane: Lane { region, process }, offset } = clock;
    if offset.unknown {
        return Some(format!("{region} {process}: nothing ties it to the first span's"));
    }
    if offset.ahead_us == 0 {
        return None;
    }
    let by = text::span_us(offset.ahead_us.unsigned_abs());
    let way = if offset.ahead_us > 0 { "ahead" } else { "behind" };
    let drawn = if align { "drawn without" } else { "drawn with it; `--align`" };
    let within = text::span_us(offset.within_us);
    Some(format!("{region} {process}: {by} {way}, give or take {within} ({drawn})"))
}

fn signed_us(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    format!("{sign}{}", text::span_us(micros.unsigned_abs()))
}

/// Time as columns.
struct Scale {
    start: u64,
    whole: u64,
}

impl Scale {
    /// From the begin of the first span to the last end that is not absurdly later: a clock that
    /// is an hour ahead must not make all bars vanish.
    fn of(trace: &Trace, ahead: &BTreeMap<&Lane, i64>) -> Self {
        let scale = Self { start: trace.start_us, whole: 1 };
        let most = trace.took_us.saturating_mul(20).max(60_000_000);
        let ends = trace.rows.iter().map(|row| {
            let began = u64::try_from(scale.began(row, ahead)).unwrap_or(0);
            began.saturating_add(row.span.took_us)
        });
        let whole = ends.filter(|end| *end <= most).max();
        Self { whole: whole.unwrap_or(0).max(trace.took_us).max(1), ..scale }
    }

    /// When a span began after the first one.
    fn began(&self, row: &Row, ahead: &BTreeMap<&Lane, i64>) -> i64 {
        let ahead = ahead.get(&Lane::of(&row.span)).copied().unwrap_or(0);
        let since = i128::from(row.span.start_us) - i128::from(self.start);
        i64::try_from(since - i128::from(ahead)).unwrap_or(i64::MAX)
    }

    fn bar(&self, began: i64, row: &Row) -> String {
        let column = |micros: i64| {
            let micros = u64::try_from(micros).unwrap_or(0).min(self.whole);
            let column = u128::from(micros) * u128::from(BARS) / u128::from(self.whole);
            usize::try_from(column).unwrap_or(0)
        };
        let took = i64::try_from(row.span.took_us).unwrap_or(i64::MAX);
        let all = usize::try_from(BARS).unwrap_or(0);
        let from = column(began).min(all.saturating_sub(1));
        let until = column(began.saturating_add(took)).max(from + 1);
        let mark = if row.critical_us > 0 { WAITED } else { BESIDE };
        let mut bar = " ".repeat(from);
        bar.extend(std::iter::repeat_n(mark, until - from));
        bar
    }
}

/// Whether and how requests are traced.
pub(crate) fn tracing(reply: &TracingReply, look: Look) -> String {
    let tracing = &reply.tracing;
    let by = if reply.by_operator { "an operator" } else { "federation.yaml" };
    let days = |hours: u32| {
        if hours.is_multiple_of(24) {
            format!("{}d", hours / 24)
        } else {
            format!("{hours}h")
        }
    };
    let rate = f64::from(tracing.rate_ppm) / 10_000.0;
    let mut sheet = Sheet::default();
    sheet
        .line("tracing", if tracing.enabled { "enabled" } else { "disabled" })
        .line("chosen by", by)
        .line("kept of those like any other", format!("{rate} %"))
        .line("kept for", days(tracing.retention_h))
        .line("traces here", text::count(reply.traces))
        .line(
            "on disk here",
            format!(
                "{} of {} KiB",
                text::count(reply.disk_bytes / 1_024),
                text::count(reply.disk_bytes_max / 1_024)
            ),
        )
        .line("decided here", counts(&reply.decided))
        .line("spans lost here", counts(&reply.dropped));
    format!("{}\nanswered by {}\n", sheet.render(look.colored), reply.answered_by)
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let all: Vec<String> = counts
        .iter()
        .map(|(why, count)| format!("{why} {}", text::count(*count)))
        .collect();
    all.join(", ")
}
