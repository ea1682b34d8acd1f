//! Tells receivers: one message at a time to each, in order, again after a pause that grows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use dwcp_monitor::incident::{Message, Outcome, Severity, Sink};
use dwcp_runtime::webhook::Webhook;
use dwcp_types::Timestamp;
use tokio::io::AsyncReadExt;

use super::alert::alerts;
use super::mail::{Mailbox, mailboxes};
use crate::config::{Federation, WebhookFormat, WebhookSpec};

/// Time for one message (the receiver's, and what M2.4 leaves).
const SEND_TIME_MAX: Duration = Duration::from_secs(10);
/// Pauses after messages that failed: the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(5);
/// Longest secret.
const SECRET_LEN_MAX: u64 = 4_096;

/// All receivers.
#[derive(Debug)]
pub(super) struct Notifier {
    hooks: Vec<Hook>,
    mailboxes: Vec<Mailbox>,
    /// The receivers as the core knows them.
    pub(super) sinks: Vec<Sink>,
}

#[derive(Debug)]
struct Hook {
    spec: WebhookSpec,
    client: Webhook,
}

impl Notifier {
    /// Those of `monitoring.webhooks` and `monitoring.mail`, and those of
    /// `failover.notification_webhooks` (C19), which are told of what is critical.
    pub(super) fn new(federation: &Federation) -> anyhow::Result<Self> {
        let failover = federation.failover.notification_webhooks.iter().zip(1..);
        let failover = failover.map(|(url, number): (_, u32)| WebhookSpec {
            name: format!("failover webhook {number}"),
            url: url.clone(),
            secret_file: None,
            ca_file: None,
            format: WebhookFormat::Incident,
            min_severity: Severity::Critical,
        });
        let specs = federation.monitoring.webhooks.iter().cloned().chain(failover);
        let hooks: anyhow::Result<Vec<_>> = specs
            .map(|spec| {
                let client = Webhook::new(spec.ca_file.as_deref());
                let client = client.map_err(anyhow::Error::msg).with_context(|| {
                    format!("in `monitoring.webhooks`: webhook {}", spec.name)
                })?;
                Ok(Hook { spec, client })
            })
            .collect();
        let hooks = hooks?;
        let mail = federation.monitoring.mail.as_ref();
        let mailboxes = mail.map_or_else(|| Ok(Vec::new()), mailboxes)?;
        let sinks = hooks.iter().map(|hook| Sink {
            name: hook.spec.name.clone(),
            min_severity: hook.spec.min_severity,
        });
        let sinks: Vec<Sink> =
            sinks.chain(mailboxes.iter().map(|it| it.sink.clone())).collect();
        let mut names = BTreeSet::new();
        // Each is told by its name, so that two of one name would share what they are told.
        if let Some(twice) = sinks.iter().find(|sink| !names.insert(sink.name.as_str())) {
            bail!(
                "two receivers are named \"{}\": rename one in `monitoring.webhooks`, \
                 or name an address once in `monitoring.mail`",
                twice.name
            );
        }
        Ok(Self { hooks, mailboxes, sinks })
    }

    /// Tells one receiver.
    pub(super) async fn send(
        &self,
        sink: &str,
        message: &Message,
        now: Timestamp,
    ) -> Outcome {
        let hook = self.hooks.iter().find(|hook| hook.spec.name == sink);
        let mailbox = self.mailboxes.iter().find(|it| it.sink.name == sink);
        let sent = match (hook, mailbox) {
            (Some(hook), _) => hook.send(message, now).await,
            (None, Some(mailbox)) => mailbox.send(message).await,
            (None, None) => Err("there is no such receiver".to_owned()),
        };
        sent.map_or_else(|reason| Outcome::Failed { reason }, |()| Outcome::Told)
    }

