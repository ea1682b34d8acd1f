//! QEMU's command line for one guest.
//!
//! Everything that a value can decide is decided here, so that a test can read it: the shell
//! only makes the files and starts the program. The guest gets no device it does not need
//! (`-nodefaults`), the process no system call to gain rights or start others (`-sandbox`);
//! that excludes `-daemonize`, which forks under the sandbox, so the shell starts the process
//! in a session of its own instead.
//! The monitor's socket is a relative path, because a socket's whole path may have 107 bytes
//! only: QEMU is started in the guest's folder and binds it before it leaves.

use std::net::Ipv4Addr;

use dwcp_types::VmId;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Given, GuestName};

/// The translation cache of TCG in MiB: saves about 30 MiB a guest against the default and
/// costs a rehearsal guest nothing that could be measured.
const TCG_CACHE_MIB: u32 = 32;

/// What a Linux kernel is told when it is emulated. On a busy host an emulator does not run for
/// longer than the kernel's test of its timer waits, and then it panics ("IO-APIC + timer
/// doesn't work"), or takes the processor's clock for several times as fast as it is; hypervisors
/// have it leave both out. Its tests of its own ciphers are a sixth of a start.
const EMULATED: &str = " no_timer_check tsc=unstable cryptomgr.notests";

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl Accelerator {
    /// Its name as QEMU spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// How the guest is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not at all.
    None,
    /// By QEMU's own user-mode network: outgoing only, needs no privilege.
    User,
    /// By a network of its own that leads nowhere: the card and the addresses are those of
    /// [`Self::User`], and no packet leaves QEMU.
    Isolated,
    /// By a tap device that is there already.
    Tap {
        /// The device.
        device: String,
        /// The guest's address; it configures none when absent.
        address: Option<(Ipv4Addr, u8)>,
        /// Where it sends what is not on its own network.
        gateway: Option<Ipv4Addr>,
    },
}

/// Everything that the command line depends on. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch<'a> {
    /// The VM.
    pub vm: &'a VmId,
    /// What it is given.
    pub given: Given,
    /// What executes it.
    pub accelerator: Accelerator,
    /// The kernel.
    pub kernel: &'a str,
    /// The initial RAM file system.
    pub initrd: &'a str,
    /// The guest's folder, with the disk, the console and the pid file.
    pub folder: &'a str,
    /// How it is connected.
    pub link: Link,
    /// It is loaded and its CPUs are not started.
    pub paused: bool,
    /// It waits for its state from another host, and its CPUs are not started then either.
    pub incoming: bool,
}

/// File names within a guest's folder.
pub mod file {
    /// The disk image.
    pub const DISK: &str = "disk.qcow2";
    /// The monitor's socket.
    pub const MONITOR: &str = "qmp.sock";
    /// The process's id; QEMU keeps it locked while it lives, so that a second process with
    /// the same one refuses to start.
    pub const PID: &str = "qemu.pid";
    /// What QEMU itself said since it was started last.
    pub const LOG: &str = "qemu.log";
    /// What the guest printed on its serial port.
    pub const CONSOLE: &str = "console.log";
}

impl Launch<'_> {
    /// The arguments, without the program.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let name = GuestName::of(self.vm);
        let inside = |file: &str| format!("{}/{file}", self.folder);
        let mut args: Vec<String> = Vec::with_capacity(48);
        let mut add = |flag: &str, value: String| {
            args.push(flag.to_owned());
            args.push(value);
        };
        add("-name", format!("guest={}", self.vm));
        add("-uuid", name.uuid());
        add("-pidfile", inside(file::PID));
        add("-machine", "q35".to_owned());
        add("-accel", self.accel());
        if self.accelerator == Accelerator::Kvm {
            add("-cpu", "host".to_owned());
        }
        add("-m", format!("{}M", self.given.memory.get()));
        add("-smp", self.given.cpu.to_string());
        add("-display", "none".to_owned());
        // A guest that powered off stays as a process in state `shutdown`: the fact can be
        // seen later, also by an agent that was not there when it happened.
        add("-action", "shutdown=pause,panic=pause".to_owned());
        add(
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
                .to_owned(),
        );
        add("-kernel", self.kernel.to_owned());
        add("-initrd", self.initrd.to_owned());
        add("-append", self.kernel_line());
        add(
            "-chardev",
            format!("file,id=console,path={},append=on", escaped(&inside(file::CONSOLE))),
        );
        add("-serial", "chardev:console".to_owned());
        add(
            "-chardev",
            format!("socket,id=monitor,path={},server=on,wait=off", file::MONITOR),
        );
        add("-mon", "chardev=monitor,mode=control".to_owned());
        add("-blockdev", disk(&inside(file::DISK)));
        add("-device", "virtio-blk-pci,drive=disk".to_owned());
        if let Some(netdev) = self.netdev() {
            add("-netdev", netdev);
            add(
                "-device",
                format!("virtio-net-pci,netdev=net,mac={},romfile=", name.mac()),
            );
        }
        for flag in ["-nodefaults", "-no-user-config"] {
            args.push(flag.to_owned());
        }
        if self.paused || self.incoming {
            args.push("-S".to_owned());
        }
        if self.incoming {
            args.extend(["-incoming".to_owned(), "defer".to_owned()]);
        }
        args
    }

    fn accel(&self) -> String {
        match self.accelerator {
            Accelerator::Kvm => "kvm".to_owned(),
            Accelerator::Tcg => format!("tcg,tb-size={TCG_CACHE_MIB}"),
        }
    }

    fn netdev(&self) -> Option<String> {
        match &self.link {
            Link::None => None,
            Link::User => Some("user,id=net".to_owned()),
            Link::Isolated => Some("user,id=net,restrict=on".to_owned()),
            Link::Tap { device, .. } => {
                Some(format!("tap,id=net,ifname={device},script=no,downscript=no"))
            }
        }
    }

    /// `panic=10` lets a guest whose kernel panicked reboot by itself after ten seconds, time
    /// for a person who watches the console.
    fn kernel_line(&self) -> String {
        let mut line = format!("console=ttyS0 quiet panic=10 vm.name={}", self.vm);
        if self.accelerator == Accelerator::Tcg {
            line.push_str(EMULATED);
        }
        let (address, gateway) = match &self.link {
            Link::None => (None, None),
            // The addresses that QEMU's user-mode network always has.
            Link::User | Link::Isolated => (
                Some((Ipv4Addr::new(10, 0, 2, 15), 24)),
                Some(Ipv4Addr::new(10, 0, 2, 2)),
            ),
            Link::Tap { address, gateway, .. } => (*address, *gateway),
        };
        if let Some((address, prefix)) = address {
            line.push_str(&format!(" vm.addr={address}/{prefix}"));
        }
        if let Some(gateway) = gateway {
            line.push_str(&format!(" vm.gw={gateway}"));
        }
        line
    }
}

