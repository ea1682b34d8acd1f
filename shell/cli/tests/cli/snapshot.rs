//! Compares what was printed with a file, after masking what differs from run to run.

use std::fs;
use std::path::PathBuf;

/// Compares `text` with `tests/snapshots/NAME.txt`.
pub(crate) fn check(name: &str, text: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("DWCP_BLESS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; write it with DWCP_BLESS=1", path.display())
    });
    assert!(
        expected == text,
        "{name} differs; if that is meant, write it anew with DWCP_BLESS=1\n--- expected\n{expected}\n--- printed\n{text}"
    );
}

/// Masks moments such as `2026-03-01T12:00:00Z`.
pub(crate) fn without_moments(text: &str) -> String {
    let shape = "0000-00-00T00:00:00Z";
    let chars: Vec<char> = text.chars().collect();
    let mut masked = String::new();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let is_moment = rest.len() >= shape.len()
            && shape.chars().zip(rest).all(|(wanted, found)| {
                if wanted == '0' { found.is_ascii_digit() } else { wanted == *found }
            });
        if is_moment {
            masked.push_str("<moment>");
            at += shape.len();
        } else {
            masked.push(chars[at]);
            at += 1;
        }
    }
    masked
}

#[test]
fn moments_are_masked_and_nothing_else() {
    assert_eq!(without_moments("at 2026-03-01T12:00:00Z, 2026"), "at <moment>, 2026");
}
