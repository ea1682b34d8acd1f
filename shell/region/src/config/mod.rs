//! The configuration of a federation: `federation.yaml` (O1, O2, O35, O39).
//!
//! Text to tree ([`yaml`]), tree to values that are known to be right ([`region`],
//! [`controller`], [`failover`]), names last ([`names`]). One pass collects every problem, each
//! with file, line, column, reason and a suggestion. Reading is pure; only
//! [`Federation::load`] touches a disk. Nothing reads configuration after the start of a
//! daemon.
//!
//! Deriving `Deserialize` on the values was rejected: it stops at the first mistake, and its
//! messages speak of types where an operator thinks in regions.

mod anycast;
mod capacity;
mod clients;
mod controller;
mod dns;
mod duration;
mod endpoint;
mod engine;
mod failover;
mod federation;
mod field;
mod front;
mod mail;
mod monitoring;
mod names;
mod place;
mod prefix;
mod problem;
mod proxy;
mod quantity;
mod region;
mod routing;
mod section;
mod sla;
mod state;
mod suggest;
#[cfg(test)]
mod tests;
mod yaml;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use dwcp_types::RegionId;

pub use anycast::{AnycastConfig, GroupSpec, RouterSpec};
pub use endpoint::{Endpoint, EndpointError};
pub use federation::{
    ApprovalConfig, ControllerConfig, EngineChoice, EngineConfig, EngineKind, EtcdConfig,
    FailoverConfig, FailoverTiming, Federation, HostSpec, NoVoters, RegionSpec,
    StateConfig, StateRule, StateTransport, UserZoneSpec, VoterSpec,
};
pub use front::{
    ClientPlace, ClientSpec, DnsConfig, FrontSpec, RoundTrips, RoutingConfig, ServiceSpec,
};
pub use mail::MailSpec;
pub use monitoring::{MonitoringConfig, OtlpSpec, WebhookFormat, WebhookSpec};
pub use prefix::{Prefix, PrefixError};
pub use problem::{
    PROBLEMS_MAX, Position, Problem, Problems, Related, Severity, Warning,
};
pub use proxy::{ProxyConfig, Reach, TlsFiles};
pub use sla::SLAS_MAX;

use self::names::Names;
use self::problem::Report;
use self::section::Section;

/// Largest file that is read: 65,536 hosts at 128 bytes each.
pub const FILE_BYTES_MAX: u64 = 8 << 20;
/// Most regions of a federation.
pub const REGIONS_MAX: usize = 4_096;
/// Most places that users come from.
pub const USER_ZONES_MAX: usize = 4_096;

/// Regions that one warning lists.
const GAPS_LISTED_MAX: usize = 8;

const KEYS: &[&str] = &[
    "version",
    "regions",
    "user_zones",
    "controller",
    "placement",
    "failover",
    "engine",
    "state",
    "routing",
    "monitoring",
];

/// Why a file was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read at all.
    #[error(
        "cannot read {file}: {source}; name a readable file, such as deploy/t1/federation.yaml"
    )]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is read and wrong.
    #[error(transparent)]
    Problems(#[from] Problems),
}

impl LoadError {
    /// The same as a JSON object, for `-o json`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Read { .. } => serde_json::json!({ "error": self.to_string() }),
            Self::Problems(problems) => problems.to_json(),
        }
    }
}

impl Federation {
    /// Reads the text of a file. `file` is its name in messages.
    ///
    /// # Errors
    ///
    /// Every problem that the text has, in the order of the text.
    pub fn parse(text: &str, file: &str) -> Result<(Self, Vec<Warning>), Problems> {
        let mut report = Report::new(file, text);
        let federation = read(text, &mut report);
        report.conclude(federation)
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or every problem that it has.
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), LoadError> {
        let file = path.display().to_string();
        let bytes = bytes(path)
            .map_err(|source| LoadError::Read { file: file.clone(), source })?;
        Ok(Self::parse(utf8(&bytes, &file)?, &file)?)
    }
}

