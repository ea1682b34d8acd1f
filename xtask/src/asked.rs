//! Metrics that alerts and dashboards ask for must be ones that daemons have: a query for what
//! is not there finds nothing and says nothing.
//!
//! A daemon shows a family only once it has counted something, so that this is read from the
//! code that names them, and not from a daemon that runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::files;

/// What every name begins with.
const PREFIX: &str = "dwcp_federation_";
/// Where names are given.
const NAMED_IN: &str = "shell/region/src/metrics";
/// Where they are asked for.
const ASKED_IN: [&str; 2] = ["deploy/prometheus", "deploy/grafana"];
/// What the text format adds to a name, outermost first.
const ADDED: [&[&str]; 2] =
    [&["_bucket", "_count", "_sum", "_total"], &["_seconds", "_bytes"]];

/// Complains of every name that nobody gives.
pub(crate) fn check(root: &Path) -> Vec<String> {
    let mut given =
        fs::read_to_string(root.join(format!("{NAMED_IN}.rs"))).unwrap_or_default();
    for file in files::under(&root.join(NAMED_IN), &[".rs"]) {
        given.push_str(&fs::read_to_string(file).unwrap_or_default());
    }
    let mut complaints = Vec::new();
    for file in ASKED_IN.iter().flat_map(|folder| files::under(&root.join(folder), &[])) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let shown = files::shown(root, &file);
        let unknown = asked(&text).into_iter().filter(|name| !is_given(name, &given));
        complaints.extend(unknown.map(|name| {
            format!(
                "{shown}: asks for {PREFIX}{name}, which no daemon has; see {NAMED_IN}.rs"
            )
        }));
    }
    complaints
}

/// The names in a text, without what all begin with.
fn asked(text: &str) -> BTreeSet<&str> {
    let of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let parts = text.split(PREFIX).skip(1);
    parts.filter_map(|part| part.split(|c| !of_name(c)).next()).collect()
}

/// Whether a name, or what is left of it without what the format adds, is given in the code.
fn is_given(name: &str, code: &str) -> bool {
    let mut name = name;
    if code.contains(&format!("\"{name}\"")) {
        return true;
    }
    for endings in ADDED {
        let shorter = endings.iter().find_map(|ending| name.strip_suffix(ending));
        name = shorter.unwrap_or(name);
        if code.contains(&format!("\"{name}\"")) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_with_what_the_format_adds_and_no_other() {
        let code = r#"register("lag", x); register("sent", y); register("took_ms", z);"#;
        let text = "rate(dwcp_federation_sent_bytes_total[5m]) / dwcp_federation_lag_seconds \
                    + dwcp_federation_took_ms_bucket{le=\"1\"} + dwcp_federation_lagg";
        let found: Vec<_> =
            asked(text).into_iter().map(|name| (name, is_given(name, code))).collect();
        let expected = [
            ("lag_seconds", true),
            ("lagg", false),
            ("sent_bytes_total", true),
            ("took_ms_bucket", true),
        ];
        assert_eq!(found, expected);
    }
}
