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

mod capacity;
mod controller;
mod duration;
mod endpoint;
mod failover;
mod federation;
mod field;
mod names;
mod place;
mod problem;
mod quantity;
mod region;
mod section;
mod suggest;
#[cfg(test)]
mod tests;
mod yaml;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use dwcp_types::RegionId;

pub use endpoint::{Endpoint, EndpointError};
pub use federation::{
    ControllerConfig, EngineConfig, FailoverConfig, FailoverTiming, Federation, HostSpec,
    RegionSpec, UserZoneSpec,
};
pub use problem::{
    PROBLEMS_MAX, Position, Problem, Problems, Related, Severity, Warning,
};

use self::field::Field;
use self::names::Names;
use self::problem::Report;
use self::section::Section;

/// Largest file that is read: 65,536 hosts at 128 bytes each.
pub const FILE_BYTES_MAX: u64 = 8 << 20;
/// Most regions of a federation.
pub const REGIONS_MAX: usize = 4_096;
/// Most places that users come from.
pub const USER_ZONES_MAX: usize = 4_096;

const KEYS: &[&str] = &[
    "version",
    "regions",
    "user_zones",
    "controller",
    "placement",
    "failover",
    "engine",
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
        let text = text(path)
            .map_err(|source| LoadError::Read { file: file.clone(), source })?;
        Ok(Self::parse(&text, &file)?)
    }
}

/// One byte more than the limit is read, so that [`read`] can tell that there are more.
fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok(text)
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
    let user_zones = user_zones(&root, &mut names, report);
    let controller = controller::controller(&root, report);
    // What stands on the regions is judged only when they are all right: a region that is
    // counted as missing because of a typing error would raise problems that are none.
    let known = regions.as_deref().unwrap_or(&[]);
    let failover = regions
        .is_some()
        .then(|| failover::failover(&root, known, &mut names, report))
        .flatten();
    let engine = engine(&root, known, &mut names, report);
    if let Some(regions) = &regions {
        region::check_host_count(regions, root.at, report);
    }
    names.resolve(report);
    version?;
    Some(Federation {
        regions: regions?,
        user_zones: user_zones?,
        controller: controller?,
        failover: failover?,
        engine: engine?,
    })
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
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Vec<UserZoneSpec>> {
    let Some(field) = root.get("user_zones") else { return Some(Vec::new()) };
    let items = field.list(0..=USER_ZONES_MAX, report)?;
    let read: Vec<Option<UserZoneSpec>> =
        items.iter().map(|item| place::user_zone(item.node, names, report)).collect();
    read.into_iter().collect()
}

fn engine(
    root: &Section<'_>,
    regions: &[RegionSpec],
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<EngineConfig> {
    let first = regions.first().map(|spec| spec.region.id.clone());
    let Some(field) = root.get("engine") else {
        return Some(EngineConfig::Embedded { host: first? });
    };
    let section = Section::open(field.node, "`engine`", &["kind", "host"], report)?;
    let embedded = |field: Field<'_>| field.choice(&[("embedded", ())], report);
    let kind = section.get("kind").map_or(Some(()), embedded);
    let host: Option<RegionId> = match section.get("host") {
        None => first,
        Some(field) => field.parsed(report).inspect(|id| {
            names.refer(id, field.at(), "engine.host");
        }),
    };
    kind?;
    Some(EngineConfig::Embedded { host: host? })
}
