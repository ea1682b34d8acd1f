//! Reads `monitoring.sla_definitions` (O40, M7, M8): what is promised of regions.

use std::time::Duration;

use dwcp_monitor::Metric;
use dwcp_monitor::incident::Severity;
use dwcp_monitor::sla::{Counting, Definition, Operator};

use super::field::Field;
use super::monitoring::SEVERITIES;
use super::names::Names;
use super::problem::Report;
use super::section::Section;

const KEYS: &[&str] = &[
    "id",
    "name",
    "metric",
    "target",
    "operator",
    "compliance",
    "severity",
    "window",
    "period",
    "region",
];

/// Most definitions, of the file and of operators each: each is evaluated for each region in each
/// round.
pub const SLAS_MAX: usize = 32;
/// M7.
const WINDOW: Duration = Duration::from_mins(5);
/// MONITORING 1.3.
const PERIOD: Duration = Duration::from_hours(30 * 24);
/// The shortest window is one collection (M6); longer than a day is no window any more.
const WINDOWS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_hours(24);
/// As long as the history is kept.
const PERIODS: std::ops::RangeInclusive<Duration> =
    Duration::from_mins(1)..=Duration::from_hours(90 * 24);
/// Far over any latency in milliseconds and any rate.
const TARGET_MAX: f64 = 1e9;

const OPERATORS: [(&str, Operator); 3] = [
    ("less_than", Operator::LessThan),
    ("greater_than", Operator::GreaterThan),
    ("equals", Operator::Equals),
];

/// Reads the list.
pub(super) fn definitions(
    field: Field<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Vec<Definition>> {
    let items = field.list(0..=SLAS_MAX, report)?;
    let read: Vec<Option<Definition>> =
        items.iter().map(|item| definition(item, names, report)).collect();
    let read: Vec<Definition> = read.into_iter().collect::<Option<_>>()?;
    for (at, sla) in read.iter().enumerate() {
        if read.iter().take(at).any(|before| before.id == sla.id) {
            let place = items.get(at).map_or_else(|| field.at(), Field::at);
            let reason = format!("two service levels have the id `{}`", sla.id);
            report.error(place, reason, "give one of the two another `id`");
            return None;
        }
    }
    Some(read)
}

fn definition(
    item: &Field<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Definition> {
    let section = Section::open(item.node, "a service level", KEYS, report)?;
    let words = Metric::ALL.map(|metric| (metric.word(), metric));
    let id = section
        .need("id", "sla-latency-001", report)
        .and_then(|field| field.text(report));
    let name = section.get("name").map_or(Some(None), |it| it.text(report).map(Some));
    let metric = section
        .need("metric", "p99_latency", report)
        .and_then(|field| field.choice(&words, report));
    let target = section
        .need("target", "100", report)
        .and_then(|field| field.decimal("a number", 0.0..=TARGET_MAX, report));
    let operator = section
        .need("operator", "less_than", report)
        .and_then(|field| field.choice(&OPERATORS, report));
    let compliance = section
        .need("compliance", "99.9", report)
        .and_then(|field| field.decimal("a number of per cent", 0.0..=100.0, report));
    let severity = section
        .get("severity")
        .map_or(Some(Severity::High), |field| field.choice(&SEVERITIES, report));
    let mut span = |key, usual, range| {
        section.get(key).map_or(Some(usual), |field| field.duration(range, report))
    };
    let (window, period) =
        (span("window", WINDOW, WINDOWS), span("period", PERIOD, PERIODS));
    let region = section.get("region").map_or(Some(None), |field| {
        let region = field.parsed(report)?;
        names.refer(&region, field.at(), "monitoring.sla_definitions.region");
        Some(Some(region))
    });
    let definition = Definition {
        id: id?.to_owned(),
        name: name?.or(id)?.to_owned(),
        metric: metric?,
        region: region?,
        operator: operator?,
        target_milli: thousandths(target?),
        counting: Counting::Windows,
        window: window?,
        period: period?,
        // A thousandth of a per cent is ten parts per million.
        compliance_ppm: u32::try_from(thousandths(compliance?) * 10).ok()?,
        severity: severity?,
    };
    if let Err(wrong) = definition.check() {
        let reason = format!("`{}`: {wrong}", definition.id);
        report.error(item.at(), reason, "see `monitoring` in deploy/t1/federation.yaml");
        return None;
    }
    Some(definition)
}

/// A number to the nearest thousandth.
fn thousandths(number: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and within 0 to 10^12 by the ranges above"
    )]
    let milli = (number * 1e3).round() as u64;
    milli
}
