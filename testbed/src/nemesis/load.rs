//! Writes of replicated state that go on all the time from two regions, and what their writers
//! were told.
//!
//! Each write has an id and is asked again until it is acknowledged, and the next comes after
//! it. So at every moment all that was acknowledged is known, and at most one more of each
//! writer may be there: a write that is lost is seen, and so is one that is done twice.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_api::state::{StateEntry, StateLevel, StateValue, Text, WriteKey};
use dwcp_api::{CallError, ErrorCode};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::report::Violation;
use crate::{Door, Federation, increment, set};

/// Whose writers they are: that of the engine's leader, and another.
const WRITERS: [&str; 2] = ["us-east-1", "eu-west-1"];
/// The counter of both; it is of a kind that every region takes by itself.
const COUNTER: &str = "metrics:nemesis";
/// Between two writes, and before one is asked again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a region may try a write.
const WITHIN_MS: u64 = 2_000;
/// How long what was acknowledged in one region may be on its way to another with nothing struck:
/// far more than it takes, so that a look tells of what is lost, not of what is under way.
const ON_THE_WAY: Duration = Duration::from_secs(10);
/// Between two reads of what is on its way.
const READ_EVERY: Duration = Duration::from_millis(50);

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// A record of the strong engine, the writer's own.
    Strong,
    /// One more on the counter.
    Counter,
}

/// What a writer was told.
#[derive(Clone, Debug, Default)]
struct Told {
    /// The last number that was acknowledged.
    acknowledged: i64,
    /// The last that was asked for.
    begun: i64,
    /// Answers that no fault explains.
    wrong: Vec<String>,
}

#[derive(Clone, Debug)]
struct Writer {
    region: &'static str,
    what: What,
    told: Arc<Mutex<Told>>,
}

/// All writers.
#[derive(Debug)]
pub(super) struct Load {
    writers: Vec<Writer>,
    tasks: JoinSet<()>,
}

impl Load {
    pub(super) fn start(federation: &Federation) -> Self {
        let mut load = Self { writers: Vec::new(), tasks: JoinSet::new() };
        for region in WRITERS {
            for what in [What::Strong, What::Counter] {
                let writer = Writer { region, what, told: Arc::default() };
                load.writers.push(writer.clone());
                let door = federation.at(region);
                load.tasks.spawn(async move { writer.write_on(&door).await });
            }
        }
        load
    }

    /// How many writes were acknowledged so far.
    pub(super) fn acknowledged(&self) -> i64 {
        self.writers.iter().map(|writer| writer.told().acknowledged).sum()
    }

    /// Answers that no fault explains.
    pub(super) fn wrong(&self) -> Vec<Violation> {
        let all = self.writers.iter().flat_map(|writer| writer.told().wrong.clone());
        all.map(|found| Violation::new("writers are told what faults explain", found))
            .collect()
    }

    /// Whether a region shows all that was acknowledged before it was asked; of the counter,
    /// which writers raise all the time and regions tell each other of, within a while.
    ///
    /// # Errors
    ///
    /// What it lacks, or that it does not answer: it may come. `Ok` with a violation when it
    /// shows what nobody wrote.
    pub(super) async fn shown_by(
        &self,
        door: &Door,
    ) -> Result<Option<Violation>, String> {
        for writer in self.writers.iter().filter(|it| it.what == What::Strong) {
            let before = writer.told().acknowledged;
            let entry = read(door, &writer.key(), StateLevel::Strong).await?;
            let shown = number(&entry);
            if let Some(broken) =
                judged(&writer.key(), shown, before, writer.told().begun)?
            {
                return Ok(Some(broken));
            }
        }
        let sum = |of: fn(&Told) -> i64| {
            let counters = self.writers.iter().filter(|it| it.what == What::Counter);
            counters.map(|writer| of(&writer.told())).sum::<i64>()
        };
        let before = sum(|told| told.acknowledged);
        let begun = Instant::now();
        loop {
            let entry = read(door, COUNTER, StateLevel::Eventual).await?;
            let shown = number(&entry);
            let judged = judged(COUNTER, shown, before, sum(|told| told.begun));
            if judged.is_ok() || begun.elapsed() >= ON_THE_WAY {
                return judged;
            }
            tokio::time::sleep(READ_EVERY).await;
        }
    }
}

/// Too little may still come; too much can never have been written.
fn judged(
    key: &str,
    shown: i64,
    acknowledged: i64,
    begun: i64,
) -> Result<Option<Violation>, String> {
    if shown < acknowledged {
        return Err(format!("{key} is {shown}, and {acknowledged} was acknowledged"));
    }
    let twice = || format!("{key} is {shown}, and only {begun} was asked for");
    Ok((shown > begun).then(|| Violation::new("a write is done once", twice())))
}

async fn read(door: &Door, key: &str, level: StateLevel) -> Result<StateEntry, String> {
    let entry = door.read_at(key, level).await;
    entry.map_err(|error| format!("{key} cannot be read: {error}"))
}

fn number(entry: &StateEntry) -> i64 {
    match &entry.value {
        Some(StateValue::Number(sum)) => *sum,
        Some(StateValue::Content(Text::Plain(text))) => text.parse().unwrap_or(0),
        _ => 0,
    }
}

impl Writer {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self) -> String {
        match self.what {
            What::Strong => format!("billing:nemesis-{}", self.region),
            What::Counter => COUNTER.to_owned(),
        }
    }

    async fn write_on(&self, door: &Door) {
        for number in 1.. {
            self.told().begun = number;
            let update = match self.what {
                What::Strong => set(&number.to_string()),
                What::Counter => increment(1),
            };
            let write = WriteKey {
                op_id: Some(format!("nemesis-{}-{:?}-{number}", self.region, self.what)),
                timeout_ms: Some(WITHIN_MS),
                ..update
            };
            while let Err(error) = door.write(&self.key(), &write).await {
                if let Some(wrong) = unexplained(&error) {
                    self.told().wrong.push(format!(
                        "{} of {}: {wrong}",
                        self.key(),
                        self.region
                    ));
                }
                tokio::time::sleep(PAUSE).await;
            }
            self.told().acknowledged = number;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What no fault makes true of a write that is right.
fn unexplained(error: &CallError) -> Option<String> {
    let CallError::Api(error) = error else { return None };
    let wrong = matches!(
        error.code,
        ErrorCode::Invalid
            | ErrorCode::NotFound
            | ErrorCode::Conflict
            | ErrorCode::Internal
    );
    wrong.then(|| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_write_is_waited_for_and_one_too_many_is_broken() {
        assert!(judged("k", 4, 5, 6).unwrap_err().contains("5 was acknowledged"));
        assert_eq!(judged("k", 5, 5, 6), Ok(None));
        assert_eq!(judged("k", 6, 5, 6), Ok(None));
        assert!(judged("k", 7, 5, 6).unwrap().is_some());
    }
}
