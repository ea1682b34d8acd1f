//! Makes what a local federation needs before its first process starts: folders, the
//! development CA, a certificate for each daemon and agent, for the administrator and for who
//! collects measurements, and the agents' configurations.
//!
//! Done anew at each start: certificates are reissued, data is left alone.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::Context;
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::strong::etcd::command::CLIENT_NAME;
use dwcp_runtime::tls::{
    ADMIN_LIFETIME_MAX, DevelopmentCa, Identity, NODE_LIFETIME, SubjectName,
};
use dwcp_types::HostId;
use serde_json::{Value, json};

use super::{Layout, Plan};
use crate::config::{Endpoint, EngineChoice, Federation, HostSpec, RegionSpec};
use crate::voters;

/// Memory that a guest gets at most on a development machine: the least that the rehearsal
/// guest boots in without doubt (64 MiB panics, 72 boots; 96 leaves room for its programs).
const GUEST_MEMORY_MIB: u64 = 96;

/// CPUs that a guest gets at most on a development machine.
const GUEST_CPUS: u32 = 1;

/// Guest networks on one machine, 10.77.0.0/24 to 10.77.255.0/24.
const NETWORKS_MAX: u8 = 255;

/// What drives guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Driver {
    /// QEMU where it can be had, else the simulated one.
    #[default]
    Auto,
    /// QEMU or nothing.
    Qemu,
    /// States only: no real VMs.
    Simulated,
}

impl Driver {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Qemu => "qemu",
            Self::Simulated => "simulated",
        }
    }
}

