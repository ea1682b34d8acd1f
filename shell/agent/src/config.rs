//! The agent's configuration file, YAML. Unknown keys and impossible values are refused with
//! their place.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dwcp_types::{Capacity, HostId, RegionId, ZoneId};
use dwcp_vm::Scale;
use serde::Deserialize;

use crate::hypervisor::Prefix;

/// Largest configuration file that is read: hundreds of times what it can need.
const FILE_LEN_MAX: u64 = 1024 * 1024;
/// Longest name of a network device (`IFNAMSIZ` without its end).
const DEVICE_LEN_MAX: usize = 15;

/// A host's agent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The host's name.
    pub host: HostId,
    /// The region that it belongs to.
    pub region: RegionId,
    /// The zone that it stands in.
    pub zone: ZoneId,
    /// What it offers.
    pub capacity: Capacity,
    /// Where records, disks and consoles are kept.
    pub data_dir: PathBuf,
    /// Where the region's daemon reaches it, over TLS.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// The certificates for that.
    #[serde(default)]
    pub tls: Option<TlsFiles>,
    /// What drives guests.
    #[serde(default)]
    pub driver: Driver,
    /// The folder of the guest image (`kernel`, `initrd`) and of further ones by name.
    #[serde(default = "image_dir")]
    pub image_dir: PathBuf,
    /// The QEMU program; found in PATH unless it is a path.
    #[serde(default = "qemu_program")]
    pub qemu: String,
    /// How guests are connected.
    #[serde(default)]
    pub network: Network,
    /// How this host takes part in moves.
    #[serde(default)]
    pub moves: Moves,
    /// What guests are given of what was asked; for development.
    #[serde(default)]
    pub scale: Scale,
    /// Guests that are started at the same time; as many as the host has CPUs when absent.
    #[serde(default)]
    pub starts_max: Option<usize>,
}

/// Certificate files, PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The authority that both sides trust.
    pub ca: PathBuf,
    /// The agent's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What drives guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// QEMU when it and the image are there, else the simulated one with a warning.
    #[default]
    Auto,
    /// QEMU.
    Qemu,
    /// No guests at all: states only.
    Simulated,
}

/// How guests are connected.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// By what.
    pub mode: NetworkMode,
    /// The bridge of the taps; made when it is missing.
    pub bridge: String,
    /// The guests' network on this host; its first address is the bridge's.
    pub prefix: Prefix,
}

impl Default for Network {
    fn default() -> Self {
        let prefix = Prefix { network: Ipv4Addr::new(10, 77, 0, 0), length: 24 };
        Self { mode: NetworkMode::Auto, bridge: "dwcpbr0".to_owned(), prefix }
    }
}

/// How a host takes part in moves: where it waits for guests that come.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Moves {
    /// The first port; a move takes two, and a firewall must let them in from other hosts.
    pub ports_from: u16,
    /// How many ports.
    pub ports_count: u16,
}

impl Default for Moves {
    /// As libvirt's range, and wide enough for 128 guests that come at the same time.
    fn default() -> Self {
        Self { ports_from: 49_152, ports_count: 256 }
    }
}

/// By what guests are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// By taps where privileges allow, else by QEMU's user network.
    #[default]
    Auto,
    /// By a tap each in one bridge.
    Tap,
    /// By QEMU's user network: outgoing only.
    User,
    /// Not at all.
    None,
}

fn image_dir() -> PathBuf {
    PathBuf::from("/var/lib/dwcp/guest")
}