    /// How often a receiver wants to hear again of what stands; nothing when it does not.
    pub(super) fn repeats(&self, sink: &str) -> Option<Duration> {
        let hook = self.hooks.iter().find(|hook| hook.spec.name == sink)?;
        match hook.spec.format {
            WebhookFormat::Incident => None,
            WebhookFormat::Alertmanager { repeat } => Some(repeat),
        }
    }

    /// Tells a receiver again of what stands.
    pub(super) async fn remind(
        &self,
        sink: &str,
        known: &[Message],
        now: Timestamp,
    ) -> Outcome {
        let hook = self.hooks.iter().find(|hook| hook.spec.name == sink);
        let sent = match hook {
            Some(hook) => hook.remind(known, now).await,
            None => Err("there is no such receiver".to_owned()),
        };
        sent.map_or_else(|reason| Outcome::Failed { reason }, |()| Outcome::Told)
    }
}

impl Hook {
    async fn send(&self, message: &Message, now: Timestamp) -> Result<(), String> {
        let body = match self.spec.format {
            WebhookFormat::Incident => serde_json::to_vec(message),
            WebhookFormat::Alertmanager { repeat } => {
                serde_json::to_vec(&alerts(std::slice::from_ref(message), repeat, now))
            }
        };
        self.post(&message.key, body.map_err(|error| error.to_string())?).await
    }

    async fn remind(&self, known: &[Message], now: Timestamp) -> Result<(), String> {
        let WebhookFormat::Alertmanager { repeat } = self.spec.format else {
            return Ok(());
        };
        let body = serde_json::to_vec(&alerts(known, repeat, now));
        let key = format!("standing.{}", now.as_millis());
        self.post(&key, body.map_err(|error| error.to_string())?).await
    }

    async fn post(&self, key: &str, body: Vec<u8>) -> Result<(), String> {
        // Read each time, so that a secret can be changed while daemons run.
        let secret = match &self.spec.secret_file {
            Some(file) => Some(secret(file).await?),
            None => None,
        };
        let how = (key, secret.as_deref());
        self.client.send(&self.spec.url, how, Bytes::from(body), SEND_TIME_MAX).await
    }
}

/// The secret in a file, without the end of its line.
pub(super) async fn secret(file: &Path) -> Result<Vec<u8>, String> {
    let wrong = |reason: String| {
        format!("the secret {} cannot be used: {reason}", PathBuf::from(file).display())
    };
    let open = tokio::fs::File::open(file).await.map_err(|e| wrong(e.to_string()))?;
    let mut bytes = Vec::new();
    let read = open.take(SECRET_LEN_MAX + 1).read_to_end(&mut bytes).await;
    read.map_err(|error| wrong(error.to_string()))?;
    let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let end = bytes.trim_ascii_end().len();
    bytes.truncate(end);
    if bytes.is_empty() || len > SECRET_LEN_MAX {
        return Err(wrong(format!("it must have 1 to {SECRET_LEN_MAX} bytes")));
    }
    Ok(bytes)
}

/// The pause after so many failures in a row.
pub(super) fn pause(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    PAUSE_MIN.saturating_mul(doubled).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let seconds = |failures| pause(failures).as_secs();
        assert_eq!(
            [1, 2, 3, 9, 10, 32, 33, 4_000_000].map(seconds),
            [1, 2, 4, 256, 300, 300, 300, 300]
        );
    }

    #[tokio::test]
    async fn a_secret_is_what_its_line_says_and_neither_nothing_nor_a_whole_disk() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        assert!(secret(&file).await.unwrap_err().contains("cannot be used"));
        for (text, expected) in
            [("s3cret\r\n", Some("s3cret")), (" \n", None), ("", None)]
        {
            std::fs::write(&file, text).unwrap();
            let read = secret(&file).await.ok();
            assert_eq!(read.as_deref(), expected.map(str::as_bytes), "{text:?}");
        }
        std::fs::write(&file, "x".repeat(5_000)).unwrap();
        assert!(secret(&file).await.is_err());
    }
}
