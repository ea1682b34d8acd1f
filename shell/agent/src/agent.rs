//! Assembles an agent from its configuration, in dependency order: data folder and its lock,
//! records, hypervisor, task.

use std::sync::Arc;

use dwcp_api::host::HostFacts;
use dwcp_vm::Policy;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::{Config, Driver};
use crate::handle::{AgentHandle, INBOX_MAX};
use crate::hypervisor::{self, Hypervisor};
use crate::lease::LeaseWriter;
use crate::qemu::Qemu;
use crate::simulated::Simulated;
use crate::standby::Standbys;
use crate::store::{Store, StoreError};
use crate::task::{Parts, SAVES_MAX, Task};
use crate::traced::Traced;
use crate::trial::Trials;

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file for the region's lease.
    #[error(
        "cannot take the room for the region's lease in the data folder: {0}; make room on its disk"
    )]
    Lease(#[from] std::io::Error),
    /// The hypervisor.
    #[error("the hypervisor is not available: {}", .0.told())]
    Hypervisor(hypervisor::HypervisorError),
}

impl From<hypervisor::HypervisorError> for OpenError {
    fn from(error: hypervisor::HypervisorError) -> Self {
        Self::Hypervisor(error)
    }
}

/// A running agent. Dropping it ends the agent; its guests live on.
#[derive(Debug)]
pub struct Agent {
    handle: AgentHandle,
    task: JoinHandle<()>,
    saves: Arc<Semaphore>,
}

impl Agent {
    /// Locks the data folder, finds the hypervisor, and takes over what an earlier agent left.
    ///
    /// # Errors
    ///
    /// When another agent has the folder, a record is damaged, or what the configuration
    /// demands cannot be had.
    pub async fn open(config: &Config) -> Result<Self, OpenError> {
        Self::open_watched(config, None).await
    }

    /// The same, with word of whether a watchdog runs that ends bound guests when the agent
    /// cannot ([`crate::watchdog::keep`]): none is started without it.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub async fn open_watched(
        config: &Config,
        watched: Option<watch::Receiver<bool>>,
    ) -> Result<Self, OpenError> {
        // The lock first: probing and wiring must not be done by two.
        let store = Store::open(&config.data_dir)?;
        let hypervisor = open_hypervisor(config).await?;
        Self::with(config, store, (hypervisor, watched), Policy::default())
    }

    /// The same with parts of one's own.
    ///
    /// # Errors
    ///
    /// When a record is damaged, or the data folder cannot be read or has no room.
    pub fn with(
        config: &Config,
        store: Store,
        (hypervisor, watched): (Arc<dyn Hypervisor>, Option<watch::Receiver<bool>>),
        policy: Policy,
    ) -> Result<Self, OpenError> {
        let stored = store.load()?;
        let known =
            |name: &str| stored.iter().any(|s| s.vm.as_str() == name && s.has_guest());
        let strangers = hypervisor.list()?.into_iter().map(String::from);
        let strangers: Vec<String> = strangers.filter(|name| !known(name)).collect();
        if !strangers.is_empty() {
            tracing::warn!(?strangers, "guests without an instruction are left alone");
        }
        let facts = hypervisor.facts();
        let host = HostFacts {
            host: config.host.clone(),
            region: config.region.clone(),
            zone: config.zone.clone(),
            capacity: config.capacity,
            driver: facts.driver.to_owned(),
            accelerator: facts.accelerator.to_owned(),
            hypervisor_version: facts.version,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            scaled: facts.scaled,
            strangers,
        };
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let starts_max = config.starts_max.unwrap_or_else(cores);
        let (tell, seq) = watch::channel(0);
        let (inbox, messages) = mpsc::channel(INBOX_MAX);
        let lease = Arc::new(LeaseWriter::open(&config.data_dir)?);
        let guard = lease.read();
        let standbys =
            Arc::new(Standbys::in_folder(&config.data_dir, Arc::clone(&hypervisor)));
        let trials = Trials::open(hypervisor.as_ref(), Arc::clone(&standbys))?;
        let in_handle = Arc::clone(&hypervisor);
        let traced = Traced::new(&host);
        let in_parts = Arc::clone(&traced);
        let handle = AgentHandle {
            inbox,
            seq,
            hypervisor: in_handle,
            lease,
            standbys,
            trials,
            traced,
        };
        let store = Arc::new(store);
        let saves = Arc::new(Semaphore::new(SAVES_MAX as usize));
        let in_task = Arc::clone(&saves);
        let parts = Parts {
            hypervisor,
            store,
            host,
            policy,
            starts_max,
            saves: in_task,
            guard,
            watched,
            traced: in_parts,
        };
        let task = tokio::spawn(Task::new(parts, stored, tell).run(messages));
        Ok(Self { handle, task, saves })
    }

    /// The way in.
    #[must_use]
    pub fn handle(&self) -> AgentHandle {
        self.handle.clone()
    }

    /// Completes when the agent's task ends by itself, which it never should.
    pub async fn ended(&mut self) {
        // How it ended is in the log: a panic tells itself.
        drop((&mut self.task).await);
    }

    /// Ends the agent at once and waits until its data folder is free; guests live on.
    pub async fn stop(mut self) {
        self.task.abort();
        // An aborted task ends with an error that says so.
        drop((&mut self.task).await);
        // A write that was under way holds the data folder's lock until it is done.
        drop(self.saves.acquire_many(SAVES_MAX).await);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The hypervisor that a configuration asks for.
///
/// # Errors
///
/// When QEMU is demanded and it, its image or its network is missing.
pub async fn open_hypervisor(
    config: &Config,
) -> Result<Arc<dyn Hypervisor>, hypervisor::HypervisorError> {
    let simulated = || -> Result<Arc<dyn Hypervisor>, hypervisor::HypervisorError> {
        Ok(Arc::new(Simulated::open(&config.data_dir, config.scale)?))
    };
    match config.driver {
        Driver::Simulated => simulated(),
        Driver::Qemu => Ok(Arc::new(Qemu::open(config).await?)),
        Driver::Auto => match Qemu::open(config).await {
            Ok(qemu) => {
                remember_qemu(config);
                Ok(Arc::new(qemu))
            }
            // Real guests may run here: another driver would invent their state and start
            // what runs already.
            Err(error) if had_qemu(config) => Err(error),
            Err(error) => {
                let reason = error.told();
                tracing::warn!(reason, "no QEMU here: guests are only simulated");
                simulated()
            }
        },
    }
}

/// The file that says that this host once ran real guests.
const QEMU_MARK: &str = "driver-qemu";

fn remember_qemu(config: &Config) {
    if let Err(reason) = std::fs::write(config.data_dir.join(QEMU_MARK), b"") {
        tracing::warn!(%reason, "the driver in use cannot be noted");
    }
}

fn had_qemu(config: &Config) -> bool {
    config.data_dir.join(QEMU_MARK).exists()
}
