//! How long a file may be and what it begins with.
//!
//! A file that nobody can read in one sitting hides its mistakes; tests are left out of the
//! count, so that nobody saves on them.

use std::fs;
use std::path::Path;

use crate::files;

/// Longest file in lines, without its tests.
const LINES_MAX: usize = 600;

/// Complains of every Rust file that is too long or does not say what it is for.
pub(crate) fn check(root: &Path) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files::under(root, &[".rs"]) {
        let shown = files::shown(root, &file);
        match fs::read_to_string(&file) {
            Ok(text) => complaints.extend(check_file(&shown, &text)),
            Err(error) => complaints.push(format!("{shown}: {error}")),
        }
    }
    complaints
}

fn check_file(shown: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.starts_with("//! ") {
        complaints.push(format!(
            "{shown}:1: no header; begin with `//! ` and say what this file decides or does"
        ));
    }
    let only_tests = shown.split('/').any(|part| part == "tests" || part == "tests.rs");
    let lines = lines_without_tests(text);
    if !only_tests && lines > LINES_MAX {
        complaints.push(format!(
            "{shown}: {lines} lines without tests, over {LINES_MAX}; split it where two \
             thoughts meet"
        ));
    }
    complaints
}

/// Lines outside test modules. A test module runs from `#[cfg(test)]` before a `mod ... {` to
/// the next brace at the start of a line.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let mut count = 0;
    let mut inside = false;
    for (index, line) in lines.iter().enumerate() {
        let next = lines.get(index + 1).copied().unwrap_or("");
        if *line == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{') {
            inside = true;
        }
        count += usize::from(!inside);
        if *line == "}" {
            inside = false;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_not_counted_and_what_follows_them_is() {
        let text = "//! a\nfn a() {}\n#[cfg(test)]\nmod tests {\n    x\n}\nfn b() {}\n";
        assert_eq!(lines_without_tests(text), 3);
        assert_eq!(
            lines_without_tests("//! a\n#[cfg(test)]\nmod tests;\nfn b() {}\n"),
            4
        );
    }

    #[test]
    fn a_file_that_is_too_long_or_headless_is_noticed() {
        let long = format!("//! a\n{}", "x\n".repeat(600));
        assert_eq!(check_file("core/a.rs", &long).len(), 1);
        assert!(check_file("core/tests/a.rs", &long).is_empty());
        assert!(check_file("core/a.rs", "fn main() {}")[0].contains("no header"));
        assert!(check_file("core/a.rs", "//! a\nfn main() {}").is_empty());
    }
}
