//! Service levels on duty: what is promised against what was measured (M7, M8, M13).
//!
//! Each look holds the value over the last window against the target; three in a row make an
//! incident (the detector counts). Each window that is over becomes one entry of a ledger, one
//! record for each service level and region in the strong engine, written under the same fence as
//! incidents: who is on duty next goes on with it, and fills from its own history what nobody
//! wrote, as far back as [`CAUGHT_UP`].

use std::collections::BTreeMap;
use std::time::Duration;

use dwcp_monitor::Metric;
use dwcp_monitor::history::Window;
use dwcp_monitor::incident::{Cause, Reading, Severity, Signal};
use dwcp_monitor::sla::{Burn, Definition, Ledger, Report, report};
use dwcp_runtime::strong::{Compare, Op, OpId, StrongError, Txn, TxnOutcome};
use dwcp_types::{Bps, RegionId, Timestamp};

use super::board::{Kept, ledger_key};
use super::{Incidents, NotChanged, fitting};
use crate::commit::stored;

/// Windows that are older than this when they are first looked at stay unmeasured: the history by
/// 10 s reaches as far.
const CAUGHT_UP: Duration = Duration::from_hours(2);
/// Looks longer than this make a ticket and page nobody (the pairs of the evaluator: 1 h and 6 h
/// page, 3 d does not).
const PAGING_MAX: Duration = Duration::from_hours(6);

/// What one look at all promises found.
#[derive(Debug)]
pub(super) struct Look {
    /// For the detector.
    pub(super) signals: Vec<Signal>,
    /// With the windows that are over since, by key.
    pub(super) ledgers: Vec<(String, Kept)>,
}

impl Incidents {
    /// What is promised: by the file, then by operators. An id of the file wins.
    pub(super) fn promised(&self) -> Vec<Definition> {
        let mut all = self.slas.clone();
        let made = self.board.slas();
        all.extend(made.into_iter().filter(|it| self.in_file(&it.id).is_none()));
        all
    }

    pub(super) fn in_file(&self, id: &str) -> Option<&Definition> {
        self.slas.iter().find(|it| it.id == id)
    }

    /// In which regions something is promised.
    pub(super) fn regions_of(&self, of: &Definition) -> Vec<RegionId> {
        let regions = self.senses.inventory.mirror.regions();
        let ids = regions.iter().map(|record| record.region.id.clone());
        ids.filter(|region| of.is_of(region)).collect()
    }

    /// How a promise stands in a region; of nothing measured when there is no ledger.
    pub(super) fn report(&self, of: &Definition, region: &RegionId) -> Report {
        let now = self.clock.now();
        match self.board.ledger(of, region) {
            // The window that is not over yet is not unmeasured.
            Some(kept) => {
                let until = kept.ledger.recorded_until().unwrap_or(now);
                let last = until.as_millis().saturating_sub(1);
                report(of, &kept.ledger, Timestamp::from_millis(last))
            }
            None => report(of, &Ledger::new(of), now),
        }
    }

    /// What the detector is told of promises in this look.
    fn broken_promises(&self) -> Vec<Signal> {
        let mut signals = Vec::new();
        // Most share a window of a region, and merging its sketches is most of the work.
        let mut windows: BTreeMap<(RegionId, Duration), Window> = BTreeMap::new();
        for of in self.promised() {
            for region in self.regions_of(&of) {
                let window = windows
                    .entry((region.clone(), of.window))
                    .or_insert_with(|| self.chronicle.last(&region, of.window));
                signals.extend(self.value_signal(&of, &region, window));
                signals.extend(self.burn_signal(&of, &region));
            }
        }
        signals
    }

    fn value_signal(
        &self,
        of: &Definition,
        region: &RegionId,
        window: &Window,
    ) -> Option<Signal> {
        let says = self.chronicle.says(region, of.metric);
        let value = says.then(|| window.value_milli(of.metric)).flatten()?;
        let reading = if of.holds(value) { Reading::Good } else { Reading::Bad };
        let cause = Cause::Sla { sla: of.id.clone() };
        Some(self.of_severity(of.severity, (region, cause), reading, of.held(value)))
    }

    fn burn_signal(&self, of: &Definition, region: &RegionId) -> Option<Signal> {
        self.board.ledger(of, region)?;
        let report = self.report(of, region);
        let fires = |burn: &&Burn| burn.fires;
        let firing = report.burns.iter().find(fires);
        let reading = if firing.is_some() { Reading::Bad } else { Reading::Good };
        let pages = firing.is_some_and(|burn| burn.long <= PAGING_MAX);
        let severity =
            if pages { of.severity } else { Severity::Medium.min(of.severity) };
        let explained = report.explain(of).join("; ");
        let cause = Cause::Burn { sla: of.id.clone() };
        Some(self.of_severity(severity, (region, cause), reading, explained))
    }

