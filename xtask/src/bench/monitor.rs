//! What the monitor costs and how true its figures are: one file for each of its parts.

mod measured;
mod told;
mod traces;

use super::{Measurement, Options};

/// Measures.
pub(super) fn measure(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    let mut all = measured::measure(options.quick)?;
    all.extend(traces::measure(options.quick)?);
    all.extend(told::measure(options.quick)?);
    Ok(all)
}
