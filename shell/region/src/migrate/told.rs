//! A move as a trace: each step a span, and what is asked of hosts for it part of that.

use dwcp_api::ApiError;
use dwcp_controller::migration::{Migration, Outcome, Step};
use dwcp_runtime::strong::KeyValue;

use super::Migrations;
use super::drive::{Life, Turn};
use crate::traces::Whole;

impl Migrations {
    /// One turn of a step, the first of them as part of the move's trace. Later ones are not told:
    /// a move looks at its hosts every two seconds, and may be held up for hours.
    pub(super) async fn part_of_trace(
        &self,
        kv: &KeyValue,
        migration: &Migration,
        life: &mut Life,
    ) -> Result<Turn, ApiError> {
        if !life.is_first_turn(migration.step) {
            return self.step(kv, migration, life).await;
        }
        let part = (migration.id.as_str(), word(migration.step));
        self.saga.within(part, Box::pin(self.step(kv, migration, life))).await
    }

    /// Tells of a step that is over, and of the whole move at its end.
    pub(super) fn trace_step(&self, before: &Migration, next: &Migration) {
        let at = |of: &Migration| of.log.last().map_or(of.ask.at, |line| line.at);
        let id = next.id.as_str();
        self.saga.stepped((id, word(before.step)), (at(before), at(next)));
        if !next.is_done() {
            return;
        }
        let failed = next.outcome == Some(Outcome::Failed);
        let why = || next.failure.clone().unwrap_or_else(|| "it failed".to_owned());
        let ask = &next.ask;
        let tags = [
            ("vm", ask.vm.to_string()),
            ("from", ask.source.region.to_string()),
            ("to", ask.target.to_string()),
        ];
        self.saga.ended(Whole {
            id,
            from: ask.at,
            to: next.ended_at.unwrap_or_else(|| at(next)),
            failed: failed.then(why),
            tags: tags.map(|(key, value)| (key.to_owned(), value)).into(),
        });
    }
}

const fn word(step: Step) -> &'static str {
    match step {
        Step::Queued => "queued",
        Step::Preparing => "preparing",
        Step::Moving => "moving",
        Step::Committed => "committed",
        Step::SourceLost => "source_lost",
        Step::Arrived => "arrived",
        Step::TakingBack => "taking_back",
        Step::Abandoning => "abandoning",
        Step::Done => "done",
    }
}
