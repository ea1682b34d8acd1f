//! A router beside a bed: real BIRD in a namespace of its own, joined to some regions by wires, that
//! brings what comes for a shared address to the region that announces it.
//!
//! Clients are in the router's namespace: they have no way to the address but what BIRD learns.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::bed::Bed;
use super::namespace::Namespace;
use crate::layout::skip;
use crate::workspace;

/// The router's AS, and the one of all regions.
pub const ROUTER_AS: u32 = 64_500;
/// See [`ROUTER_AS`].
pub const REGIONS_AS: u32 = 64_512;

/// A router that runs; ended when dropped.
#[derive(Debug)]
pub struct Router {
    namespace: Namespace,
    bird: Child,
    folder: TempDir,
    regions: Vec<String>,
}

/// BIRD, installed or as `./dwcp test` unpacks it, with the folder of its libraries.
fn program() -> Option<(PathBuf, PathBuf)> {
    let unpacked = workspace().join("target/bird");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([unpacked.join("usr/sbin")]);
    let found = folders.map(|folder| folder.join("bird")).find(|place| place.exists());
    // Debian has one folder for each kind of machine.
    let libraries = fs::read_dir(unpacked.join("usr/lib")).ok().into_iter().flatten();
    let mut libraries = libraries.flatten().map(|entry| entry.path());
    let libraries = libraries.find(|it| it.join("libssh-gcrypt.so.4").exists());
    let libraries = libraries.unwrap_or_default();
    found.map(|place| (place, libraries))
}

impl Router {
    /// Joins a router to these regions of a bed, of which it prefers the first, then the second,
    /// and so on; each of them answers at `address` too. Nothing where there is no BIRD, and the
    /// reason is printed.
    ///
    /// # Panics
    ///
    /// When a wire cannot be made or BIRD not started.
    #[must_use]
    pub fn join(bed: &Bed, regions: &[&str], address: Ipv4Addr) -> Option<Self> {
        let Some((program, libraries)) = program() else {
            return skip("there is no BIRD here: run `./dwcp test` once");
        };
        let namespace = Namespace::create("router").expect("a namespace can be made");
        namespace.ip_batch("link set lo up\n").expect("lo can be set up");
        for (region, number) in regions.iter().zip(1_u8..) {
            let (near, far) = (near(number), far(number));
            let theirs = bed.namespace(region);
            let wire = format!(
                "link add pop{number} type veth peer name edge netns {theirs}\n\
                 address add {near}/30 dev pop{number}\nlink set pop{number} up\n"
            );
            namespace.ip_batch(&wire).expect("a wire can be made");
            let other = format!(
                "address add {far}/30 dev edge\nlink set edge up\n\
                 address add {address}/32 dev lo\n"
            );
            bed.configure(region, &other).expect("a wire has another end");
        }
        let folder = tempfile::tempdir().expect("a folder can be made");
        fs::write(folder.path().join("bird.conf"), config(regions)).expect("a file");
        let bird = start(&namespace, &program, &libraries, folder.path());
        let bird = bird.expect("BIRD can be started");
        let regions = regions.iter().map(|region| (*region).to_owned()).collect();
        Some(Self { namespace, bird, folder, regions })
    }

    /// The router's address on the wire to a region.
    ///
    /// # Panics
    ///
    /// When the region has no wire.
    #[must_use]
    pub fn address(&self, region: &str) -> Ipv4Addr {
        let place = self.regions.iter().position(|it| it == region);
        near(u8::try_from(place.expect("a wire") + 1).expect("few regions"))
    }

    /// Does something on a thread beside the router, as a client of it.
    ///
    /// # Panics
    ///
    /// When no thread can enter.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.inside(work).expect("a thread can enter a namespace of its own")
    }

    /// What BIRD said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.bird.kill().ok();
        self.bird.wait().ok();
    }
}

fn start(
    namespace: &Namespace,
    program: &Path,
    libraries: &Path,
    folder: &Path,
) -> io::Result<Child> {
    let log = File::create(folder.join("log"))?;
    let mut command = Command::new(program);
    command
        .arg("-f")
        .args(["-c".as_ref(), folder.join("bird.conf").as_os_str()])
        .args(["-s".as_ref(), folder.join("bird.ctl").as_os_str()])
        .env("LD_LIBRARY_PATH", libraries)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    namespace.inside(|| command.spawn())?
}

fn config(regions: &[&str]) -> String {
    let mut text =
        "log stderr all;\nrouter id 10.78.0.1;\nprotocol device { scan time 1; }\n\
                    protocol kernel { ipv4 { import none; export all; }; }\n"
            .to_owned();
    for (region, number) in regions.iter().zip(1_u8..) {
        let (near, far, preference) = (near(number), far(number), 200 - number);
        text += &format!(
            "# {region}\nprotocol bgp pop{number} {{\n  local {near} as {ROUTER_AS};\n  \
             neighbor {far} as {REGIONS_AS};\n  passive yes;\n  hold time 3;\n  error wait time 1, 5;\n  ipv4 {{\n    \
             import filter {{ bgp_local_pref = {preference}; \
             if (65535, 0) ~ bgp_community then bgp_local_pref = 0; accept; }};\n    \
             export none;\n  }};\n}}\n"
        );
    }
    text
}

const fn near(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, number, 1)
}

const fn far(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, number, 2)
}
