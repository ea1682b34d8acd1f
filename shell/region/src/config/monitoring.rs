//! Reads the block `monitoring` (O40, M6, M13): how often regions are looked at, who is told of
//! incidents, what is promised, and whether and how requests are traced.

use std::path::PathBuf;
use std::time::Duration;

use dwcp_api::trace::Tracing;
use dwcp_monitor::incident::Severity;
use dwcp_monitor::sla::Definition;
use serde::Serialize;

use super::field::Field;
use super::mail::{MailSpec, mail};
use super::names::Names;
use super::problem::Report;
use super::routing::ppm;
use super::section::Section;
use super::sla::definitions;

const KEYS: &[&str] = &[
    "interval",
    "enable_tracing",
    "sampling_rate",
    "trace_retention",
    "otlp_endpoint",
    "otlp_ca_file",
    "webhooks",
    "mail",
    "sla_definitions",
];
const WEBHOOK_KEYS: &[&str] =
    &["url", "name", "secret_file", "ca_file", "min_severity", "format", "repeat"];
/// Whether a receiver is an Alertmanager.
const FORMATS: [(&str, bool); 2] = [("incident", false), ("alertmanager", true)];
/// How often an Alertmanager hears again of what stands: its own default is to forget after
/// five minutes what is not said again.
const REPEAT_DEFAULT: Duration = Duration::from_mins(5);
const REPEAT_MIN: Duration = Duration::from_secs(10);
const REPEAT_MAX: Duration = Duration::from_hours(24);

/// M2.1, O40.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(10);
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Longer, and nobody is told within 30 s (M2.4) by far.
const INTERVAL_MAX: Duration = Duration::from_mins(5);
/// Traces are kept for a week (M10), and one in a hundred of those that are like any other (F87).
const TRACING_DEFAULT: Tracing =
    Tracing { enabled: true, rate_ppm: 10_000, retention_h: 7 * 24 };
const RETENTION_MIN: Duration = Duration::from_hours(1);
const RETENTION_MAX: Duration = Duration::from_hours(90 * 24);
/// Most receivers, those of `failover` aside.
const WEBHOOKS_MAX: usize = 16;
/// Names of receivers, which are shown in place of addresses, are as long as identifiers.
const NAME_LEN_MAX: usize = 63;

pub(super) const SEVERITIES: [(&str, Severity); 4] = [
    ("low", Severity::Low),
    ("medium", Severity::Medium),
    ("high", Severity::High),
    ("critical", Severity::Critical),
];

/// How a federation is watched (O40).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MonitoringConfig {
    /// How often the health of regions and the lines between them are read. Silence is looked
    /// at each second.
    pub interval: Duration,
    /// Who is told of incidents.
    pub webhooks: Vec<WebhookSpec>,
    /// Who is told of them by mail.
    pub mail: Option<MailSpec>,
    /// What is promised of regions.
    pub slas: Vec<Definition>,
    /// Whether and how requests are traced, unless operators say otherwise.
    pub tracing: Tracing,
    /// Whom kept traces are handed to.
    pub otlp: Option<OtlpSpec>,
}

impl Default for MonitoringConfig {
    fn default() -> Self {
        Self {
            interval: INTERVAL_DEFAULT,
            webhooks: Vec::new(),
            mail: None,
            slas: Vec::new(),
            tracing: TRACING_DEFAULT,
            otlp: None,
        }
    }
}

/// Where traces are handed to (M10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtlpSpec {
    /// The address, with its path: `https://collector.example.com:4318/v1/traces`.
    pub url: String,
    /// A file with the certificates that it is trusted by; the system's without.
    pub ca_file: Option<PathBuf>,
}

/// Somebody who is told by HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebhookSpec {
    /// What it is called where its address is not shown.
    pub name: String,
    /// Where it answers.
    pub url: String,
    /// A file with the secret that messages are signed with; unsigned without.
    pub secret_file: Option<PathBuf>,
    /// A file with the certificates that it is trusted by; the system's without.
    pub ca_file: Option<PathBuf>,
    /// It is told of nothing less severe.
    pub min_severity: Severity,
    /// What it understands.
    pub format: WebhookFormat,
}

/// What a receiver is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookFormat {
    /// The incident, in this project's own words.
    Incident,
    /// An alert of Alertmanager's API, version 2.
    Alertmanager {
        /// How often what stands is said again.
        repeat: Duration,
    },
}

