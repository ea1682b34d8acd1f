//! Where things are: the programs under test, the guest image, the files of one federation.

use std::path::{Path, PathBuf};

/// A program of the workspace, in `target/PROFILE/`: beside a program that asks, one folder above
/// a test.
///
/// # Panics
///
/// When it was not built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    found(name).unwrap_or_else(|path| {
        panic!(
            "{} is missing: run `cargo build --workspace --bins` first",
            path.display()
        )
    })
}

/// The program, or where it should be.
fn found(name: &str) -> Result<PathBuf, PathBuf> {
    let own = std::env::current_exe().expect("a process knows its program");
    // target/PROFILE/PROGRAM or target/PROFILE/deps/TEST
    let folders = own.ancestors().skip(1).take(2);
    let mut paths = folders.map(|folder| folder.join(name));
    paths.find(|path| path.is_file()).ok_or_else(|| own.with_file_name(name))
}

/// The folder of the guest image, where real VMs can run here; else the reason is printed and
/// the test has nothing to do.
#[must_use]
pub fn guest_image() -> Option<PathBuf> {
    let image = workspace().join("target/guest");
    if !image.join("kernel").is_file() {
        return skip(&format!(
            "no guest image in {}; make it with guest/build.sh",
            image.display()
        ));
    }
    installed("qemu-system-x86_64").map(|_| image)
}

/// A program that is installed; else the reason is printed.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut files = std::env::split_paths(&path).map(|folder| folder.join(name));
    files
        .find(|file| file.is_file())
        .or_else(|| skip(&format!("{name} is not installed")))
}

/// The workspace's own folder.
///
/// # Panics
///
/// Never: the testbed is in the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the testbed is in the workspace")
}

#[expect(clippy::print_stderr, reason = "a skipped test says why")]
pub(crate) fn skip<T>(why: &str) -> Option<T> {
    eprintln!("skipped: {why}");
    None
}

/// Files of one federation.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("federation.yaml")
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.root.join("ca")
    }

    pub(crate) fn admin(&self) -> PathBuf {
        self.root.join("admin")
    }

    pub(crate) fn operator(&self, name: &str) -> PathBuf {
        self.root.join("operators").join(name)
    }

    pub(crate) fn tls(&self, who: &str) -> PathBuf {
        self.root.join("tls").join(who)
    }

    pub(crate) fn data(&self, who: &str) -> PathBuf {
        self.root.join("data").join(who)
    }

    pub(crate) fn agent_config(&self, host: &str) -> PathBuf {
        self.root.join(format!("{host}.yaml"))
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.root.join("image")
    }

    pub(crate) fn clock(&self, who: &str) -> PathBuf {
        self.root.join(format!("{who}.clock"))
    }

    pub(crate) fn log(&self, who: &str) -> PathBuf {
        self.root.join(format!("{who}.log"))
    }
}
