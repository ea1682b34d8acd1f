//! An etcd cluster of real processes, with TLS, on an address of its own.
//!
//! Members are started with the very command line that `./dwcp up` uses. Where etcd is not
//! installed there is no cluster, and the reason is printed.

use std::path::PathBuf;
use std::sync::Arc;

use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::strong::EtcdEngine;
use dwcp_runtime::strong::etcd::command::{
    CLIENT_NAME, PEER_NAME, Setup, Timers, Voter, program,
};
use dwcp_runtime::strong::etcd::{MemberAddress, Raw};
use dwcp_runtime::tls::{
    ClientTls, Credentials, DevelopmentCa, ExpectedServer, Identity, NODE_LIFETIME,
    SubjectName,
};
use dwcp_types::RegionId;
use tempfile::TempDir;

use crate::address::Claim;
use crate::layout::{skip, workspace};
use crate::process::Process;
use crate::wait::until;

/// The namespace of all records.
const NAMESPACE: &str = "test";

/// The program of etcd, where it is installed; else the reason is printed.
#[must_use]
pub fn etcd_program() -> Option<PathBuf> {
    // Where `./dwcp` unpacks it.
    let unpacked = workspace().join("target/etcd/usr/bin");
    program(&[unpacked])
        .or_else(|| skip("etcd is not installed; `./dwcp test` gets it where it can"))
}

/// Members, their files, and the authority of their certificates.
#[derive(Debug)]
pub struct EtcdCluster {
    // Processes first: they end before their folder goes.
    processes: Vec<Process>,
    voters: Vec<Voter>,
    ca: DevelopmentCa,
    folder: TempDir,
    _claim: Claim,
}

impl EtcdCluster {
    /// Starts so many members and waits until they have a leader; nothing where etcd is not
    /// installed.
    ///
    /// # Panics
    ///
    /// When they do not come up.
    pub async fn start(members: u16) -> Option<Self> {
        let program = etcd_program()?;
        let folder = tempfile::Builder::new().prefix("dwcp-etcd-").tempdir();
        let folder = folder.expect("a temporary folder can be made");
        let claim = Claim::new(2 * members);
        let ca =
            DevelopmentCa::create(&folder.path().join("ca"), SystemClock::new().now());
        let ca = ca.expect("a CA can be made");
        let voter = |n: u16| Voter {
            name: format!("m{n}"),
            client: claim.socket(2 * n).to_string(),
            peer: claim.socket(2 * n + 1).to_string(),
        };
        let voters: Vec<_> = (0..members).map(voter).collect();
        let mut cluster =
            Self { processes: Vec::new(), voters, ca, folder, _claim: claim };
        for voter in cluster.voters.clone() {
            let process = cluster.member(&program, &voter.name);
            cluster.processes.push(process);
        }
        for process in &mut cluster.processes {
            process.start();
        }
        cluster.leader().await;
        Some(cluster)
    }

    fn member(&self, program: &std::path::Path, name: &str) -> Process {
        let identity = Identity::Engine(region(name));
        let credentials = self.issue(&identity, PEER_NAME, name);
        let setup = Setup {
            name: name.to_owned(),
            voters: self.voters.clone(),
            data: self.folder.path().join("data").join(name),
            credentials,
            token: "test".to_owned(),
            timers: Timers::LAN,
        };
        std::fs::create_dir_all(self.folder.path().join("data")).expect("a folder");
        let args = setup.args().expect("it is a voter");
        let log = self.folder.path().join(format!("{name}.log"));
        Process::new(name, program, args, log)
    }

    /// Issues a certificate that carries this DNS name, and the cluster's address.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[must_use]
    pub fn issue(&self, who: &Identity, dns: &str, name: &str) -> Credentials {
        let address = self.voters[0].client.rsplit_once(':').expect("host:port").0;
        let names = [
            SubjectName::Dns(dns.to_owned()),
            SubjectName::Ip(address.parse().expect("an address")),
        ];
        // A person's certificate lives a day at most.
        let lifetime = match who {
            Identity::Admin(_) => std::time::Duration::from_hours(1),
            Identity::Region(_)
            | Identity::Host { .. }
            | Identity::Engine(_)
            | Identity::Monitor(_) => NODE_LIFETIME,
        };
        let now = SystemClock::new().now();
        let issued = self.ca.issue(who, &names, lifetime, now).expect("a certificate");
        let folder = self.folder.path().join("tls").join(name);
        issued.write(&folder, "tls").expect("the folder can be written")
    }

    /// The members in this order, as a region's daemon reaches them.
    #[must_use]
    pub fn addresses(&self, order: &[usize]) -> Vec<MemberAddress> {
        let daemon = Identity::Region(region("daemon"));
        self.addresses_as(&self.issue(&daemon, CLIENT_NAME, "daemon"), order)
    }

    /// The members in this order, as whoever has these credentials reaches them.
    ///
    /// # Panics
    ///
    /// When the credentials cannot be used.
    #[must_use]
    pub fn addresses_as(
        &self,
        credentials: &Credentials,
        order: &[usize],
    ) -> Vec<MemberAddress> {
        let address = |n: &usize| {
            let voter = &self.voters[*n];
            let who = Identity::Engine(region(&voter.name));
            let server = ExpectedServer::Identity(who);
            let (host, port) = voter.client.rsplit_once(':').expect("host:port");
            MemberAddress {
                name: voter.name.clone(),
                host: host.to_owned(),
                port: port.parse().expect("a port"),
                tls: ClientTls::load(credentials.clone(), server).expect("credentials"),
            }
        };
        order.iter().map(address).collect()
    }

    /// The engine, asking the members in this order.
    ///
    /// # Panics
    ///
    /// When there are none.
    #[must_use]
    pub fn engine(&self, order: &[usize], clock: Arc<dyn Clock>) -> EtcdEngine {
        EtcdEngine::new(self.addresses(order), NAMESPACE, clock).expect("members")
    }

    /// The engine on all members and the machine's clock.
    #[must_use]
    pub fn engine_on_all(&self) -> EtcdEngine {
        let order: Vec<_> = (0..self.voters.len()).collect();
        self.engine(&order, Arc::new(SystemClock::new()))
    }

    /// etcd without the adapter.
    #[must_use]
    pub fn raw(&self, order: &[usize]) -> Raw {
        Raw::new(self.addresses(order))
    }

    /// A member's process.
    pub fn process(&mut self, member: usize) -> &mut Process {
        &mut self.processes[member]
    }

    /// Waits until somebody leads, and says who.
    pub async fn leader(&self) -> usize {
        let engine = self.engine_on_all();
        until("a member leads", || async {
            let states = engine.survey().await;
            states.iter().position(|state| state.leads()).ok_or(states)
        })
        .await
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for process in &self.processes {
                process.show_log();
            }
        }
    }
}

fn region(name: &str) -> RegionId {
    RegionId::new(name).expect("a name")
}
