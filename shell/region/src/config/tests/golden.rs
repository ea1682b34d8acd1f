//! Every message word for word: `refused/NAME.yaml` and `warned/NAME.yaml` are answered with
//! `NAME.txt` beside them.
//!
//! `BLESS=1 cargo test -p dwcp-region golden` writes the answers anew; read the difference
//! before it is committed.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::Federation;

fn cases(folder: &str) -> Vec<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests");
    let folder = tests.join(folder);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    files
}

/// Compares the answers to the files of a folder with those that are checked in.
fn compare(folder: &str, answer: impl Fn(&str, &str) -> String) {
    let bless = std::env::var_os("BLESS").is_some();
    let mut differing = Vec::new();
    for case in cases(folder) {
        let text = fs::read_to_string(&case).unwrap();
        let name = case.file_name().unwrap().to_str().unwrap();
        let answer = answer(&text, name);
        let golden = case.with_extension("txt");
        if bless {
            fs::write(&golden, &answer).unwrap();
        }
        if fs::read_to_string(&golden).unwrap_or_default() != answer {
            differing.push(answer);
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn every_refusal_is_word_for_word_the_one_that_was_read_and_agreed() {
    assert!(cases("refused").len() >= 30);
    compare("refused", |text, name| match Federation::parse(text, name) {
        Ok(_) => panic!("{name} is accepted"),
        Err(problems) => format!("{problems}\n"),
    });
}

#[test]
fn every_warning_is_word_for_word_the_one_that_was_read_and_agreed() {
    assert!(!cases("warned").is_empty());
    compare("warned", |text, name| {
        let (_, warnings) = Federation::parse(text, name).unwrap();
        assert!(!warnings.is_empty(), "{name} is accepted without a warning");
        warnings.iter().map(|warning| format!("{warning}\n\n")).collect()
    });
}

#[test]
fn a_refusal_names_file_line_column_reason_and_help() {
    for case in cases("refused") {
        let text = fs::read_to_string(&case).unwrap();
        let refused = Federation::parse(&text, "f.yaml").unwrap_err();
        assert!(!refused.problems.is_empty());
        for problem in refused.problems {
            assert_eq!(problem.file, "f.yaml");
            assert!(problem.at.line >= 1 && problem.at.column >= 1);
            assert!(!problem.reason.is_empty(), "{problem}");
            assert!(!problem.help.is_empty(), "{problem}");
        }
    }
}
