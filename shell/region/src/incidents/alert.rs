//! An incident as an alert of Alertmanager's API, version 2 (`POST /api/v2/alerts`).
//!
//! Alertmanager ends an alert by itself some minutes after it last heard of it, unless it is told
//! when it ends. An incident is told once a change, so an alert that stands ends a year from then,
//! and one that is over ends when it was. What an alert is known again by are its labels: none of
//! them changes from opening to end.

use std::time::Duration;

use dwcp_monitor::incident::{Cause, Change, Message};
use dwcp_runtime::webhook::rfc3339;
use serde_json::{Value, json};

/// How long an alert stands at most when nobody says that it is over.
const STANDS: Duration = Duration::from_hours(365 * 24);

/// The list of one that the API takes.
pub(super) fn alerts(message: &Message) -> Value {
    let incident = &message.incident;
    let (begun, ended) = match message.event {
        Change::Resolved => (incident.detected_at.min(message.at), message.at),
        Change::Opened | Change::Acknowledged | Change::Reopened => {
            (message.at, message.at.plus(STANDS))
        }
    };
    let (cause, sla) = match &incident.cause {
        Cause::Silent => ("silent", None),
        Cause::Unhealthy => ("unhealthy", None),
        Cause::Replication => ("replication", None),
        Cause::Sla { sla } => ("sla", Some(sla)),
        Cause::Burn { sla } => ("burn", Some(sla)),
        Cause::Reported => ("reported", None),
    };
    let mut labels = json!({
        "alertname": "DwcpIncident",
        "incident": incident.id.to_string(),
        "severity": incident.severity.word(),
        "category": incident.category.word(),
        "cause": cause,
    });
    if let Some(region) = &incident.region {
        labels["region"] = region.as_str().into();
    }
    if let Some(sla) = sla {
        labels["sla"] = sla.as_str().into();
    }
    json!([{
        "labels": labels,
        "annotations": {
            "summary": incident.title,
            "description": incident.description,
            "event": message.event.word(),
        },
        "startsAt": rfc3339(begun),
        "endsAt": rfc3339(ended),
    }])
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
        let [opened, over] = [(Change::Opened, 2_000), (Change::Resolved, 9_000)]
            .map(|(event, at)| alerts(&message(event, at))[0].clone());
        assert_eq!(opened["labels"], over["labels"]);
        assert_eq!(opened["startsAt"], "1970-01-01T00:00:02Z");
        assert_eq!(opened["endsAt"], "1971-01-01T00:00:02Z");
        assert_eq!(over["startsAt"], "1970-01-01T00:00:01Z");
        assert_eq!(over["endsAt"], "1970-01-01T00:00:09Z");
        assert_eq!(over["annotations"]["event"], "resolved");
    }
}
