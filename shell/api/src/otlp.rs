//! Traces as others write and read them: OTLP over HTTP in JSON, the part of it that spans need.
//!
//! Ids are hexadecimal, times are nanoseconds in text, and members that are not known here are
//! skipped, all as that protocol wants it. Its other encoding, Protocol Buffers, is not spoken.

use std::collections::BTreeMap;

use dwcp_monitor::trace::{Kind, Lane, Span, SpanId, TraceId};
use dwcp_types::RegionId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operations;

operations! {
    /// M10.
    PutOtlp = Post "/v1/traces" "put_otlp"
        "Spans of other services, by OTLP in JSON, for the traces that they are part of.",
        crate::NoParams, OtlpRequest => OtlpReply;
}

/// Whose spans they are.
const SERVICE: &str = "service.name";
/// Which of them.
const INSTANCE: &str = "service.instance.id";
/// Where that is.
const REGION: &str = "cloud.region";
/// What processes of others are called by: no daemon or host has a slash in its name.
const OTHERS: &str = "other/";
/// The status of what failed.
const FAILED: u32 = 2;
const NANOS: u64 = 1_000;

/// `ExportTraceServiceRequest`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OtlpRequest {
    /// By who made them.
    #[serde(default)]
    pub resource_spans: Vec<ResourceSpans>,
}

/// Spans of one process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceSpans {
    /// Which.
    #[serde(default)]
    pub resource: Resource,
    /// By the library that made them.
    #[serde(default)]
    pub scope_spans: Vec<ScopeSpans>,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resource {
    /// What it is.
    #[serde(default)]
    pub attributes: Vec<Attribute>,
}

/// Spans of one library.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScopeSpans {
    /// They.
    #[serde(default)]
    pub spans: Vec<OtlpSpan>,
}

/// A span.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OtlpSpan {
    /// Its trace.
    pub trace_id: String,
    /// It.
    pub span_id: String,
    /// What it is part of; empty for nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parent_span_id: String,
    /// What was done.
    pub name: String,
    /// 2 for who is asked, 3 for who asks.
    pub kind: u32,
    /// When it began.
    pub start_time_unix_nano: Nanos,
    /// When it ended.
    pub end_time_unix_nano: Nanos,
    /// What else is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    /// How it ended.
    pub status: OtlpStatus,
}

/// How a span ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OtlpStatus {
    /// 2 when it failed.
    pub code: u32,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A moment in nanoseconds since 1970: text in JSON, and a number from those who write one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Nanos {
    /// As the protocol has it.
    Text(String),
    /// As some write it.
    Number(u64),
}

impl Default for Nanos {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Nanos {
    fn micros(&self) -> Option<u64> {
        match self {
            Self::Text(text) => text.parse::<u64>().ok().map(|nanos| nanos / NANOS),
            Self::Number(nanos) => Some(nanos / NANOS),
        }
    }

    fn of_micros(micros: u64) -> Self {
        Self::Text((u128::from(micros) * u128::from(NANOS)).to_string())
    }
}

/// Something that is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attribute {
    /// Its name.
    pub key: String,
    /// It.
    #[serde(default)]
    pub value: AnyValue,
}

/// A value of some kind; lists and maps are skipped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AnyValue {
    /// A text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub string_value: Option<String>,
    /// A truth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bool_value: Option<bool>,
    /// A number: text, or a number from those who write one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub int_value: Option<serde_json::Value>,
    /// A number with decimals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub double_value: Option<f64>,
}

impl AnyValue {
    fn text(self) -> Option<String> {
        let Self { string_value, bool_value, int_value, double_value } = self;
        let int = int_value
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        let other = || {
            let truth = bool_value.map(|it| it.to_string());
            truth.or_else(|| double_value.map(|it| it.to_string()))
        };
        string_value.or(int).or_else(other)
    }
}

/// `ExportTraceServiceResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OtlpReply {
    /// What was not taken; absent when all was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_success: Option<PartialSuccess>,
}

/// What was not taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartialSuccess {
    /// How many spans, in text as the protocol has it.
    pub rejected_spans: String,
    /// Why the first of them was not.
    pub error_message: String,
}

impl OtlpReply {
    /// That so many were not taken, and why the first was not.
    #[must_use]
    pub fn refusing(rejected: usize, why: Option<String>) -> Self {
        let partial_success = why.map(|error_message| PartialSuccess {
            rejected_spans: rejected.to_string(),
            error_message,
        });
        Self { partial_success }
    }
}

