//! Moves QEMU's guests: memory by its own stream, the disk by a mirror over NBD, both inside
//! TLS 1.3 with certificates of both sides (HYPERVISOR.md sections 2 and 3, measured on 7.2).
//!
//! What was set up is found again in QEMU itself, by name: the port of the disk is part of its
//! export's name, because QEMU does not tell it otherwise. Credentials are links to the
//! agent's own files, in the names that QEMU looks for, so that a renewal needs nothing here.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dwcp_runtime::tls::{Credentials, Identity};
use dwcp_types::VmId;
use dwcp_vm::migration::{
    Incoming, Machine, Mirror, Outgoing, Ports, Stream, StreamStatus, Traffic,
};
use dwcp_vm::{Accelerator, GuestName, GuestSpec, launch};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::network::Wiring;
use super::qmp::{Client, QmpError};
use super::{Qemu, image, make_folder};
use crate::config::Config;
use crate::hypervisor::{Done, HypervisorError};
use crate::mover::{Doorway, Mover, same_machine};

/// The only protocol and cipher that is offered (X2).
pub(super) const PRIORITY: &str =
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM";
/// Names inside QEMU.
const TLS: &str = "move-tls";
const PEER: &str = "move-peer";
const MIRROR: &str = "move-disk";
const TARGET: &str = "move-target";
const EXPORT: &str = "disk";
/// Ports that are tried before it is said that all are taken.
const PORT_TRIES: u16 = 64;
/// How long the target's disk may take to be reached: less than a command may take.
pub(super) const OPEN_SECONDS: u64 = 4;
/// A job that was ended is gone in milliseconds unless its disk hangs.
const JOB_LIMIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// The shortest span that QEMU measures.
const DIRTY_SPAN: Duration = Duration::from_secs(1);
/// A busy host measures late.
const DIRTY_LIMIT: Duration = Duration::from_secs(10);

/// How this host takes part in moves.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    folder: PathBuf,
    address: IpAddr,
    ports_from: u16,
    ports_count: u16,
    name: String,
    credentials: Credentials,
}

impl Door {
    /// Makes the folder of credentials; nothing when the agent has none.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made.
    pub(super) fn open(config: &Config) -> Result<Option<Self>, HypervisorError> {
        let Some(tls) = &config.tls else { return Ok(None) };
        let folder = config.data_dir.join("move-tls");
        make_folder(&folder)?;
        for (link, file) in [
            ("ca-cert.pem", &tls.ca),
            ("server-cert.pem", &tls.cert),
            ("server-key.pem", &tls.key),
            ("client-cert.pem", &tls.cert),
            ("client-key.pem", &tls.key),
        ] {
            relink(&folder.join(link), file).map_err(|source| HypervisorError::File {
                what: "link",
                path: folder.join(link),
                source,
            })?;
        }
        let identity =
            Identity::Host { region: config.region.clone(), host: config.host.clone() };
        let loopback = || IpAddr::from([127, 0, 0, 1]);
        Ok(Some(Self {
            folder,
            address: config.listen.map_or_else(loopback, |listen| listen.ip()),
            ports_from: config.moves.ports_from,
            ports_count: config.moves.ports_count,
            name: identity.dns_name().unwrap_or_default(),
            credentials: Credentials {
                ca: tls.ca.clone(),
                certificate: tls.cert.clone(),
                key: tls.key.clone(),
            },
        }))
    }

    /// The folder of credentials.
    pub(super) fn folder(&self) -> String {
        self.folder.to_string_lossy().into_owned()
    }

    /// Where this host waits.
    pub(super) const fn address(&self) -> IpAddr {
        self.address
    }

    /// Ports in the order in which they are tried for this guest: each begins elsewhere, so
    /// that guests that come at the same time do not meet.
    pub(super) fn ports(&self, vm: &VmId) -> impl Iterator<Item = u16> + use<> {
        let (from, count) = (self.ports_from, self.ports_count.max(1));
        let offset = u16::try_from(GuestName::of(vm).seed() % u64::from(count));
        let offset = offset.unwrap_or_default();
        (0..count.min(PORT_TRIES)).map(move |step| {
            let at = (u32::from(offset) + u32::from(step)) % u32::from(count);
            from.saturating_add(u16::try_from(at).unwrap_or_default())
        })
    }
}