    /// A signal of another severity than its cause has, unless it is maintenance.
    fn of_severity(
        &self,
        severity: Severity,
        (region, cause): (&RegionId, Cause),
        reading: Reading,
        evidence: String,
    ) -> Signal {
        let usual = cause.severity();
        let mut signal = self.senses.signal(region, cause, reading, evidence);
        if signal.severity == usual {
            signal.severity = severity;
        }
        signal
    }

    /// Looks at all promises. Reads a disk where windows are long.
    pub(super) fn look_at_promises(&self) -> Look {
        let mut ledgers = Vec::new();
        for of in self.promised() {
            for region in self.regions_of(&of) {
                let kept = self.caught_up(&of, &region);
                ledgers.extend(kept.map(|kept| (ledger_key(&of.id, &region), kept)));
            }
        }
        Look { signals: self.broken_promises(), ledgers }
    }

    /// Writes down every window that is over.
    ///
    /// # Errors
    ///
    /// When the engine does not do it, or another is on duty.
    pub(super) async fn keep_ledgers(
        &self,
        ledgers: Vec<(String, Kept)>,
        fence: &Compare,
    ) -> Result<(), NotChanged> {
        let mut ops = Vec::new();
        for (key, kept) in ledgers {
            ops.push(Op::Put { key, value: stored(&kept)?, lease: None });
        }
        while !ops.is_empty() {
            let rest = ops.split_off(fitting(&ops));
            let txn = Txn {
                compare: vec![fence.clone()],
                then: ops,
                op_id: Some(OpId::random()),
            };
            match self.engine.txn(txn).await.map_err(|error: StrongError| error)? {
                TxnOutcome::Committed { .. } => ops = rest,
                TxnOutcome::Conflict { .. } => return Err(NotChanged::Contended),
            }
        }
        Ok(())
    }

    /// A ledger with the windows that are over since; nothing when there are none, or when
    /// nothing was ever measured.
    fn caught_up(&self, of: &Definition, region: &RegionId) -> Option<Kept> {
        let window = u64::try_from(of.window.as_millis()).ok()?;
        let now = self.clock.now();
        let grace = u64::try_from(self.chronicle.grace().as_millis()).unwrap_or(u64::MAX);
        let over = now.as_millis().saturating_sub(grace) / window;
        let before = self.board.ledger(of, region);
        let reach = u64::try_from(CAUGHT_UP.as_millis()).unwrap_or(0);
        let oldest = now.as_millis().saturating_sub(reach).div_ceil(window);
        let from = before
            .as_ref()
            .and_then(|kept| kept.ledger.recorded_until())
            .map_or_else(|| over.saturating_sub(1), |until| until.as_millis() / window)
            .max(oldest.min(over.saturating_sub(1)));
        let mut ledger = before
            .as_deref()
            .map_or_else(|| Ledger::new(of), |kept: &Kept| kept.ledger.clone());
        let mut measured = before.is_some();
        for number in from..over {
            let [begin, end] =
                [number, number + 1].map(|at| Timestamp::from_millis(at * window));
            let seen = self.chronicle.between(region, begin, end);
            measured |= seen.value_milli(of.metric).is_some();
            ledger.record(begin, of.slice(&seen));
        }
        (measured && from < over).then(|| Kept { of: of.clone(), ledger })
    }

    /// Good by measured of everything that is promised, summed and not averaged; nothing when
    /// nothing was measured.
    pub(crate) fn compliance(&self) -> Option<Bps> {
        let (mut good, mut total) = (0_u64, 0_u64);
        for of in self.promised() {
            for region in self.regions_of(&of) {
                let sum = self.report(&of, &region).sum;
                good = good.saturating_add(sum.good);
                total = total.saturating_add(sum.total);
            }
        }
        (total > 0).then(|| Bps::ratio(good, total))
    }

    /// Compliance and promise of every region, for `/metrics` (O28).
    pub(crate) fn levels(&self) -> Vec<SlaLevel> {
        let mut levels = Vec::new();
        for of in self.promised() {
            for region in self.regions_of(&of) {
                if let Some(ppm) = self.report(&of, &region).compliance_ppm {
                    levels.push(SlaLevel {
                        region: region.clone(),
                        id: of.id.clone(),
                        metric: of.metric,
                        compliance_ppm: ppm,
                        promised_ppm: of.compliance_ppm,
                    });
                }
            }
        }
        levels
    }

    /// Every ledger of an id, to be deleted with it.
    pub(super) fn ledgers_gone(&self, id: &str) -> Vec<Op> {
        let regions = self.board.ledger_regions(id);
        regions.iter().map(|region| Op::Delete { key: ledger_key(id, region) }).collect()
    }
}

/// One promise in one region.
#[derive(Debug)]
pub(crate) struct SlaLevel {
    pub(crate) region: RegionId,
    pub(crate) id: String,
    pub(crate) metric: Metric,
    pub(crate) compliance_ppm: u32,
    pub(crate) promised_ppm: u32,
}
