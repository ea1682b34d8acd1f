//! A router beside a bed: real BIRD in a namespace of its own, joined to some regions by wires, that
//! brings what comes for a shared address to the region that announces it.
//!
//! Clients are in the router's namespace: they have no way to the address but what BIRD learns.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::bed::Bed;
use super::namespace::Namespace;
use crate::layout::skip;
use crate::workspace;

/// The router's AS, and the one of all regions.
pub const ROUTER_AS: u32 = 64_500;
/// See [`ROUTER_AS`].
pub const REGIONS_AS: u32 = 64_512;

/// What keeps IPv6 away from a region's wire, and from its loopback.
const SIX_OFF: &str = "ipv6/conf/edge/disable_ipv6";
const SIX_OFF_LO: &str = "ipv6/conf/lo/disable_ipv6";
/// How long BIRD has for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// How a router speaks with regions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Speech {
    /// It is of the regions' own AS, and so BIRD takes them to be more than a hop away.
    pub within: bool,
    /// It watches them by BFD: 300 ms, three times.
    pub bfd: bool,
    /// The first region speaks by IPv6, and the wires have addresses of both kinds.
    pub six: bool,
}

impl Speech {
    /// The router's AS.
    #[must_use]
    pub const fn router_as(self) -> u32 {
        if self.within { REGIONS_AS } else { ROUTER_AS }
    }

    const fn is_six(self, number: u8) -> bool {
        self.six && number == 1
    }
}

/// A router that runs; ended when dropped.
#[derive(Debug)]
pub struct Router {
    namespace: Namespace,
    bird: Child,
    folder: TempDir,
    regions: Vec<String>,
    speech: Speech,
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
    /// and so on. Nothing where there is no BIRD, and the reason is printed.
    ///
    /// # Panics
    ///
    /// When a wire cannot be made or BIRD not started.
    #[must_use]
    pub fn join(bed: &Bed, regions: &[&str], speech: Speech) -> Option<Self> {
        if program().is_none() {
            return skip("there is no BIRD here: run `./dwcp test` once");
        }
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
            let other = format!("address add {far}/30 dev edge\nlink set edge up\n");
            bed.configure(region, &other).expect("a wire has another end");
            if speech.six {
                let (near, far) = (near_six(number), far_six(number));
                let own = format!("address add {near}/64 dev pop{number} nodad\n");
                namespace.ip_batch(&own).expect("a wire takes an address");
                let on = [SIX_OFF, SIX_OFF_LO].map(|name| (name, "0"));
                bed.set(region, &on).expect("a namespace has IPv6");
                let other = format!("address add {far}/64 dev edge nodad\n");
                bed.configure(region, &other).expect("a wire takes an address");
            }
        }
        let folder = tempfile::tempdir().expect("a folder can be made");
        let text = config(regions, speech);
        fs::write(folder.path().join("bird.conf"), text).expect("a file");
        let bird = start(&namespace, folder.path());
        let bird = bird.expect("BIRD can be started");
        let regions = regions.iter().map(|region| (*region).to_owned()).collect();
        Some(Self { namespace, bird, folder, regions, speech })
    }

    /// Where a region finds the router.
    ///
    /// # Panics
    ///
    /// When the region has no wire.
    #[must_use]
    pub fn address(&self, region: &str) -> IpAddr {
        let number = self.number(region);
        if self.speech.is_six(number) {
            near_six(number).into()
        } else {
            near(number).into()
        }
    }

    /// The router's addresses on the wire to a region.
    ///
    /// # Panics
    ///
    /// When the region has no wire.
    #[must_use]
    pub fn near(&self, region: &str) -> (Ipv4Addr, Ipv6Addr) {
        let number = self.number(region);
        (near(number), near_six(number))
    }

    /// The region's addresses on that wire.
    ///
    /// # Panics
    ///
    /// When the region has no wire.
    #[must_use]
    pub fn far(&self, region: &str) -> (Ipv4Addr, Ipv6Addr) {
        let number = self.number(region);
        (far(number), far_six(number))
    }

    fn number(&self, region: &str) -> u8 {
        let place = self.regions.iter().position(|it| it == region);
        u8::try_from(place.expect("a wire") + 1).expect("few regions")
    }

    /// What BIRD says to a command of `birdc`, with its numbers of lines.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn ask(&self, command: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(self.folder.path().join("bird.ctl"))?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        writeln!(stream, "{command}")?;
        let (mut answer, mut part) = (String::new(), [0; 4_096]);
        // A greeting, and an answer: each ends with a line whose number is followed by a space.
        while answer.lines().filter(|line| is_last(line)).count() < 2 {
            let len = stream.read(&mut part)?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answer += &String::from_utf8_lossy(part.get(..len).unwrap_or_default());
        }
        Ok(answer)
    }

    /// Kills BIRD and starts another, which knows nothing.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn restart(&mut self) {
        self.bird.kill().expect("BIRD can be killed");
        self.bird.wait().expect("BIRD has ended");
        let bird = start(&self.namespace, self.folder.path());
        self.bird = bird.expect("BIRD can be started");
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

/// Whether a line of BIRD's control socket is the last of an answer.
fn is_last(line: &str) -> bool {
    let number = line.split_at_checked(4).filter(|(number, rest)| {
        number.bytes().all(|byte| byte.is_ascii_digit()) && rest.starts_with(' ')
    });
    number.is_some()
}

fn start(namespace: &Namespace, folder: &Path) -> io::Result<Child> {
    let (program, libraries) = program().ok_or(io::ErrorKind::NotFound)?;
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
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

fn config(regions: &[&str], speech: Speech) -> String {
    let bfd = "interval 300 ms; multiplier 3;";
    let mut text = format!(
        "log stderr all;\nrouter id 10.78.0.1;\nprotocol device {{ scan time 1; }}\n\
         protocol direct {{ ipv4; ipv6; interface \"pop*\"; }}\n\
         protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n\
         protocol kernel {{ ipv6 {{ import none; export where source = RTS_BGP; }}; }}\n\
         protocol bfd {{ interface \"pop*\" {{ {bfd} }}; multihop {{ {bfd} }}; }}\n"
    );
    for (region, number) in regions.iter().zip(1_u8..) {
        let (near, far): (IpAddr, IpAddr) = if speech.is_six(number) {
            (near_six(number).into(), far_six(number).into())
        } else {
            (near(number).into(), far(number).into())
        };
        let (asn, bfd) = (speech.router_as(), if speech.bfd { "bfd yes; " } else { "" });
        let import = format!(
            "import filter {{ bgp_local_pref = {}; \
             if (65535, 0) ~ bgp_community then bgp_local_pref = 0; accept; }}; export none;",
            200 - number
        );
        let six =
            if speech.six { format!("ipv6 {{ {import} }};\n") } else { String::new() };
        text += &format!(
            "# {region}\nprotocol bgp pop{number} {{\n  local {near} as {asn};\n  \
             neighbor {far} as {REGIONS_AS};\n  passive yes; {bfd}hold time 3; \
             error wait time 1, 5;\n  ipv4 {{ {import} }};\n  {six}}}\n"
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

const fn near_six(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xFD00, 0x78, number as u16, 0, 0, 0, 0, 1)
}

const fn far_six(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xFD00, 0x78, number as u16, 0, 0, 0, 0, 2)
}
