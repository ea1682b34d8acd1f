//! A whole federation on this machine, for trying out and for tests: a development CA, a
//! daemon for each region, an agent for each host, and a supervisor that keeps them running.
//!
//! Everything is below one folder. Nothing here is needed where daemons run as system services
//! (`deploy/systemd`).

mod chosen;
mod layout;
mod process;
mod progress;
mod setup;
mod supervisor;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use chosen::Wanted;
pub use layout::Layout;
use process::{Program, Started, record, recorded};
pub use setup::{Driver, issue_admin, issue_operator};
use supervisor::{Book, Notice, keep};

use crate::config::{EngineChoice, Federation, VoterSpec};
use crate::voters;

/// How long a supervisor that was told to stop may take: every process has its own grace, and
/// they stop side by side.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// How often a supervisor that is stopping is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Notices on their way from the supervised programs.
const NOTICES_MAX: usize = 256;

/// What a local federation is made from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The configuration file.
    pub config: PathBuf,
    /// Where everything is.
    pub layout: Layout,
    /// The folder of the guest image.
    pub image: PathBuf,
    /// What drives guests.
    pub driver: Driver,
    /// The folder of the programs.
    pub programs: PathBuf,
    /// Which strong engine.
    pub engine: Wanted,
}

impl Plan {
    /// Starts the federation, shows progress, and stays until it is told to stop. Then it ends
    /// everything that it started, guests included.
    ///
    /// # Errors
    ///
    /// When something of it runs already, or it cannot be prepared, started or become healthy.
    pub async fn up(
        &self,
        stop: impl Future<Output = &'static str> + Send,
        say: fn(&str),
    ) -> anyhow::Result<()> {
        self.refuse_second()?;
        let federation = self.prepare(say)?;
        let own = i32::try_from(std::process::id()).context("a pid out of range")?;
        let own = Started::of("supervisor", own).context("/proc is not readable")?;
        record(&self.layout.supervisor(), &[own])?;

        let (tell, told) = watch::channel(false);
        let (notices, seen) = mpsc::channel(NOTICES_MAX);
        let mut keepers = JoinSet::new();
        for program in self.programs(&federation)? {
            keepers.spawn(keep(program, notices.clone(), told.clone()));
        }
        drop(notices);
        let book = tokio::spawn(keep_book(Book::new(self.layout.processes()), seen, say));
        let outcome = tokio::select! {
            signal = stop => {
                say(&format!("{signal}: stopping ..."));
                Ok(())
            }
            failed = self.watch(&federation, say) => failed,
        };
        tell.send_replace(true);
        while keepers.join_next().await.is_some() {}
        book.await.context("the record of processes")?;
        self.stop_guests(say).await;
        fs::remove_file(self.layout.supervisor()).ok();
        say("stopped: no process of the federation is left");
        outcome
    }

    /// Shows progress, then hints, then waits for ever.
    async fn watch(&self, federation: &Federation, say: fn(&str)) -> anyhow::Result<()> {
        progress::show_until_healthy(&self.layout, federation, say).await?;
        say(&progress::hints(federation));
        std::future::pending().await
    }

    fn refuse_second(&self) -> anyhow::Result<()> {
        if let Some(running) = running(&self.layout)?.first() {
            bail!(
                "the federation in {} runs already ({}, pid {}); stop it with `./dwcp down`",
                self.layout.root().display(),
                running.name,
                running.pid
            );
        }
        Ok(())
    }

    fn prepare(&self, say: fn(&str)) -> anyhow::Result<Federation> {
        let (mut federation, warnings) = Federation::load(&self.config)?;
        for warning in warnings {
            tracing::warn!(%warning, "configuration");
        }
        fs::create_dir_all(self.layout.engine())?;
        say(&chosen::choose(self.engine, &mut federation, &self.layout)?);
        setup::prepare(self, &federation)?;
        Ok(federation)
    }

    fn programs(&self, federation: &Federation) -> anyhow::Result<Vec<Program>> {
        let mut programs = self.voters(federation)?;
        let engine = federation.engine.kind();
        for spec in &federation.regions {
            let region = &spec.region.id;
            if spec.endpoint.is_none() {
                continue;
            }
            programs.push(Program {
                name: format!("dwcpd-{region}"),
                path: self.programs.join("dwcpd"),
                args: self.layout.daemon_args(&self.config, region, engine),
                log: self.layout.log(&format!("dwcpd-{region}")),
            });
            for host in &spec.hosts {
                let config = self.layout.agent_config(&host.id);
                programs.push(Program {
                    name: format!("dwcp-agent-{}", host.id),
                    path: self.programs.join("dwcp-agent"),
                    args: vec![
                        "run".into(),
                        "--config".into(),
                        config.display().to_string(),
                    ],
                    log: self.layout.log(&format!("dwcp-agent-{}", host.id)),
                });
            }
        }
        Ok(programs)
    }

