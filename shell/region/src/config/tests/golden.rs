//! Every refusal word for word: `refused/NAME.yaml` is answered with `refused/NAME.txt`.
//!
//! `BLESS=1 cargo test -p dwcp-region golden` writes the answers anew; read the difference
//! before it is committed.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::Federation;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/refused");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    files
}

#[test]
fn every_refusal_is_word_for_word_the_one_that_was_read_and_agreed() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut differing = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 30, "only {} cases found", cases.len());
    for case in cases {
        let text = fs::read_to_string(&case).unwrap();
        let name = case.file_name().unwrap().to_str().unwrap();
        let answer = match Federation::parse(&text, name) {
            Ok(_) => format!("{name} is accepted\n"),
            Err(problems) => format!("{problems}\n"),
        };
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
fn a_refusal_names_file_line_column_reason_and_help() {
    for case in cases() {
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
