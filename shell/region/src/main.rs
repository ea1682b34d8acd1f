//! `dwcpd`, the region daemon, and the commands around it.
//!
//! Under the name `federation-controller` (the source's, O1) it runs the controller role, which
//! is the role there is.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use dwcp_region::config::{EngineKind, Federation};
use dwcp_region::local::{Driver, Layout, Plan, Wanted, issue_admin, issue_operator};
use dwcp_region::voters::{self, Distance};
use dwcp_region::{App, Options};
use dwcp_runtime::shutdown;
use dwcp_runtime::telemetry::{self, LogFormat};
use dwcp_types::{HostId, RegionId};

#[derive(Debug, Parser)]
#[command(name = "dwcpd", version, about = "the region daemon of DWCP Federation")]
struct Command {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Run the daemon of one region.
    #[command(alias = "controller")]
    Run(Run),
    /// Check configuration files.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Issue credentials of a local federation.
    #[command(subcommand)]
    Ca(CaCommand),
    /// A member of the strong engine on etcd.
    #[command(subcommand)]
    Engine(EngineCommand),
    /// A whole federation on this machine (what `./dwcp up` and `./dwcp down` call).
    #[command(subcommand)]
    Local(LocalCommand),
}

#[derive(Args, Debug)]
struct Run {
    /// The federation's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/dwcp/federation.yaml")]
    config: PathBuf,
    /// Which of its regions this daemon is.
    #[arg(long, value_name = "ID", env = "DWCP_REGION")]
    region: RegionId,
    /// Where its data is.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/dwcp/region")]
    data_dir: PathBuf,
    /// Where ca.crt, region.crt and region.key are.
    #[arg(long, value_name = "DIR", default_value = "/etc/dwcp/tls")]
    tls_dir: PathBuf,
    /// Another strong engine than the configuration's.
    #[arg(long, value_enum, value_name = "KIND")]
    engine: Option<EngineKind>,
    /// How to log.
    #[arg(long, value_enum, default_value = "text", env = "DWCP_LOG_FORMAT")]
    log_format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Lines for people.
    Text,
    /// An object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a federation.yaml; says everything that is wrong, with line and column.
    Validate {
        /// The file.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Issue the administrator's credential anew (24 hours).
    Admin {
        /// The local federation's folder.
        #[arg(long, value_name = "DIR", default_value = ".dwcp")]
        state: PathBuf,
        /// Issue another operator's instead, in a folder of its own.
        #[arg(long, value_name = "NAME")]
        name: Option<HostId>,
    },
}

#[derive(Debug, Subcommand)]
enum EngineCommand {
    /// Become the etcd of one voter, started as the configuration says.
    Member(Member),
}

#[derive(Args, Debug)]
struct Member {
    /// The federation's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/dwcp/federation.yaml")]
    config: PathBuf,
    /// Which of its voters: the name of its region, with -2 or -3 for further ones there.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Where its records are.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/dwcp/engine")]
    data_dir: PathBuf,
    /// Where ca.crt, engine.crt and engine.key are.
    #[arg(long, value_name = "DIR", default_value = "/etc/dwcp/tls")]
    tls_dir: PathBuf,
    /// How far it is to the others: sets heartbeat and election time.
    #[arg(long, value_enum, default_value = "wan")]
    distance: Distance,
}

#[derive(Debug, Subcommand)]
enum LocalCommand {
    /// Start it and stay until Ctrl-C.
    Up {
        #[command(flatten)]
        place: Place,
        /// Return when it is healthy and leave it running.
        #[arg(long)]
        detach: bool,
    },
    /// Stop it.
    Down {
        #[command(flatten)]
        place: Place,
        /// Delete its data, keys and logs too.
        #[arg(long)]
        purge: bool,
    },
}

#[derive(Args, Debug)]
struct Place {
    /// The federation's configuration.
    #[arg(long, value_name = "FILE", default_value = "deploy/t1/federation.yaml")]
    config: PathBuf,
    /// Where everything of it is.
    #[arg(long, value_name = "DIR", default_value = ".dwcp")]
    state: PathBuf,
    /// The folder of the guest image.
    #[arg(long, value_name = "DIR", default_value = "target/guest")]
    image: PathBuf,
    /// What drives guests.
    #[arg(long, value_enum, default_value = "auto")]
    driver: Driver,
    /// Which strong engine has the records.
    #[arg(long, value_enum, default_value = "auto")]
    engine: Wanted,
}

impl Place {
    fn plan(self) -> anyhow::Result<Plan> {
        let programs = std::env::current_exe().context("where is this program?")?;
        let programs = programs.parent().context("this program has no folder")?;
        Ok(Plan {
            layout: Layout::new(&self.state)?,
            config: self.config,
            image: self.image,
            driver: self.driver,
            engine: self.engine,
            programs: programs.to_owned(),
        })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match arguments().command {
        Sub::Run(run) => run_daemon(run).await,
        Sub::Config(ConfigCommand::Validate { file, json }) => {
            return validate(&file, json);
        }
        Sub::Ca(CaCommand::Admin { state, name }) => renew(&state, name.as_ref()),
        Sub::Engine(EngineCommand::Member(member)) => become_member(&member),
        Sub::Local(LocalCommand::Up { place, detach }) => up(place, detach).await,
        Sub::Local(LocalCommand::Down { place, purge }) => down(place, purge).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Under a role's own name the command is `run`.
fn arguments() -> Command {
    let mut args: Vec<_> = std::env::args_os().collect();
    let name = args.first().and_then(|name| std::path::Path::new(name).file_name());
    if name.is_some_and(|name| name == "federation-controller") {
        args.insert(1, "run".into());
    }
    Command::parse_from(args)
}

async fn run_daemon(run: Run) -> anyhow::Result<()> {
    telemetry::start(match run.log_format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    })?;
    let requested = shutdown::requested()?;
    let options = Options {
        config: run.config,
        region: run.region,
        data: run.data_dir,
        tls: run.tls_dir,
        engine: run.engine,
    };
    let app = App::new(&options).await?;
    app.run(async {
        let signal = requested.await;
        tracing::info!(signal, "stopping");
    })
    .await
}

fn validate(file: &std::path::Path, json: bool) -> ExitCode {
    match Federation::load(file) {
        Ok((federation, warnings)) => {
            if json {
                say(&serde_json::json!({ "warnings": warnings }).to_string());
                return ExitCode::SUCCESS;
            }
            for warning in warnings {
                say_error(&warning.to_string());
            }
            say(&format!(
                "{}: {} regions, no errors",
                file.display(),
                federation.regions.len()
            ));
            ExitCode::SUCCESS
        }
        Err(error) => {
            if json {
                say(&error.to_json().to_string());
            } else {
                say_error(&error.to_string());
            }
            ExitCode::FAILURE
        }
    }
}

/// Replaces this process by etcd, so that whoever supervises it supervises etcd.
fn become_member(member: &Member) -> anyhow::Result<()> {
    let (federation, _) = Federation::load(&member.config)?;
    let started = voters::Member {
        name: &member.name,
        data: member.data_dir.clone(),
        tls: &member.tls_dir,
        distance: member.distance,
    };
    let program = voters::program()?;
    let args = started.args(&federation)?;
    let error = std::process::Command::new(&program).args(args).exec();
    Err(error).with_context(|| format!("cannot become {}", program.display()))
}

fn renew(state: &std::path::Path, operator: Option<&HostId>) -> anyhow::Result<()> {
    let layout = Layout::new(state)?;
    let folder = if let Some(name) = operator {
        issue_operator(&layout, name)?;
        layout.operator(name)
    } else {
        issue_admin(&layout)?;
        layout.admin()
    };
    say(&format!("renewed for 24 hours: {}", folder.display()));
    Ok(())
}

async fn up(place: Place, detach: bool) -> anyhow::Result<()> {
    let plan = place.plan()?;
    if detach {
        return plan.up_detached(say).await;
    }
    let stop = shutdown::requested()?;
    plan.up(stop, say).await
}

async fn down(place: Place, purge: bool) -> anyhow::Result<()> {
    place.plan()?.down(purge, say).await
}

#[expect(clippy::print_stdout, reason = "what a command answers")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "where a command complains")]
fn say_error(text: &str) {
    eprintln!("{text}");
}
