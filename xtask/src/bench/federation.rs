//! The federation of `deploy/t1` for a benchmark: its real daemons and agents as processes of
//! their own, in the release profile, below a temporary folder.
//!
//! Whatever happens to the measurement (an error, a panic, Ctrl-C), everything that was started
//! is ended and the folder removed before this returns. Its addresses are loopback addresses
//! other than those of `./dwcp up`, so that a benchmark does not meet a federation that runs.

use std::path::PathBuf;

use anyhow::{Context, bail};
use dwcp_api::Client;
use dwcp_region::config::Federation as Config;
use dwcp_region::local::{Driver, Layout, Plan, Wanted};
use dwcp_runtime::shutdown;
use dwcp_runtime::tls::{ClientTls, Credentials, ExpectedServer, Identity};
use dwcp_types::RegionId;

use super::usage::Usage;

/// The addresses of the file, and what they are replaced by.
const ADDRESSES: (&str, &str) = ("127.0.0.", "127.88.0.");

/// A federation that runs.
#[derive(Clone, Debug)]
pub(super) struct Federation {
    plan: Plan,
    pub(super) config: Config,
}

/// Starts one, runs `measure`, and ends it.
pub(super) fn with<T, F>(
    driver: Driver,
    measure: impl FnOnce(Federation) -> F,
) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    crate::programs::build()?;
    let folder = std::env::temp_dir()
        .join(format!("dwcp-bench-federation-{}", std::process::id()));
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let measured = prepare(&folder, driver).and_then(|federation| {
        let runtime = tokio::runtime::Runtime::new().context("cannot start tokio")?;
        runtime.block_on(run(federation, measure))
    });
    // Nothing in it is worth keeping, and what cannot be removed does no harm.
    drop(std::fs::remove_dir_all(&folder));
    measured
}

async fn run<T, F>(
    federation: Federation,
    measure: impl FnOnce(Federation) -> F,
) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    let stop = shutdown::requested()?;
    let plan = federation.plan.clone();
    let measured = tokio::select! {
        measured = async {
            plan.up_detached(|_| ()).await?;
            // A task of its own, so that a panic in it comes back as an error.
            tokio::spawn(measure(federation)).await?
        } => measured,
        signal = stop => Err(anyhow::anyhow!("{signal}: not measured to the end")),
    };
    let ended = plan.down(true, |_| ()).await.context("processes may be left over");
    let measured = measured?;
    ended?;
    Ok(measured)
}

fn prepare(folder: &std::path::Path, driver: Driver) -> anyhow::Result<Federation> {
    let root = crate::root()?;
    let file = root.join("deploy/t1/federation.yaml");
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let path = folder.join("federation.yaml");
    std::fs::write(&path, text.replace(ADDRESSES.0, ADDRESSES.1))?;
    let (config, _) = Config::load(&path)?;
    let programs = std::env::current_exe().context("where is this program?")?;
    let programs = programs.parent().context("this program has no folder")?;
    let plan = Plan {
        config: path,
        layout: Layout::new(&folder.join("state"))?,
        image: guest_image()?,
        driver,
        // Of all that is measured here only the daemons and agents are to be counted; etcd has
        // `bench engine`.
        engine: Wanted::Embedded,
        programs: programs.to_owned(),
    };
    Ok(Federation { plan, config })
}

/// The folder of the guest image; what is in it only QEMU needs.
pub(super) fn guest_image() -> anyhow::Result<PathBuf> {
    match std::env::var_os("DWCP_GUEST_IMAGE") {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => Ok(crate::root()?.join("target/guest")),
    }
}

impl Federation {
    /// Its regions, in the order of the file.
    pub(super) fn regions(&self) -> impl Iterator<Item = &RegionId> {
        self.config.regions.iter().map(|spec| &spec.region.id)
    }

    /// A client of one region's daemon, with the administrator's credential and connections of
    /// its own.
    pub(super) fn client(&self, region: &RegionId) -> anyhow::Result<Client> {
        let spec = self.config.region(region).context("an unknown region")?;
        let Some(endpoint) = &spec.endpoint else { bail!("{region} has no endpoint") };
        let credentials = Credentials::in_dir(&self.plan.layout.admin(), "admin");
        let who = Identity::Region(region.clone());
        let tls = ClientTls::load(credentials, ExpectedServer::Identity(who))?;
        Ok(Client::new(&[format!("https://{endpoint}")], tls)?)
    }

    /// What each daemon and agent uses, by name; their supervisor, which only waits, is left
    /// out.
    pub(super) fn usage(&self) -> anyhow::Result<Vec<(String, Usage)>> {
        let all = self.plan.processes()?;
        let parts = all.into_iter().filter(|(name, _)| name.starts_with("dwcp"));
        parts.map(|(name, pid)| Ok((name, Usage::of(pid)?))).collect()
    }
}