/// Makes everything.
///
/// # Errors
///
/// When a file cannot be written or an existing CA cannot be used.
pub(super) fn prepare(plan: &Plan, federation: &Federation) -> anyhow::Result<()> {
    let layout = &plan.layout;
    private_dir(layout.root())?;
    for folder in [layout.logs(), layout.run(), layout.engine()] {
        private_dir(&folder)?;
    }
    let now = SystemClock::new().now();
    let ca = DevelopmentCa::load_or_create(&layout.ca(), now)?;
    let mut networks = 0..=NETWORKS_MAX;
    for spec in &federation.regions {
        let region = &spec.region.id;
        private_dir(&layout.region_data(region))?;
        let mut names: Vec<_> = spec.endpoint.iter().map(subject).collect();
        names.push(SubjectName::Dns(CLIENT_NAME.to_owned()));
        let identity = Identity::Region(region.clone());
        ca.issue(&identity, &names, NODE_LIFETIME, now)?
            .write(&layout.region_tls(region), "region")?;
        for host in &spec.hosts {
            let identity =
                Identity::Host { region: region.clone(), host: host.id.clone() };
            let mut names = vec![subject(&host.agent)];
            names.extend(identity.dns_name().map(SubjectName::Dns));
            ca.issue(&identity, &names, NODE_LIFETIME, now)?
                .write(&layout.agent_tls(&host.id), "agent")?;
            private_dir(&layout.agent_data(&host.id))?;
            let network = networks.next().context(
                "more than 256 hosts on one machine; use fewer hosts in this file",
            )?;
            let config = agent_config(plan, spec, host, network);
            let path = layout.agent_config(&host.id);
            fs::write(&path, format!("{config:#}\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    if let EngineChoice::Etcd(etcd) = federation.engine.choice() {
        for voter in &etcd.voters {
            private_dir(&layout.voter_data(&voter.name))?;
            let names = voters::subjects(voter, subject);
            ca.issue(
                &Identity::Engine(voter.region.clone()),
                &names,
                NODE_LIFETIME,
                now,
            )?
            .write(&layout.voter_tls(&voter.name), voters::CERTIFICATE)?;
        }
    }
    issue_admin(layout)?;
    ca.issue(&Identity::Monitor("local".to_owned()), &[], NODE_LIFETIME, now)?
        .write(&layout.monitor(), "monitor")?;
    let endpoints = federation.regions.iter().filter_map(|spec| spec.endpoint.as_ref());
    let endpoints: String =
        endpoints.map(|endpoint| format!("https://{endpoint}\n")).collect();
    fs::write(layout.admin().join("endpoints"), endpoints)?;
    Ok(())
}

/// Issues the administrator's credential anew; it lasts 24 hours.
///
/// # Errors
///
/// When there is no CA yet or the files cannot be written.
pub fn issue_admin(layout: &Layout) -> anyhow::Result<()> {
    issue_person(layout, "local", &layout.admin())
}

/// Issues the credential of another operator, who may do the same under a name of their own: it is
/// by the name that a second person is told from the first (F17).
///
/// # Errors
///
/// As [`issue_admin`].
pub fn issue_operator(layout: &Layout, name: &HostId) -> anyhow::Result<()> {
    let folder = layout.operator(name);
    issue_person(layout, name.as_str(), &folder)?;
    let endpoints = "endpoints";
    fs::copy(layout.admin().join(endpoints), folder.join(endpoints))
        .context("the addresses of the daemons cannot be copied")?;
    Ok(())
}

fn issue_person(layout: &Layout, name: &str, folder: &Path) -> anyhow::Result<()> {
    let ca = DevelopmentCa::load(&layout.ca())
        .context("there is no federation here yet; start one with `./dwcp up`")?;
    let identity = Identity::Admin(name.to_owned());
    ca.issue(&identity, &[], ADMIN_LIFETIME_MAX, SystemClock::new().now())?
        .write(folder, "admin")?;
    Ok(())
}

fn subject(endpoint: &Endpoint) -> SubjectName {
    endpoint
        .host()
        .parse::<IpAddr>()
        .map_or_else(|_| SubjectName::Dns(endpoint.host().to_owned()), SubjectName::Ip)
}

/// An agent's configuration. Each host has a guest network of its own.
fn agent_config(plan: &Plan, spec: &RegionSpec, host: &HostSpec, network: u8) -> Value {
    let layout = &plan.layout;
    let tls = layout.agent_tls(&host.id);
    json!({
        "host": host.id,
        "region": spec.region.id,
        "zone": host.zone,
        "capacity": host.capacity,
        "data_dir": layout.agent_data(&host.id),
        "listen": host.agent.to_string(),
        "tls": {
            "ca": tls.join("ca.crt"),
            "cert": tls.join("agent.crt"),
            "key": tls.join("agent.key"),
        },
        "driver": plan.driver.as_str(),
        "image_dir": std::path::absolute(&plan.image).unwrap_or_else(|_| plan.image.clone()),
        "network": {
            "bridge": layout.bridge(network),
            "prefix": format!("10.77.{network}.0/24"),
        },
        "scale": { "cpu_max": GUEST_CPUS, "memory_max": GUEST_MEMORY_MIB },
    })
}

fn private_dir(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dwcp_runtime::tls::Credentials;

    #[test]
    fn another_operator_has_the_same_addresses_under_a_name_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        let bob = HostId::new("bob").unwrap();
        assert!(issue_operator(&layout, &bob).is_err(), "there is no federation yet");
        let now = SystemClock::new().now();
        DevelopmentCa::create(&layout.ca(), now).unwrap();
        issue_admin(&layout).unwrap();
        fs::write(layout.admin().join("endpoints"), "https://127.0.0.11:8443\n").unwrap();
        issue_operator(&layout, &bob).unwrap();
        let holder = |folder: &Path| {
            let credentials = Credentials::in_dir(folder, "admin");
            credentials.check_validity(now).unwrap().identity
        };
        assert_eq!(holder(&layout.operator(&bob)), Identity::Admin("bob".to_owned()));
        assert_eq!(holder(&layout.admin()), Identity::Admin("local".to_owned()));
        let endpoints = fs::read_to_string(layout.operator(&bob).join("endpoints"));
        assert_eq!(endpoints.unwrap(), "https://127.0.0.11:8443\n");
    }
}
