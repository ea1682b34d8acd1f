//! A running federation: made from a plan, driven by a test, ended with it.

mod ends;
mod own;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::failover::GetFailover;
use dwcp_api::public::VmDetail;
use dwcp_api::{Client, NoParams};
use dwcp_controller::liveness::{LeaseSight, RegionState};
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::strong::etcd::command::{CLIENT_NAME, PEER_NAME};
use dwcp_runtime::tls::{
    ADMIN_LIFETIME_MAX, ClientTls, Credentials, DevelopmentCa, ExpectedServer, Identity,
    NODE_LIFETIME, SubjectName,
};
use dwcp_types::{Health, HealthState, HostId, RegionId, Timestamp, VmPhase};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::address::{Claim, beside};
use crate::disk::SmallDisk;
use crate::doors::Door;
use crate::etcd::etcd_program;
use crate::ground::Ground;
use crate::layout::{Layout, program};
use crate::plan::{HostPlan, Plan, RegionPlan, member};
use crate::process::Process;
use crate::stand_in;
use crate::state_door::report_of;
use crate::stepped::SteppedClock;
use crate::wait::until;
use crate::wan::Bed;

/// Life of the administrator's credential, the longest that there is: a nemesis runs for hours.
const ADMIN_LIFETIME: Duration = ADMIN_LIFETIME_MAX;

/// How old certificates are when a federation starts: older than any step back of a clock, as
/// those of a federation that has run for a while. One whose clock is before their beginning
/// can speak with nobody, which is right and another matter.
const AGED_MS: u64 = 2 * 60 * 60 * 1_000;

/// Daemons, agents, their files and their guests.
#[derive(Debug)]
pub struct Federation {
    // Processes first: they end before their folder goes.
    processes: BTreeMap<String, Process>,
    /// Of whoever has a small one to itself; before the folder that they are in.
    disks: BTreeMap<String, SmallDisk>,
    /// Of whoever has one to itself.
    clocks: BTreeMap<String, SteppedClock>,
    plan: Plan,
    sockets: BTreeMap<String, SocketAddr>,
    ca: DevelopmentCa,
    layout: Layout,
    folder: TempDir,
    ground: Ground,
}

