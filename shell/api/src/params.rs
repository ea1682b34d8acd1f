//! Parameters as text: from a struct into a path and a query, and back.
//!
//! Client and server share this file, so a struct that goes in comes out. The struct is flat:
//! texts, numbers, booleans, plain enums, and options of these. Anything the struct does not
//! know is refused by name, because a misspelt filter that is ignored answers another
//! question than was asked.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer,
    MapAccess, Unexpected, Visitor,
};
use serde::{Serialize, forward_to_deserialize_any};
use serde_json::Value;

/// What a path segment leaves as it is: RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why parameters cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ParamError(String);

impl serde::de::Error for ParamError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Fills a path and appends the rest as its query.
pub(crate) fn encode(path: &str, params: &impl Serialize) -> Result<String, ParamError> {
    let value = serde_json::to_value(params).map_err(ParamError::custom)?;
    let mut filled = path.to_owned();
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in value.as_object().into_iter().flatten() {
        let Some(text) = scalar(name, value)? else { continue };
        let slot = format!("{{{name}}}");
        if filled.contains(&slot) {
            if text.is_empty() || text == "." || text == ".." {
                return Err(ParamError(format!("parameter {name} may not be {text:?}")));
            }
            let segment = utf8_percent_encode(&text, SEGMENT).to_string();
            filled = filled.replace(&slot, &segment);
        } else {
            query.append_pair(name, &text);
        }
    }
    let query = query.finish();
    if filled.contains('{') {
        return Err(ParamError(format!("a parameter of {path} is missing")));
    }
    Ok(if query.is_empty() { filled } else { format!("{filled}?{query}") })
}

fn scalar(name: &str, value: &Value) -> Result<Option<String>, ParamError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(_) | Value::Number(_) => Ok(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => {
            Err(ParamError(format!("parameter {name} is not a single value")))
        }
    }
}

/// Reads a struct from the parameters of the path and the query.
pub(crate) fn decode<T: DeserializeOwned>(
    path: &[(String, String)],
    query: &str,
    known: &[String],
) -> Result<T, ParamError> {
    let query = form_urlencoded::parse(query.as_bytes())
        .map(|(name, text)| (name.into_owned(), text.into_owned()));
    let mut parts: Vec<Part> = Vec::new();
    for (name, text) in path.iter().cloned().chain(query) {
        if !known.contains(&name) {
            return Err(ParamError(unknown(&name, known)));
        }
        if parts.iter().any(|part| part.name == name) {
            return Err(ParamError(format!("parameter {name} is given twice")));
        }
        parts.push(Part { name, text });
    }
    T::deserialize(Parts { left: parts.into_iter(), value: None })
}

fn unknown(name: &str, known: &[String]) -> String {
    let name: String = name.chars().take(64).collect();
    if known.is_empty() {
        format!("there is no parameter {name:?}; this operation has none")
    } else {
        format!("there is no parameter {name:?}; there are {}", known.join(", "))
    }
}

#[derive(Debug)]
struct Part {
    name: String,
    text: String,
}

/// All parameters; a deserializer of a struct. Whatever goes wrong with a value, its name is
/// put before it here, also when the value's own type refuses it.
struct Parts {
    left: std::vec::IntoIter<Part>,
    value: Option<Part>,
}

impl<'de> MapAccess<'de> for Parts {
    type Error = ParamError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ParamError> {
        let Some(part) = self.left.next() else { return Ok(None) };
        let key = seed.deserialize(part.name.as_str().into_deserializer());
        self.value = Some(part);
        key.map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ParamError> {
        let part = self.value.take();
        let part = part.ok_or_else(|| ParamError::custom("a value without a name"))?;
        seed.deserialize(Text(part.text))
            .map_err(|error| ParamError(format!("parameter {}: {error}", part.name)))
    }
}

impl<'de> Deserializer<'de> for Parts {
    type Error = ParamError;

