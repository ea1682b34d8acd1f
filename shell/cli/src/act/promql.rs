//! `monitoring metrics query` (DETAILS 2.4): a question to a Prometheus, in its own language. The
//! tool computes nothing: it passes the question on and shows the answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::outside::{Named, Service};
use super::show;
use crate::app::Run;
use crate::arguments::QueryArgs;
use crate::failure::{Failure, Kind};
use crate::{text, view};

/// Longest complaint of a Prometheus that is told, in characters.
const TOLD_LEN_MAX: usize = 300;

/// What a Prometheus answers.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    #[serde(default)]
    status: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    data: Option<Vector>,
    #[serde(default)]
    warnings: Vec<String>,
}

/// Its values.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Vector {
    /// `vector`, `scalar`, `matrix` or `string`.
    pub(crate) result_type: String,
    /// As it came.
    pub(crate) result: Value,
}

/// One series of a vector.
#[derive(Debug, Deserialize)]
pub(crate) struct Series {
    #[serde(default)]
    pub(crate) metric: BTreeMap<String, String>,
    /// A moment and a value, or several of them.
    #[serde(default)]
    pub(crate) value: Option<(f64, String)>,
    #[serde(default)]
    pub(crate) values: Vec<(f64, String)>,
}

/// Asks a Prometheus.
pub(super) async fn query(run: &mut Run<'_>, args: QueryArgs) -> Result<(), Failure> {
    let Some(url) = &args.prometheus else {
        return Err(Failure::usage("no Prometheus is named").with_remedy(
            "give --prometheus URL or set DWCP_PROMETHEUS; without one, `monitoring metrics \
             history` shows what the daemons keep themselves",
        ));
    };
    let named = Named {
        option: "--prometheus",
        url,
        token_file: args.token_file.as_deref(),
        ca_file: args.ca_file.as_deref(),
    };
    let service = Service::open(run, named)?;
    let path = format!("/api/v1/query?query={}", escaped(&args.promql));
    let answered = service.ask(&path, None).await?;
    let answer: Option<Answer> = serde_json::from_slice(&answered.body).ok();
    let status = answered.status;
    match answer {
        Some(Answer { status, data: Some(data), warnings, .. })
            if status == "success" =>
        {
            for warning in &warnings {
                run.terminal.note(&text::plain(warning));
            }
            show(run, &data, view::series)
        }
        Some(Answer { error, .. }) if !error.is_empty() => {
            let error: String = text::plain(&error).chars().take(TOLD_LEN_MAX).collect();
            let kind = if status == 400 { Kind::Usage } else { Kind::Failed };
            Err(Failure::new(kind, format!("Prometheus refuses the query: {error}"))
                .with_remedy(
                    "names of metrics are in its /graph, or at a daemon's /metrics",
                ))
        }
        _ => {
            let message =
                format!("{} is no Prometheus (it answered {status})", service.base);
            Err(Failure::new(Kind::Failed, message)
                .with_remedy("check --prometheus, with the path if it is below one"))
        }
    }
}

/// A text within a query: all but RFC 3986's unreserved characters by their bytes.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            write!(escaped, "%{byte:02X}").unwrap_or_default();
        }
    }
    escaped
}
