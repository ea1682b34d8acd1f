//! Reads the block `failover` (C15, C19, DETAILS 2.1) and refuses timings that cannot keep
//! what it promises.
//!
//! The check is arithmetic on the terms of F5: the source's own figures, a check every 30 s
//! and three misses, need 90 s before a failover that must end within 30 s has even begun.

use std::time::Duration;

use dwcp_controller::lease::{DRIFTS_IN_TTL_MIN, RENEWALS_IN_TTL};
use dwcp_runtime::strong::etcd::command::Timers;
use dwcp_types::RegionId;

use super::capacity::all_or_none;
use super::duration::display;
use super::federation::{
    ApprovalConfig, FailoverConfig, FailoverTiming, Federation, RegionSpec,
};
use super::field::Field;
use super::names::Names;
use super::problem::{Position, Related, Report};
use super::section::Section;

const KEYS: &[&str] = &[
    "enabled",
    "auto_failover",
    "failover_threshold",
    "max_failover_time",
    "heartbeat_interval",
    "heartbeat_misses",
    "lease_ttl",
    "lease_drift_bound",
    "decision_budget",
    "start_budget",
    "traffic_budget",
    "min_healthy_regions",
    "primary_regions",
    "secondary_regions",
    "require_manual_approval",
    "two_persons",
    "approval_time",
    "notification_webhooks",
];

/// C15; between "unhealthy" (60) and "placement avoids" (80) in the one order of F7.
const THRESHOLD_DEFAULT: u8 = 70;
const THRESHOLD_RANGE: std::ops::RangeInclusive<f64> = 60.0..=80.0;
/// C19.
const MAX_FAILOVER_TIME_DEFAULT: Duration = Duration::from_secs(30);
/// C19.
const MIN_HEALTHY_DEFAULT: u32 = 2;
/// Fewest regions whose majority survives the loss of one (F80).
const REGIONS_FOR_AUTO: usize = 3;
/// Longest time that any phase may be given: longer is a mistyped unit.
const PHASE_MAX: Duration = Duration::from_secs(3_600);
/// Shortest time that is measured apart from noise.
const PHASE_MIN: Duration = Duration::from_millis(10);
/// Heartbeats that may be missed; one is noise (C16 says three).
const MISSES: std::ops::RangeInclusive<u64> = 2..=100;
/// Time to reach a second person and to read what is asked for.
const APPROVAL_TIME_DEFAULT: Duration = Duration::from_mins(15);
/// Nobody approves within less; after a day it was asked for in another situation.
const APPROVAL_TIME: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(30)..=Duration::from_hours(24);
/// Most receivers of notifications.
const WEBHOOKS_MAX: usize = 16;
/// Most regions of a list of preferences.
const PREFERRED_MAX: usize = 4_096;

