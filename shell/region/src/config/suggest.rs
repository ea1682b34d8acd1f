//! "Did you mean ...?": the known word that is nearest to an unknown one.

/// Longest word that is compared, in bytes: the longest identifier.
const WORD_MAX: usize = 64;
/// Most words that are listed in a message.
const LISTED_MAX: usize = 12;

/// The edit distance of two words by insertion, deletion, replacement and swapping of two
/// neighbours, without case.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<u8> = other.bytes().map(|c| c.to_ascii_lowercase()).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    let mut last = 0;
    for (i, a) in one.bytes().map(|c| c.to_ascii_lowercase()).enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let replaced = above[j] + usize::from(a != *b);
            let mut least = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a == other[j - 1] && last == *b {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        last = a;
        before = std::mem::replace(&mut above, row);
    }
    above[other.len()]
}

/// The known word nearest to `word`, if one is near: a third of its letters may differ, or one
/// contains the other.
pub(super) fn nearest<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.len() > WORD_MAX {
        return None;
    }
    let near = |candidate: &str| {
        let apart = distance(word, candidate);
        let within = word.len() >= 3 && candidate.contains(word);
        let close = apart <= (word.len().max(candidate.len()) / 3).max(1);
        (close || within).then_some((!close, apart))
    };
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= WORD_MAX)
        .filter_map(|candidate| near(candidate).map(|rank| (rank, candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Advice for an unknown word: the nearest known one, else all of them.
pub(super) fn advice<'a>(
    word: &str,
    noun: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    if let Some(candidate) = nearest(word, known.clone()) {
        return format!("did you mean `{candidate}`?");
    }
    let words: Vec<&str> = known.into_iter().collect();
    let listed: Vec<String> =
        words.iter().take(LISTED_MAX).map(|word| format!("`{word}`")).collect();
    let rest = words.len().saturating_sub(LISTED_MAX);
    let more = if rest == 0 { String::new() } else { format!(" and {rest} more") };
    if listed.is_empty() {
        return format!("there is no {noun} yet");
    }
    format!("{noun}: {}{more}", listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_word() {
        let known = ["capacity", "country", "cloud_provider", "total_memory"];
        assert_eq!(nearest("capcity", known), Some("capacity"));
        assert_eq!(nearest("cuontry", known), Some("country"));
        assert_eq!(nearest("memory", known), Some("total_memory"));
        assert_eq!(nearest("zebra", known), None);
        assert_eq!(advice("zebra", "keys", ["a", "b"]), "keys: `a`, `b`");
    }

    #[test]
    fn a_swap_of_neighbours_is_one_edit() {
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    proptest! {
        #[test]
        fn the_distance_is_symmetric_and_zero_only_for_equal_words(
            a in "[a-z]{0,12}", b in "[a-z]{0,12}",
        ) {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
        }
    }
}