fn qemu_program() -> String {
    "qemu-system-x86_64".to_owned()
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            Err(format!(
                "{text:?} is no guest network: {why}; write for example 10.77.0.0/24"
            ))
        };
        let Some((network, length)) = text.split_once('/') else {
            return wrong("it has no /length");
        };
        let (Ok(network), Ok(length)) =
            (network.parse::<Ipv4Addr>(), length.parse::<u8>())
        else {
            return wrong("it is not ADDRESS/LENGTH");
        };
        if !(8..=30).contains(&length) {
            return wrong("the length must be 8 to 30");
        }
        if u32::from(network) << length != 0 {
            return wrong("the address has bits behind the length");
        }
        Ok(Self { network, length })
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// It is not what it must be; the reason has line and column.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What and where.
        reason: String,
    },
    /// A value contradicts another or cannot work.
    #[error("{path}: {key}: {reason}")]
    Impossible {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Why not.
        reason: String,
    },
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is malformed, or asks for the impossible.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable =
            |reason: String| ConfigError::Unreadable { path: path.to_owned(), reason };
        let length =
            std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
        if length > FILE_LEN_MAX {
            return Err(unreadable(format!("it has {length} bytes, over 1 MiB")));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| unreadable(error.to_string()))?;
        Self::parse(&text, path)
    }

    /// Checks a configuration's text; `path` is for the messages.
    ///
    /// # Errors
    ///
    /// When it is malformed or asks for the impossible.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = serde_saphyr::from_str(text).map_err(|error| {
            ConfigError::Malformed { path: path.to_owned(), reason: error.to_string() }
        })?;
        match config.impossible() {
            Some((key, reason)) => {
                let reason = reason.to_owned();
                Err(ConfigError::Impossible { path: path.to_owned(), key, reason })
            }
            None => Ok(config),
        }
    }

    fn impossible(&self) -> Option<(&'static str, &'static str)> {
        let Capacity { cpu, memory, storage, vms, .. } = self.capacity;
        if cpu == 0 || memory.get() == 0 || storage.get() == 0 || vms == 0 {
            return Some((
                "capacity",
                "cpu, memory, storage and vms must each be at least 1: a host without one of them can take no VM",
            ));
        }
        if !self.data_dir.is_absolute() {
            return Some((
                "data_dir",
                "must be an absolute path: guests outlive the folder the agent is started in",
            ));
        }
        let bridge = &self.network.bridge;
        if bridge.is_empty()
            || bridge.len() > DEVICE_LEN_MAX
            || !bridge.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            return Some(("network.bridge", "must be 1 to 15 of a-z A-Z 0-9 - _ ."));
        }
        if self.listen.is_some() && self.tls.is_none() {
            return Some(("tls", "is required with listen: agents talk TLS only"));
        }
        if self.starts_max == Some(0) {
            return Some(("starts_max", "must be at least 1, or no guest ever starts"));
        }
        (self.scale.cpu_max == Some(0)).then_some(("scale.cpu_max", "must be at least 1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
host: host-a
region: us-east-1
zone: us-east-1a
capacity: { cpu: 64, memory: 262144, storage: 4000, vms: 100 }
data_dir: /var/lib/dwcp/host-a
driver: qemu
network: { mode: tap, prefix: 10.80.0.0/22 }
scale: { cpu_max: 1, memory_max: 96 }
";

    fn refusal(text: &str) -> String {
        Config::parse(text, Path::new("agent.yaml")).unwrap_err().to_string()
    }

    #[test]
    fn a_host_is_described_in_nine_lines() {
        let config = Config::parse(GOOD, Path::new("agent.yaml")).unwrap();
        assert_eq!(config.driver, Driver::Qemu);
        assert_eq!(config.network.prefix.length, 22);
        assert_eq!(config.network.bridge, "dwcpbr0");
        assert!(config.scale.is_reduced() && config.listen.is_none());
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        let refused = refusal(&GOOD.replace("driver:", "drivr:"));
        assert!(refused.contains("drivr") && refused.contains("line 7"), "{refused}");
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        for (from, to, says) in [
            ("vms: 100", "vms: 0", "at least 1"),
            ("/var/lib/dwcp/host-a", "data", "absolute"),
            ("10.80.0.0/22", "10.80.0.1/22", "behind the length"),
            ("10.80.0.0/22", "10.80.0.0/31", "8 to 30"),
            ("mode: tap", "mode: tap, bridge: a/b", "1 to 15"),
            ("driver: qemu", "listen: '127.0.0.1:1'", "TLS only"),
            ("cpu_max: 1", "cpu_max: 0", "at least 1"),
        ] {
            let refused = refusal(&GOOD.replace(from, to));
            assert!(refused.contains(says), "{to}: {refused}");
        }
    }
}