impl Federation {
    /// Prepares and starts everything and waits until every daemon sees every region healthy.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub async fn start(plan: Plan) -> Self {
        Self::prepare(plan).up().await
    }

    /// The same with each region in its place behind an emulated WAN. The test that asks it is
    /// run by [`Bed::block_on`].
    ///
    /// # Panics
    ///
    /// As [`Self::start`], and when the bed has not all regions of the plan.
    pub async fn start_on(bed: &Arc<Bed>, plan: Plan) -> Self {
        Self::prepare_on(Ground::Wan(Arc::clone(bed)), plan).up().await
    }

    async fn up(mut self) -> Self {
        for process in self.processes.values_mut() {
            process.start();
        }
        self.healthy().await;
        self
    }

    /// Prepares everything and starts nothing.
    ///
    /// # Panics
    ///
    /// When a file cannot be written or a program was not built.
    #[must_use]
    pub fn prepare(plan: Plan) -> Self {
        let sockets = u16::try_from(plan.sockets().len()).expect("a small federation");
        Self::prepare_on(Ground::Loopback(Claim::new(sockets)), plan)
    }

    fn prepare_on(ground: Ground, plan: Plan) -> Self {
        let folder = tempfile::Builder::new().prefix("dwcp-").tempdir();
        let folder = folder.expect("a temporary folder can be made");
        let layout = Layout::new(folder.path());
        let mut taken: BTreeMap<String, u16> = BTreeMap::new();
        let socket = |((region, name), n): ((String, String), u16)| {
            let own = taken.entry(region.clone()).or_default();
            // Regions with addresses of their own have the same ports.
            let n = if ground.is_apart() { *own } else { n };
            *own += 1;
            let mut socket = ground.socket(&region, n);
            if let Some(at) = plan.proxy_apart(&name)
                && !ground.is_apart()
            {
                socket.set_ip(beside(socket.ip(), at));
            }
            (name, socket)
        };
        let sockets = plan.sockets().into_iter().zip(0..).map(socket).collect();
        let ca = DevelopmentCa::create(&layout.ca(), issued_at());
        let ca = ca.expect("a CA can be made");
        let (processes, disks, clocks) = Default::default();
        let mut federation =
            Self { processes, disks, clocks, plan, sockets, ca, layout, folder, ground };
        if federation.plan.qemu.is_some() {
            federation.furnish_stand_ins();
        }
        federation.write_files();
        federation
    }

    fn write_files(&mut self) {
        let config = self.plan.federation(&|name| self.socket(name));
        write_json(&self.layout.config(), &config);
        let admin = Identity::Admin("test".to_owned());
        self.issue(&admin, ADMIN_LIFETIME, &self.layout.admin(), "admin");
        for voter in self.plan.voters.clone() {
            let process = self.member_process(&voter);
            self.processes.insert(member(&voter), process);
        }
        for region in &self.plan.regions.clone() {
            let identity = Identity::Region(region_id(&region.id));
            self.issue(&identity, NODE_LIFETIME, &self.layout.tls(&region.id), "region");
            let daemon = self.daemon_process(&region.id);
            self.processes.insert(region.id.clone(), daemon);
            for (index, host) in region.hosts.iter().enumerate() {
                let id = region.host_id(index);
                let identity = Identity::Host {
                    region: region_id(&region.id),
                    host: HostId::new(&id).expect("a name"),
                };
                self.issue(&identity, NODE_LIFETIME, &self.layout.tls(&id), "agent");
                let config = self.agent_config(region, host, &id);
                write_json(&self.layout.agent_config(&id), &config);
                let agent = self.agent_process(&region.id, &id);
                self.processes.insert(id, agent);
            }
        }
    }

    /// Issues a certificate for the address of its region.
    fn issue(&self, who: &Identity, lifetime: Duration, into: &Path, name: &str) {
        let now = issued_at();
        let names: Vec<_> = match who {
            Identity::Admin(_) | Identity::Monitor(_) => Vec::new(),
            Identity::Region(region)
            | Identity::Host { region, .. }
            | Identity::Engine(region) => {
                let mut names =
                    vec![SubjectName::Ip(self.ground.address(region.as_str()))];
                names.extend(engine_name(who).map(|name| SubjectName::Dns(name.into())));
                names.extend(who.dns_name().map(SubjectName::Dns));
                names
            }
        };
        let issued = self.ca.issue(who, &names, lifetime, now).expect("a certificate");
        issued.write(into, name).expect("the folder can be written");
    }

    /// The member of etcd in a region, started as `dwcpd engine member` starts it.
    fn member_process(&self, region: &str) -> Process {
        let name = member(region);
        let identity = Identity::Engine(region_id(region));
        self.issue(&identity, NODE_LIFETIME, &self.layout.tls(&name), "engine");
        let args = [
            ("config", self.layout.config()),
            ("name", region.into()),
            ("data-dir", self.layout.data(&name)),
            ("tls-dir", self.layout.tls(&name)),
            ("distance", self.ground.distance().into()),
        ];
        let flags = args
            .into_iter()
            .flat_map(|(name, value)| [format!("--{name}"), value.display().to_string()]);
        let args = ["engine", "member"].map(str::to_owned).into_iter().chain(flags);
        let log = self.layout.log(&name);
        let etcd = etcd_program().expect("a plan on etcd is made where etcd is");
        let folder = etcd.parent().expect("a program is in a folder");
        let process = Process::new(&name, &program("dwcpd"), args.collect(), log);
        self.ground.place(process.finding_in(folder), region)
    }

    fn daemon_process(&mut self, region: &str) -> Process {
        let data = self.layout.data(region);
        fs::create_dir_all(&data).expect("the folder can be written");
        let log = self.layout.log(region);
        let args = self.daemon_args(region, &data);
        let process = Process::new(region, &program("dwcpd"), args, log);
        let process = self.equip(process);
        self.ground.place(process, region)
    }

    /// A daemon's arguments, with its data in this folder.
    #[must_use]
    pub fn daemon_args(&self, region: &str, data: &Path) -> Vec<String> {
        let tls = self.layout.tls(region);
        let config = self.layout.config();
        [
            "run",
            "--config",
            &config.display().to_string(),
            "--region",
            region,
            "--data-dir",
            &data.display().to_string(),
            "--tls-dir",
            &tls.display().to_string(),
        ]
        .map(ToOwned::to_owned)
        .to_vec()
    }

    fn agent_process(&mut self, region: &str, host: &str) -> Process {
        let config = self.layout.agent_config(host).display().to_string();
        let args = ["run".to_owned(), "--config".to_owned(), config].to_vec();
        let log = self.layout.log(host);
        let guests = self.guests_folder().into_os_string();
        let process = Process::new(host, &program("dwcp-agent"), args, log);
        let process = process.with_env([(stand_in::GUESTS.to_owned(), guests)]);
        let process = self.equip(process);
        self.ground.place(process, region)
    }

    fn agent_config(&self, region: &RegionPlan, host: &HostPlan, id: &str) -> Value {
        let tls = self.layout.tls(id);
        let qemu = self.plan.qemu.as_deref();
        let qemu = qemu.unwrap_or_else(|| Path::new("qemu-system-x86_64"));
        json!({
            "host": id,
            "qemu": qemu,
            "region": region.id,
            "zone": region.zone_id(host),
            "capacity": host.capacity,
            "data_dir": self.layout.data(id),
            "listen": self.socket(id).to_string(),
            "tls": {
                "ca": tls.join("ca.crt"),
                "cert": tls.join("agent.crt"),
                "key": tls.join("agent.key"),
            },
            "driver": self.plan.driver,
            "image_dir": self.plan.image,
            // A bridge would be shared with other tests; taps have tests of their own.
            "network": { "mode": "user" },
            "scale": { "cpu_max": 1, "memory_max": 96 },
        })
    }

    /// Waits until every daemon that runs sees every region healthy and the engine.
    ///
    /// # Panics
    ///
    /// When that does not come true.
    pub async fn healthy(&self) {
        for region in &self.plan.regions {
            let door = self.at(&region.id);
            until(&format!("{} sees all regions healthy", region.id), || {
                self.all_healthy_at(&door)
            })
            .await;
        }
    }

    /// Waits until every region's daemon has seen all others hold their leases, where leases are
    /// kept: a region that never did is none that falls silent.
    ///
    /// # Panics
    ///
    /// When that does not come true.
    pub async fn have_run(&self) {
        for region in &self.plan.regions {
            let door = self.at(&region.id);
            until(&format!("{} sees all regions' leases", region.id), || all_hold(&door))
                .await;
        }
    }

    /// Whether a region's daemon sees every region healthy, and the engine.
    ///
    /// # Errors
    ///
    /// What it sees instead.
    pub async fn all_healthy_at(&self, door: &Door) -> Result<(), String> {
        self.all_at(door, |health| health.state == HealthState::Healthy).await
    }

    /// Whether a region's daemon hears every region, all hosts of each, and the engine; what
    /// failed within the last minute, which is in a region's health for so long, is past.
    ///
    /// # Errors
    ///
    /// What it sees instead.
    pub async fn all_heard_at(&self, door: &Door) -> Result<(), String> {
        self.all_at(door, |health| health.state != HealthState::Unknown).await
    }

    async fn all_at(&self, door: &Door, fits: fn(&Health) -> bool) -> Result<(), String> {
        let status = door.status().await.map_err(|error| error.to_string())?;
        if !status.engine.reachable {
            return Err(format!("the engine is out of reach: {:?}", status.engine));
        }
        for plan in &self.plan.regions {
            let seen = status.regions.iter().find(|it| it.id.as_str() == plan.id);
            let seen = seen.ok_or_else(|| format!("{} is not listed", plan.id))?;
            if !fits(&seen.health) || seen.hosts_up != seen.hosts {
                return Err(format!(
                    "{} is {:?} ({}), {} of {} hosts answer",
                    plan.id,
                    seen.health.state,
                    seen.health.score,
                    seen.hosts_up,
                    seen.hosts
                ));
            }
        }
        Ok(())
    }

    /// Waits until the replicas of these regions hear each other.
    ///
    /// # Panics
    ///
    /// When that does not come true.
    pub async fn connected(&self, regions: &[&str]) {
        until("the replicas hear each other", || async {
            for region in regions {
                let reports = self.at(region).replicas().await;
                let reports = reports.map_err(|error| error.to_string())?;
                let own = report_of(&reports, region).ok_or("no report of its own")?;
                let up = own.peers.iter().filter(|peer| peer.connected).count();
                if up + 1 < regions.len() {
                    return Err(format!("{region} hears {up}"));
                }
            }
            Ok(())
        })
        .await;
    }

    /// The API of one region, as its administrator.
    ///
    /// # Panics
    ///
    /// When there is no such region.
    #[must_use]
    pub fn at(&self, region: &str) -> Door {
        self.at_with(region, self.admin())
    }

    /// The same as another operator, whose certificate is of the same authority.
    ///
    /// # Panics
    ///
    /// When there is no such region, or the certificate cannot be made.
    #[must_use]
    pub fn at_as(&self, region: &str, operator: &str) -> Door {
        let folder = self.layout.operator(operator);
        let identity = Identity::Admin(operator.to_owned());
        self.issue(&identity, ADMIN_LIFETIME, &folder, "admin");
        self.at_with(region, Credentials::in_dir(&folder, "admin"))
    }

    /// The same with these credentials.
    ///
    /// # Panics
    ///
    /// When there is no such region, or they cannot be used.
    #[must_use]
    pub fn at_with(&self, region: &str, credentials: Credentials) -> Door {
        let server = ExpectedServer::Identity(Identity::Region(region_id(region)));
        let tls = ClientTls::load(credentials, server).expect("the credentials");
        let base = format!("https://{}", self.socket(region));
        Door::new(Client::new(&[base], tls).expect("an address"))
    }

    /// The administrator's credentials.
    #[must_use]
    pub fn admin(&self) -> Credentials {
        Credentials::in_dir(&self.layout.admin(), "admin")
    }

    /// The folder that they are in.
    #[must_use]
    pub fn admin_folder(&self) -> PathBuf {
        self.layout.admin()
    }

    /// The credentials of a region's daemon, or of a host's agent.
    #[must_use]
    pub fn credentials(&self, who: &str) -> Credentials {
        let is_region = self.plan.regions.iter().any(|region| region.id == who);
        let name = if is_region { "region" } else { "agent" };
        Credentials::in_dir(&self.layout.tls(who), name)
    }

    /// The authority of its certificates.
    #[must_use]
    pub const fn ca(&self) -> &DevelopmentCa {
        &self.ca
    }

    /// The folder of everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder of a daemon or agent.
    #[must_use]
    pub fn data(&self, who: &str) -> PathBuf {
        self.layout.data(who)
    }

    /// The configuration of an agent.
    #[must_use]
    pub fn agent_file(&self, host: &str) -> PathBuf {
        self.layout.agent_config(host)
    }

    /// Where a daemon or agent listens.
    ///
    /// # Panics
    ///
    /// When there is none of this name.
    #[must_use]
    pub fn socket(&self, name: &str) -> SocketAddr {
        *self.sockets.get(name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// A daemon by its region, or an agent by its host (`REGION-h1`, `REGION-h2`, ...).
    ///
    /// # Panics
    ///
    /// When there is none of this name.
    pub fn process(&mut self, name: &str) -> &mut Process {
        self.processes.get_mut(name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// Waits until a VM is seen in this phase from this region, and gives it.
    ///
    /// # Panics
    ///
    /// When that does not come true.
    pub async fn in_phase(&self, at: &str, vm: &str, phase: VmPhase) -> VmDetail {
        let door = self.at(at);
        until(&format!("{vm} is {phase:?} as seen from {at}"), || async {
            let detail = door.vm(vm).await.map_err(|error| error.to_string())?;
            let seen = detail.item.phase;
            let why = || detail.observed.as_ref().and_then(|seen| seen.error.clone());
            if seen == phase { Ok(detail) } else { Err(format!("{seen:?} {:?}", why())) }
        })
        .await
    }

    /// Waits until one region sees another so.
    ///
    /// # Panics
    ///
    /// When that does not come true.
    pub async fn sees(&self, at: &str, region: &str, wanted: RegionState) {
        let door = self.at(at);
        until(&format!("{region} is {wanted} as seen from {at}"), || async {
            let seen = door.liveness(region).await?;
            if seen.verdict.state == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }

    /// Waits until a region's books hold nothing.
    ///
    /// # Panics
    ///
    /// When that does not come true.
    pub async fn nothing_reserved(&self, region: &str) {
        self.reserved(region, 0).await;
    }

    /// Waits until a region's books hold exactly so many VMs.
    ///
    /// # Panics
    ///
    /// When that does not come true.
    pub async fn reserved(&self, region: &str, vms: u64) {
        let door = self.at(region);
        until(&format!("{vms} VMs are reserved in {region}"), || async {
            let sums = door.capacity(region).await.map_err(|e| e.to_string())?;
            // A daemon that has not heard from its hosts yet knows of no reservation.
            let heard = sums.total == self.plan.total(region);
            if heard && sums.reserved.vms == vms {
                Ok(())
            } else {
                Err(format!("{sums:?}"))
            }
        })
        .await;
    }

    /// The names of a region's hosts.
    #[must_use]
    pub fn hosts_of(&self, region: &str) -> Vec<String> {
        self.plan.hosts_of(region).collect()
    }

    /// The names of all regions.
    pub fn region_ids(&self) -> impl Iterator<Item = &str> {
        self.plan.regions.iter().map(|region| region.id.as_str())
    }
}

/// What lets its holder in at a member of etcd.
const fn engine_name(who: &Identity) -> Option<&'static str> {
    match who {
        Identity::Region(_) => Some(CLIENT_NAME),
        Identity::Engine(_) => Some(PEER_NAME),
        Identity::Host { .. } | Identity::Admin(_) | Identity::Monitor(_) => None,
    }
}

/// When certificates are issued.
fn issued_at() -> Timestamp {
    let now = SystemClock::new().now().as_millis();
    Timestamp::from_millis(now.saturating_sub(AGED_MS))
}

fn region_id(region: &str) -> RegionId {
    RegionId::new(region).expect("a name")
}

fn write_json(path: &Path, value: &Value) {
    fs::write(path, format!("{value:#}\n")).expect("the test's folder can be written");
}

/// Whether every region was seen to hold its lease.
async fn all_hold(door: &Door) -> Result<(), String> {
    let status = door.call::<GetFailover>(&NoParams {}, &()).await;
    let status = status.map_err(|error| error.to_string())?;
    let mut verdicts = status.regions.iter().map(|it| &it.verdict);
    let lacks = verdicts
        .find(|it| matches!(it.lease, LeaseSight::Never | LeaseSight::Unread))
        .filter(|_| status.enabled);
    lacks.map_or(Ok(()), |it| Err(format!("{it:?}")))
}
