//! Which strong engine a local federation runs on.
//!
//! Decided once: from then on its records are there, and starting it on the other engine would
//! show a federation without a VM. So the choice is written down beside the data, and whoever
//! asks for the other one is told what it would take.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use super::Layout;
use crate::config::{EngineChoice, EngineKind, Federation};

/// How the sentence begins that says which engine was chosen.
pub(super) const SAYS: &str = "strong engine: ";

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Wanted {
    /// The one that has the records; for a new federation etcd where it is installed and
    /// configured, else the embedded one.
    #[default]
    Auto,
    /// In one daemon.
    Embedded,
    /// A member in each voting region.
    Etcd,
}

impl Wanted {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Embedded => "embedded",
            Self::Etcd => "etcd",
        }
    }
}

/// What there is to choose from.
#[derive(Clone, Copy, Debug)]
struct Found {
    /// Where records are already.
    records: Option<EngineKind>,
    /// Whether etcd is installed.
    installed: bool,
    /// Whether the configuration names voters.
    voters: bool,
}

/// Chooses the federation's engine, and writes the choice down; says which and why.
///
/// # Errors
///
/// When what is asked for cannot be had, or the records are elsewhere.
pub(super) fn choose(
    wanted: Wanted,
    federation: &mut Federation,
    layout: &Layout,
) -> anyhow::Result<String> {
    let found = Found {
        records: recorded(layout, federation)?,
        installed: crate::voters::program().is_ok(),
        voters: federation.engine.etcd().is_some(),
    };
    let (kind, why) = decide(wanted, found)?;
    federation.engine.choose(kind)?;
    let mark = layout.engine_mark();
    fs::write(&mark, kind.as_str())
        .with_context(|| format!("cannot write {}", mark.display()))?;
    Ok(format!("{SAYS}{} ({why})", kind.as_str()))
}

fn decide(wanted: Wanted, found: Found) -> anyhow::Result<(EngineKind, &'static str)> {
    const GONE: &str = "this federation's records are on etcd, which is not installed here; \
        install it (`./dwcp up` gets it where it can), or delete the records with \
        `./dwcp down --purge`";
    match (wanted, found.records) {
        (Wanted::Etcd, Some(EngineKind::Embedded)) => bail!(
            "this federation's records are in the embedded engine; start it with `--engine \
             embedded`, or delete them with `./dwcp down --purge`"
        ),
        (Wanted::Embedded, Some(EngineKind::Etcd)) => bail!(
            "this federation's records are on etcd; start it with `--engine etcd`, or delete \
             them with `./dwcp down --purge`"
        ),
        (Wanted::Auto | Wanted::Etcd, Some(EngineKind::Etcd)) if !found.installed => {
            bail!(GONE)
        }
        (_, Some(kind)) => Ok((kind, "its records are there")),
        (Wanted::Embedded, None) => Ok((EngineKind::Embedded, "as asked")),
        (Wanted::Etcd, None) => {
            crate::voters::program()?;
            Ok((EngineKind::Etcd, "as asked"))
        }
        (Wanted::Auto, None) if !found.voters => {
            Ok((EngineKind::Embedded, "the configuration names no voters of etcd"))
        }
        (Wanted::Auto, None) if !found.installed => {
            Ok((EngineKind::Embedded, "etcd is not installed here"))
        }
        (Wanted::Auto, None) => Ok((EngineKind::Etcd, "a member in each voting region")),
    }
}

/// Where records are, by the mark, or by the file of the embedded engine from before marks.
fn recorded(
    layout: &Layout,
    federation: &Federation,
) -> anyhow::Result<Option<EngineKind>> {
    let mark = layout.engine_mark();
    match fs::read_to_string(&mark) {
        Ok(text) if text.trim() == EngineKind::Etcd.as_str() => {
            return Ok(Some(EngineKind::Etcd));
        }
        Ok(text) if text.trim() == EngineKind::Embedded.as_str() => {
            return Ok(Some(EngineKind::Embedded));
        }
        Ok(text) => bail!("{} says {text:?}, which is no engine", mark.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", mark.display()));
        }
    }
    let host = match federation.engine.choice() {
        EngineChoice::Embedded { host } => host,
        EngineChoice::Etcd(_) => return Ok(None),
    };
    let file: &Path = &layout.region_data(host).join("strong.redb");
    Ok(file.exists().then_some(EngineKind::Embedded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_without_the_records_is_never_started() {
        let at = |records| Found { records, installed: true, voters: true };
        let (embedded, etcd) = (EngineKind::Embedded, EngineKind::Etcd);
        for (wanted, records) in
            [(Wanted::Etcd, Some(embedded)), (Wanted::Embedded, Some(etcd))]
        {
            let refused = decide(wanted, at(records)).unwrap_err().to_string();
            assert!(refused.contains("down --purge"), "{refused}");
        }
        for (wanted, records, kind) in [
            (Wanted::Auto, None, etcd),
            (Wanted::Auto, Some(embedded), embedded),
            (Wanted::Auto, Some(etcd), etcd),
            (Wanted::Embedded, None, embedded),
            (Wanted::Embedded, Some(embedded), embedded),
        ] {
            assert_eq!(decide(wanted, at(records)).unwrap().0, kind, "{wanted:?}");
        }
    }

    #[test]
    fn without_etcd_a_new_federation_is_embedded_and_an_old_one_says_what_is_missing() {
        let found = Found { records: None, installed: false, voters: true };
        assert_eq!(decide(Wanted::Auto, found).unwrap().0, EngineKind::Embedded);
        let no_voters = Found { installed: true, voters: false, ..found };
        assert_eq!(decide(Wanted::Auto, no_voters).unwrap().0, EngineKind::Embedded);
        let old = Found { records: Some(EngineKind::Etcd), ..found };
        let refused = decide(Wanted::Auto, old).unwrap_err().to_string();
        assert!(refused.contains("not installed"), "{refused}");
    }
}
