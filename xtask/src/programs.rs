//! The daemons and agents that benchmarks and the nemesis run, built beside this program.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

/// Builds every program of the workspace, in this program's own profile.
pub(crate) fn build() -> anyhow::Result<()> {
    build_as(!cfg!(debug_assertions))
}

/// Builds every program in the release profile; gives this one of them.
pub(crate) fn released() -> anyhow::Result<PathBuf> {
    build_as(true)?;
    let me = std::env::current_exe().context("where is this program?")?;
    let built = me.parent().and_then(|profile| profile.parent());
    let built = built.context("this program lies in no folder of a build")?;
    Ok(built.join("release").join(env!("CARGO_PKG_NAME")))
}

fn build_as(release: bool) -> anyhow::Result<()> {
    let mut cargo = Command::new("cargo");
    // All of it: a part would be built with other features, and so anew.
    cargo.args(["build", "--quiet", "--workspace", "--bins"]);
    if release {
        cargo.arg("--release");
    }
    let status = cargo.status().context("cannot start cargo to build the programs")?;
    ensure!(status.success(), "the programs cannot be built");
    Ok(())
}
