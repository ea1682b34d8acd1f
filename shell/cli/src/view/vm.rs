//! VMs for people.

use std::time::Duration;

use dwcp_api::host::InstanceReport;
use dwcp_api::public::{VmDetail, VmItem, VmList};
use dwcp_controller::ownership::{Recovered, ReplicaState};
use dwcp_controller::replica::round::is_late;
use dwcp_types::{Constraints, Power, Timestamp};

use super::failover::{lost_then, proven};
use super::{Look, phase};
use crate::table::{Cell, Sheet, Table, row};
use crate::terminal::Tone;
use crate::text;

/// VMs, one a line.
pub(crate) fn vms(list: &VmList, look: Look) -> String {
    if list.items.is_empty() {
        return "no VMs\n".to_owned();
    }
    let mut heads = vec![
        "VM", "TENANT", "REGION", "ZONE", "HOST", "PHASE", ">CPU", ">MEMORY", ">STORAGE",
        ">AGE",
    ];
    if look.wide {
        heads.extend(["WANTED", ">EPOCH", ">PRIORITY", "TIER", "LABELS"]);
    }
    let mut table = Table::new(&heads);
    for item in &list.items {
        let mut row = row![
            &item.id,
            &item.tenant,
            &item.region,
            &item.zone,
            &item.host,
            phase(item.phase),
            item.shape.cpu,
            text::memory(item.shape.memory),
            text::storage(item.shape.storage),
            text::age(look.now.since(item.created_at)),
        ];
        if look.wide {
            row.extend(row![
                text::word(&item.power),
                item.epoch,
                item.priority,
                text::word(&item.tier),
                labels(item),
            ]);
        }
        table.push(row);
    }
    let mut shown = table.render(look.colored);
    if let Some(next) = &list.next {
        shown.push_str(&format!("more from {next} on; raise --limit to see them\n"));
    }
    shown
}

fn labels(item: &VmItem) -> String {
    text::listed(item.labels.iter().map(|(key, value)| format!("{key}={value}")))
}

/// What a command did to a VM, on one line.
pub(crate) fn vm_changed(item: &VmItem, _look: Look) -> String {
    let wanted = match item.power {
        Power::Running => "is to run",
        Power::Paused => "is to be paused",
        Power::Stopped => "is to be stopped",
        Power::Deleted => "is to be deleted",
    };
    format!(
        "{} {wanted} in {} on {} (now {})\n",
        item.id,
        item.region,
        item.host,
        text::phase_word(item.phase)
    )
}

/// One VM in full.
pub(crate) fn vm(detail: &VmDetail, look: Look) -> String {
    let item = &detail.item;
    let mut sheet = Sheet::default();
    sheet
        .line("VM", &item.id)
        .line("tenant", &item.tenant)
        .line("place", format!("{} / {} / {}", item.region, item.zone, item.host))
        .line("wanted", text::word(&item.power))
        .line("phase", phase(item.phase))
        .line("asked for", text::shape(&item.shape))
        .line("type", text::word(&detail.vm_type))
        .line("priority", item.priority)
        .line("tier", text::word(&item.tier))
        .line("when its region is lost", text::word(&detail.on_region_loss))
        .line("replica", replica(detail))
        .line("labels", labels(item))
        .line("epoch", format!("{}, generation {}", item.epoch, detail.generation))
        .line("created", created(item, look))
        .line("strategy", text::word(&detail.strategy))
        .line("score then", text::points(detail.score))
        .line("cost", text::money_per_hour(detail.hourly_cost))
        .line("expected latency", text::latency_or_unknown(detail.expected_latency))
        .line("limits", limits(&detail.constraints))
        .line("users", users(detail));
    if let Some(Recovered { failover, from, proof, loss, at }) = &detail.recovered {
        let at = text::moment(*at);
        sheet.line("came from", format!("{from}, {at}, by failover {failover}"));
        sheet.line("lost then", lost_then(*loss));
        sheet.line("proof", format!("{from}: {}", proven(proof)));
    }
    if let Some(home) = &item.home {
        let back = format!("{home}; back: failback --region {home}");
        sheet.line("driven out of", back);
    }
    match &detail.observed {
        Some(observed) => observe(&mut sheet, observed, detail.observed_age_ms),
        None => {
            sheet.line("seen", Cell::from("nothing yet: its host was not heard from"));
        }
    }
    sheet.render(look.colored)
}