/// Reads the block, or takes the defaults when there is none.
pub(super) fn monitoring(
    root: &Section<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<MonitoringConfig> {
    let default = MonitoringConfig::default();
    let Some(field) = root.get("monitoring") else { return Some(default) };
    let section = Section::open(field.node, "`monitoring`", KEYS, report)?;
    let interval = section.get("interval").map_or(Some(default.interval), |field| {
        field.duration(INTERVAL_MIN..=INTERVAL_MAX, report)
    });
    let webhooks = section
        .get("webhooks")
        .map_or_else(|| Some(Vec::new()), |field| webhooks(field, report));
    let mail = section.get("mail").map(|field| mail(field, report));
    let slas = section
        .get("sla_definitions")
        .map_or_else(|| Some(Vec::new()), |field| definitions(field, names, report));
    let tracing = tracing(&section, report);
    let otlp = otlp(&section, report);
    Some(MonitoringConfig {
        interval: interval?,
        webhooks: webhooks?,
        mail: wanted(mail)?,
        slas: slas?,
        tracing: tracing?,
        otlp: otlp?,
    })
}

/// Nothing when there is nobody.
fn otlp(section: &Section<'_>, report: &mut Report<'_>) -> Option<Option<OtlpSpec>> {
    let ca_file = section.get("otlp_ca_file");
    let Some(field) = section.get("otlp_endpoint") else {
        if let Some(field) = ca_file {
            let help = "name the collector in `otlp_endpoint`, or leave it out";
            let reason = "`otlp_ca_file` is of no use without `otlp_endpoint`".to_owned();
            report.warn(field.key_at, reason, help);
        }
        return Some(None);
    };
    let url = url(field, report);
    let ca_file = ca_file.map(|field| file(field, report));
    Some(Some(OtlpSpec {
        url: url?,
        ca_file: ca_file.map_or(Some(None), |it| it.map(Some))?,
    }))
}

fn tracing(section: &Section<'_>, report: &mut Report<'_>) -> Option<Tracing> {
    let default = TRACING_DEFAULT;
    let enabled = section
        .get("enable_tracing")
        .map_or(Some(default.enabled), |field| field.truth(report));
    let rate_ppm = section.get("sampling_rate").map_or(Some(default.rate_ppm), |field| {
        let rate = field.decimal("a part of one", 0.0..=1.0, report)?;
        Some(ppm(rate * 100.0))
    });
    let retention = section.get("trace_retention").map_or(Some(None), |field| {
        field.duration(RETENTION_MIN..=RETENTION_MAX, report).map(Some)
    })?;
    let retention_h = retention.map_or(Some(default.retention_h), |retention| {
        u32::try_from(retention.as_secs().div_ceil(3_600)).ok()
    });
    Some(Tracing { enabled: enabled?, rate_ppm: rate_ppm?, retention_h: retention_h? })
}

fn webhooks(field: Field<'_>, report: &mut Report<'_>) -> Option<Vec<WebhookSpec>> {
    let items = field.list(0..=WEBHOOKS_MAX, report)?;
    let read: Vec<Option<WebhookSpec>> = items
        .iter()
        .zip(1..)
        .map(|(item, number)| webhook(item, number, report))
        .collect();
    let read: Option<Vec<WebhookSpec>> = read.into_iter().collect();
    let read = read?;
    for (at, hook) in read.iter().enumerate() {
        if read.iter().take(at).any(|before| before.name == hook.name) {
            let place = items.get(at).map_or_else(|| field.at(), Field::at);
            let reason = format!("two webhooks are called `{}`", hook.name);
            report.error(place, reason, "give one of the two another `name`");
            return None;
        }
    }
    Some(read)
}

fn webhook(
    item: &Field<'_>,
    number: usize,
    report: &mut Report<'_>,
) -> Option<WebhookSpec> {
    let section = Section::open(item.node, "a webhook", WEBHOOK_KEYS, report)?;
    let url = section
        .need("url", "https://example.com/incidents", report)
        .and_then(|field| url(field, report));
    let name = section.get("name").map_or_else(
        || Some(format!("webhook-{number}")),
        |field| {
            let name = field.text(report)?;
            if name.chars().count() > NAME_LEN_MAX {
                let wanted = format!("a name of at most {NAME_LEN_MAX} characters");
                return field.refuse(wanted, "it is shown in lists", report);
            }
            Some(name.to_owned())
        },
    );
    let secret_file = section.get("secret_file").map(|field| file(field, report));
    let ca_file = section.get("ca_file").map(|field| file(field, report));
    let min_severity = section
        .get("min_severity")
        .map_or(Some(Severity::Low), |field| field.choice(&SEVERITIES, report));
    let format = format(&section, report);
    Some(WebhookSpec {
        name: name?,
        url: url?,
        secret_file: wanted(secret_file)?,
        ca_file: wanted(ca_file)?,
        min_severity: min_severity?,
        format: format?,
    })
}

fn format(section: &Section<'_>, report: &mut Report<'_>) -> Option<WebhookFormat> {
    let is_alertmanager = section
        .get("format")
        .map_or(Some(false), |field| field.choice(&FORMATS, report))?;
    let repeat = section.get("repeat");
    if !is_alertmanager {
        let Some(field) = repeat else { return Some(WebhookFormat::Incident) };
        let reason = "`repeat` is for `format: alertmanager`";
        let help = "leave it out: each change is told until it was heard";
        report.error(field.at(), reason, help);
        return None;
    }
    let repeat = repeat.map_or(Some(REPEAT_DEFAULT), |field| {
        field.duration(REPEAT_MIN..=REPEAT_MAX, report)
    });
    Some(WebhookFormat::Alertmanager { repeat: repeat? })
}

/// Nothing wanted is right; what is wanted and wrong is not.
#[expect(clippy::option_option, reason = "not there, there and wrong, there and right")]
pub(super) fn wanted<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(read) => read.map(Some),
    }
}

fn url(field: Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text(report)?;
    let rest = |scheme| text.strip_prefix(scheme).filter(|rest| !rest.is_empty());
    let plain = rest("http://");
    if let Some(host) = plain.or_else(|| rest("https://"))
        && !host.starts_with('/')
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
    {
        if plain.is_some() {
            let reason = "whoever is on the way reads what a webhook without TLS is told";
            report.warn(field.at(), reason, "use an address that begins with https://");
        }
        return Some(text.to_owned());
    }
    let wanted = "an address that begins with https:// or http://";
    field.refuse(wanted, "for example `url: https://example.com/incidents`", report)
}

/// Daemons run in folders of their own, so only a whole path names the same file to each.
pub(super) fn file(field: Field<'_>, report: &mut Report<'_>) -> Option<PathBuf> {
    let text = field.text(report)?;
    if text.starts_with('/') {
        return Some(PathBuf::from(text));
    }
    let help = "write where it is on the machine of each region's daemon";
    field.refuse("a path that begins with /", help, report)
}
