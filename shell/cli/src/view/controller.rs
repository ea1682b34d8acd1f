//! A region's daemon as people read it.

use std::time::Duration;

use dwcp_api::controller::ControllerReply;

use super::Look;
use crate::table::Sheet;
use crate::text;

/// How busy it is, and how long it decides.
pub(crate) fn controller_metrics(of: &ControllerReply, look: Look) -> String {
    let process = of.process;
    let span = |ms: u64| text::age(Duration::from_millis(ms));
    let known = |value: Option<String>| value.unwrap_or_else(|| text::UNKNOWN.to_owned());
    let cpus = process.cpu_milli.map(|milli| {
        format!("{} CPUs over {}", text::thousandths(milli), span(process.over_ms))
    });
    let bytes = process
        .memory_bytes
        .map(|bytes| text::memory(dwcp_types::Mib::new(bytes.div_ceil(1 << 20))));
    let results = of.decisions.by_result.iter();
    let results = results.map(|(how, many)| format!("{} {how}", text::count(*many)));
    let decisions = &of.decisions;
    let times = [decisions.p50_us, decisions.p95_us, decisions.p99_us];
    let times = times.map(|time| known(time.map(text::span_us)));
    let mut sheet = Sheet::default();
    sheet
        .line("region", &of.region)
        .line("version", &of.version)
        .line("up", span(process.up_ms))
        .line("cpu", known(cpus))
        .line("cpu time", known(process.cpu_ms.map(span)))
        .line("memory", known(bytes))
        .line("placements", text::listed(results))
        .line("p50 / p95 / p99", times.join(" / "));
    sheet.render(look.colored)
}

/// What it keeps ready.
pub(crate) fn cache_stats(of: &ControllerReply, look: Look) -> String {
    let kept = of.kept;
    let mut sheet = Sheet::default();
    sheet
        .line("region", &of.region)
        .line("decisions", "none are kept: one is for one request and one moment")
        .line(
            "fleet",
            format!(
                "{} regions, {} hosts, {} VMs",
                text::count(kept.regions),
                text::count(kept.hosts),
                text::count(kept.vms)
            ),
        )
        .line("age", text::age(Duration::from_millis(kept.age_ms)))
        .line("changed in place", text::count(kept.changed))
        .line("made anew", text::count(kept.rebuilt))
        .line("hosts taken ahead", text::count(kept.ahead));
    sheet.render(look.colored)
}