/// What a request says, as far as it can be read: spans of this region, and how many are none and
/// why the first of them is.
#[must_use]
pub fn read(
    request: OtlpRequest,
    region: &RegionId,
) -> (Vec<Span>, usize, Option<String>) {
    let (mut spans, mut rejected, mut why) = (Vec::new(), 0, None);
    for of in request.resource_spans {
        let process = process(of.resource.attributes);
        for it in of.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let lane = Lane { region: region.clone(), process: process.clone() };
            match one(it, lane) {
                Ok(span) => spans.push(span),
                Err(reason) => {
                    rejected += 1;
                    why.get_or_insert(reason);
                }
            }
        }
    }
    (spans, rejected, why)
}

/// Who made spans, as nobody of the federation is called.
fn process(attributes: Vec<Attribute>) -> String {
    let (mut service, mut instance) = (None, None);
    for it in attributes {
        match it.key.as_str() {
            SERVICE => service = it.value.text(),
            INSTANCE => instance = it.value.text(),
            _ => {}
        }
    }
    let name = service.unwrap_or_else(|| "unknown".to_owned());
    match instance.filter(|instance| *instance != name) {
        Some(instance) => format!("{OTHERS}{name}/{instance}"),
        None => format!("{OTHERS}{name}"),
    }
}

fn one(it: OtlpSpan, lane: Lane) -> Result<Span, String> {
    let name: String = it.name.chars().take(60).collect();
    let wrong = |what: String| format!("span {name:?}: {what}");
    let trace: Result<TraceId, _> = it.trace_id.to_ascii_lowercase().parse();
    let id: Result<SpanId, _> = it.span_id.to_ascii_lowercase().parse();
    let parent = match it.parent_span_id.as_str() {
        "" => None,
        text => {
            let parent: Result<SpanId, _> = text.to_ascii_lowercase().parse();
            Some(parent.map_err(|error| wrong(error.to_string()))?)
        }
    };
    let times = it.start_time_unix_nano.micros().zip(it.end_time_unix_nano.micros());
    let (start_us, end_us) =
        times.ok_or_else(|| wrong("its times are no whole nanoseconds".to_owned()))?;
    let took_us = end_us
        .checked_sub(start_us)
        .ok_or_else(|| wrong("it ends before it begins".to_owned()))?;
    let attributes = it.attributes.into_iter();
    let tags = attributes.filter_map(|it| Some((it.key, it.value.text()?))).collect();
    let span = Span {
        trace: trace.map_err(|error| wrong(error.to_string()))?,
        id: id.map_err(|error| wrong(error.to_string()))?,
        entry: parent.is_none(),
        parent,
        keep: false,
        kind: match it.kind {
            2 => Kind::Server,
            3 => Kind::Client,
            _ => Kind::Internal,
        },
        region: lane.region,
        process: lane.process,
        start_us,
        took_us,
        failed: (it.status.code == FAILED).then(|| match it.status.message {
            message if message.is_empty() => "it failed".to_owned(),
            message => message,
        }),
        tags,
        name: it.name,
    };
    span.fitted().ok_or_else(|| wrong("its times cannot be true".to_owned()))
}

/// Spans for whoever speaks OTLP.
#[must_use]
pub fn write(spans: &[Span]) -> OtlpRequest {
    let mut by_lane: BTreeMap<Lane, Vec<OtlpSpan>> = BTreeMap::new();
    for span in spans {
        by_lane.entry(Lane::of(span)).or_default().push(written(span));
    }
    let of = |(lane, spans): (Lane, Vec<OtlpSpan>)| {
        let service = if lane.process == "dwcpd" { "dwcpd" } else { "dwcp-agent" };
        let attributes = vec![
            attribute(SERVICE, service),
            attribute(INSTANCE, &lane.process),
            attribute(REGION, lane.region.as_str()),
        ];
        let resource = Resource { attributes };
        ResourceSpans { resource, scope_spans: vec![ScopeSpans { spans }] }
    };
    OtlpRequest { resource_spans: by_lane.into_iter().map(of).collect() }
}

fn attribute(key: &str, text: &str) -> Attribute {
    let value = AnyValue { string_value: Some(text.to_owned()), ..AnyValue::default() };
    Attribute { key: key.to_owned(), value }
}

