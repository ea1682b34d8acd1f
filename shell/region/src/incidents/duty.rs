//! Being on duty: one daemon of the federation evaluates, writes and tells.
//!
//! ```text
//!   nobody is on duty, or a region that is silent ─▶ grant a lease, put the key with it ─▶ on duty
//!   each second: keep the lease alive ─▶ read the senses ─▶ step ─▶ write ─▶ tell
//!   the lease is gone, or the key is another's ─▶ off duty; what is under way is dropped
//! ```
//!
//! A region that a majority does not hear is not waited for until its lease ends: the key is put in
//! place of the one that was seen, and every write of a round compares it, so that whoever was on
//! duty changes nothing any more, dead or not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_monitor::incident::{
    Cause, Detector, IncidentId, Message, Outcome, Reading, Signal, Step,
};
use dwcp_runtime::strong::{Compare, LeaseId, Op, OpId, StrongError, Txn, TxnOutcome};
use dwcp_types::RegionId;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use super::board::{DUTY_KEY, OnDuty};
use super::notifier::pause;
use super::promises::Look;
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

/// How long a round waits for its look at promises: it takes some milliseconds of CPU, and what is
/// not there by then, because a disk hangs, is taken by a later round.
const LOOK_TIME_MAX: Duration = Duration::from_millis(500);

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
    /// The look at promises that is under way.
    look: Option<JoinHandle<Look>>,
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
    /// Of what is new.
    telling: Pace,
    /// Of what stands and is said again: a receiver that refuses that is told what is new.
    pub(super) reminding: Pace,
    /// What came of a message and could not be noted.
    unnoted: Option<Sent>,
}

/// How soon the next attempt may be.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Attempts that failed, in a row.
    failures: u32,
    /// By the monotonic clock.
    pub(super) not_before: Duration,
}

impl Duty {
    fn new(lease: LeaseId, revision: u64) -> Self {
        Self {
            lease,
            revision,
            detector: Detector::default(),
            read_at: None,
            look: None,
            sending: FuturesUnordered::new(),
            reminding: FuturesUnordered::new(),
            lines: BTreeMap::new(),
            full: false,
            deaf: 0,
        }
    }

