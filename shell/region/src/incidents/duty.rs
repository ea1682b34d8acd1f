//! Being on duty: one daemon of the federation evaluates, writes and tells.
//!
//! ```text
//!   nobody is on duty ─▶ grant a lease, put the key with it if absent ─▶ on duty
//!   each second: keep the lease alive ─▶ read the senses ─▶ step ─▶ write ─▶ tell
//!   the lease is gone, or the key is another's ─▶ off duty; what is under way is dropped
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_monitor::incident::{Detector, IncidentId, Message, Outcome, Step};
use dwcp_runtime::strong::{Compare, LeaseId, Op, OpId, StrongError, Txn, TxnOutcome};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tracing::{info, warn};

use super::board::{DUTY_KEY, OnDuty};
use super::notifier::pause;
use super::remind::Reminded;
use super::{Incidents, NotChanged};
use crate::commit::stored;

/// How often silence is looked at (M2.4: told within 30 s, and detected within 2 s).
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// How long a daemon that is dead stays on duty: some rounds that a slow disk may cost.
const DUTY_TTL: Duration = Duration::from_secs(5);
/// A daemon judges nobody before it has listened for so long: when a whole federation starts,
/// not all of it is there at once.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// Time for one round with the engine: as long as the duty lasts without it.
const ROUND_TIME_MAX: Duration = DUTY_TTL;

/// Rounds after which a daemon that can judge nobody leaves the duty to another, and for which it
/// leaves it when nobody takes it: what operators do is to be told also where only one is left.
const DEAF_MAX: u32 = 5;
const VACANT_MAX: u32 = 15;

/// One message and what came of it.
type Sent = (IncidentId, u32, String, Outcome);

/// What one time on duty holds; all of it may be lost.
struct Duty {
    lease: LeaseId,
    revision: u64,
    detector: Detector,
    /// When health and replication were read last, by the monotonic clock.
    read_at: Option<Duration>,
    sending: FuturesUnordered<BoxFuture<'static, Sent>>,
    reminding: FuturesUnordered<BoxFuture<'static, Reminded>>,
    lines: BTreeMap<String, Line>,
    /// Whether it was said that the book is full.
    full: bool,
    /// Rounds in a row in which nobody could be judged.
    deaf: u32,
}

/// The way to one receiver.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// A message is under way, or came there and is not noted yet.
    pub(super) busy: bool,
    pub(super) failures: u32,
    /// Nothing is sent before this.
    pub(super) not_before: Duration,
    /// What stands is not said again before this.
    pub(super) remind_at: Duration,
    /// What came of a message and could not be noted.
    unnoted: Option<Sent>,
}

impl Duty {
    fn new(lease: LeaseId, revision: u64) -> Self {
        Self {
            lease,
            revision,
            detector: Detector::default(),
            read_at: None,
            sending: FuturesUnordered::new(),
            reminding: FuturesUnordered::new(),
            lines: BTreeMap::new(),
            full: false,
            deaf: 0,
        }
    }

    fn fence(&self) -> Compare {
        let key = DUTY_KEY.to_owned();
        Compare::Revision { key, mod_revision: self.revision }
    }
}

