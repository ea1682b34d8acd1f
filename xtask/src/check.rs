//! `cargo xtask check`: the rules of the project that no lint knows.
//!
//! Each rule is a function from the project's root to complaints; all are made, then the
//! command fails if there is any. A complaint names the file, the fault and the way out.

use std::path::Path;
use std::process::ExitCode;

use crate::{asked, docs, layers, shape, specification, words};

/// Makes every check.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let root = crate::root()?;
    let complaints = complaints(&root);
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    if complaints.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{} complaints", complaints.len());
    Ok(ExitCode::FAILURE)
}

fn complaints(root: &Path) -> Vec<String> {
    [
        layers::check(root),
        shape::check(root),
        docs::check(root),
        specification::check(root),
        words::check(root),
        asked::check(root),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_keeps_its_own_rules() {
        let complaints = complaints(&crate::root().unwrap());
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}