/// Reads the block, or takes the defaults when there is none. `regions` is nothing when some
/// region is wrong; what stands on their number is then not judged, because a region that is
/// missing for a typing error would raise problems that are none.
pub(super) fn failover(
    root: &Section<'_>,
    regions: Option<&[RegionSpec]>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<FailoverConfig> {
    let field = root.get("failover");
    let section = match &field {
        Some(field) => Some(Section::open(field.node, "`failover`", KEYS, report)?),
        None => None,
    };
    let place = field.map_or(root.at, |field| field.key_at);
    let reader = Reader { section: section.as_ref(), place };
    let timing = reader.timing(report);
    let time = reader.time("max_failover_time", MAX_FAILOVER_TIME_DEFAULT, report);
    if let (Some(timing), Some(time)) = (timing, time) {
        reader.check_timing(&timing, time, report);
    }
    let enabled = reader.truth("enabled", true, report);
    let live =
        regions.map(|regions| regions.iter().filter(|spec| spec.region.enabled).count());
    let auto = reader.auto(live, report);
    let threshold = reader.threshold(report);
    let min_healthy = reader.min_healthy(live, report);
    let primary = reader.preferred("primary_regions", names, report);
    let secondary = reader.preferred("secondary_regions", names, report);
    reader.check_disjoint(primary.as_deref(), secondary.as_deref(), report);
    let manual = reader.truth("require_manual_approval", false, report);
    let approval = reader.approval(report);
    let webhooks = reader.webhooks(report);
    Some(FailoverConfig {
        enabled: enabled?,
        auto_failover: auto?,
        failover_threshold: threshold?,
        max_failover_time: time?,
        timing: timing?,
        min_healthy_regions: min_healthy?,
        primary_regions: primary?,
        secondary_regions: secondary?,
        require_manual_approval: manual?,
        approval: approval?,
        notification_webhooks: webhooks?,
    })
}

struct Reader<'a, 'n> {
    section: Option<&'a Section<'n>>,
    place: Position,
}

impl<'n> Reader<'_, 'n> {
    fn get(&self, name: &str) -> Option<Field<'n>> {
        self.section.and_then(|section| section.get(name))
    }

    fn place_of(&self, name: &str) -> Position {
        self.get(name).map_or(self.place, |field| field.at())
    }

    fn time(
        &self,
        name: &str,
        default: Duration,
        report: &mut Report<'_>,
    ) -> Option<Duration> {
        self.get(name)
            .map_or(Some(default), |field| field.duration(PHASE_MIN..=PHASE_MAX, report))
    }

    fn truth(&self, name: &str, default: bool, report: &mut Report<'_>) -> Option<bool> {
        self.get(name).map_or(Some(default), |field| field.truth(report))
    }

    fn approval(&self, report: &mut Report<'_>) -> Option<ApprovalConfig> {
        let two_persons = self.truth("two_persons", false, report);
        let time =
            self.get("approval_time").map_or(Some(APPROVAL_TIME_DEFAULT), |field| {
                field.duration(APPROVAL_TIME, report)
            });
        Some(ApprovalConfig { two_persons: two_persons?, time: time? })
    }

    fn timing(&self, report: &mut Report<'_>) -> Option<FailoverTiming> {
        let default = FailoverTiming::default();
        let misses = self.get("heartbeat_misses").map_or_else(
            || Some(default.heartbeat_misses.into()),
            |f| f.count(MISSES, report),
        );
        let mut time = |name, default| self.time(name, default, report);
        let interval = time("heartbeat_interval", default.heartbeat_interval);
        let lease = time("lease_ttl", default.lease_ttl);
        let drift = time("lease_drift_bound", default.lease_drift_bound);
        let decision = time("decision_budget", default.decision_budget);
        let start = time("start_budget", default.start_budget);
        let traffic = time("traffic_budget", default.traffic_budget);
        Some(FailoverTiming {
            heartbeat_interval: interval?,
            heartbeat_misses: u32::try_from(misses?).ok()?,
            lease_ttl: lease?,
            lease_drift_bound: drift?,
            decision_budget: decision?,
            start_budget: start?,
            traffic_budget: traffic?,
        })
    }

    fn check_timing(
        &self,
        timing: &FailoverTiming,
        most: Duration,
        report: &mut Report<'_>,
    ) {
        if timing.lease_drift_bound.saturating_mul(DRIFTS_IN_TTL_MIN) > timing.lease_ttl {
            let least = timing.lease_drift_bound.saturating_mul(DRIFTS_IN_TTL_MIN);
            report.error(
                self.place_of("lease_ttl"),
                format!(
                    "a lease of {} leaves a holder too little time to renew, because it \
                     pauses its guests two drift bounds of {} before the end",
                    display(timing.lease_ttl),
                    display(timing.lease_drift_bound)
                ),
                format!("`lease_ttl` must be {} at least", display(least)),
            );
        }
        let total = timing.total();
        if total >= most {
            report.error(
                self.place_of("max_failover_time"),
                format!(
                    "a failover may take {}, which is not under `max_failover_time` {}",
                    display(total),
                    display(most)
                ),
                sum(timing),
            );
        }
    }

    /// On by default where it is safe (C15), and never where it is not.
    fn auto(&self, live: Option<usize>, report: &mut Report<'_>) -> Option<bool> {
        let field = self.get("auto_failover");
        let wanted = all_or_none(field.map(|field| field.truth(report)))?;
        let live = live?;
        if live >= REGIONS_FOR_AUTO || wanted == Some(false) {
            return Some(wanted.unwrap_or(true));
        }
        let reason = format!(
            "automatic failover needs {REGIONS_FOR_AUTO} enabled regions, and there are {live}: \
             a majority must survive the loss of one"
        );
        let help =
            "add regions (a small one can be the witness), or set `auto_failover: false`";
        if wanted == Some(true) {
            report.error(self.place_of("auto_failover"), reason, help);
        } else {
            report.warn(self.place, format!("{reason}; it is off"), help);
        }
        Some(false)
    }

    fn threshold(&self, report: &mut Report<'_>) -> Option<u8> {
        let Some(field) = self.get("failover_threshold") else {
            return Some(THRESHOLD_DEFAULT);
        };
        let what = "a health score between unhealthy and healthy";
        let score = field.decimal(what, THRESHOLD_RANGE, report)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within 60 to 80 by the check above"
        )]
        Some(score.round() as u8)
    }

    fn min_healthy(&self, live: Option<usize>, report: &mut Report<'_>) -> Option<u32> {
        let field = self.get("min_healthy_regions");
        let wanted = all_or_none(field.map(|field| field.count(1..=4_096, report)))?;
        let live = live?;
        let others = u32::try_from(live.saturating_sub(1)).unwrap_or(u32::MAX);
        let (Some(field), Some(least)) = (field, wanted) else {
            return Some(MIN_HEALTHY_DEFAULT.min(others.max(1)));
        };
        let least = u32::try_from(least).ok()?;
        if least > others {
            let reason = format!(
                "`min_healthy_regions` {least} can never hold: when one of {live} enabled \
                 regions is lost, {others} are left"
            );
            let help = format!("write {others} at most, or add regions");
            report.error(field.at(), reason, help);
        }
        Some(least)
    }

    fn preferred(
        &self,
        name: &str,
        names: &mut Names,
        report: &mut Report<'_>,
    ) -> Option<Vec<RegionId>> {
        let Some(field) = self.get(name) else { return Some(Vec::new()) };
        let mut regions = Vec::new();
        let mut right = true;
        for item in field.list(0..=PREFERRED_MAX, report)? {
            let Some(region) = item.parsed::<RegionId>(report) else {
                right = false;
                continue;
            };
            names.refer(&region, item.at(), name);
            if regions.contains(&region) {
                let reason = format!("`{name}` has the region `{region}` twice");
                report.error(item.at(), reason, "keep one of the two");
            }
            regions.push(region);
        }
        right.then_some(regions)
    }

    fn check_disjoint(
        &self,
        primary: Option<&[RegionId]>,
        secondary: Option<&[RegionId]>,
        report: &mut Report<'_>,
    ) {
        let (Some(primary), Some(secondary)) = (primary, secondary) else { return };
        if let Some(both) = primary.iter().find(|region| secondary.contains(region)) {
            let first = self.place_of("primary_regions");
            let related = Related { at: first, what: "`primary_regions`".to_owned() };
            let reason = format!("the region `{both}` is both primary and secondary");
            let at = self.place_of("secondary_regions");
            report.clash(at, related, reason, "keep it in one of the two lists");
        }
    }

    fn webhooks(&self, report: &mut Report<'_>) -> Option<Vec<String>> {
        let Some(field) = self.get("notification_webhooks") else {
            return Some(Vec::new());
        };
        let items = field.list(0..=WEBHOOKS_MAX, report)?;
        let mut read = |item: Field<'_>| {
            let text = item.text(report)?;
            if text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty()) {
                return Some(text.to_owned());
            }
            item.refuse("an address that begins with https://", "use TLS", report)
        };
        let read: Vec<Option<String>> = items.into_iter().map(&mut read).collect();
        read.into_iter().collect()
    }
}

