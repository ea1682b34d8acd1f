//! `dwcp-agent`, the host daemon: reads its configuration, opens the agent, serves it until it
//! is told to stop. Its guests run on.

use std::future::IntoFuture;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use dwcp_agent::{Agent, Config, serve};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[derive(Debug, Parser)]
#[command(name = "dwcp-agent", version, about = "owns the virtual machines of this host")]
struct Args {
    /// The configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("DWCP_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let config = Config::read(&args.config)?;
    if config.listen.is_some() {
        bail!(
            "listen: TLS is not bound in this build; leave it out to serve DATA/agent.sock"
        );
    }
    let agent = Agent::open(&config).await?;
    let listener = serve::bind_local(&config.data_dir)?;
    let mut terminate =
        signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt =
        signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    tracing::info!(host = %config.host, "the agent is ready");
    let server = axum::serve(listener, serve::router(agent.handle())).into_future();
    tokio::select! {
        ended = server => ended.context("the local socket failed")?,
        _ = terminate.recv() => tracing::info!("told to stop; guests run on"),
        _ = interrupt.recv() => tracing::info!("told to stop; guests run on"),
    }
    agent.stop().await;
    Ok(())
}