    /// The members of etcd, when it is chosen. No network is between them here.
    fn voters(&self, federation: &Federation) -> anyhow::Result<Vec<Program>> {
        let EngineChoice::Etcd(etcd) = federation.engine.choice() else {
            return Ok(Vec::new());
        };
        let path = voters::program()?;
        let program = |voter: &VoterSpec| {
            let member = voters::Member {
                name: &voter.name,
                data: self.layout.voter_data(&voter.name),
                tls: &self.layout.voter_tls(&voter.name),
                distance: voters::Distance::Lan,
            };
            let name = format!("etcd-{}", voter.name);
            Ok(Program {
                path: path.clone(),
                args: member.args(federation)?,
                log: self.layout.log(&name),
                name,
            })
        };
        etcd.voters.iter().map(program).collect()
    }

    /// Ends the guests of every host that ever was here: their processes outlive their agent
    /// on purpose.
    async fn stop_guests(&self, say: fn(&str)) {
        for config in self.layout.agent_configs() {
            let ended = tokio::process::Command::new(self.programs.join("dwcp-agent"))
                .arg("stop-guests")
                .arg("--config")
                .arg(&config)
                .output()
                .await;
            let reason = match ended {
                Ok(output) if output.status.success() => continue,
                Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
                Err(reason) => reason.to_string(),
            };
            say(&format!("guests may be left ({}): {reason}", config.display()));
        }
    }

    /// Stops a federation that was started before, whether its supervisor lives or not.
    ///
    /// # Errors
    ///
    /// When its records cannot be read or its folder cannot be removed.
    pub async fn down(&self, purge: bool, say: fn(&str)) -> anyhow::Result<()> {
        let supervisor = recorded(&self.layout.supervisor())?;
        for process in supervisor.iter().filter(|process| process.runs()) {
            say("stopping ...");
            process.signal(Signal::TERM);
            let ended = async {
                while process.runs() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            if tokio::time::timeout(STOPPED_WITHIN, ended).await.is_err() {
                say("the supervisor does not end; ending it and its processes");
                process.signal(Signal::KILL);
            }
        }
        for process in running(&self.layout)? {
            process.stop().await;
        }
        self.stop_guests(say).await;
        fs::remove_file(self.layout.processes()).ok();
        fs::remove_file(self.layout.supervisor()).ok();
        if purge {
            self.layout.remove()?;
        }
        say("stopped: no process of the federation is left");
        Ok(())
    }

    /// Starts the federation in the background and waits until it is healthy.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not become healthy.
    pub async fn up_detached(&self, say: fn(&str)) -> anyhow::Result<()> {
        self.refuse_second()?;
        let (federation, _) = Federation::load(&self.config)?;
        fs::create_dir_all(self.layout.logs())?;
        let log = self.layout.log("up");
        let program = Program {
            name: "supervisor".to_owned(),
            path: self.programs.join("dwcpd"),
            args: self.up_args(),
            log: log.clone(),
        };
        let mut child = program.start()?;
        tokio::select! {
            healthy = progress::show_until_healthy(&self.layout, &federation, say) => healthy?,
            ended = child.wait() => {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                bail!("the federation did not start ({}):\n{}", ended?, last.join("\n"));
            }
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        if let Some(engine) = said.lines().rfind(|line| line.starts_with(chosen::SAYS)) {
            say(engine);
        }
        say(&progress::hints(&federation));
        Ok(())
    }

    /// What runs of it: names and pids of its supervisor, daemons and agents.
    ///
    /// # Errors
    ///
    /// When its records cannot be read.
    pub fn processes(&self) -> anyhow::Result<Vec<(String, i32)>> {
        let running = running(&self.layout)?;
        Ok(running.into_iter().map(|process| (process.name, process.pid)).collect())
    }

    fn up_args(&self) -> Vec<String> {
        let flag = |name: &str, path: &std::path::Path| {
            [format!("--{name}"), path.display().to_string()]
        };
        let mut args = vec!["local".to_owned(), "up".to_owned()];
        args.extend(flag("config", &self.config));
        args.extend(flag("state", self.layout.root()));
        args.extend(flag("image", &self.image));
        args.extend(["--driver".to_owned(), self.driver.as_str().to_owned()]);
        args.extend(["--engine".to_owned(), self.engine.as_str().to_owned()]);
        args
    }
}

/// Recorded processes that still run.
fn running(layout: &Layout) -> anyhow::Result<Vec<Started>> {
    let mut all = recorded(&layout.supervisor())?;
    all.extend(recorded(&layout.processes())?);
    all.retain(Started::runs);
    Ok(all)
}

async fn keep_book(mut book: Book, mut seen: mpsc::Receiver<Notice>, say: fn(&str)) {
    while let Some(notice) = seen.recv().await {
        match &notice {
            Notice::Up(_) => {}
            Notice::Died { name, how } => {
                say(&format!("{name} ended ({how}); starting it again"));
            }
            Notice::Failed { name, why } => {
                say(&format!("{name} cannot be started: {why}"));
            }
        }
        if let Err(reason) = book.take(&notice) {
            say(&format!("the record of processes cannot be written: {reason}"));
        }
    }
}
