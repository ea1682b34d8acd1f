//! `dwcp-agent`, the host daemon: reads its configuration, opens the agent, serves it until it
//! is told to stop. Its guests run on.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use dwcp_agent::config::{Driver, TlsFiles};
use dwcp_agent::serve::{Owner, bind_local, local_router, routes};
use dwcp_agent::watchdog::{self, Watchdog};
use dwcp_agent::{Agent, Config, Store, open_hypervisor};
use dwcp_runtime::clock::SystemClock;
use dwcp_runtime::http::{BoundServer, Limits};
use dwcp_runtime::shutdown;
use dwcp_runtime::telemetry::{self, LogFormat};
use dwcp_runtime::tls::{Credentials, ServerTls};
use futures_util::future::join_all;
use tokio::process::Command;
use tokio::sync::watch;

#[derive(Debug, Parser)]
#[command(name = "dwcp-agent", version, about = "owns the virtual machines of this host")]
struct Args {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Run the agent.
    Run {
        /// The configuration file (YAML).
        #[arg(long, value_name = "FILE", default_value = "/etc/dwcp/agent.yaml")]
        config: PathBuf,
    },
    /// End guests that are bound to their region's lease when it is over, whatever the agent
    /// does. The agent starts this by itself; it ends when there is nothing to watch.
    Watchdog {
        /// The configuration file (YAML).
        #[arg(long, value_name = "FILE", default_value = "/etc/dwcp/agent.yaml")]
        config: PathBuf,
    },
    /// End every guest of this host. The agent must not be running; when it runs again it
    /// starts those guests that are wanted.
    StopGuests {
        /// The configuration file (YAML).
        #[arg(long, value_name = "FILE", default_value = "/etc/dwcp/agent.yaml")]
        config: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Sub::Run { config } => run(&config).await,
        Sub::Watchdog { config } => watch(&config),
        Sub::StopGuests { config } => stop_guests(&config).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Watches until there is nothing to watch. Blocks this thread, which has nothing else to do.
fn watch(config: &std::path::Path) -> anyhow::Result<()> {
    let config = Config::read(config)?;
    if let Some(watchdog) = Watchdog::take(&config.data_dir)? {
        watchdog.run();
    }
    Ok(())
}

async fn run(path: &std::path::Path) -> anyhow::Result<()> {
    telemetry::start(LogFormat::Text)?;
    let config = Config::read(path)?;
    let watched = (config.driver != Driver::Simulated).then(|| watched(&config, path));
    let owner = Owner { region: config.region.clone(), host: config.host.clone() };
    let requested = shutdown::requested()?;
    match (config.listen, &config.tls) {
        (Some(address), Some(tls)) => {
            let server = bound(address, tls).await?;
            let mut agent = Agent::open_watched(&config, watched).await?;
            let handle = agent.handle();
            let router = routes(&handle, &owner).traced(handle.tracer()).into_router();
            tracing::info!(host = %config.host, %address, "the agent is ready");
            let mut broken = false;
            let stop = async {
                tokio::select! {
                    _ = requested => {}
                    () = agent.ended() => broken = true,
                }
            };
            server.serve(router, Arc::new(SystemClock::new()), stop).await;
            if broken {
                bail!("the agent's task ended; it must be started again");
            }
            agent.stop().await;
        }
        _ => {
            let mut agent = Agent::open_watched(&config, watched).await?;
            let listener = bind_local(&config.data_dir)?;
            let router = local_router(&agent.handle(), &owner);
            tracing::info!(host = %config.host, "the agent is ready on its local socket");
            tokio::select! {
                ended = axum::serve(listener, router).into_future() => {
                    ended.context("the local socket failed")?;
                }
                _ = requested => {}
                () = agent.ended() => {
                    bail!("the agent's task ended; it must be started again");
                }
            }
            agent.stop().await;
        }
    }
    tracing::info!("stopped; guests run on");
    Ok(())
}

/// Sees to the watchdog for as long as this process lives; says whether it runs.
fn watched(config: &Config, path: &std::path::Path) -> watch::Receiver<bool> {
    let (tell, watched) = watch::channel(false);
    tokio::spawn(watchdog::keep(config.data_dir.clone(), path.to_owned(), tell));
    watched
}

async fn bound(address: SocketAddr, tls: &TlsFiles) -> anyhow::Result<BoundServer> {
    let credentials = Credentials {
        ca: tls.ca.clone(),
        certificate: tls.cert.clone(),
        key: tls.key.clone(),
    };
    Ok(BoundServer::bind(address, ServerTls::load(credentials)?, Limits::default())
        .await?)
}

async fn stop_guests(config: &std::path::Path) -> anyhow::Result<()> {
    let config = Config::read(config)?;
    // The lock keeps an agent from starting them again at the same time.
    let _store = Store::open(&config.data_dir)?;
    let hypervisor = open_hypervisor(&config).await?;
    let guests = hypervisor.list()?;
    let hypervisor = &hypervisor;
    let kills = guests.iter().map(|vm| async move {
        let pid = hypervisor.observe(vm).await.pid;
        if pid.is_none() {
            return Ok(());
        }
        hypervisor.kill(vm, true).await.with_context(|| format!("VM {vm}"))
    });
    let killed: anyhow::Result<()> = join_all(kills).await.into_iter().collect();
    killed?;
    hypervisor.shut_doors().await.context("copies of other hosts' VMs")?;
    if hypervisor.facts().driver == "qemu" {
        remove_bridge(&config.network.bridge).await?;
    }
    Ok(())
}

/// Removes the guests' bridge with the taps that the ended guests left in it; the agent makes
/// both again when it needs them.
async fn remove_bridge(bridge: &str) -> anyhow::Result<()> {
    let ports = std::path::Path::new("/sys/class/net").join(bridge).join("brif");
    let Ok(ports) = std::fs::read_dir(ports) else { return Ok(()) };
    for port in ports.flatten() {
        remove_link(&port.file_name()).await?;
    }
    remove_link(bridge.as_ref()).await
}

async fn remove_link(device: &std::ffi::OsStr) -> anyhow::Result<()> {
    let removed = Command::new("ip").args(["link", "delete", "dev"]).arg(device).output();
    let removed = removed.await.context("the `ip` tool")?;
    if !removed.status.success() {
        let reason = String::from_utf8_lossy(&removed.stderr);
        bail!("network device {}: {reason}", device.display());
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "where a command complains")]
fn say_error(text: &str) {
    eprintln!("{text}");
}