/// While the engine has no leader no lease is renewed: guests that are bound to theirs should
/// not halt for that, in any region (ADR 0014).
pub(super) fn warn_of_elections(
    federation: &Federation,
    at: Position,
    report: &mut Report<'_>,
) {
    let timing = &federation.failover.timing;
    let Some(terms) = timing.terms() else { return };
    if !federation.failover.enabled || federation.engine.etcd().is_none() {
        return;
    }
    let round_trip = federation.voters_rtt_max();
    let election = Timers::wan(round_trip).election().saturating_mul(2);
    let longest = terms.renew_every().saturating_add(election).saturating_add(round_trip);
    if longest <= terms.pause_after() {
        return;
    }
    let reason = format!(
        "a lease may not be renewed for {} while etcd chooses another leader, and guests \
         that are bound to it halt after {}: losing the leader's region would halt protected \
         guests in all others",
        display(longest),
        display(terms.pause_after())
    );
    // One part of the lease in so many is the time between two renewals; the others hold this.
    let rest = election
        .saturating_add(round_trip)
        .saturating_add(timing.lease_drift_bound.saturating_mul(2));
    let least = (rest.saturating_mul(RENEWALS_IN_TTL) / (RENEWALS_IN_TTL - 1))
        .as_millis()
        .div_ceil(1_000);
    let help = format!(
        "raise `lease_ttl` to {least}s or more, or keep the voters nearer to each other"
    );
    report.warn(at, reason, help);
}

/// The sum with each of its terms, for whoever must shorten one.
fn sum(timing: &FailoverTiming) -> String {
    format!(
        "heartbeat_interval {} x heartbeat_misses {} = {}, + lease_ttl {}, + lease_drift_bound \
         {}, + decision_budget {}, + start_budget {}, + traffic_budget {} = {}; shorten one of \
         them, or raise `max_failover_time` above the sum",
        display(timing.heartbeat_interval),
        timing.heartbeat_misses,
        display(timing.detection()),
        display(timing.lease_ttl),
        display(timing.lease_drift_bound),
        display(timing.decision_budget),
        display(timing.start_budget),
        display(timing.traffic_budget),
        display(timing.total())
    )
}
