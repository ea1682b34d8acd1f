//! A real Prometheus that reads a federation's daemons, its tool, and an Alertmanager.
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
use crate::layout::{installed, workspace};
use crate::process::Process;
use crate::wait::until;

/// A tool that asks and checks.
#[derive(Clone, Debug)]
pub struct Promtool(PathBuf);

impl Promtool {
    /// Prometheus' own, where it is installed or `./dwcp test` has unpacked it; else the reason is
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
            Command::new(&self.0).args(args).output().expect("it can be run");
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
        let rules = workspace().join("deploy/prometheus/rules.yml");
        Self::start_by(federation, &rules, None).await
    }

    /// The same by other rules, and telling an Alertmanager.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub async fn start_by(
        federation: &Federation,
        rules: &Path,
        alertmanager: Option<&Alertmanager>,
    ) -> Option<Self> {
        let (server, tool) = (program("prometheus")?, Promtool::find()?);
        let claim = Claim::new(1);
        let address = claim.socket(0);
        let folder = federation.folder().join("prometheus");
        let config = folder.join("prometheus.yml");
        fs::create_dir_all(&folder).expect("a folder can be made");
        let mut described = Self::config(federation, &folder, rules);
        if let Some(alertmanager) = alertmanager {
            let targets = json!([{ "targets": [alertmanager.address] }]);
            let told = json!([{ "static_configs": targets }]);
            described["alerting"] = json!({ "alertmanagers": told });
        }
        write(&config, &described);
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

    fn config(federation: &Federation, folder: &Path, rules: &Path) -> Value {
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
            "rule_files": [rules],
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

/// An Alertmanager that runs, tuned to tell at once.
#[derive(Debug)]
pub struct Alertmanager {
    // Ends before its folder goes.
    process: Process,
    storage: PathBuf,
    address: String,
    /// Its own tool.
    tool: Promtool,
    _claim: Claim,
}

impl Alertmanager {
    /// Tells this webhook, with its files in a folder; nothing where it is not installed:
    /// unpacked it does not find its templates.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start(folder: &Path, webhook: &str) -> Option<Self> {
        let server = installed("prometheus-alertmanager")?;
        let tool = installed("amtool").map(Promtool)?;
        let claim = Claim::new(1);
        let address = claim.socket(0).to_string();
        let config = folder.join("alertmanager.yml");
        let receiver = json!({
            "name": "it",
            "webhook_configs": [{ "url": webhook, "send_resolved": true }],
        });
        let route = json!({
            "receiver": "it",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
        });
        write(&config, &json!({ "route": route, "receivers": [receiver] }));
        let args = vec![
            format!("--config.file={}", config.display()),
            format!("--storage.path={}", folder.join("alertmanager").display()),
            format!("--web.listen-address={address}"),
            "--cluster.listen-address=".to_owned(),
        ];
        let log = folder.join("alertmanager.log");
        let mut process = Process::new("alertmanager", &server, args, log);
        process.start();
        let storage = folder.join("alertmanager");
        Some(Self { process, storage, address, tool, _claim: claim })
    }

    /// Where it answers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it, takes its memory, and starts it.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn forget(&mut self) {
        self.process.kill_9();
        fs::remove_dir_all(&self.storage).expect("its files can be deleted");
        self.process.start();
    }

    /// The labels of every alert that stands.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn alerts(&self) -> Result<Vec<Value>, String> {
        let url = format!("--alertmanager.url={}", self.url());
        let said = self.tool.run(&[&url, "alert", "query", "-o", "json"])?;
        let alerts: Vec<Value> =
            serde_json::from_str(&said).map_err(|error| format!("{error}: {said}"))?;
        Ok(alerts.iter().map(|alert| alert["labels"].clone()).collect())
    }
}

/// Writes a configuration: JSON is YAML.
fn write(path: &Path, config: &Value) {
    let text = serde_json::to_string(config).expect("a value can be written");
    fs::write(path, text).expect("a file can be written");
}

/// A program of Prometheus' package, where `./dwcp` has unpacked it or it is installed.
fn program(name: &str) -> Option<PathBuf> {
    let unpacked = workspace().join("target/prometheus/usr/bin").join(name);
    if unpacked.is_file() { Some(unpacked) } else { installed(name) }
}
