//! gdnsd with the same names and networks.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use super::load::Load;
use super::{NAMES, Net, ZONE, loopback};
use crate::bench::routing::world::METROS;
use crate::bench::usage::Usage;

/// How often, and how many times, it is looked whether it began: 30 s.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS_MAX: u32 = 600;

/// A process that ends with its owner.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        if self.0.kill().is_ok() {
            self.0.wait().map(drop).unwrap_or_default();
        }
    }
}

/// Answers for a second of CPU time.
pub(super) fn round(folder: &Path, nets: &[Net], load: &Load) -> anyhow::Result<f64> {
    let folder = fs::canonicalize(folder)?.join("gdnsd");
    let port = UdpSocket::bind((loopback(), 0))?.local_addr()?.port();
    write(&folder, port, nets)?;
    let child = Command::new("gdnsd")
        .arg("-c")
        .arg(&folder)
        .arg("start")
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.join("log"))?)
        .spawn()
        .context("cannot run gdnsd; apt-get install gdnsd")?;
    let mut child = Ends(child);
    let server = SocketAddr::new(loopback(), port);
    begun(&mut child.0, server, &folder)?;
    let pid = i32::try_from(child.0.id())?;
    let before = Usage::of(pid)?.cpu_s;
    let completed = load.ask(server)?;
    Ok(completed / (Usage::of(pid)?.cpu_s - before))
}

/// Waits until it listens.
fn begun(child: &mut Child, server: SocketAddr, folder: &Path) -> anyhow::Result<()> {
    let mut looks = 0;
    // Whoever may bind its port finds nobody there.
    while UdpSocket::bind(server).is_ok() {
        looks += 1;
        if looks > LOOKS_MAX || child.try_wait()?.is_some() {
            bail!("gdnsd does not run: {}", fs::read_to_string(folder.join("log"))?);
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn write(folder: &Path, port: u16, nets: &[Net]) -> anyhow::Result<()> {
    for below in ["zones", "run", "state"] {
        fs::create_dir_all(folder.join(below))?;
    }
    let shown = folder.display();
    let centres: Vec<_> = METROS.iter().map(|(name, ..)| *name).collect();
    let centres = centres.join(", ");
    let mut text = format!(
        "options => {{ listen => 127.0.0.1, dns_port => {port}, udp_threads => 1, tcp_threads => 1, \
         run_dir => {shown}/run, state_dir => {shown}/state }}\n\
         plugins => {{ geoip => {{\n maps => {{ m => {{ datacenters => [{centres}], nets => {{\n"
    );
    for net in nets {
        let (name, ..) = METROS[usize::try_from(net.cell)? % METROS.len()];
        writeln!(text, "  {}/{} => [{name}]", net.base, net.len)?;
    }
    text.push_str(" } } }\n resources => { web => { map => m, dcmap => {\n");
    for ((name, ..), last) in METROS.iter().zip(1..) {
        writeln!(text, "  {name} => 203.0.113.{last}")?;
    }
    text.push_str(" } } }\n} }\n");
    fs::write(folder.join("config"), text)?;
    let mut zone = String::from(
        "@ 3600 SOA ns1 hostmaster 1 7200 1800 259200 900\n@ 3600 NS ns1\nns1 3600 A 203.0.113.53\n",
    );
    for at in 0..NAMES {
        writeln!(zone, "s{at} 30 DYNA geoip!web")?;
    }
    fs::write(folder.join("zones").join(ZONE), zone)?;
    Ok(())
}
