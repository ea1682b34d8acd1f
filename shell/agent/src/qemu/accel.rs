//! Finds out whether KVM works, by booting the guest with it.
//!
//! The device node proves nothing: under some nested hypervisors `/dev/kvm` opens, its calls
//! work, and an unmodified guest still stops with an internal error. So the real image is
//! booted for a few seconds and its READY is waited for. The verdict is kept for this boot of
//! the host and this QEMU, since it costs up to [`PROBE_LIMIT`].

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use dwcp_vm::Accelerator;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::image::Image;

/// The image is READY after 2 s under emulation, so it is sooner under KVM that works.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// What the probe reads of the guest's output at most.
const OUTPUT_MAX: u64 = 256 * 1024;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Verdict {
    boot: String,
    qemu: String,
    accelerator: Accelerator,
}

/// The accelerator that works here.
pub(crate) async fn choose(
    program: &Path,
    version: &str,
    image: &Image,
    data: &Path,
) -> Accelerator {
    if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Accelerator::Tcg;
    }
    let kept = data.join("accelerator.json");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let qemu = format!("{} {version}", program.display());
    if let Ok(bytes) = fs::read(&kept)
        && let Ok(verdict) = serde_json::from_slice::<Verdict>(&bytes)
        && verdict.boot == boot
        && verdict.qemu == qemu
    {
        return verdict.accelerator;
    }
    let works = boots_with_kvm(program, image).await;
    let accelerator = if works { Accelerator::Kvm } else { Accelerator::Tcg };
    let verdict = Verdict { boot, qemu, accelerator };
    if let Ok(bytes) = serde_json::to_vec(&verdict) {
        // Not kept, it is found out again at the next start.
        drop(fs::write(&kept, bytes));
    }
    accelerator
}

async fn boots_with_kvm(program: &Path, image: &Image) -> bool {
    let spawned = Command::new(program)
        .args(["-accel", "kvm", "-cpu", "host", "-machine", "q35", "-m", "128"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-serial", "stdio", "-append", "console=ttyS0 quiet panic=-1"])
        .arg("-kernel")
        .arg(&image.kernel)
        .arg("-initrd")
        .arg(&image.initrd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut child) = spawned else { return false };
    let Some(output) = child.stdout.take() else { return false };
    let ready = async {
        let mut lines = BufReader::new(output.take(OUTPUT_MAX)).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            if line.starts_with(b"READY ") {
                return true;
            }
        }
        false
    };
    let ready = timeout(PROBE_LIMIT, ready).await.unwrap_or(false);
    if let Err(error) = child.kill().await {
        tracing::debug!(%error, "the probe's process was gone already");
    }
    ready
}
