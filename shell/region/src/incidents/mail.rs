//! An incident as a letter to one person: its facts in plain text, one to a line.
//!
//! Each address is a receiver of its own, so that one that is refused keeps nobody else waiting and
//! is told again alone. A letter has the same name at each attempt, and those of one incident are
//! one thread.

use std::sync::Arc;

use anyhow::Context;
use dwcp_monitor::incident::{Cause, Message, Severity, Sink};
use dwcp_runtime::mail::{Address, Letter, Login, Mailer};
use dwcp_runtime::webhook::rfc3339;

use super::notifier::secret;
use crate::config::MailSpec;

/// Somebody who is told by mail.
#[derive(Debug)]
pub(super) struct Mailbox {
    /// As the core knows it.
    pub(super) sink: Sink,
    to: Address,
    spec: Arc<MailSpec>,
    mailer: Arc<Mailer>,
}

/// Everybody who is told by mail.
///
/// # Errors
///
/// When the server's certificates cannot be read.
pub(super) fn mailboxes(spec: &MailSpec) -> anyhow::Result<Vec<Mailbox>> {
    let mailer = Mailer::new(spec.server.clone(), spec.ca_file.as_deref());
    let mailer = mailer.map_err(anyhow::Error::msg).context("in `monitoring.mail`")?;
    let (spec, mailer) = (Arc::new(spec.clone()), Arc::new(mailer));
    let mailbox = |to: &Address| Mailbox {
        sink: Sink {
            name: format!("mail to {}", to.as_str()),
            min_severity: spec.min_severity,
        },
        to: to.clone(),
        spec: spec.clone(),
        mailer: mailer.clone(),
    };
    Ok(spec.to.iter().map(mailbox).collect())
}

impl Mailbox {
    /// Hands a letter over.
    pub(super) async fn send(&self, message: &Message) -> Result<(), String> {
        let password = match &self.spec.login {
            // Read each time, so that it can be changed while daemons run.
            Some((username, file)) => Some((username, secret(file).await?)),
            None => None,
        };
        let login =
            password.as_ref().map(|(username, password)| Login { username, password });
        let letter = letter(message);
        self.mailer.send(&letter, (&self.spec.from, &self.to), login).await
    }
}

/// What a message says, as a letter.
fn letter(message: &Message) -> Letter {
    let incident = &message.incident;
    let (id, event) = (incident.id.to_string(), message.event.word());
    let severity: &str = Severity::word(incident.severity);
    let title = line(&incident.title);
    let mut text = format!("{id} {event}: {title}\n\n");
    let region = incident.region.as_ref().map_or("none alone", |region| region.as_str());
    let cause = match &incident.cause {
        Cause::Sla { sla } | Cause::Burn { sla } => {
            format!("{} of {sla}", incident.cause.kind().word())
        }
        Cause::Silent | Cause::Unhealthy | Cause::Replication | Cause::Reported => {
            incident.cause.kind().word().to_owned()
        }
    };
    for (name, value) in [
        ("severity", severity),
        ("category", incident.category.word()),
        ("region", region),
        ("cause", &cause),
        ("seen", &incident.description),
        ("since", &rfc3339(incident.detected_at)),
        (event, &rfc3339(message.at)),
        ("came back", &format!("{} times", incident.flaps)),
    ] {
        text += &format!("{:<13}{}\n", format!("{name}:"), line(value));
    }
    text +=
        &format!("\nIts timeline: dwcp-cli federation monitoring incidents show {id}\n");
    Letter {
        key: message.key.clone(),
        thread: id.clone(),
        subject: format!("[{severity}] {id} {event}: {title}"),
        text,
        at: message.at,
    }
}

/// A text that stays on its line.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use dwcp_monitor::incident::{Category, Change, Headline, Status};
    use dwcp_types::{RegionId, Timestamp};

    use super::*;

    fn message(title: &str, description: &str) -> Message {
        Message {
            key: "INC-007.2".to_owned(),
            event: Change::Reopened,
            at: Timestamp::from_millis(1_764_417_060_000),
            incident: Headline {
                id: "INC-007".parse().unwrap(),
                region: RegionId::new("two").ok(),
                severity: Severity::Critical,
                category: Category::Availability,
                cause: Cause::Sla { sla: "sla-latency-001".to_owned() },
                title: title.to_owned(),
                description: description.to_owned(),
                status: Status::Open,
                detected_at: Timestamp::from_millis(1_764_417_000_000),
                flaps: 1,
            },
        }
    }

    #[test]
    fn a_letter_has_the_incident_s_facts() {
        let letter = letter(&message("SLA breach in region two", "p99 140 ms"));
        assert_eq!(
            letter.subject,
            "[critical] INC-007 reopened: SLA breach in region two"
        );
        assert_eq!(
            (letter.key.as_str(), letter.thread.as_str()),
            ("INC-007.2", "INC-007")
        );
        assert_eq!(
            letter.text,
            "INC-007 reopened: SLA breach in region two\n\n\
             severity:    critical\ncategory:    availability\nregion:      two\n\
             cause:       sla of sla-latency-001\nseen:        p99 140 ms\n\
             since:       2025-11-29T11:50:00Z\nreopened:    2025-11-29T11:51:00Z\n\
             came back:   1 times\n\n\
             Its timeline: dwcp-cli federation monitoring incidents show INC-007\n"
        );
    }

    #[test]
    fn what_operators_write_makes_no_lines_of_its_own() {
        let evil = "x\r\nseverity: low\nBcc: all@example.net";
        let letter = letter(&message(evil, evil));
        assert!(!letter.subject.contains(['\r', '\n']));
        let lines: Vec<_> = letter.text.lines().collect();
        assert_eq!(lines.len(), 12, "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line.starts_with("severity:")).count(), 1);
        assert!(!lines.iter().any(|line| line.starts_with("Bcc")));
    }
}
