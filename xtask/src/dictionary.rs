//! `cargo xtask dictionary`: trains the compression dictionary of the frames between regions.
//!
//! The corpus is what [`corpus`] makes from a seed, so the same code makes the same
//! dictionary. Train again when frames change their form: old and new daemons then speak
//! without a dictionary until all are new (docs/adr/0010).

pub(crate) mod corpus;

use std::fs;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

// What replicas say fits through the mesh.
const _: () =
    assert!(dwcp_state::frame::FRAME_LEN_MAX <= dwcp_runtime::mesh::FRAME_LEN_MAX);

/// Where the trained dictionary is kept, from the root of the project.
const FILE: &str = "shell/runtime/src/mesh/frames.dict";
/// Size of the dictionary.
const DICTIONARY_LEN: usize = 16 << 10;
/// Frames to train on: a hundred times the dictionary, as zstd advises.
const FRAMES: usize = 16_000;
/// Seed of the frames to train on; benchmarks measure with others.
const SEED: u64 = 1;

/// What to do with the dictionary.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Options {
    /// Train it and write it; otherwise only compare with the one that is there.
    #[arg(long)]
    write: bool,
}

/// Trains, and writes or compares.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let samples = corpus::frames(SEED, FRAMES)?;
    let trained = zstd::dict::from_samples(&samples, DICTIONARY_LEN)
        .context("zstd cannot train a dictionary on this corpus")?;
    let path = crate::root()?.join(FILE);
    if options.write {
        fs::write(&path, &trained)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("{FILE}: {} bytes from {} frames", trained.len(), samples.len());
        return Ok(ExitCode::SUCCESS);
    }
    let present =
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if present == trained {
        println!("{FILE} is what training makes");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{FILE} differs from what training makes; `--write` takes the new one");
    Ok(ExitCode::FAILURE)
}