impl Incidents {
    /// Is on duty whenever nobody else is, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        tokio::time::sleep(SETTLED_AFTER).await;
        let mut round = tokio::time::interval(ROUND_EVERY);
        round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut vacant = 0;
        loop {
            round.tick().await;
            vacant = if self.board.is_vacant() { vacant + 1 } else { 0 };
            if vacant == 0 || (!self.senses.judges() && vacant < VACANT_MAX) {
                continue;
            }
            vacant = 0;
            let begun = tokio::time::timeout(ROUND_TIME_MAX, self.begin()).await;
            match begun {
                Ok(Ok(Some(duty))) => {
                    info!(region = %self.region, "looks after incidents");
                    let why = self.serve(duty, &mut round).await;
                    warn!(reason = %why, "looks after incidents no more");
                }
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(reason)) => info!(%reason, "incidents wait for the engine"),
            }
        }
    }

    async fn begin(&self) -> Result<Option<Duty>, StrongError> {
        let lease = self.engine.lease_grant(DUTY_TTL).await?;
        let key = DUTY_KEY.to_owned();
        let value = stored(&self.region)?;
        let txn = Txn {
            compare: vec![Compare::absent(DUTY_KEY)],
            then: vec![Op::Put { key, value, lease: Some(lease) }],
            op_id: Some(OpId::random()),
        };
        match self.engine.txn(txn).await? {
            TxnOutcome::Committed { revision } => Ok(Some(Duty::new(lease, revision))),
            TxnOutcome::Conflict { .. } => {
                self.engine.lease_revoke(lease).await?;
                Ok(None)
            }
        }
    }

    /// Serves until the duty is lost; says why it is.
    async fn serve(
        self: &Arc<Self>,
        mut duty: Duty,
        round: &mut tokio::time::Interval,
    ) -> NotChanged {
        loop {
            tokio::select! {
                _ = round.tick() => {
                    duty.deaf = if self.senses.judges() { 0 } else { duty.deaf + 1 };
                    if duty.deaf > DEAF_MAX {
                        return self.resign(duty.lease).await;
                    }
                    let done = tokio::time::timeout(ROUND_TIME_MAX, self.round(&mut duty));
                    match done.await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) if self.is_lost(&duty, &error) => return error,
                        Ok(Err(reason)) => info!(%reason, "a round is left out"),
                        Err(_) => info!("the engine was too slow for a round"),
                    }
                    self.take_rest(&mut duty).await;
                }
                Some(sent) = duty.sending.next(), if !duty.sending.is_empty() => {
                    self.take(&mut duty, sent).await;
                }
                Some(it) = duty.reminding.next(), if !duty.reminding.is_empty() => {
                    self.reminded(duty.lines.entry(it.0.clone()).or_default(), it);
                }
            }
            self.tell(&mut duty);
        }
    }

    /// Leaves the duty to another.
    async fn resign(&self, lease: LeaseId) -> NotChanged {
        let revoked = self.engine.lease_revoke(lease);
        match tokio::time::timeout(ROUND_TIME_MAX, revoked).await {
            Ok(Ok(())) | Err(_) => NotChanged::Deaf,
            Ok(Err(error)) => NotChanged::Engine(error),
        }
    }

    /// Whether another is on duty, or nobody.
    fn is_lost(&self, duty: &Duty, error: &NotChanged) -> bool {
        let gone = matches!(error, NotChanged::Engine(StrongError::LeaseNotFound { .. }));
        let Some(OnDuty { revision, .. }) = self.board.duty() else {
            return gone || matches!(error, NotChanged::Contended);
        };
        gone || revision > duty.revision
    }

    async fn round(&self, duty: &mut Duty) -> Result<(), NotChanged> {
        self.engine.lease_keep_alive(duty.lease).await?;
        let mut signals = self.senses.silence();
        let now = self.clock.monotonic();
        let due = duty.read_at.is_none_or(|at| now.saturating_sub(at) >= self.interval);
        if due && !signals.is_empty() {
            duty.read_at = Some(now);
            signals.extend(self.senses.slow(&signals).await);
            signals.extend(self.broken_promises());
            self.keep_ledgers(&duty.fence()).await?;
        }
        let findings = duty.detector.observe(signals);
        let at = self.clock.now();
        let sinks = &self.notifier.sinks;
        let fence = duty.fence();
        let changed = self.change(Some(&fence), |book| {
            let step = book.step(&findings, sinks, at);
            let of = |id: &IncidentId| book.incidents.get(id).cloned();
            let opened: Vec<_> = step.opened.iter().filter_map(of).collect();
            Ok((step, opened))
        });
        let (step, opened) = changed.await?;
        for incident in &opened {
            info!(id = %incident.id, title = incident.title, "an incident opened");
            self.metrics.incident(incident);
        }
        warn_when_full(duty, &step);
        Ok(())
    }

    /// Notes what could not be noted before. Not within a round's time: whoever is given up
    /// midway would never be told again.
    async fn take_rest(&self, duty: &mut Duty) {
        let lines = duty.lines.values_mut();
        let unnoted: Vec<Sent> = lines.filter_map(|line| line.unnoted.take()).collect();
        for sent in unnoted {
            self.take(duty, sent).await;
        }
    }

    /// Begins to tell every receiver that is free what it waits for.
    fn tell(self: &Arc<Self>, duty: &mut Duty) {
        let now = self.clock.monotonic();
        for sink in &self.notifier.sinks {
            let line = duty.lines.entry(sink.name.clone()).or_default();
            if line.busy || now < line.not_before {
                continue;
            }
            let next = self.board.look(|book| {
                let (incident, notice) = book.waiting(&sink.name)?;
                Some((incident.id, notice.seq, incident.message(notice)))
            });
            let Some((id, seq, message)) = next else {
                duty.reminding.extend(self.remind(sink, line, now));
                continue;
            };
            line.busy = true;
            let (this, name) = (Arc::clone(self), sink.name.clone());
            duty.sending.push(Box::pin(this.sent(id, seq, name, message)));
        }
    }

    async fn sent(
        self: Arc<Self>,
        id: IncidentId,
        seq: u32,
        name: String,
        message: Message,
    ) -> Sent {
        let outcome = self.notifier.send(&name, &message, self.clock.now()).await;
        (id, seq, name, outcome)
    }

    /// Notes what came of a message; what cannot be noted now is noted later, and nothing else
    /// is sent there meanwhile.
    async fn take(&self, duty: &mut Duty, sent: Sent) {
        let (id, seq, name, outcome) = &sent;
        let at = self.clock.now();
        let fence = duty.fence();
        let noting = self.change(Some(&fence), |book| {
            book.settle(*id, (*seq, name), outcome.clone(), at);
            Ok(())
        });
        let noted = tokio::time::timeout(ROUND_TIME_MAX, noting).await;
        let line = duty.lines.entry(name.clone()).or_default();
        if !matches!(noted, Ok(Ok(()))) {
            line.unnoted = Some(sent);
            return;
        }
        line.busy = false;
        match outcome {
            Outcome::Told => {
                line.failures = 0;
                self.metrics.notified("told");
            }
            Outcome::Failed { reason } => {
                line.failures = line.failures.saturating_add(1);
                let after = pause(line.failures);
                line.not_before = self.clock.monotonic().saturating_add(after);
                self.metrics.notified("failed");
                warn!(%id, receiver = name, %reason, ?after, "is told again later");
            }
        }
    }
}

fn warn_when_full(duty: &mut Duty, step: &Step) {
    let full = step.unopened > 0;
    if full && !duty.full {
        warn!(left_out = step.unopened, "as many incidents stand as are kept");
    }
    duty.full = full;
}
