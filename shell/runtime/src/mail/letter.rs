//! A letter as bytes (RFC 5322): plain text whose words cannot become headers.
//!
//! Everything that others choose the words of goes through [`word`] or base64: a line's end, a
//! control sign or a sign beyond ASCII in a subject makes encoded words (RFC 2047), and the body is
//! base64 as a whole, so that no line of it is a dot, too long, or a header.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dwcp_types::Timestamp;

/// Bytes of a line of base64, without its end (RFC 2045).
const LINE_LEN: usize = 76;
/// Bytes of one encoded word before they are encoded: 52 and its frame of 12, so that the first of
/// them is on the line of its header (76, RFC 2047).
const WORD_LEN: usize = 39;
/// Longest subject that is written as it is: a line has 78 with its name (RFC 5322).
const PLAIN_LEN_MAX: usize = 69;
/// Longest subject, in characters.
const SUBJECT_LEN_MAX: usize = 200;

/// What is written to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The same at each attempt, and of no other letter: letters, digits, dots and hyphens.
    pub key: String,
    /// What it belongs to, so that readers show all of one matter together; signs as in `key`.
    pub thread: String,
    /// In a line.
    pub subject: String,
    /// Its text.
    pub text: String,
    /// When what it tells happened.
    pub at: Timestamp,
}

impl Letter {
    /// All of it, with the lines of a body that begin with a dot as SMTP wants them: there are none.
    /// Addresses were checked by [`super::Address`].
    #[must_use]
    pub fn encode(&self, from: &super::Address, to: &super::Address) -> String {
        let (key, thread) = (sign(&self.key), sign(&self.thread));
        let domain = from.domain();
        let mut out = String::new();
        for (name, value) in [
            ("Date", date(self.at)),
            ("From", from.as_str().to_owned()),
            ("To", to.as_str().to_owned()),
            ("Subject", word(&self.subject)),
            ("Message-ID", format!("<{key}@{domain}>")),
            ("References", format!("<{thread}@{domain}>")),
            // Nobody's answer of absence (RFC 3834).
            ("Auto-Submitted", "auto-generated".to_owned()),
            ("MIME-Version", "1.0".to_owned()),
            ("Content-Type", "text/plain; charset=utf-8".to_owned()),
            ("Content-Transfer-Encoding", "base64".to_owned()),
        ] {
            // Writing into a string cannot fail.
            write!(out, "{name}: {value}\r\n").unwrap_or_default();
        }
        out.push_str("\r\n");
        out.push_str(&body(&self.text));
        out
    }
}

/// Signs that a message's name may have.
fn sign(text: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    text.chars().filter(allowed).take(100).collect()
}

/// A text as a header's value: as it is when it is plain and fits a line, else in encoded words.
fn word(text: &str) -> String {
    let short: String = text.chars().take(SUBJECT_LEN_MAX).collect();
    let is_plain = short.len() <= PLAIN_LEN_MAX
        && short.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && !short.contains("=?");
    if is_plain {
        return short;
    }
    let mut words = Vec::new();
    let mut part = String::new();
    for c in short.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if part.len() + c.len_utf8() > WORD_LEN {
            words.push(std::mem::take(&mut part));
        }
        part.push(c);
    }
    words.push(part);
    let encoded = words.iter().map(|it| format!("=?utf-8?B?{}?=", STANDARD.encode(it)));
    encoded.collect::<Vec<_>>().join("\r\n ")
}

/// A text as lines of base64.
fn body(text: &str) -> String {
    let encoded = STANDARD.encode(text);
    let mut out = String::with_capacity(encoded.len() + encoded.len() / LINE_LEN * 2 + 2);
    for (place, sign) in encoded.chars().enumerate() {
        if place > 0 && place % LINE_LEN == 0 {
            out.push_str("\r\n");
        }
        out.push(sign);
    }
    out.push_str("\r\n");
    out
}

/// A moment as letters have it (RFC 5322); the epoch for one that no calendar has.
fn date(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    let utc = at.to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::rfc2822::to_string(&utc).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::Address;
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn encoded(subject: &str, text: &str, key: &str) -> String {
        let letter = Letter {
            key: key.to_owned(),
            thread: "INC-001".to_owned(),
            subject: subject.to_owned(),
            text: text.to_owned(),
            at: Timestamp::from_millis(1_764_417_000_123),
        };
        letter.encode(&address("dwcp@example.com"), &address("ops@example.org"))
    }

    /// Headers by name with their folds undone, and the text.
    fn read(letter: &str) -> (Vec<(String, String)>, String) {
        let (head, body) = letter.split_once("\r\n\r\n").unwrap();
        let head = head.replace("\r\n ", " ");
        assert!(!head.replace("\r\n", "").contains(['\r', '\n']), "{head:?}");
        let pair = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        };
        let headers = head.split("\r\n").map(pair).collect();
        let bytes = STANDARD.decode(body.replace("\r\n", "")).unwrap();
        (headers, String::from_utf8(bytes).unwrap())
    }

    fn subject(letter: &str) -> String {
        let (headers, _) = read(letter);
        let value = &headers.iter().find(|(name, _)| name == "Subject").unwrap().1;
        if !value.contains("=?") {
            return value.clone();
        }
        let words = value.split(' ').map(|word| {
            let inner = word.strip_prefix("=?utf-8?B?").unwrap();
            assert!(word.len() <= 75, "{word}");
            String::from_utf8(STANDARD.decode(inner.strip_suffix("?=").unwrap()).unwrap())
        });
        words.map(Result::unwrap).collect()
    }

    #[test]
    fn a_letter_is_as_written() {
        let letter =
            encoded("[critical] Region two is silent", "silent to one\n", "INC-001.2");
        assert_eq!(
            letter,
            "Date: Sat, 29 Nov 2025 11:50:00 +0000\r\n\
             From: dwcp@example.com\r\nTo: ops@example.org\r\n\
             Subject: [critical] Region two is silent\r\n\
             Message-ID: <INC-001.2@example.com>\r\nReferences: <INC-001@example.com>\r\n\
             Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: base64\r\n\r\nc2lsZW50IHRvIG9uZQo=\r\n"
        );
    }

    #[test]
    fn no_words_become_headers_or_the_end_of_the_letter() {
        let evil = "x\r\nBcc: all@example.net\r\n\r\n.\r\nMAIL FROM:<a@b>\r\n";
        let letter = encoded(evil, evil, "INC\r\nBcc: x@y");
        let (headers, text) = read(&letter);
        assert_eq!(text, evil);
        let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), 10, "{names:?}");
        assert!(!names.contains(&"Bcc"));
        assert!(!letter.contains("\r\n."), "nothing to stuff");
        assert_eq!(subject(&letter), evil.replace(['\r', '\n'], " "));
    }

    proptest::proptest! {
        #[test]
        fn any_words_are_read_as_they_were_written(subject_text in ".*", text in "(?s).*") {
            let letter = encoded(&subject_text, &text, "INC-001.1");
            let plain = |c: char| if c.is_control() { ' ' } else { c };
            let expected: String =
                subject_text.chars().take(SUBJECT_LEN_MAX).map(plain).collect();
            proptest::prop_assert_eq!(subject(&letter), expected);
            proptest::prop_assert_eq!(read(&letter).1, text);
            proptest::prop_assert!(letter.split("\r\n").all(|line| line.len() <= 78 && !line.starts_with('.')));
        }
    }
}
