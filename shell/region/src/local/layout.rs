//! Where the files of a local federation are.

use std::path::{Path, PathBuf};

use anyhow::Context;
use dwcp_types::{HostId, RegionId};

use crate::config::EngineKind;

/// Files below one folder.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Below this folder, made absolute so that it can be handed to other processes.
    ///
    /// # Errors
    ///
    /// When the current folder is not known.
    pub fn new(root: &Path) -> std::io::Result<Self> {
        Ok(Self { root: std::path::absolute(root)? })
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The CA.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.root.join("ca")
    }

    /// The administrator's credential.
    #[must_use]
    pub fn admin(&self) -> PathBuf {
        self.root.join("admin")
    }

    /// The credential of another operator.
    #[must_use]
    pub fn operator(&self, name: &HostId) -> PathBuf {
        self.root.join("operators").join(name.as_str())
    }

    /// The credential of whoever collects measurements.
    #[must_use]
    pub fn monitor(&self) -> PathBuf {
        self.root.join("monitor")
    }

    /// The configurations of all agents that were ever set up here.
    pub(super) fn agent_configs(&self) -> Vec<PathBuf> {
        let hosts = std::fs::read_dir(self.root.join("hosts")).into_iter().flatten();
        let configs = hosts.flatten().map(|host| host.path().join("agent.yaml"));
        configs.filter(|config| config.exists()).collect()
    }

    /// Removes what a federation leaves, and nothing else that may be in the folder.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        const PARTS: [&str; 10] = [
            "admin",
            "ca",
            "engine",
            "hosts",
            "logs",
            "monitor",
            "operators",
            "regions",
            "run",
            "tls",
        ];
        for part in PARTS {
            let folder = self.root.join(part);
            if folder.exists() {
                std::fs::remove_dir_all(&folder)
                    .with_context(|| format!("cannot remove {}", folder.display()))?;
            }
        }
        // Only when nothing else is in it.
        std::fs::remove_dir(&self.root).ok();
        Ok(())
    }

    /// The name of a guest network's bridge: another for each federation on the machine, and
    /// at most the 15 bytes that the kernel takes.
    pub(super) fn bridge(&self, network: u8) -> String {
        // FNV-1a: short, stable between runs, and nothing depends on its strength.
        let path = self.root.as_os_str().as_encoded_bytes();
        let hash = path.iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
        format!("dwcp{:06x}-{network}", hash >> 8)
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    pub(super) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    pub(super) fn supervisor(&self) -> PathBuf {
        self.run().join("supervisor.json")
    }

    pub(super) fn processes(&self) -> PathBuf {
        self.run().join("processes.json")
    }

    pub(super) fn region_tls(&self, region: &RegionId) -> PathBuf {
        self.root.join("tls").join(format!("region-{region}"))
    }

    pub(super) fn region_data(&self, region: &RegionId) -> PathBuf {
        self.root.join("regions").join(region.as_str())
    }

    pub(super) fn engine(&self) -> PathBuf {
        self.root.join("engine")
    }

    /// Says which engine has the federation's records.
    pub(super) fn engine_mark(&self) -> PathBuf {
        self.engine().join("kind")
    }

    pub(super) fn voter_data(&self, voter: &str) -> PathBuf {
        self.engine().join(voter)
    }

    pub(super) fn voter_tls(&self, voter: &str) -> PathBuf {
        self.root.join("tls").join(format!("engine-{voter}"))
    }

    pub(super) fn agent_tls(&self, host: &HostId) -> PathBuf {
        self.root.join("tls").join(format!("host-{host}"))
    }

    pub(super) fn agent_data(&self, host: &HostId) -> PathBuf {
        self.root.join("hosts").join(host.as_str())
    }

    pub(super) fn agent_config(&self, host: &HostId) -> PathBuf {
        self.agent_data(host).join("agent.yaml")
    }

    pub(super) fn daemon_args(
        &self,
        config: &Path,
        region: &RegionId,
        engine: EngineKind,
    ) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        vec![
            "run".to_owned(),
            "--config".to_owned(),
            path(&std::path::absolute(config).unwrap_or_else(|_| config.to_owned())),
            "--region".to_owned(),
            region.to_string(),
            "--data-dir".to_owned(),
            path(&self.region_data(region)),
            "--tls-dir".to_owned(),
            path(&self.region_tls(region)),
            "--engine".to_owned(),
            engine.as_str().to_owned(),
        ]
    }
}