fn written(span: &Span) -> OtlpSpan {
    OtlpSpan {
        trace_id: span.trace.to_string(),
        span_id: span.id.to_string(),
        parent_span_id: span.parent.map(|id| id.to_string()).unwrap_or_default(),
        name: span.name.clone(),
        kind: match span.kind {
            Kind::Internal => 1,
            Kind::Server => 2,
            Kind::Client => 3,
        },
        start_time_unix_nano: Nanos::of_micros(span.start_us),
        end_time_unix_nano: Nanos::of_micros(span.end_us()),
        attributes: span.tags.iter().map(|(key, text)| attribute(key, text)).collect(),
        status: OtlpStatus {
            code: if span.failed.is_some() { FAILED } else { 0 },
            message: span.failed.clone().unwrap_or_default(),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn region() -> RegionId {
        RegionId::new("eu-west-1").unwrap()
    }

    fn any_span() -> impl Strategy<Value = Span> {
        let ids = (1_u128.., 1_u64.., prop::option::of(1_u64..));
        let times = (0..1_u64 << 50, 0..1_000_000_u64);
        let rest = ("[a-z_]{1,20}", prop::option::of("[ -~]{1,30}"), 0..3_u8);
        (ids, times, rest).prop_map(
            |((trace, id, parent), times, (name, failed, kind))| {
                let parent = parent.and_then(SpanId::new);
                Span {
                    trace: TraceId::new(trace).unwrap(),
                    id: SpanId::new(id).unwrap(),
                    parent,
                    entry: parent.is_none(),
                    keep: false,
                    name,
                    kind: [Kind::Internal, Kind::Server, Kind::Client][usize::from(kind)],
                    region: region(),
                    process: "dwcpd".to_owned(),
                    start_us: times.0,
                    took_us: times.1,
                    failed,
                    tags: BTreeMap::from([("vm".to_owned(), "web-1".to_owned())]),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(spans in prop::collection::vec(any_span(), 0..6)) {
            let text = serde_json::to_string(&write(&spans)).unwrap();
            let request = serde_json::from_str(&text).unwrap();
            let of_others = |span: Span| Span { process: "other/dwcpd".to_owned(), ..span };
            let spans: Vec<Span> = spans.into_iter().map(of_others).collect();
            prop_assert_eq!(read(request, &region()), (spans, 0, None));
        }

        /// Whatever JSON comes is read or refused.
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}", number in any::<i64>()) {
            let span = json!({
                "traceId": text, "spanId": text, "parentSpanId": text, "name": text,
                "kind": number.unsigned_abs() % 9, "startTimeUnixNano": text,
                "endTimeUnixNano": number.unsigned_abs(), "unknown": [text],
                "attributes": [{"key": text, "value": {"arrayValue": {}}}],
            });
            let all = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]});
            if let Ok(request) = serde_json::from_value(all) {
                let (spans, rejected, _) = read(request, &region());
                prop_assert_eq!(spans.len() + rejected, 1);
            }
        }
    }

    /// The example of the protocol's own documents, as far as spans need it.
    #[test]
    fn a_request_of_another_is_read() {
        let request = json!({"resourceSpans": [{
            "resource": {"attributes": [
                {"key": "service.name", "value": {"stringValue": "my.service"}}
            ]},
            "scopeSpans": [{"scope": {"name": "my.library"}, "spans": [
                {
                    "traceId": "5B8EFFF798038103D269B633813FC60C",
                    "spanId": "EEE19B7EC3C1B174", "parentSpanId": "EEE19B7EC3C1B173",
                    "name": "I'm a server span", "kind": 2,
                    "startTimeUnixNano": "1544712660000000000",
                    "endTimeUnixNano": "1544712661000000000",
                    "attributes": [
                        {"key": "tries", "value": {"intValue": "3"}},
                        {"key": "cold", "value": {"boolValue": true}}
                    ]
                },
                {"traceId": "00", "spanId": "EEE19B7EC3C1B174", "name": "bad"}
            ]}]
        }]});
        let request = serde_json::from_value(request).unwrap();
        let (spans, rejected, why) = read(request, &region());
        assert_eq!((spans.len(), rejected), (1, 1));
        assert!(why.unwrap().starts_with("span \"bad\": \"00\" is no id of a trace"));
        let span = &spans[0];
        assert_eq!(span.trace.to_string(), "5b8efff798038103d269b633813fc60c");
        assert_eq!((span.kind, span.entry), (Kind::Server, false));
        assert_eq!((span.start_us, span.took_us), (1_544_712_660_000_000, 1_000_000));
        assert_eq!(span.process, "other/my.service");
        assert_eq!(
            (span.tags["tries"].as_str(), span.tags["cold"].as_str()),
            ("3", "true")
        );
    }
}
