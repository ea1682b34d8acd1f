//! No input makes the reader panic, and none is refused without a place, a reason and a help.

use proptest::prelude::*;

use super::super::Federation;

const EXAMPLE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/t1/federation.yaml"));

/// Pieces that are likely to hit something.
const PIECES: &[&str] = &[
    "",
    " ",
    "\n",
    "\t",
    ":",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "|\n",
    "\"",
    "'",
    "#",
    "---\n",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    ".nan",
    "18446744073709551616",
    "0x10",
    "5s",
    "100TB",
    "us-east-1",
    "\u{0}",
    "\u{feff}",
    "\u{2028}",
    "ä",
];

/// Replaces `len` characters from `from` by a piece.
fn mutate(text: &str, from: usize, len: usize, piece: &str) -> String {
    let count = text.chars().count().max(1);
    let from = from % count;
    let head = text.chars().take(from);
    head.chain(piece.chars()).chain(text.chars().skip(from + len)).collect()
}

/// What must hold of the answer to any text.
fn judge(text: &str) -> Result<(), TestCaseError> {
    // Counted generously: `\r\n` twice.
    let ends = text.matches(['\r', '\n']).count();
    let lines = u64::try_from(ends).unwrap() + 1;
    match Federation::parse(text, "fuzz.yaml") {
        Ok((federation, _)) => {
            prop_assert!(!federation.regions.is_empty());
            let time = federation.failover.timing.total();
            prop_assert!(time < federation.failover.max_failover_time);
        }
        Err(refused) => {
            prop_assert!(!refused.problems.is_empty());
            for problem in &refused.problems {
                let at = problem.at;
                prop_assert!(at.line >= 1 && at.column >= 1, "{problem}");
                prop_assert!(at.line <= lines, "{problem} in {lines} lines");
                prop_assert!(!problem.reason.is_empty() && !problem.help.is_empty());
                prop_assert!(!problem.reason.contains("does not know why"), "{problem}");
            }
            prop_assert!(refused.to_string().contains("fuzz.yaml:"));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_mutated_example_is_read_or_refused_with_a_place(
        edits in prop::collection::vec(
            (any::<usize>(), 0usize..12, prop::sample::select(PIECES)), 1..5,
        ),
    ) {
        let mut text = EXAMPLE.to_owned();
        for (from, len, piece) in edits {
            text = mutate(&text, from, len, piece);
        }
        judge(&text)?;
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_place(text in "(?s).{0,400}") {
        judge(&text)?;
    }

    #[test]
    fn any_bytes_are_read_or_refused_with_a_place(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        judge(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn any_heap_of_yaml_pieces_is_read_or_refused_with_a_place(
        pieces in prop::collection::vec(
            prop_oneof![
                prop::sample::select(PIECES),
                prop::sample::select(&["regions:", "id:", "failover:", "capacity:"][..]),
            ],
            0..60,
        ),
    ) {
        judge(&pieces.concat())?;
    }
}

#[test]
fn a_carriage_return_alone_ends_a_line_and_its_excerpt() {
    let refused = Federation::parse("version: 1\rzebra: 1\r", "f.yaml").unwrap_err();
    let zebra = refused.problems.iter().find(|problem| problem.reason.contains("zebra"));
    let zebra = zebra.unwrap();
    assert_eq!((zebra.at.line, zebra.excerpt.as_str()), (2, "zebra: 1"));
}
