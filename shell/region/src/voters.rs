//! How the members of etcd are started, from what `federation.yaml` says.
//!
//! The same for a rehearsal on one machine and for a system service, but for the timers: between
//! regions a heartbeat takes the longest round trip between voters, on one machine it does not.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use dwcp_runtime::strong::etcd::command::{self, PEER_NAME, Setup, Timers, Voter};
use dwcp_runtime::tls::{Credentials, SubjectName};

use crate::config::{Endpoint, EtcdConfig, Federation, NoVoters, VoterSpec};

/// The name of a member's certificate files.
pub const CERTIFICATE: &str = "engine";

/// How fast the members of one federation notice that one is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Distance {
    /// Members on one machine or in one site.
    Lan,
    /// Members in regions: timers from their stated round trips.
    Wan,
}

/// A member to be started.
#[derive(Debug)]
pub struct Member<'a> {
    /// Its name among the voters.
    pub name: &'a str,
    /// Where its records are.
    pub data: PathBuf,
    /// Where `ca.crt`, `engine.crt` and `engine.key` are.
    pub tls: &'a Path,
    /// How far it is to the others.
    pub distance: Distance,
}

impl Member<'_> {
    /// The arguments of `etcd`.
    ///
    /// # Errors
    ///
    /// When the configuration has no voters, or none of this name.
    pub fn args(&self, federation: &Federation) -> anyhow::Result<Vec<String>> {
        let etcd = federation.engine.etcd().ok_or(NoVoters)?;
        let setup = Setup {
            name: self.name.to_owned(),
            voters: etcd.voters.iter().map(voter).collect(),
            data: self.data.clone(),
            credentials: Credentials::in_dir(self.tls, CERTIFICATE),
            token: format!("dwcp-{}", etcd.namespace),
            timers: match self.distance {
                Distance::Lan => Timers::LAN,
                Distance::Wan => Timers::wan(federation.voters_rtt_max()),
            },
        };
        setup.args().ok_or_else(|| unknown(self.name, etcd))
    }
}

/// The program, or what to do without it.
///
/// # Errors
///
/// When it is not installed.
pub fn program() -> anyhow::Result<PathBuf> {
    command::program(&[]).context(
        "etcd is not on the PATH; install it (Debian: etcd-server), or use `--engine embedded`",
    )
}

/// The names in a member's certificate.
#[must_use]
pub fn subjects(
    voter: &VoterSpec,
    subject: fn(&Endpoint) -> SubjectName,
) -> Vec<SubjectName> {
    let mut names = vec![SubjectName::Dns(PEER_NAME.to_owned()), subject(&voter.client)];
    let peer = subject(&voter.peer);
    if !names.contains(&peer) {
        names.push(peer);
    }
    names
}

fn voter(spec: &VoterSpec) -> Voter {
    Voter {
        name: spec.name.clone(),
        client: spec.client.to_string(),
        peer: spec.peer.to_string(),
    }
}

fn unknown(name: &str, etcd: &EtcdConfig) -> anyhow::Error {
    let names: Vec<&str> = etcd.voters.iter().map(|voter| voter.name.as_str()).collect();
    anyhow!("{name} is no voter; the voters are {}", names.join(", "))
}