/// Where its disk is kept too, and whether that has every write.
fn replica(detail: &VmDetail) -> Cell {
    if !detail.on_region_loss.is_replica() {
        return Cell::from("none");
    }
    let Some(replica) = &detail.replica else {
        return Cell::toned("none yet: see `vm events`", Tone::Warn);
    };
    let at = format!("{} / {}", replica.at.region, replica.at.host);
    match replica.state {
        ReplicaState::InSync { since } => Cell::toned(
            format!("{at}, in sync since {}", text::moment(since)),
            Tone::Good,
        ),
        ReplicaState::Copying => {
            let copy = detail.observed.as_ref().and_then(|it| it.copy.as_ref());
            let done = copy.filter(|it| it.total > 0).map_or_else(String::new, |it| {
                format!(", {} %", it.done.saturating_mul(100) / it.total)
            });
            if let (Some(whole), Some(age_ms)) = (replica.whole, detail.replica_age_ms) {
                return following(detail, &at, (whole.until, age_ms));
            }
            let whole = replica.whole.map_or_else(String::new, |it| {
                format!("; an earlier copy has all until {}", text::moment(it.until))
            });
            Cell::toned(format!("{at}, being copied{done}{whole}"), Tone::Warn)
        }
    }
}

/// What is there of a disk that follows later.
fn following(detail: &VmDetail, at: &str, (as_of, age_ms): (Timestamp, u64)) -> Cell {
    let age_max_s = detail.replica_max_age_s.unwrap_or_default();
    let (age, age_max) =
        (Duration::from_millis(age_ms), Duration::from_secs(age_max_s.into()));
    let (late, tone) =
        if is_late(age, age_max) { (", late", Tone::Bad) } else { ("", Tone::Good) };
    let since = text::moment(as_of);
    let seconds = age.as_secs_f64();
    Cell::toned(
        format!(
            "{at}, copied as of {since}, {seconds:.1} s behind (at most {age_max_s} s){late}"
        ),
        tone,
    )
}

fn created(item: &VmItem, look: Look) -> String {
    let ago = text::age(look.now.since(item.created_at));
    format!("{} ({ago} ago)", text::moment(item.created_at))
}

fn observe(sheet: &mut Sheet, observed: &InstanceReport, age_ms: Option<u64>) {
    let millis = Duration::from_millis;
    sheet
        .line(
            "guest gets",
            format!(
                "{} CPU, {}",
                observed.given_cpu,
                text::memory(observed.given_memory)
            ),
        )
        .line(
            "seen",
            format!(
                "{} ({} ago)",
                text::phase_word(observed.phase),
                text::age_ms(age_ms)
            ),
        )
        .line("uptime", text::age(millis(observed.uptime_ms)))
        .line("CPU time", text::age(millis(observed.cpu_ms)))
        .line("resident", text::memory(observed.resident))
        .line("restarts", observed.restarts);
    if let Some(address) = observed.address {
        sheet.line("address", address);
    }
    if let Some(pid) = observed.pid {
        sheet.line("process", pid);
    }
    if let Some(error) = &observed.error {
        sheet.line("error", Cell::toned(error, Tone::Bad));
    }
}

fn limits(limits: &Constraints) -> String {
    let mut said = Vec::new();
    let mut say = |text: String| said.push(text);
    if let Some(ms) = limits.max_latency_ms {
        say(format!("latency up to {ms} ms"));
    }
    if let Some(score) = limits.min_health_score {
        say(format!("health from {score}"));
    }
    if let Some(cost) = limits.cost_limit {
        say(format!("cost up to {}", text::money_per_hour(cost)));
    }
    if !limits.allowed_regions.is_empty() {
        say(format!("only in {}", text::listed(&limits.allowed_regions)));
    }
    if !limits.forbidden_regions.is_empty() {
        say(format!("not in {}", text::listed(&limits.forbidden_regions)));
    }
    if limits.require_edge {
        say("edge only".to_owned());
    }
    if !limits.required_compliance.is_empty() {
        say(format!("under {}", text::listed(&limits.required_compliance)));
    }
    if let Some(place) = &limits.data_locality {
        say(format!("data stays in {place}"));
    }
    if let Some(bandwidth) = limits.min_bandwidth_mbps {
        say(format!("at least {bandwidth}"));
    }
    if let Some(provider) = &limits.preferred_provider {
        say(format!("rather {provider}"));
    }
    for rule in &limits.affinity {
        say(format!(
            "{} group {} by {} ({})",
            text::word(&rule.mode),
            rule.group,
            text::word(&rule.scope),
            text::word(&rule.hardness)
        ));
    }
    if said.is_empty() { "none".to_owned() } else { said.join("; ") }
}

fn users(detail: &VmDetail) -> String {
    if detail.origins.is_empty() {
        return "everywhere".to_owned();
    }
    let origins = detail.origins.iter();
    text::listed(
        origins.map(|origin| format!("{} ({})", origin.user_zone, origin.weight)),
    )
}
