//! An incident as an alert of Alertmanager's API, version 2 (`POST /api/v2/alerts`).
//!
//! Its API expects to be told again and again of what stands: an Alertmanager that was started anew
//! knows nothing. So an alert that stands ends some repetitions from when it is sent, and one that
//! is over ends when it was. What an alert is known again by are its labels: none of them changes
//! from opening to end, but for the severity of what gets worse, which is another alert from then
//! on while the milder one ends by itself.

use std::time::Duration;

use dwcp_monitor::incident::{Cause, Change, Message};
use dwcp_runtime::webhook::rfc3339;
use dwcp_types::Timestamp;
use serde_json::{Value, json};

/// Repetitions that may be missed before an alert ends by itself: those of a duty that changes
/// hands, and of a network that is away for a while.
const MISSED_MAX: u32 = 3;

/// The list that the API takes. `repeat` is how often what stands is said again.
pub(super) fn alerts(messages: &[Message], repeat: Duration, now: Timestamp) -> Value {
    messages.iter().map(|message| alert(message, repeat, now)).collect()
}

fn alert(message: &Message, repeat: Duration, now: Timestamp) -> Value {
    let incident = &message.incident;
    let (begun, ended) = match message.event {
        Change::Resolved => (incident.detected_at.min(message.at), message.at),
        Change::Opened | Change::Acknowledged | Change::Reopened | Change::Raised => {
            (message.at, now.max(message.at).plus(repeat * MISSED_MAX))
        }
    };
    let sla = match &incident.cause {
        Cause::Sla { sla } | Cause::Burn { sla } => Some(sla),
        Cause::Silent | Cause::Unhealthy | Cause::Replication | Cause::Reported => None,
    };
    let mut labels = json!({
        "alertname": "DwcpIncident",
        "incident": incident.id.to_string(),
        "severity": incident.severity.word(),
        "category": incident.category.word(),
        "cause": incident.cause.kind().word(),
    });
    if let Some(region) = &incident.region {
        labels["region"] = region.as_str().into();
    }
    if let Some(sla) = sla {
        labels["sla"] = sla.as_str().into();
    }
    json!({
        "labels": labels,
        "annotations": {
            "summary": incident.title,
            "description": incident.description,
            "event": message.event.word(),
        },
        "startsAt": rfc3339(begun),
        "endsAt": rfc3339(ended),
    })
}

#[cfg(test)]
mod tests {
    use dwcp_monitor::incident::{Category, Headline, Severity};
    use dwcp_types::{RegionId, Timestamp};

    use super::*;

    fn message(event: Change, at: u64) -> Message {
        Message {
            key: "INC-001.1".to_owned(),
            event,
            at: Timestamp::from_millis(at),
            incident: Headline {
                id: "INC-001".parse().unwrap(),
                region: RegionId::new("two").ok(),
                severity: Severity::Critical,
                category: Category::Availability,
                cause: Cause::Silent,
                title: "region two is silent".to_owned(),
                description: "silent to one, three".to_owned(),
                status: event.status(),
                detected_at: Timestamp::from_millis(1_000),
                flaps: 0,
            },
        }
    }

    #[test]
    fn an_alert_is_known_again_when_it_ends() {
        let [opened, over] =
            [(Change::Opened, 2_000), (Change::Resolved, 9_000)].map(|(event, at)| {
                let repeat = Duration::from_mins(5);
                let now = Timestamp::from_millis(60_000);
                alerts(&[message(event, at)], repeat, now)[0].clone()
            });
        assert_eq!(opened["labels"], over["labels"]);
        assert_eq!(opened["startsAt"], "1970-01-01T00:00:02Z");
        assert_eq!(opened["endsAt"], "1970-01-01T00:16:00Z");
        assert_eq!(over["startsAt"], "1970-01-01T00:00:01Z");
        assert_eq!(over["endsAt"], "1970-01-01T00:00:09Z");
        assert_eq!(over["annotations"]["event"], "resolved");
    }
}
