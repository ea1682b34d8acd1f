//! Every promised number names the test or benchmark that measures it, or says "unmeasured".
//!
//! The promises are the rows of the tables of `SPECIFICATION.md` with the columns
//! `promise | unit | value measured | how`. `how` names in backquotes `crate::path::test_name`,
//! `cargo xtask bench NAME`, `cargo xtask sim` or `cargo xtask nemesis`. A number without a measurement is an opinion.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::{bench, files};

const FILE: &str = "SPECIFICATION.md";
/// The columns that make a table a table of promises.
const COLUMNS: [&str; 4] = ["promise", "unit", "value measured", "how"];
/// Lines between a test attribute and its function: other attributes and comments.
const ATTRIBUTE_LINES_MAX: usize = 8;

/// Complains of every promise that nothing measures. A missing file has no promises.
pub(crate) fn check(root: &Path) -> Vec<String> {
    let Ok(text) = fs::read_to_string(root.join(FILE)) else { return Vec::new() };
    check_text(&text, &tests(root), &bench::names())
}

/// The tests of each crate, by the names that Rust code calls the crates.
type Tests = BTreeMap<String, BTreeSet<String>>;

fn check_text(text: &str, tests: &Tests, benches: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut of_promises = false;
    for (index, line) in text.lines().enumerate() {
        let Some(cells) = cells(line) else {
            of_promises = false;
            continue;
        };
        let lower: Vec<String> = cells.iter().map(|cell| cell.to_lowercase()).collect();
        if lower == COLUMNS {
            of_promises = true;
        } else if of_promises && !cells.iter().all(|cell| is_rule(cell)) {
            let fault = fault(&cells, tests, benches);
            complaints
                .extend(fault.map(|fault| format!("{FILE}:{}: {fault}", index + 1)));
        }
    }
    complaints
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

fn is_rule(cell: &str) -> bool {
    !cell.is_empty() && cell.chars().all(|c| matches!(c, '-' | ':'))
}

fn fault(cells: &[&str], tests: &Tests, benches: &[&str]) -> Option<String> {
    let [promise, _, value, how] = cells else {
        return Some(format!("this row has {} columns and not four", cells.len()));
    };
    if value.contains("unmeasured") || how.contains("unmeasured") {
        return None;
    }
    if value.is_empty() {
        return Some(format!("{promise:?} has no value; write it or \"unmeasured\""));
    }
    let named: Vec<&str> = how.split('`').skip(1).step_by(2).collect();
    if named.is_empty() {
        return Some(format!(
            "{promise:?} names nothing that measures it; name a test or benchmark in \
             backquotes, or write \"unmeasured\""
        ));
    }
    named.into_iter().find_map(|named| unknown(named, tests, benches))
}

fn unknown(named: &str, tests: &Tests, benches: &[&str]) -> Option<String> {
    if let Some(rest) = named.strip_prefix("cargo xtask ") {
        let mut words = rest.split_whitespace();
        return match (words.next(), words.next()) {
            (Some("sim" | "nemesis"), _) => None,
            (Some("bench"), Some(name)) if benches.contains(&name) => None,
            _ => Some(format!("there is no `{named}`")),
        };
    }
    let Some((krate, path)) = named.split_once("::") else {
        return Some(format!("`{named}` is no `crate::test_name` and no benchmark"));
    };
    let test = path.rsplit("::").next().unwrap_or(path);
    let there = tests.get(&krate.replace('-', "_")).is_some_and(|set| set.contains(test));
    (!there).then(|| format!("there is no test `{named}`"))
}

/// Finds the tests of every crate by reading its source.
fn tests(root: &Path) -> Tests {
    let mut tests = Tests::new();
    for manifest in files::under(root, &["Cargo.toml"]) {
        let name = fs::read_to_string(&manifest)
            .ok()
            .and_then(|text| text.parse::<toml::Table>().ok())
            .and_then(|table| {
                Some(table.get("package")?.get("name")?.as_str()?.to_owned())
            });
        let (Some(name), Some(folder)) = (name, manifest.parent()) else { continue };
        let names: BTreeSet<String> = files::under(folder, &[".rs"])
            .iter()
            .filter_map(|file| fs::read_to_string(file).ok())
            .flat_map(|text| test_names(&text))
            .collect();
        tests.insert(name.replace('-', "_"), names);
    }
    tests
}

/// The functions that a test attribute stands before.
fn test_names(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_test = |line: &str| line == "#[test]" || line.starts_with("#[tokio::test");
    let name = |line: &str| {
        let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
        rest.split(['(', '<']).next().map(str::to_owned)
    };
    let of_attribute = |(index, _): (usize, &&str)| {
        let after = lines.iter().skip(index + 1).take(ATTRIBUTE_LINES_MAX);
        after.copied().find_map(name)
    };
    lines
        .iter()
        .enumerate()
        .filter(|(_, line)| is_test(line))
        .filter_map(of_attribute)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "| Promise | Unit | Value measured | How |\n|---|---|---|---|\n";

    fn faults(row: &str) -> Vec<String> {
        let names = ["holds".to_owned()].into();
        let tests = Tests::from([("dwcp_types".to_owned(), names)]);
        check_text(&format!("{HEAD}{row}\n"), &tests, &["placement"])
    }

    #[test]
    fn a_promise_with_a_test_a_benchmark_or_a_confession_passes() {
        assert_eq!(faults("| a | ms | 1 | `dwcp_types::unit::holds` |"), [""; 0]);
        assert_eq!(faults("| a | ms | 1 | `cargo xtask bench placement` |"), [""; 0]);
        assert_eq!(faults("| a | ms | 1 | `cargo xtask sim --seeds 64` |"), [""; 0]);
        assert_eq!(faults("| a | ms | unmeasured | |"), [""; 0]);
    }

    #[test]
    fn a_promise_without_a_measurement_is_noticed() {
        for row in [
            "| a | ms | 1 | trust us |",
            "| a | ms | 1 | `dwcp_types::gone` |",
            "| a | ms | 1 | `dwcp_nothing::holds` |",
            "| a | ms | 1 | `cargo xtask bench gone` |",
            "| a | ms | | `dwcp_types::holds` |",
            "| a | ms | 1 |",
        ] {
            assert_eq!(faults(row).len(), 1, "{row}");
        }
    }

    #[test]
    fn other_tables_promise_nothing() {
        let text = "| crate | job |\n|---|---|\n| types | nouns |\n";
        assert!(check_text(text, &Tests::new(), &[]).is_empty());
    }

    #[test]
    fn tests_of_every_kind_are_found() {
        let text = "#[test]\nfn one() {}\n#[tokio::test(start_paused = true)]\n\
                    async fn two() {}\n#[test]\n#[ignore]\nfn three(a in 1..2) {}\nfn four() {}";
        assert_eq!(test_names(text), ["one", "two", "three"]);
    }
}
