//! Words that must not be in the project: hosts of package registries, which are a builder's
//! business, and folders of the machine that somebody happened to work on.
//!
//! The words are put together from halves, so that this file does not contain them.

use std::fs;
use std::path::Path;

use crate::files;

/// Each word, and what to write instead.
const WORDS: &[(&str, &str)] = &[
    (concat!("crates", ".io"), REGISTRY),
    (concat!("pypi", ".org"), REGISTRY),
    (concat!("python", "hosted.org"), REGISTRY),
    (concat!("npmjs", ".org"), REGISTRY),
    (concat!("npmjs", ".com"), REGISTRY),
    (concat!("proxy.golang", ".org"), REGISTRY),
    (concat!("rubygems", ".org"), REGISTRY),
    (concat!("/wo", "rk/"), MACHINE),
    (concat!("/ro", "ot/"), MACHINE),
    (concat!("/ho", "me/"), MACHINE),
    (concat!("/Us", "ers/"), MACHINE),
];
const REGISTRY: &str = "let the package's own client find its registry";
const MACHINE: &str =
    "write a path that every machine has, or take it from the environment";

/// Cargo itself writes its registry into the lock file.
const EXEMPT: &[&str] = &["Cargo.lock"];

/// Complains of every place that has such a word.
pub(crate) fn check(root: &Path) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files::under(root, &[]) {
        let shown = files::shown(root, &file);
        if EXEMPT.contains(&shown.as_str()) {
            continue;
        }
        // What is not text has no words.
        if let Ok(text) = fs::read_to_string(&file) {
            complaints.extend(check_file(&shown, &text));
        }
    }
    complaints
}

fn check_file(shown: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (word, instead) in WORDS.iter().filter(|(word, _)| line.contains(word)) {
            complaints.push(format!("{shown}:{}: has `{word}`; {instead}", index + 1));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_found_with_its_line() {
        for (word, _) in WORDS {
            let text = format!("fine\nsee {word}x\n");
            let complaints = check_file("a.md", &text);
            assert_eq!(complaints.len(), 1, "{word}");
            assert!(complaints[0].starts_with("a.md:2: "), "{complaints:?}");
        }
        assert!(check_file("a.md", "the crates of others, the work of a day").is_empty());
    }
}
