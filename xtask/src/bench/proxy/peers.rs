//! nginx and haproxy as proxies, and haproxy as the server that all of them ask.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::free;
use crate::bench::usage::Usage;

/// How often, and how many times, it is looked whether it began: 30 s.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS_MAX: u32 = 600;

/// A process that ends with its owner.
pub(super) struct Process {
    child: Child,
    /// Where it listens.
    pub(super) at: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().map(drop).unwrap_or_default();
        }
    }
}

impl Process {
    /// The server: 64 bytes to whoever asks.
    pub(super) fn origin(folder: &Path) -> anyhow::Result<Self> {
        Self::server(folder, "origin")
    }

    /// A server under a name of its own.
    pub(super) fn server(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let at = free()?;
        let body = "x".repeat(64);
        let rest = format!(
            " http-request return status 200 content-type text/plain string {body}\n"
        );
        Self::start("haproxy", folder, name, at, &haproxy(at, &rest))
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).context("the process cannot be signalled")
    }

    /// haproxy with one thread, before several servers that it probes by requests.
    pub(super) fn haproxy_before(
        folder: &Path,
        origins: &[SocketAddr],
    ) -> anyhow::Result<Self> {
        let at = free()?;
        let servers = origins.iter().zip(1..).map(|(origin, n)| {
            format!(" server s{n} {origin} check inter 1s fall 3 rise 2\n")
        });
        let rest = format!(
            " default_backend b\nbackend b\n option httpchk GET /\n option redispatch 1\n{}",
            servers.collect::<String>()
        );
        Self::start("haproxy", folder, "haproxy-before", at, &haproxy(at, &rest))
    }

    /// haproxy with one thread, before the server.
    pub(super) fn haproxy(folder: &Path, origin: SocketAddr) -> anyhow::Result<Self> {
        let at = free()?;
        let rest = format!(
            " default_backend b\nbackend b\n http-reuse always\n option forwardfor\n server s {origin} check inter 1s fall 3 rise 2\n"
        );
        Self::start("haproxy", folder, "haproxy", at, &haproxy(at, &rest))
    }

    /// nginx with one process, before the server.
    pub(super) fn nginx(folder: &Path, origin: SocketAddr) -> anyhow::Result<Self> {
        let at = free()?;
        let folder = fs::canonicalize(folder)?;
        let shown = folder.display();
        let text = format!(
            "daemon off; master_process off; worker_processes 1; pid {shown}/nginx.pid;\n\
             error_log stderr crit; events {{ worker_connections 4096; }}\n\
             http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s;\n\
             client_body_temp_path {shown}/body; proxy_temp_path {shown}/proxy;\n\
             fastcgi_temp_path {shown}/fcgi; uwsgi_temp_path {shown}/uwsgi;\n\
             scgi_temp_path {shown}/scgi;\n\
             upstream s {{ server {origin}; keepalive 128; keepalive_requests 100000000; }}\n\
             server {{ listen {at}; location / {{ proxy_pass http://s; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}\n"
        );
        Self::start("nginx", &folder, "nginx", at, &text)
    }

    fn start(
        program: &str,
        folder: &Path,
        name: &str,
        at: SocketAddr,
        text: &str,
    ) -> anyhow::Result<Self> {
        let config = folder.join(format!("{name}.conf"));
        fs::write(&config, text)?;
        let config = fs::canonicalize(&config)?;
        let log = folder.join(format!("{name}.log"));
        let flag = if program == "nginx" { "-c" } else { "-f" };
        let child = Command::new(program)
            .arg(flag)
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot run {program}; apt-get install it"))?;
        let mut own = Self { child, at };
        let mut looks = 0;
        while TcpStream::connect(at).is_err() {
            looks += 1;
            if looks > LOOKS_MAX || own.child.try_wait()?.is_some() {
                bail!("{name} does not run: {}", fs::read_to_string(&log)?);
            }
            std::thread::sleep(LOOK);
        }
        Ok(own)
    }

    /// haproxy with one thread, passing connections on as they are.
    pub(super) fn haproxy_tcp(folder: &Path, origin: SocketAddr) -> anyhow::Result<Self> {
        let at = free()?;
        let rest = format!(
            " default_backend b\nbackend b\n server s {origin} check inter 1s fall 3 rise 2\n"
        );
        let text = haproxy(at, &rest).replace(" mode http", " mode tcp");
        Self::start("haproxy", folder, "haproxy-tcp", at, &text)
    }

    /// What is carried for a second of CPU time, when so much is asked of it.
    pub(super) fn round(
        self,
        ask: impl FnOnce(SocketAddr) -> anyhow::Result<f64>,
    ) -> anyhow::Result<f64> {
        let pid = i32::try_from(self.child.id())?;
        let before = Usage::of(pid)?.cpu_s;
        let completed = ask(self.at)?;
        Ok(completed / (Usage::of(pid)?.cpu_s - before))
    }
}

fn haproxy(at: SocketAddr, rest: &str) -> String {
    format!(
        "global\n nbthread 1\n maxconn 8192\ndefaults\n mode http\n timeout connect 2s\n timeout client 60s\n timeout server 60s\nfrontend f\n bind {at}\n{rest}"
    )
}
