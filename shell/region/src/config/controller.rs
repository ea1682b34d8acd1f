//! Reads the blocks `controller` (O35) and `placement` (DETAILS 2.1), which say the same
//! things under two names (F81): one value each, and a clash when they differ.

use std::time::Duration;

use dwcp_controller::placement::Admission;
use dwcp_types::Strategy;

use super::duration;
use super::federation::ControllerConfig;
use super::field::Field;
use super::problem::{Related, Report};
use super::section::Section;

const CONTROLLER_KEYS: &[&str] = &[
    "placement_algorithm",
    "strategy",
    "input_refresh_interval",
    "placement_cache_ttl",
    "parallel_scoring",
    "max_concurrent_migrations",
    "preemption_enabled",
    "enable_preemption",
    "health_check_interval",
    "n_minus_1",
];
const PLACEMENT_KEYS: &[&str] = &[
    "algorithm",
    "strategy",
    "enable_preemption",
    "max_concurrent_migrations",
    "n_minus_1",
];

/// Most migrations at once: the bound of the migration queue (DETAILS 2.1, O21).
const MIGRATIONS_MAX: u64 = 1_000;
/// Names of the strategies; `balanced` is the Go code's name for the third (DETAILS 2.1).
const STRATEGIES: [(&str, Strategy); 5] = [
    ("hybrid", Strategy::Hybrid),
    ("latency", Strategy::Latency),
    ("cost", Strategy::Cost),
    ("load-balanced", Strategy::LoadBalanced),
    ("balanced", Strategy::LoadBalanced),
];
/// What to do with a protected VM that would break N-1 (F12).
const ADMISSIONS: [(&str, Admission); 3] =
    [("off", Admission::Off), ("warn", Admission::Warn), ("refuse", Admission::Refuse)];

/// The two blocks, both optional.
#[derive(Debug)]
struct Blocks<'n> {
    controller: Option<Section<'n>>,
    placement: Option<Section<'n>>,
}

impl<'n> Blocks<'n> {
    /// The value under any of its names; two that differ clash.
    #[expect(clippy::option_option, reason = "absent, wrong and right are three states")]
    fn one<T: Copy + PartialEq>(
        &self,
        names: [&[&str]; 2],
        report: &mut Report<'_>,
        read: impl Fn(Field<'n>, &mut Report<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        let mut found: Option<(Field<'n>, Option<T>)> = None;
        for (section, names) in [&self.controller, &self.placement].into_iter().zip(names)
        {
            let fields =
                section.iter().flat_map(|s| names.iter().filter_map(|n| s.get(n)));
            for field in fields {
                let value = read(field, report);
                match &found {
                    Some((first, before)) if *before != value => {
                        clash(*first, field, report);
                    }
                    Some(_) => {}
                    None => found = Some((field, value)),
                }
            }
        }
        match found {
            None => Some(None),
            Some((_, None)) => None,
            Some((_, value)) => Some(value),
        }
    }
}

fn clash(first: Field<'_>, second: Field<'_>, report: &mut Report<'_>) {
    let related = Related { at: first.key_at, what: format!("`{}`", first.name) };
    let reason = if first.name == second.name {
        format!("two blocks say `{}`, with different values", first.name)
    } else {
        format!(
            "`{}` and `{}` are one setting, with different values",
            second.name, first.name
        )
    };
    report.clash(second.key_at, related, reason, "keep one of the two");
}

/// Reads both blocks.
pub(super) fn controller(
    root: &Section<'_>,
    report: &mut Report<'_>,
) -> Option<ControllerConfig> {
    let controller = root
        .get("controller")
        .map(|field| Section::open(field.node, "`controller`", CONTROLLER_KEYS, report));
    let placement = root
        .get("placement")
        .map(|field| Section::open(field.node, "`placement`", PLACEMENT_KEYS, report));
    let blocks =
        Blocks { controller: controller.flatten(), placement: placement.flatten() };
    let default = ControllerConfig::default();
    let strategy = blocks.one(
        [&["placement_algorithm", "strategy"], &["algorithm", "strategy"]],
        report,
        strategy,
    );
    let preemption = blocks.one(
        [&["preemption_enabled", "enable_preemption"], &["enable_preemption"]],
        report,
        |field, report| field.truth(report),
    );
    let migrations = blocks.one(
        [&["max_concurrent_migrations"], &["max_concurrent_migrations"]],
        report,
        |field, report| field.count(1..=MIGRATIONS_MAX, report),
    );
    let refresh = refresh(&blocks, report);
    let hour = Duration::from_secs(3_600);
    let health =
        blocks.one([&["health_check_interval"], &[]], report, |field, report| {
            field.duration(Duration::from_secs(1)..=hour, report)
        });
    let n_minus_1 =
        blocks.one([&["n_minus_1"], &["n_minus_1"]], report, |field, report| {
            field.choice(&ADMISSIONS, report)
        });
    parallel_scoring(&blocks, report)?;
    let migrations = migrations?.map(u32::try_from).transpose().ok()?;
    Some(ControllerConfig {
        strategy: strategy?.unwrap_or(default.strategy),
        preemption_enabled: preemption?.unwrap_or(default.preemption_enabled),
        max_concurrent_migrations: migrations
            .unwrap_or(default.max_concurrent_migrations),
        input_refresh_interval: refresh?.unwrap_or(default.input_refresh_interval),
        health_check_interval: health?.unwrap_or(default.health_check_interval),
        n_minus_1: n_minus_1?.unwrap_or(default.n_minus_1),
    })
}

fn strategy(field: Field<'_>, report: &mut Report<'_>) -> Option<Strategy> {
    field.choice(&STRATEGIES, report)
}

/// Decisions are not cached (F20); what may be old is the inputs of the score.
#[expect(clippy::option_option, reason = "absent, wrong and right are three states")]
fn refresh(blocks: &Blocks<'_>, report: &mut Report<'_>) -> Option<Option<Duration>> {
    let range = Duration::from_secs(1)..=Duration::from_secs(3_600);
    let names: [&[&str]; 2] = [&["input_refresh_interval", "placement_cache_ttl"], &[]];
    let read =
        blocks.one(names, report, |field, report| field.duration(range.clone(), report));
    let alias = blocks.controller.as_ref().and_then(|s| s.get("placement_cache_ttl"));
    if let (Some(alias), Some(Some(span))) = (alias, read) {
        let span = duration::display(span);
        report.warn(
            alias.key_at,
            format!(
                "placement decisions are never cached; `placement_cache_ttl` is read as \
                 `input_refresh_interval`, so prices, latencies and health are up to {span} \
                 old"
            ),
            "write `input_refresh_interval: 10s` instead",
        );
    }
    read
}

/// Accepted because the source has it; every region is always scored.
fn parallel_scoring(blocks: &Blocks<'_>, report: &mut Report<'_>) -> Option<()> {
    let field = blocks.controller.as_ref().and_then(|s| s.get("parallel_scoring"));
    let Some(field) = field else { return Some(()) };
    field.truth(report)?;
    report.warn(
        field.key_at,
        "`parallel_scoring` has no effect: every region is scored, in one pass",
        "leave it out",
    );
    Some(())
}
