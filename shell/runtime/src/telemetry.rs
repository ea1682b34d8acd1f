//! What the daemons say about themselves: structured lines on standard error.
//!
//! `DWCP_LOG` selects what is logged, in the syntax of `tracing`'s filters, for example
//! `info,dwcp_runtime=debug`. Secrets stay out because no type that holds one implements
//! `Debug` with its content; there is no filter here that would have to catch them.

use std::fmt;
use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::clock::{Clock, SystemClock};

/// The environment variable that selects what is logged.
const FILTER_VARIABLE: &str = "DWCP_LOG";
/// What is logged when it is not set.
const FILTER_DEFAULT: &str = "info";

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be parsed.
    #[error(
        "{FILTER_VARIABLE}={text:?} is not a log filter: {reason}; use for example {FILTER_VARIABLE}=info,dwcp_runtime=debug"
    )]
    Filter {
        /// What it says.
        text: String,
        /// Why not.
        reason: String,
    },
    /// Logging was started before.
    #[error("logging was started twice")]
    Twice,
}

/// Starts logging to standard error, for the whole process.
///
/// # Errors
///
/// When the filter of the environment cannot be parsed, or logging runs already.
pub fn start(format: LogFormat) -> Result<(), TelemetryError> {
    let text =
        std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| FILTER_DEFAULT.to_owned());
    let filter = filter(&text)?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(Utc)
        .with_ansi(false)
        .with_writer(io::stderr);
    let started = match format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    started.map_err(|_| TelemetryError::Twice)
}

fn filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(text).map_err(|error| TelemetryError::Filter {
        text: text.chars().take(200).collect(),
        reason: error.to_string(),
    })
}

/// Times in UTC with milliseconds, from the Clock port.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let millis = SystemClock::new().now().as_millis();
        let moment = i64::try_from(millis)
            .ok()
            .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
        match moment {
            Some(moment) => write!(writer, "{moment:.3}"),
            None => write!(writer, "{millis}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_refused_with_an_example() {
        filter("info,dwcp_runtime=debug").unwrap();
        let error = filter("info,=,x=nothing").unwrap_err().to_string();
        assert!(error.contains("DWCP_LOG=info,dwcp_runtime=debug"), "{error}");
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        let mut text = String::new();
        Utc.format_time(&mut Writer::new(&mut text)).unwrap();
        assert!(text.ends_with('Z') && text.len() == "2026-01-01T00:00:00.000Z".len());
    }
}
