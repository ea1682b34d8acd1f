//! Incidents of the whole federation (M13 to M15): kept in the strong engine, evaluated and told
//! by one daemon, shown by all.
//!
//! ```text
//!   warden, health, replica ─▶ senses ─▶ Detector ─▶ Book ─▶ compare-and-set ─▶ engine
//!   operators ───────────────────────────────────────▶┘                           │ watch
//!   webhooks ◀── notifier ◀── what the book has waiting ◀──────────── board ◀──────┘
//! ```
//!
//! Whoever holds a key that dies with a lease of the engine is on duty; each write of its rounds
//! compares that key, so that one whose lease has ended changes nothing any more. Every write,
//! also an operator's, compares the head record: numbers are given once, and nobody writes on
//! what they have not seen. A receiver may be told twice of the same change under the same key,
//! when who is on duty dies between telling and noting; never less than once while the engine
//! has it.
//!
//! Rejected: an incident book in replicated state. Two regions that do not hear each other would
//! open two incidents of one cause, with one number.

mod alert;
mod board;
mod door;
mod duty;
mod glance;
mod mail;
mod notifier;
mod promises;
mod remind;
mod senses;
mod silence_door;
mod sla_door;

pub(crate) use promises::SlaLevel;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dwcp_api::{ErrorCode, Routes};
use dwcp_monitor::incident::{Book, Refused};
use dwcp_monitor::sla::Definition;
use dwcp_runtime::clock::Clock;
use dwcp_runtime::strong::{
    Compare, Op, OpId, StrongEngine, StrongError, Txn, TxnOutcome,
};
use dwcp_types::RegionId;
use tokio::sync::watch;

use self::board::{Board, HEAD_KEY, Head, incident_key, silence_key};
use self::notifier::Notifier;
use self::senses::Senses;
use crate::chronicle::Chronicle;
use crate::commit::stored;
use crate::config::Federation;
use crate::inventory::Inventory;
use crate::metrics::Metrics;
use crate::state::StateApi;
use crate::warden::Seen;

/// Attempts when others change the book at the same time.
const ATTEMPTS_MAX: u32 = 8;
/// How long the own copy may take to show what was written.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);
/// How often it is noted who is heard: as often as silence is looked at.
const LISTEN_EVERY: Duration = Duration::from_secs(1);
/// Operations and bytes of one transaction: within the engine's 128 and 1.5 MiB.
const OPS_MAX: usize = 100;
const BYTES_MAX: usize = 1 << 20;

/// The operator's routes.
pub(crate) fn routes(api: &Arc<Incidents>) -> Routes {
    door::routes(api).merge(silence_door::routes(api)).merge(sla_door::routes(api))
}

/// Everything about incidents in one daemon.
#[derive(Debug)]
pub(crate) struct Incidents {
    pub(crate) region: RegionId,
    engine: Arc<dyn StrongEngine>,
    board: Board,
    senses: Senses,
    notifier: Notifier,
    metrics: Arc<Metrics>,
    chronicle: Arc<Chronicle>,
    clock: Arc<dyn Clock>,
    /// What the file promises.
    slas: Vec<Definition>,
    /// How often health and replication are read.
    interval: Duration,
}

/// Why a change of the book was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotChanged {
    /// It makes no sense.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The engine does not do it.
    #[error(transparent)]
    Engine(#[from] StrongError),
    /// Others change it all the time, or another is on duty.
    #[error("others change incidents at the same time")]
    Contended,
    /// Another took the duty.
    #[error("another daemon looks after incidents")]
    Taken,
    /// This daemon hears too few to judge anybody.
    #[error("it hears too few regions to judge any")]
    Deaf,
    /// The book was not read yet.
    #[error("incidents were not read yet")]
    Unread,
}

/// What the daemon's other parts give.
pub(crate) struct Around<'a> {
    inventory: &'a Inventory,
    engine: &'a Arc<dyn StrongEngine>,
    metrics: &'a Arc<Metrics>,
    seen: Option<watch::Receiver<Arc<Seen>>>,
    chronicle: &'a Arc<Chronicle>,
    state: Option<Arc<StateApi>>,
}

impl<'a> Around<'a> {
    /// `seen`: what the warden sees, where leases are kept; `state`: the replica, where one is.
    pub(crate) fn new(
        (inventory, engine, metrics): (
            &'a Inventory,
            &'a Arc<dyn StrongEngine>,
            &'a Arc<Metrics>,
        ),
        (seen, chronicle): (Option<watch::Receiver<Arc<Seen>>>, &'a Arc<Chronicle>),
        state: Option<Arc<StateApi>>,
    ) -> Self {
        Self { inventory, engine, metrics, seen, chronicle, state }
    }
}

impl Incidents {
    /// For one daemon.
    ///
    /// # Errors
    ///
    /// When a receiver's certificates cannot be read.
    pub(crate) fn new(
        federation: &Federation,
        region: &RegionId,
        around: Around<'_>,
    ) -> anyhow::Result<Arc<Self>> {
        let Around { inventory, engine, metrics, seen, chronicle, state } = around;
        let notifier = Notifier::new(federation).context("nobody can be told")?;
        let clock = inventory.clock.clone();
        let inventory = inventory.clone();
        Ok(Arc::new(Self {
            region: region.clone(),
            engine: engine.clone(),
            board: Board::new(clock.clone()),
            senses: Senses { region: region.clone(), inventory, seen, state },
            notifier,
            metrics: metrics.clone(),
            chronicle: chronicle.clone(),
            clock,
            slas: federation.monitoring.slas.clone(),
            interval: federation.monitoring.interval,
        }))
    }