fn relink(link: &Path, file: &Path) -> io::Result<()> {
    let file = std::path::absolute(file)?;
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(file, link)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct MigrateInfo {
    status: StreamStatus,
    ram: Ram,
    error_desc: Option<String>,
    socket_address: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ram {
    transferred: u64,
    remaining: u64,
    total: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Job {
    pub(super) device: String,
    pub(super) len: u64,
    pub(super) offset: u64,
    #[serde(default)]
    pub(super) ready: bool,
    #[serde(default)]
    pub(super) io_status: String,
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Export {
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DirtyInfo {
    status: String,
    #[serde(default)]
    dirty_rate: i64,
}

pub(super) async fn jobs(client: &Client) -> Result<Vec<Job>, QmpError> {
    client.execute("query-block-jobs", Value::Null).await
}

/// Runs a command and takes QEMU's refusal for "it is so already".
pub(super) async fn attempt(
    client: &Client,
    command: &str,
    arguments: Value,
) -> Result<(), QmpError> {
    match client.execute::<Value>(command, arguments).await {
        Ok(_) => Ok(()),
        Err(QmpError::Refused { reason, .. }) => {
            tracing::debug!(command, reason, "there was nothing to do");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Waits until a job is gone.
pub(super) async fn job_ends(client: &Client, name: &str) -> Result<(), HypervisorError> {
    let gone = async {
        while jobs(client).await?.iter().any(|job| job.device == name) {
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    };
    timeout(JOB_LIMIT, gone).await.unwrap_or_else(|_| {
        let seconds = JOB_LIMIT.as_secs();
        Err(QmpError::Late { command: "the end of the disk's copy".to_owned(), seconds })
    })?;
    Ok(())
}

/// `tcp:HOST:PORT` with brackets where they are needed.
fn uri(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("tcp:[{address}]:{port}")
    } else {
        format!("tcp:{address}:{port}")
    }
}

pub(super) fn inet(address: &str, port: u16) -> Value {
    json!({ "host": address, "port": port.to_string() })
}

/// Cuts the connection of a disk that is reached over the network: out of band, so that a guest
/// whose writes wait for it waits no longer.
pub(super) async fn cut_disk(client: &Client, node: &str) {
    cut(client, &json!({ "type": "block-node", "node-name": node })).await;
}

async fn cut(client: &Client, what: &Value) {
    let yanked =
        client.execute_now::<Value>("yank", json!({ "instances": [what] })).await;
    if let Err(reason) = yanked {
        tracing::debug!(%what, %reason, "there was no connection to cut");
    }
}

fn capabilities() -> Value {
    let on = |name: &str| json!({ "capability": name, "state": true });
    let all = ["pause-before-switchover", "auto-converge", "events"].map(on);
    json!({ "capabilities": all })
}

impl Qemu {
    pub(super) fn door(&self) -> Result<&Door, HypervisorError> {
        self.door.as_ref().ok_or(HypervisorError::NoCertificate)
    }

    pub(super) async fn credentials(
        &self,
        client: &Client,
        id: &str,
        endpoint: &str,
    ) -> Result<(), HypervisorError> {
        let door = self.door()?;
        let folder = door.folder.to_string_lossy();
        attempt(client, "object-del", json!({ "id": id })).await?;
        let object = json!({
            "qom-type": "tls-creds-x509", "id": id, "dir": folder,
            "endpoint": endpoint, "verify-peer": true, "priority": PRIORITY,
        });
        Ok(client.prepare("object-add", object).await?)
    }

    async fn see_traffic(&self, vm: &VmId) -> Traffic {
        let Some(client) = self.client(vm) else { return Traffic::default() };
        let info = client.execute::<MigrateInfo>("query-migrate", Value::Null).await;
        let (Ok(info), Ok(mirror)) = (info, jobs(&client).await) else {
            return Traffic::unknown();
        };
        let mirror = mirror.into_iter().find(|job| job.device == MIRROR);
        let exports: Vec<Export> =
            client.execute("query-block-exports", Value::Null).await.unwrap_or_default();
        let disk = exports.iter().find_map(|export| {
            export.id.strip_prefix(MIRROR)?.strip_prefix('-')?.parse().ok()
        });
        let memory = info.socket_address.first().and_then(|address| {
            address.get("port").and_then(Value::as_str)?.parse().ok()
        });
        Traffic {
            stream: Stream {
                status: info.status,
                transferred: info.ram.transferred,
                remaining: info.ram.remaining,
                total: info.ram.total,
                error: info.error_desc,
            },
            mirror: mirror.map(|job| Mirror {
                ready: job.ready,
                sound: job.io_status == "ok",
                copied: job.offset,
                total: job.len,
            }),
            ports: disk.zip(memory).map(|(disk, memory)| Ports { disk, memory }),
        }
    }

    async fn begin_mirror(
        &self,
        vm: &VmId,
        order: &Outgoing,
    ) -> Result<(), HypervisorError> {
        let client = self.connect(vm).await?;
        // What an agent left that was killed in between.
        attempt(&client, "blockdev-del", json!({ "node-name": TARGET })).await?;
        self.credentials(&client, TLS, "client").await?;
        let mut server = inet(&order.address, order.ports.disk);
        server["type"] = "inet".into();
        let node = json!({
            "driver": "nbd", "node-name": TARGET, "server": server, "export": EXPORT,
            "tls-creds": TLS, "tls-hostname": order.name, "open-timeout": OPEN_SECONDS,
        });
        client.execute::<Value>("blockdev-add", node).await?;
        // `top`: only what is allocated. The target's disk is new and reads as zeros, which
        // `full` would write first: four minutes for a thin terabyte of which 64 KiB are used.
        let mirror = json!({
            "job-id": MIRROR, "device": "disk", "target": TARGET, "sync": "top",
            "copy-mode": "write-blocking", "on-target-error": "stop",
        });
        client.execute::<Value>("blockdev-mirror", mirror).await?;
        Ok(())
    }

    async fn begin_stream(
        &self,
        vm: &VmId,
        order: &Outgoing,
    ) -> Result<(), HypervisorError> {
        let client = self.connect(vm).await?;
        if self.accelerator == Accelerator::Tcg {
            // What it writes while its memory is sent would be missed at the target.
            client.execute::<Value>("stop", Value::Null).await?;
        }
        client.execute::<Value>("migrate-set-capabilities", capabilities()).await?;
        let parameters = json!({
            "tls-creds": TLS, "tls-hostname": order.name,
            "max-bandwidth": order.bandwidth, "downtime-limit": order.downtime_ms,
        });
        client.execute::<Value>("migrate-set-parameters", parameters).await?;
        let uri = uri(&order.address, order.ports.memory);
        client.execute::<Value>("migrate", json!({ "uri": uri })).await?;
        Ok(())
    }

    async fn finish_mirror(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let client = self.connect(vm).await?;
        attempt(&client, "block-job-cancel", json!({ "device": MIRROR })).await?;
        job_ends(&client, MIRROR).await
    }

    async fn undo_all(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let client = self.connect(vm).await?;
        // First, and out of band: a stream that a line holds up holds up all other commands.
        cut(&client, &json!({ "type": "migration" })).await;
        attempt(&client, "migrate_cancel", Value::Null).await?;
        cut_disk(&client, TARGET).await;
        let job = json!({ "device": MIRROR, "force": true });
        attempt(&client, "block-job-cancel", job).await?;
        job_ends(&client, MIRROR).await?;
        attempt(&client, "blockdev-del", json!({ "node-name": TARGET })).await?;
        attempt(&client, "object-del", json!({ "id": TLS })).await?;
        Ok(())
    }

    async fn open_doors(
        &self,
        vm: &VmId,
        order: &Incoming,
    ) -> Result<(), HypervisorError> {
        let client = self.connect(vm).await?;
        let door = self.door()?;
        let address = door.address.to_string();
        attempt(&client, "nbd-server-stop", Value::Null).await?;
        attempt(&client, "object-del", json!({ "id": PEER })).await?;
        self.credentials(&client, TLS, "server").await?;
        let peer = json!({
            "qom-type": "authz-simple", "id": PEER, "identity": order.from,
        });
        client.execute::<Value>("object-add", peer).await?;
        let mut ports = door.ports(vm);
        let disk = first_free(&client, &mut ports, "nbd-server-start", |port| {
            let address = json!({ "type": "inet", "data": inet(&address, port) });
            json!({
                "addr": address, "tls-creds": TLS, "tls-authz": PEER, "max-connections": 1,
            })
        })
        .await?;
        let export = json!({
            "type": "nbd", "id": format!("{MIRROR}-{disk}"), "node-name": "disk",
            "name": EXPORT, "writable": true, "writethrough": true,
        });
        client.execute::<Value>("block-export-add", export).await?;
        client.execute::<Value>("migrate-set-capabilities", capabilities()).await?;
        let parameters = json!({ "tls-creds": TLS, "tls-authz": PEER });
        client.execute::<Value>("migrate-set-parameters", parameters).await?;
        first_free(
            &client,
            &mut ports,
            "migrate-incoming",
            |port| json!({ "uri": uri(&address, port) }),
        )
        .await?;
        Ok(())
    }

    async fn close_doors(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let client = self.connect(vm).await?;
        attempt(&client, "nbd-server-stop", Value::Null).await?;
        let none = json!({ "tls-creds": "", "tls-authz": "" });
        attempt(&client, "migrate-set-parameters", none).await?;
        for id in [PEER, TLS] {
            attempt(&client, "object-del", json!({ "id": id })).await?;
        }
        Ok(())
    }

    async fn measure(&self, vm: &VmId) -> Result<u64, HypervisorError> {
        let client = self.connect(vm).await?;
        let span = json!({ "calc-time": DIRTY_SPAN.as_secs() });
        attempt(&client, "calc-dirty-rate", span).await?;
        let measured = async {
            loop {
                sleep(DIRTY_SPAN / 10).await;
                let info: DirtyInfo =
                    client.execute("query-dirty-rate", Value::Null).await?;
                if info.status == "measured" {
                    let mib = u64::try_from(info.dirty_rate).unwrap_or(0);
                    return Ok::<u64, QmpError>(mib.saturating_mul(1 << 20));
                }
            }
        };
        let late = || QmpError::Late {
            command: "query-dirty-rate".to_owned(),
            seconds: DIRTY_LIMIT.as_secs(),
        };
        Ok(timeout(DIRTY_LIMIT, measured).await.unwrap_or_else(|_| Err(late()))?)
    }
}

/// Tries ports until QEMU takes one.
async fn first_free(
    client: &Client,
    ports: &mut (impl Iterator<Item = u16> + Send),
    command: &str,
    arguments: impl Fn(u16) -> Value + Send + Sync,
) -> Result<u16, HypervisorError> {
    let mut refused = None;
    for port in ports {
        match client.execute::<Value>(command, arguments(port)).await {
            Ok(_) => return Ok(port),
            Err(error @ QmpError::Refused { .. }) => {
                let in_use = error.to_string().contains("in use");
                refused = Some(error);
                if !in_use {
                    break;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(refused.map_or(HypervisorError::NoPort, Into::into))
}

impl Mover for Qemu {
    fn machine(&self, guest: &GuestSpec) -> Result<Machine, HypervisorError> {
        image::find(&self.images, guest.image.as_deref())?;
        Ok(Machine {
            accelerator: Some(self.accelerator),
            given: self.scale.give(&guest.shape),
            wired: !matches!(self.wiring, Wiring::None),
        })
    }

    fn doorway(&self) -> Result<Doorway, HypervisorError> {
        let door = self.door()?;
        let subject = door.credentials.subject();
        let subject = subject.map_err(|error| HypervisorError::Certificate {
            reason: error.to_string(),
        })?;
        Ok(Doorway {
            address: door.address.to_string(),
            name: door.name.clone(),
            subject,
        })
    }

    fn disk_use(&self, vm: &VmId) -> u64 {
        let path = self.folder(vm).join(launch::file::DISK);
        fs::metadata(path).map_or(0, |file| file.blocks().saturating_mul(512))
    }

    fn dirty_rate<'a>(
        &'a self,
        vm: &'a VmId,
    ) -> BoxFuture<'a, Result<u64, HypervisorError>> {
        Box::pin(self.measure(vm))
    }

    fn traffic<'a>(&'a self, vm: &'a VmId) -> BoxFuture<'a, Traffic> {
        Box::pin(self.see_traffic(vm))
    }

    fn mirror<'a>(&'a self, vm: &'a VmId, order: &'a Outgoing) -> Done<'a> {
        Box::pin(self.begin_mirror(vm, order))
    }

    fn send<'a>(&'a self, vm: &'a VmId, order: &'a Outgoing) -> Done<'a> {
        Box::pin(self.begin_stream(vm, order))
    }

    fn end_mirror<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        Box::pin(self.finish_mirror(vm))
    }

    fn switch_over<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        Box::pin(async move {
            let client = self.connect(vm).await?;
            let state = json!({ "state": "pre-switchover" });
            client.execute::<Value>("migrate-continue", state).await?;
            Ok(())
        })
    }

    fn undo<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        Box::pin(self.undo_all(vm))
    }

    fn start_waiting<'a>(
        &'a self,
        vm: &'a VmId,
        guest: &'a GuestSpec,
        order: &'a Incoming,
    ) -> Done<'a> {
        Box::pin(async move {
            self.door()?;
            same_machine(self.machine(guest)?, order)?;
            self.launch(vm, guest, super::Begin::Incoming).await
        })
    }

    fn listen<'a>(&'a self, vm: &'a VmId, order: &'a Incoming) -> Done<'a> {
        Box::pin(self.open_doors(vm, order))
    }

    fn settle<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        Box::pin(self.close_doors(vm))
    }
}