    fn deserialize_any<V: Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        visitor.visit_map(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct newtype_struct seq tuple tuple_struct map struct enum
        identifier ignored_any
    }
}

/// The text of one parameter; a deserializer of a single value.
struct Text(String);

impl Text {
    fn parse<T: std::str::FromStr>(&self, expected: &str) -> Result<T, ParamError> {
        self.0.parse().map_err(|_| {
            let shown: String = self.0.chars().take(64).collect();
            ParamError::invalid_value(Unexpected::Str(&shown), &expected)
        })
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $expected:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
            visitor.$visit(self.parse($expected)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Text {
    type Error = ParamError;

    parsed! {
        deserialize_bool visit_bool "true or false";
        deserialize_u8 visit_u8 "a whole number from 0 to 255";
        deserialize_u16 visit_u16 "a whole number from 0 to 65535";
        deserialize_u32 visit_u32 "a whole number from 0 to 4294967295";
        deserialize_u64 visit_u64 "a whole number, not negative";
        deserialize_i8 visit_i8 "a whole number";
        deserialize_i16 visit_i16 "a whole number";
        deserialize_i32 visit_i32 "a whole number";
        deserialize_i64 visit_i64 "a whole number";
        deserialize_f32 visit_f32 "a number";
        deserialize_f64 visit_f64 "a number";
    }

    fn deserialize_any<V: Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        let text: StrDeserializer<'_, ParamError> = self.0.as_str().into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any i128 u128
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dwcp_types::{RegionId, Timestamp};
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        OldOne,
        New,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Params {
        id: String,
        region: Option<RegionId>,
        limit: Option<u32>,
        since: Option<Timestamp>,
        kind: Option<Kind>,
        #[serde(default)]
        all: bool,
        name: Option<String>,
    }

    fn known() -> Vec<String> {
        ["id", "region", "limit", "since", "kind", "all", "name"]
            .map(str::to_owned)
            .to_vec()
    }

    fn decode_query(query: &str) -> Result<Params, ParamError> {
        decode(&[("id".to_owned(), "a".to_owned())], query, &known())
    }

    #[test]
    fn what_is_wrong_is_said_by_name() {
        for (query, expected) in [
            (
                "limit=x",
                "parameter limit: invalid value: string \"x\", expected a whole number",
            ),
            ("limit=-1", "parameter limit"),
            ("limit=99999999999", "parameter limit"),
            ("region=a/b", "parameter region: \"a/b\" is not a region id"),
            ("kind=none", "parameter kind: unknown variant"),
            ("all=1", "expected true or false"),
            ("limt=1", "there is no parameter \"limt\"; there are id, region"),
            ("limit=1&limit=2", "given twice"),
            ("id=b", "given twice"),
        ] {
            let error = decode_query(query).unwrap_err().to_string();
            assert!(error.contains(expected), "{query}: {error}");
        }
        let error = decode::<Params>(&[], "", &known()).unwrap_err().to_string();
        assert!(error.contains("missing field `id`"), "{error}");
    }

    #[test]
    fn a_path_cannot_be_left() {
        #[derive(Serialize)]
        struct Id<'a> {
            id: &'a str,
        }
        for id in ["", ".", ".."] {
            assert!(encode("/v1/x/{id}/y", &Id { id }).is_err());
        }
        assert_eq!(encode("/v1/x/{id}", &Id { id: "a/b?c" }).unwrap(), "/v1/x/a%2Fb%3Fc");
        assert!(encode("/v1/x/{other}", &Id { id: "a" }).is_err());
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            limit in any::<Option<u32>>(),
            since in any::<Option<u64>>(),
            all in any::<bool>(),
            old in any::<Option<bool>>(),
            name in proptest::option::of(".{0,20}"),
        ) {
            let params = Params {
                id: "vm-1".to_owned(),
                region: Some(RegionId::new("us-east-1").unwrap()),
                limit,
                since: since.map(Timestamp::from_millis),
                kind: old.map(|old| if old { Kind::OldOne } else { Kind::New }),
                all,
                name,
            };
            let url = encode("/vms/{id}", &params).unwrap();
            let query = url.strip_prefix("/vms/vm-1?").unwrap();
            let path = [("id".to_owned(), "vm-1".to_owned())];
            prop_assert_eq!(decode::<Params>(&path, query, &known()).unwrap(), params);
        }
    }
}
