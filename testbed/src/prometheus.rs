//! A real Prometheus that reads a federation's daemons, and its tool.
//!
//! Where it is not installed there is none, and the reason is printed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::tls::{Identity, NODE_LIFETIME};
use serde_json::{Value, json};

use crate::address::Claim;
use crate::federation::Federation;
use crate::layout::{skip, workspace};
use crate::process::Process;
use crate::wait::until;

/// Asks and checks.
#[derive(Clone, Debug)]
pub struct Promtool(PathBuf);

impl Promtool {
    /// The tool, where it is installed or `./dwcp test` has unpacked it; else the reason is
    /// printed.
    #[must_use]
    pub fn find() -> Option<Self> {
        program("promtool").map(Self)
    }

    /// Runs it with these arguments.
    ///
    /// # Errors
    ///
    /// What it says when it fails.
    ///
    /// # Panics
    ///
    /// When it cannot be run.
    pub fn run(&self, args: &[&str]) -> Result<String, String> {
        let ran: Output =
            Command::new(&self.0).args(args).output().expect("promtool can be run");
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let out = said(&ran.stdout);
        if ran.status.success() { Ok(out) } else { Err(out + &said(&ran.stderr)) }
    }
}

/// A Prometheus that runs.
#[derive(Debug)]
pub struct Prometheus {
    // Ends before its folder goes.
    _process: Process,
    url: String,
    tool: Promtool,
    _claim: Claim,
}

impl Prometheus {
    /// Reads every daemon each second, by `deploy/prometheus/rules.yml`; nothing where it is
    /// not installed.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub async fn start(federation: &Federation) -> Option<Self> {
        let (server, tool) = (program("prometheus")?, Promtool::find()?);
        let claim = Claim::new(1);
        let address = claim.socket(0);
        let folder = federation.folder().join("prometheus");
        let config = folder.join("prometheus.yml");
        fs::create_dir_all(&folder).expect("a folder can be made");
        let text = serde_json::to_string(&Self::config(federation, &folder));
        fs::write(&config, text.expect("it is JSON, which is YAML"))
            .expect("a file can be written");
        let args = vec![
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={address}"),
        ];
        let log = folder.join("log");
        let mut process = Process::new("prometheus", &server, args, log);
        process.start();
        let url = format!("http://{address}");
        let started = Self { _process: process, url, tool, _claim: claim };
        until("Prometheus answers", || async { started.query("vector(1)") }).await;
        Some(started)
    }

    fn config(federation: &Federation, folder: &Path) -> Value {
        let who = Identity::Monitor("prometheus".to_owned());
        let issued =
            federation.ca().issue(&who, &[], NODE_LIFETIME, SystemClock::new().now());
        let tls = folder.join("tls");
        issued
            .expect("a certificate can be made")
            .write(&tls, "monitor")
            .expect("it can be written");
        let sockets = federation.region_ids().map(|id| federation.socket(id).to_string());
        let targets: Vec<String> = sockets.collect();
        json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [workspace().join("deploy/prometheus/rules.yml")],
            "scrape_configs": [{
                "job_name": "dwcp",
                "scheme": "https",
                "tls_config": {
                    "ca_file": tls.join("ca.crt"),
                    "cert_file": tls.join("monitor.crt"),
                    "key_file": tls.join("monitor.key"),
                },
                "static_configs": [{ "targets": targets }],
            }],
        })
    }

    /// Asks for a moment's values, as Prometheus gives them: a list of `metric` and `value`.
    ///
    /// # Errors
    ///
    /// What it says of an expression that is none, or when it does not answer.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let said =
            self.tool.run(&["query", "instant", "-o", "json", &self.url, expression])?;
        serde_json::from_str(&said).map_err(|error| format!("{error}: {said}"))
    }
}

fn program(name: &str) -> Option<PathBuf> {
    // Where `./dwcp` unpacks it.
    let unpacked = workspace().join("target/prometheus/usr/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::iter::once(unpacked).chain(std::env::split_paths(&path));
    let found = folders.find(|folder| folder.join(name).is_file());
    found.map(|folder| folder.join(name)).or_else(|| {
        skip("Prometheus is not installed; `./dwcp test` gets it where it can")
    })
}