/// One byte more than the limit is read, so that [`read`] can tell that there are more.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The bytes as text, or the place of the first that is none.
fn utf8<'a>(bytes: &'a [u8], file: &str) -> Result<&'a str, Problems> {
    std::str::from_utf8(bytes).map_err(|error| {
        let sound = bytes.get(..error.valid_up_to()).unwrap_or(&[]);
        let sound = String::from_utf8_lossy(sound);
        let last = sound.rsplit('\n').next().unwrap_or("");
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let at = Position {
            line: count(sound.matches('\n').count()) + 1,
            column: count(last.chars().count()) + 1,
        };
        let mut report = Report::new(file, &sound);
        let help = "save the file as UTF-8";
        report.error(at, "there is a byte here that is no UTF-8 text", help);
        report.refused()
    })
}

fn read(text: &str, report: &mut Report<'_>) -> Option<Federation> {
    if u64::try_from(text.len()).is_ok_and(|len| len > FILE_BYTES_MAX) {
        let reason = format!("the file is larger than {} MiB", FILE_BYTES_MAX >> 20);
        report.error(Position::START, reason, "split the federation");
        return None;
    }
    let tree = yaml::tree(text, report)?;
    let root = Section::open(&tree, "a federation", KEYS, report)?;
    let mut names = Names::default();
    let version = version(&root, report);
    let regions = regions(&root, &mut names, report);
    let user_zones = user_zones(&root, regions.as_deref(), &mut names, report);
    let controller = controller::controller(&root, report);
    let failover = failover::failover(&root, regions.as_deref(), &mut names, report);
    let engine = engine::engine(&root, regions.as_deref(), &mut names, report);
    let state = state::state(&root, regions.as_deref(), &mut names, report);
    let routing = routing::routing(&root, user_zones.as_deref(), &mut names, report);
    let monitoring = monitoring::monitoring(&root, &mut names, report);
    if let Some(regions) = &regions {
        region::check_host_count(regions, root.at, report);
    }
    names.resolve(report);
    version?;
    let federation = Federation {
        regions: regions?,
        user_zones: user_zones?,
        controller: controller?,
        failover: failover?,
        engine: engine?,
        state: state?,
        routing: routing?,
        monitoring: monitoring?,
    };
    let at = root.get("failover").map_or(root.at, |field| field.key_at);
    failover::warn_of_elections(&federation, at, report);
    let at = root.get("routing").map_or(root.at, |field| field.key_at);
    dns::warn_of_half(&federation, at, report);
    proxy::warn_of_half(&federation, at, report);
    anycast::check(&federation, at, report);
    Some(federation)
}

/// The version of the file's form; there is one so far (F81).
fn version(root: &Section<'_>, report: &mut Report<'_>) -> Option<()> {
    root.get("version").map_or(Some(()), |field| field.count(1..=1, report).map(|_| ()))
}

fn regions(
    root: &Section<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Vec<RegionSpec>> {
    let field = root.need("regions", "[{ id: us-east-1, ... }]", report)?;
    let items = field.list(1..=REGIONS_MAX, report)?;
    let read: Vec<Option<RegionSpec>> =
        items.iter().map(|item| region::region(item.node, names, report)).collect();
    read.into_iter().collect()
}

fn user_zones(
    root: &Section<'_>,
    regions: Option<&[RegionSpec]>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Vec<UserZoneSpec>> {
    let Some(field) = root.get("user_zones") else { return Some(Vec::new()) };
    let items = field.list(0..=USER_ZONES_MAX, report)?;
    let read: Vec<Option<UserZoneSpec>> =
        items.iter().map(|item| place::user_zone(item.node, names, report)).collect();
    for (item, zone) in items.iter().zip(&read) {
        if let (Some(zone), Some(regions)) = (zone, regions) {
            warn_of_gaps(zone, regions, item.at(), report);
        }
    }
    read.into_iter().collect()
}

/// A round trip that is not stated fails every latency limit (F52): allowed, and worth a word.
fn warn_of_gaps(
    zone: &UserZoneSpec,
    regions: &[RegionSpec],
    at: Position,
    report: &mut Report<'_>,
) {
    let ids = regions.iter().map(|spec| &spec.region.id);
    let missing: Vec<&str> = ids
        .filter(|id| !zone.view.latency.contains_key(*id))
        .map(RegionId::as_str)
        .take(GAPS_LISTED_MAX)
        .collect();
    if !missing.is_empty() {
        let reason = format!(
            "the user zone `{}` states no round trip to {}: a request with a latency limit for \
             these users is never placed there",
            zone.view.id,
            missing.join(", ")
        );
        report.warn(at, reason, "add them under `latency`");
    }
}
