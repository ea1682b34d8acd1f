//! Connects guests by taps in one bridge, with the `ip` tool.
//!
//! The bridge and the taps are the host's, not the agent's: they live on when it dies, like
//! the guests that use them. Every step is safe to repeat.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use dwcp_types::{HostId, RegionId, VmId};
use dwcp_vm::{GuestName, GuestSpec, Link};
use tokio::process::Command;
use tokio::time::timeout;

use crate::config::{Config, Network, NetworkMode};
use crate::hypervisor::{HypervisorError, Prefix};

/// `ip` takes milliseconds; longer means that the kernel's network lock is stuck.
const IP_LIMIT: Duration = Duration::from_secs(10);

/// How this host connects its guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wiring {
    None,
    User,
    /// To nothing, whatever the configuration says.
    Isolated,
    Taps {
        bridge: String,
        prefix: Prefix,
        at: (RegionId, HostId),
    },
}

impl Wiring {
    /// Makes ready what the mode needs; `auto` falls back to the user network and says why.
    ///
    /// # Errors
    ///
    /// When taps are demanded and cannot be had.
    pub(crate) async fn open(config: &Config) -> Result<Self, HypervisorError> {
        match config.network.mode {
            NetworkMode::None => Ok(Self::None),
            NetworkMode::User => Ok(Self::User),
            NetworkMode::Tap => Self::taps(config).await,
            NetworkMode::Auto => match Self::taps(config).await {
                Ok(wiring) => Ok(wiring),
                Err(error) => {
                    let reason = error.told();
                    tracing::warn!(%reason, "no taps: guests get the user network");
                    Ok(Self::User)
                }
            },
        }
    }

    async fn taps(config: &Config) -> Result<Self, HypervisorError> {
        let Network { bridge, prefix, .. } = config.network.clone();
        if !Path::new("/dev/net/tun").exists() {
            let reason = "/dev/net/tun is missing; load the module tun".to_owned();
            return Err(HypervisorError::Network {
                command: "tuntap".to_owned(),
                reason,
            });
        }
        if ip(&["link", "show", "dev", &bridge]).await.is_err() {
            ip(&["link", "add", "name", &bridge, "type", "bridge"]).await?;
        }
        let address = format!("{}/{}", prefix.gateway(), prefix.length);
        ip(&["address", "replace", &address, "dev", &bridge]).await?;
        ip(&["link", "set", "dev", &bridge, "up"]).await?;
        let at = (config.region.clone(), config.host.clone());
        Ok(Self::Taps { bridge, prefix, at })
    }

    pub(crate) const fn prefix(&self) -> Option<Prefix> {
        match self {
            Self::None | Self::User | Self::Isolated => None,
            Self::Taps { prefix, .. } => Some(*prefix),
        }
    }

    /// Makes the guest's device.
    pub(crate) async fn connect(
        &self,
        vm: &VmId,
        guest: &GuestSpec,
    ) -> Result<Link, HypervisorError> {
        let (bridge, prefix, at) = match self {
            Self::None => return Ok(Link::None),
            Self::User => return Ok(Link::User),
            Self::Isolated => return Ok(Link::Isolated),
            Self::Taps { bridge, prefix, at } => (bridge, *prefix, at),
        };
        let device = GuestName::of(vm).tap((&at.0, &at.1));
        if ip(&["link", "show", "dev", &device]).await.is_err() {
            ip(&["tuntap", "add", "dev", &device, "mode", "tap"]).await?;
        }
        ip(&["link", "set", "dev", &device, "master", bridge, "up"]).await?;
        Ok(Link::Tap {
            device,
            address: guest.address.map(|address| (address, prefix.length)),
            gateway: guest.address.map(|_| prefix.gateway()),
        })
    }

    /// Removes the guest's device, if there is one.
    pub(crate) async fn disconnect(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let Self::Taps { at, .. } = self else { return Ok(()) };
        let device = GuestName::of(vm).tap((&at.0, &at.1));
        if ip(&["link", "show", "dev", &device]).await.is_err() {
            return Ok(());
        }
        ip(&["link", "delete", "dev", &device]).await
    }
}

async fn ip(arguments: &[&str]) -> Result<(), HypervisorError> {
    let failed = |reason: String| HypervisorError::Network {
        command: arguments.join(" "),
        reason,
    };
    let running = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(IP_LIMIT, running)
        .await
        .map_err(|_| failed("no end within 10 s".to_owned()))?
        .map_err(|error| {
            failed(format!("{error}; install it (apt-get install iproute2)"))
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(
        String::from_utf8_lossy(&output.stderr).trim().chars().take(300).collect(),
    ))
}