    /// The look at promises, once it is there.
    async fn looked(&mut self) -> Option<Look> {
        let look = timeout(LOOK_TIME_MAX, self.look.as_mut()?).await.ok()?;
        self.look = None;
        look.inspect_err(|reason| warn!(%reason, "service levels were not looked at"))
            .ok()
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
        let (mut vacant, mut waits) = (0, false);
        loop {
            round.tick().await;
            vacant = if self.board.is_vacant() { vacant + 1 } else { 0 };
            let judges = self.senses.judges();
            let free = vacant > 0 && (judges || vacant >= VACANT_MAX);
            let silent = self.silent_duty();
            if !free && silent.is_none() {
                continue;
            }
            vacant = 0;
            let begun = timeout(ROUND_TIME_MAX, self.begin(silent.as_ref())).await;
            match begun {
                Ok(Ok(Some(duty))) => {
                    waits = false;
                    info!(region = %self.region, "looks after incidents");
                    round.reset_immediately();
                    let why = self.serve(duty, &mut round).await;
                    warn!(reason = %why, "looks after incidents no more");
                }
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(reason)) => {
                    if !waits {
                        info!(%reason, "incidents wait for the engine");
                    }
                    waits = true;
                }
            }
        }
    }

    /// Who is on duty and not heard. Nobody where only this daemon's own ears say so, or where it is
    /// not heard itself: two might take it from each other for ever.
    fn silent_duty(&self) -> Option<OnDuty> {
        let duty = self.board.duty()?;
        if !self.senses.judges() || self.senses.seen.is_none() {
            return None;
        }
        let silence = self.senses.silence();
        let takes =
            is_silent(&duty.region, &silence) && !is_silent(&self.region, &silence);
        (takes && duty.region != self.region).then_some(duty)
    }

    /// Takes the duty, from nobody or from whom it was seen with.
    async fn begin(&self, from: Option<&OnDuty>) -> Result<Option<Duty>, StrongError> {
        let lease = self.engine.lease_grant(DUTY_TTL).await?;
        let key = DUTY_KEY.to_owned();
        let value = stored(&self.region)?;
        let seen = from.map_or_else(
            || Compare::absent(DUTY_KEY),
            |duty| Compare::Revision { key: key.clone(), mod_revision: duty.revision },
        );
        let txn = Txn {
            compare: vec![seen],
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
                        return self.resign(duty.lease, NotChanged::Deaf).await;
                    }
                    let done = timeout(ROUND_TIME_MAX, self.round(&mut duty));
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
            // A lease may outlive the key that it kept, and a round that changes nothing compares
            // nothing: whoever goes on then tells everything beside the other.
            if self.is_taken(&duty) {
                return self.resign(duty.lease, NotChanged::Taken).await;
            }
            self.tell(&mut duty);
        }
    }

    /// Leaves the duty to another.
    async fn resign(&self, lease: LeaseId, why: NotChanged) -> NotChanged {
        let revoked = self.engine.lease_revoke(lease);
        match timeout(ROUND_TIME_MAX, revoked).await {
            Ok(Ok(())) | Err(_) => why,
            Ok(Err(error)) => NotChanged::Engine(error),
        }
    }

    /// Whether another took the duty.
    fn is_taken(&self, duty: &Duty) -> bool {
        self.board.duty().is_some_and(|it| it.revision > duty.revision)
    }

    /// Whether another is on duty, or nobody.
    fn is_lost(&self, duty: &Duty, error: &NotChanged) -> bool {
        let gone = matches!(error, NotChanged::Engine(StrongError::LeaseNotFound { .. }));
        let nobody = self.board.duty().is_none();
        gone || self.is_taken(duty) || (nobody && matches!(error, NotChanged::Contended))
    }

    async fn round(self: &Arc<Self>, duty: &mut Duty) -> Result<(), NotChanged> {
        self.engine.lease_keep_alive(duty.lease).await?;
        let mut signals = self.senses.silence();
        let now = self.clock.monotonic();
        // To the nearest round: one that comes a moment early is not to wait for the next.
        let interval = self.interval.saturating_sub(ROUND_EVERY / 2);
        let due = duty.read_at.is_none_or(|at| now.saturating_sub(at) >= interval);
        if due && !signals.is_empty() {
            duty.read_at = Some(now);
            signals.extend(self.senses.slow(&signals).await);
            let this = Arc::clone(self);
            duty.look.get_or_insert_with(|| {
                tokio::task::spawn_blocking(move || this.look_at_promises())
            });
        }
        if let Some(look) = duty.looked().await {
            self.keep_ledgers(look.ledgers, &duty.fence()).await?;
            signals.extend(look.signals);
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
            if line.busy || now < line.telling.not_before {
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
        let noted = timeout(ROUND_TIME_MAX, noting).await;
        let line = duty.lines.entry(name.clone()).or_default();
        if !matches!(noted, Ok(Ok(()))) {
            line.unnoted = Some(sent);
            return;
        }
        line.busy = false;
        if let Some(again) = self.settle(&mut line.telling, outcome) {
            let Again { reason, after } = again;
            warn!(%id, receiver = name, reason, ?after, "is told again later");
        }
    }

    /// Counts what came of an attempt; says when it is made again if it failed.
    pub(super) fn settle<'a>(
        &self,
        pace: &mut Pace,
        outcome: &'a Outcome,
    ) -> Option<Again<'a>> {
        match outcome {
            Outcome::Told => {
                pace.failures = 0;
                self.metrics.notified("told");
                None
            }
            Outcome::Failed { reason } => {
                pace.failures = pace.failures.saturating_add(1);
                let after = pause(pace.failures);
                pace.not_before = self.clock.monotonic().saturating_add(after);
                self.metrics.notified("failed");
                Some(Again { reason, after })
            }
        }
    }
}

/// Why an attempt failed, and when the next one is.
pub(super) struct Again<'a> {
    pub(super) reason: &'a str,
    pub(super) after: Duration,
}

/// Whether a region is not heard.
fn is_silent(region: &RegionId, silence: &[Signal]) -> bool {
    let of = |it: &&Signal| it.region == *region && it.cause == Cause::Silent;
    silence.iter().find(of).is_some_and(|it| it.reading == Reading::Bad)
}

fn warn_when_full(duty: &mut Duty, step: &Step) {
    let full = step.unopened > 0;
    if full && !duty.full {
        warn!(left_out = step.unopened, "as many incidents stand as are kept");
    }
    duty.full = full;
}