    /// Keeps the own copy true, for ever.
    pub(crate) async fn follow(self: Arc<Self>) {
        self.board.follow(self.engine.as_ref()).await;
    }

    /// Notes in the history, for ever, whom a majority hears.
    pub(crate) async fn listen(self: Arc<Self>) {
        let mut look = tokio::time::interval(LISTEN_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            for (region, heard) in self.senses.heard() {
                self.chronicle.observe(&region, heard);
            }
        }
    }

    /// Changes the book as it is known here, when nobody else did meanwhile, and waits until the
    /// own copy shows it. `fence` is what must hold besides.
    async fn change<T>(
        &self,
        fence: Option<&Compare>,
        mut act: impl FnMut(&mut Book) -> Result<T, Refused> + Send,
    ) -> Result<T, NotChanged> {
        for _ in 0..ATTEMPTS_MAX {
            let (before, head) = self.board.book().ok_or(NotChanged::Unread)?;
            let mut after = Book::clone(&before);
            let done = act(&mut after)?;
            let ops = differences(&before, &after)?;
            if self.write(head, Head::of(&after), ops, fence).await? {
                return Ok(done);
            }
            // Whoever was first is shown soon; if it was the fence, the next try says so too.
            self.board.moves_on(head, SHOWN_WITHIN).await;
        }
        Err(NotChanged::Contended)
    }

    /// Writes in as many transactions as it takes; says whether all were done.
    async fn write(
        &self,
        mut head: u64,
        record: Head,
        mut ops: Vec<Op>,
        fence: Option<&Compare>,
    ) -> Result<bool, StrongError> {
        while !ops.is_empty() {
            let rest = ops.split_off(fitting(&ops));
            let value = stored(&record)?;
            ops.push(Op::Put { key: HEAD_KEY.to_owned(), value, lease: None });
            let known =
                Compare::Revision { key: HEAD_KEY.to_owned(), mod_revision: head };
            let compare = [known].into_iter().chain(fence.cloned()).collect();
            let txn = Txn { compare, then: ops, op_id: Some(OpId::random()) };
            match self.engine.txn(txn).await? {
                TxnOutcome::Committed { revision } => head = revision,
                TxnOutcome::Conflict { .. } => return Ok(false),
            }
            ops = rest;
        }
        self.board.shows(head, SHOWN_WITHIN).await;
        Ok(true)
    }
}

/// How many operations fit one transaction with the head.
fn fitting(ops: &[Op]) -> usize {
    let mut bytes = 0;
    let within = ops.iter().take(OPS_MAX).take_while(|op| {
        bytes += match op {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete { key } => key.len(),
        };
        bytes <= BYTES_MAX
    });
    within.count().max(1)
}

/// What to write so that the first book becomes the second.
fn differences(before: &Book, after: &Book) -> Result<Vec<Op>, StrongError> {
    let mut ops = Vec::new();
    for (id, incident) in &after.incidents {
        if before.incidents.get(id) != Some(incident) {
            let value = stored(incident)?;
            ops.push(Op::Put { key: incident_key(*id), value, lease: None });
        }
    }
    let gone = before.incidents.keys().filter(|id| !after.incidents.contains_key(id));
    ops.extend(gone.map(|id| Op::Delete { key: incident_key(*id) }));
    for (id, silence) in &after.silences {
        if before.silences.get(id) != Some(silence) {
            let value = stored(silence)?;
            ops.push(Op::Put { key: silence_key(*id), value, lease: None });
        }
    }
    let over = before.silences.keys().filter(|id| !after.silences.contains_key(id));
    ops.extend(over.map(|id| Op::Delete { key: silence_key(*id) }));
    Ok(ops)
}

impl NotChanged {
    /// As whoever asked is told.
    fn told(&self) -> dwcp_api::ApiError {
        let message = self.to_string();
        match self {
            Self::Refused(refused) => {
                let (code, remedy) = match refused {
                    Refused::NoSuchIncident { .. } => (
                        ErrorCode::NotFound,
                        "`dwcp-cli federation monitoring incidents list` shows all",
                    ),
                    Refused::Resolved { .. } => {
                        (ErrorCode::Conflict, "it opens again by itself if it comes back")
                    }
                    Refused::Acknowledged { .. } => {
                        (ErrorCode::Conflict, "assign it to somebody else instead")
                    }
                    Refused::Empty { .. } => (ErrorCode::Invalid, "write a word or two"),
                    Refused::Full => (ErrorCode::Refused, "resolve some that are over"),
                    Refused::NoSuchSilence { .. } => (
                        ErrorCode::NotFound,
                        "`dwcp-cli federation monitoring silence list` shows all",
                    ),
                    Refused::Backwards | Refused::Past => {
                        (ErrorCode::Invalid, "give an end that is later, or `--for 2h`")
                    }
                    Refused::TooLong => (
                        ErrorCode::Invalid,
                        "make a shorter one, and another when it is over",
                    ),
                    Refused::Covers => (ErrorCode::Invalid, "name a higher severity"),
                    Refused::SilencesFull => {
                        (ErrorCode::Refused, "end some that are not needed")
                    }
                };
                dwcp_api::ApiError::new(code, message).with_remedy(remedy)
            }
            Self::Engine(error) => crate::engine::failed(error),
            Self::Contended | Self::Taken | Self::Unread | Self::Deaf => {
                dwcp_api::ApiError::new(ErrorCode::Unavailable, message)
                    .with_remedy("ask again in a moment")
            }
        }
    }
}
