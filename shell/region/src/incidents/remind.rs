//! Says again what stands to receivers that forget: Alertmanagers, whose API expects it.
//!
//! Nothing of it is written down: whoever comes on duty says it at once, and then as often as the
//! receiver wants. A change that waits for the same receiver goes first.

use std::sync::Arc;
use std::time::Duration;

use dwcp_monitor::incident::{Message, Outcome, Sink};
use futures_util::future::BoxFuture;
use tracing::warn;

use super::Incidents;
use super::duty::{Again, Line};

/// To whom something was said again, and what came of it.
pub(super) type Reminded = (String, Outcome);

impl Incidents {
    /// Begins to remind a receiver that is free, when it is time for that and something stands.
    pub(super) fn remind(
        self: &Arc<Self>,
        sink: &Sink,
        line: &mut Line,
        now: Duration,
    ) -> Option<BoxFuture<'static, Reminded>> {
        let repeat = self.notifier.repeats(&sink.name)?;
        if now < line.reminding.not_before {
            return None;
        }
        let known: Vec<Message> = self.board.look(|book| {
            book.known_to(sink).filter_map(|incident| incident.as_told(sink)).collect()
        });
        line.reminding.not_before = now.saturating_add(repeat);
        if known.is_empty() {
            return None;
        }
        line.busy = true;
        let (this, name) = (Arc::clone(self), sink.name.clone());
        Some(Box::pin(async move {
            let outcome = this.notifier.remind(&name, &known, this.clock.now()).await;
            (name, outcome)
        }))
    }

    /// Notes what came of it.
    pub(super) fn reminded(&self, line: &mut Line, (name, outcome): Reminded) {
        line.busy = false;
        if let Some(Again { reason, after }) = self.settle(&mut line.reminding, &outcome)
        {
            warn!(receiver = name, reason, ?after, "is reminded again later");
        }
    }
}
