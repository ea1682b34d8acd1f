//! QMP, the language of QEMU's monitor, as values: one JSON object a line.
//!
//! Tolerant on purpose: unknown fields and unknown events pass, because clients generated
//! from one release's schema fail on the replies of another (`qapi` 0.15 against QEMU 7.2).
//! What is no message at all is an error of its own, so that the caller can count how much
//! garbage a peer may send before it is dropped.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Longest text of an error that is kept; QEMU's own are one sentence.
const TEXT_LEN_MAX: usize = 500;

/// Whether a command waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In order, behind the commands before it.
    InBand,
    /// At once, even while an ordinary command hangs: only for commands that allow it, after
    /// the capability was enabled.
    OutOfBand,
}

/// A line that came from QEMU.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The first line of a connection.
    Greeting {
        /// Major, minor, micro; zero where it is not told.
        version: (u64, u64, u64),
        /// Whether out-of-band commands may be enabled.
        oob: bool,
    },
    /// A command succeeded.
    Return {
        /// Which.
        id: u64,
        /// Its result.
        value: Value,
    },
    /// A command failed.
    Error {
        /// Which; nothing when QEMU could not read the command at all.
        id: Option<u64>,
        /// The class, such as `GenericError` or `CommandNotFound`.
        class: String,
        /// The reason.
        reason: String,
    },
    /// Something happened.
    Event {
        /// Its name, such as `SHUTDOWN`.
        name: String,
        /// What belongs to it.
        payload: Value,
    },
}

/// Why a line is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Garbage {
    /// It is not JSON.
    #[error("the line is not JSON: {0}")]
    NotJson(String),
    /// It is JSON and none of the four messages.
    #[error("the line is JSON and no QMP message")]
    NoMessage,
}

/// The line of a command, with its end.
#[must_use]
pub fn encode(id: u64, command: &str, arguments: Value, mode: Mode) -> Vec<u8> {
    let verb = match mode {
        Mode::InBand => "execute",
        Mode::OutOfBand => "exec-oob",
    };
    let mut object = Map::new();
    object.insert(verb.to_owned(), command.into());
    if !arguments.is_null() {
        object.insert("arguments".to_owned(), arguments);
    }
    object.insert("id".to_owned(), id.into());
    let mut line = Value::Object(object).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// The arguments of `qmp_capabilities` that fit a greeting.
#[must_use]
pub fn capabilities(oob: bool) -> Value {
    if oob { json!({ "enable": ["oob"] }) } else { Value::Null }
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    r#return: Option<Value>,
    error: Option<Value>,
    event: Option<Value>,
    #[serde(default)]
    data: Value,
    id: Option<Value>,
}

/// Keeps `"return": null` apart from no `return` at all.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// Reads one line.
///
/// # Errors
///
/// When it is no message of QMP.
pub fn decode(line: &[u8]) -> Result<Message, Garbage> {
    let value: Value = serde_json::from_slice(line)
        .map_err(|error| Garbage::NotJson(clip(&error.to_string())))?;
    let line = Line::deserialize(value).map_err(|_| Garbage::NoMessage)?;
    let id = line.id.as_ref().and_then(Value::as_u64);
    if let Some(greeting) = line.greeting {
        return Ok(read_greeting(&greeting));
    }
    if let Some(Value::String(name)) = line.event {
        return Ok(Message::Event { name, payload: line.data });
    }
    if let Some(error) = line.error {
        let text = |key: &str| clip(error.get(key).and_then(Value::as_str).unwrap_or(""));
        return Ok(Message::Error { id, class: text("class"), reason: text("desc") });
    }
    match (line.r#return, id) {
        (Some(value), Some(id)) => Ok(Message::Return { id, value }),
        _ => Err(Garbage::NoMessage),
    }
}

fn read_greeting(greeting: &Value) -> Message {
    let number = |part: &str| {
        let pointer = format!("/version/qemu/{part}");
        greeting.pointer(&pointer).and_then(Value::as_u64).unwrap_or(0)
    };
    let oob = greeting
        .get("capabilities")
        .and_then(Value::as_array)
        .is_some_and(|list| list.iter().any(|capability| capability == "oob"));
    Message::Greeting {
        version: (number("major"), number("minor"), number("micro")),
        oob,
    }
}

fn clip(text: &str) -> String {
    text.chars().take(TEXT_LEN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_lines_of_qemu_7_2_are_read() {
        let greeting =
            br#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7},
            "package": "Debian"}, "capabilities": ["oob"]}}"#;
        assert_eq!(
            decode(greeting),
            Ok(Message::Greeting { version: (7, 2, 22), oob: true })
        );
        let event =
            br#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN",
            "data": {"guest": true, "reason": "guest-shutdown"}}"#;
        let Ok(Message::Event { name, payload }) = decode(event) else {
            panic!("an event")
        };
        assert_eq!((name.as_str(), &payload["guest"]), ("SHUTDOWN", &Value::Bool(true)));
        let error = br#"{"id": 4, "error": {"class": "GenericError", "desc": "no"}}"#;
        assert!(
            matches!(decode(error), Ok(Message::Error { id: Some(4), reason, .. }) if reason == "no")
        );
        assert_eq!(
            decode(br#"{"return": null, "id": 9}"#),
            Ok(Message::Return { id: 9, value: Value::Null })
        );
    }

    #[test]
    fn what_is_no_message_is_garbage_and_not_a_panic() {
        for line in ["", "{", "[]", "7", "{}", r#"{"return": {}}"#, r#"{"event": 3}"#] {
            assert!(decode(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn an_out_of_band_command_says_so() {
        let line = encode(3, "yank", json!({ "instances": [] }), Mode::OutOfBand);
        let text = String::from_utf8(line).unwrap();
        assert!(text.contains(r#""exec-oob":"yank""#) && text.ends_with('\n'));
        let plain = encode(4, "query-status", Value::Null, Mode::InBand);
        assert!(!String::from_utf8(plain).unwrap().contains("arguments"));
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            let key = prop_oneof![
                Just("return".to_owned()),
                Just("error".to_owned()),
                Just("event".to_owned()),
                Just("QMP".to_owned()),
                Just("id".to_owned()),
                Just("data".to_owned()),
                ".{0,6}",
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map(key, inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _answer = decode(&bytes);
        }

        #[test]
        fn any_json_is_read_without_a_panic(value in json_value()) {
            let _answer = decode(value.to_string().as_bytes());
        }

        #[test]
        fn unknown_fields_do_not_matter(id: u64, extra in json_value(), value in json_value()) {
            let line = json!({ "return": value, "id": id, "invented": extra }).to_string();
            prop_assert_eq!(decode(line.as_bytes()), Ok(Message::Return { id, value }));
        }

        #[test]
        fn a_command_is_one_line_of_json_with_its_id(id: u64, text in ".*") {
            let line = encode(id, &text, json!({ "a": text }), Mode::InBand);
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let read: Value = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(&read["id"], id);
            prop_assert_eq!(&read["execute"], &text);
        }
    }
}