/// The disk as JSON, where no character of the path needs care. `discard=unmap` gives back
/// what the guest trims.
fn disk(path: &str) -> String {
    json!({
        "driver": "qcow2", "node-name": "disk", "discard": "unmap",
        "file": { "driver": "file", "filename": path, "discard": "unmap" },
    })
    .to_string()
}

/// A value within an option of QEMU: a comma is doubled.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use dwcp_types::Mib;

    fn launch(vm: &VmId, link: Link) -> Launch<'_> {
        Launch {
            vm,
            given: Given { cpu: 2, memory: Mib::new(96) },
            accelerator: Accelerator::Tcg,
            kernel: "/i/kernel",
            initrd: "/i/initrd",
            folder: "/d,1/guests/web",
            link,
            paused: false,
            incoming: false,
        }
    }

    fn value<'a>(args: &'a [String], flag: &str) -> Vec<&'a str> {
        let pairs = args.windows(2).filter(|pair| pair[0] == flag);
        pairs.map(|pair| pair[1].as_str()).collect()
    }

    #[test]
    fn the_guest_gets_what_it_is_given() {
        let vm = VmId::new("web").unwrap();
        let args = launch(&vm, Link::User).arguments();
        assert_eq!(value(&args, "-m"), ["96M"]);
        assert_eq!(value(&args, "-smp"), ["2"]);
        assert_eq!(value(&args, "-accel"), ["tcg,tb-size=32"]);
        assert!(value(&args, "-append")[0].contains("vm.addr=10.0.2.15/24"));
        assert!(value(&args, "-append")[0].contains(EMULATED));
        assert!(args.contains(&"-nodefaults".to_owned()));
        assert!(!args.contains(&"-S".to_owned()));
    }

    #[test]
    fn commas_of_a_path_do_not_end_an_option() {
        let vm = VmId::new("web").unwrap();
        let args = launch(&vm, Link::None).arguments();
        let console = value(&args, "-chardev")[0];
        assert!(
            console.contains("path=/d,,1/guests/web/console.log,append"),
            "{console}"
        );
        let disk: serde_json::Value =
            serde_json::from_str(value(&args, "-blockdev")[0]).unwrap();
        assert_eq!(disk["file"]["filename"], "/d,1/guests/web/disk.qcow2");
    }

    #[test]
    fn a_guest_without_a_link_has_no_network_card() {
        let vm = VmId::new("web").unwrap();
        let args = launch(&vm, Link::None).arguments();
        assert!(value(&args, "-netdev").is_empty());
        assert!(!args.iter().any(|arg| arg.contains("virtio-net")));
    }

    #[test]
    fn a_guest_apart_from_everything_has_its_card_and_no_way_out() {
        let vm = VmId::new("web").unwrap();
        let args = launch(&vm, Link::Isolated).arguments();
        assert_eq!(value(&args, "-netdev"), ["user,id=net,restrict=on"]);
        let open = launch(&vm, Link::User).arguments();
        let but_for_the_network = |args: &[String]| -> Vec<String> {
            let is_other = |arg: &&String| !arg.starts_with("user,");
            args.iter().filter(is_other).cloned().collect()
        };
        assert_eq!(but_for_the_network(&args), but_for_the_network(&open));
    }

    #[test]
    fn a_paused_kvm_guest_with_a_tap() {
        let vm = VmId::new("web").unwrap();
        let link = Link::Tap {
            device: "dwcp0".to_owned(),
            address: Some((Ipv4Addr::new(10, 9, 0, 7), 24)),
            gateway: Some(Ipv4Addr::new(10, 9, 0, 1)),
        };
        let launch =
            Launch { accelerator: Accelerator::Kvm, paused: true, ..launch(&vm, link) };
        let args = launch.arguments();
        assert_eq!(value(&args, "-cpu"), ["host"]);
        assert!(args.contains(&"-S".to_owned()));
        assert!(
            value(&args, "-append")[0].ends_with("vm.addr=10.9.0.7/24 vm.gw=10.9.0.1")
        );
    }

    #[test]
    fn a_guest_that_is_waited_for_is_the_same_machine_and_starts_by_word_only() {
        let vm = VmId::new("web").unwrap();
        let here = launch(&vm, Link::User);
        let there = Launch { incoming: true, ..here.clone() };
        let mut args = there.arguments();
        assert_eq!(args.split_off(args.len() - 3), ["-S", "-incoming", "defer"]);
        assert_eq!(args, here.arguments());
    }
}
