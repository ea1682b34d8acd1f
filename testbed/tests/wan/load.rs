//! Clients of every region that write and read at every level, and what they were told.
//!
//! At the levels that only converge, a region's client adds elements to a set that all share; at
//! the levels with one order, one writes a register and another reads it. Moments are numbers from
//! one counter, so that no clock decides what was before what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dwcp_api::state::{ReadKey, StateLevel, StateValue, Text, WriteKey};
use dwcp_api::{CallError, ErrorCode};
use dwcp_sim::state::oracle::register::{Access, Effect};
use dwcp_testbed::{Door, Federation, add, set};
use tokio::task::JoinSet;

/// All levels.
pub(crate) const LEVELS: [StateLevel; 4] =
    [StateLevel::Eventual, StateLevel::Local, StateLevel::Quorum, StateLevel::Strong];

/// Between two questions of one client: what is judged are orders, not rates.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a question may take that others must answer: several of the longest round trips
/// (343 ms).
const WITHIN_MS: u64 = 2_000;
/// How long one may take that one's own region answers, however slow the machine is.
const ALONE_WITHIN_MS: u64 = 60_000;

/// What the clients of one region were told at one level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Questions that were answered.
    pub(crate) served: u64,
    /// Questions that were refused, nothing done.
    pub(crate) refused: u64,
    /// Questions whose outcome was not known.
    pub(crate) unknown: u64,
    /// Elements whose addition was acknowledged.
    pub(crate) added: BTreeSet<String>,
    /// Elements whose addition may have been done.
    pub(crate) perhaps: BTreeSet<String>,
    /// What was done to the register.
    pub(crate) accesses: Vec<Access>,
}

impl Told {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.served += 1,
            Outcome::Not => self.refused += 1,
            Outcome::Unknown => self.unknown += 1,
        }
    }
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Nothing was done.
    Not,
    Unknown,
}

impl Outcome {
    fn of<T>(result: &Result<T, CallError>) -> Self {
        match result {
            Ok(_) => Self::Done,
            // Said to have done nothing: if it did, the judges see what nobody wrote.
            Err(CallError::Api(error)) if error.code == ErrorCode::Unavailable => {
                Self::Not
            }
            Err(CallError::Api(error)) if error.code == ErrorCode::Indeterminate => {
                Self::Unknown
            }
            Err(error) => panic!("no client is told this by a partition: {error}"),
        }
    }
}

type Record = Arc<Mutex<Told>>;

/// Clients that go on until they are stopped.
pub(crate) struct Load {
    records: BTreeMap<(String, StateLevel), Record>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Starts the clients of every region and level; this scenario's keys are its own.
    pub(crate) fn start(
        federation: &Federation,
        regions: &[&str],
        scenario: &str,
    ) -> Self {
        let moments = Arc::new(AtomicU64::new(1));
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Self {
            records: BTreeMap::new(),
            stop: Arc::clone(&stop),
            tasks: JoinSet::new(),
        };
        for region in regions {
            for level in LEVELS {
                let client = Client {
                    name: format!("{region}/{level:?}"),
                    door: federation.at(region),
                    level,
                    key: key(scenario, level),
                    moments: Arc::clone(&moments),
                    record: Record::default(),
                };
                let record = Arc::clone(&client.record);
                load.records.insert(((*region).to_owned(), level), record);
                load.run(&client);
            }
        }
        load
    }

    fn run(&mut self, client: &Client) {
        let verbs: &[Verb] = match client.level {
            StateLevel::Eventual | StateLevel::Local => &[Verb::Add],
            StateLevel::Quorum | StateLevel::Strong => &[Verb::Write, Verb::Read],
        };
        for verb in verbs {
            let (client, stop) = (client.clone(), Arc::clone(&self.stop));
            self.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match verb {
                        Verb::Add => client.add().await,
                        Verb::Write => client.write().await,
                        Verb::Read => client.read().await,
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
    }

    /// What a region's clients were told so far.
    pub(crate) fn told(&self, region: &str, level: StateLevel) -> Told {
        self.records[&(region.to_owned(), level)].lock().unwrap().clone()
    }

    /// Ends all clients; gives what those of one level were told.
    pub(crate) async fn stop(mut self) -> BTreeMap<StateLevel, Vec<Told>> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let mut told = BTreeMap::<_, Vec<_>>::new();
        for ((_, level), record) in &self.records {
            told.entry(*level).or_default().push(record.lock().unwrap().clone());
        }
        told
    }
}

/// The key that all clients of a level share.
pub(crate) fn key(scenario: &str, level: StateLevel) -> String {
    match level {
        StateLevel::Eventual => format!("tags:{scenario}-eventual"),
        StateLevel::Local => format!("tags:{scenario}-local"),
        StateLevel::Quorum => format!("vm:config:{scenario}"),
        StateLevel::Strong => format!("billing:{scenario}"),
    }
}

/// What a client does again and again.
enum Verb {
    Add,
    Write,
    Read,
}

#[derive(Clone)]
struct Client {
    name: String,
    door: Door,
    level: StateLevel,
    key: String,
    moments: Arc<AtomicU64>,
    record: Record,
}

impl Client {
    const fn within_ms(&self) -> u64 {
        match self.level {
            StateLevel::Eventual | StateLevel::Local => ALONE_WITHIN_MS,
            StateLevel::Quorum | StateLevel::Strong => WITHIN_MS,
        }
    }

    fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    async fn add(&self) {
        let element = format!("{}-{}", self.name, self.moment());
        let outcome = Outcome::of(&self.send(add(&element)).await);
        let mut told = self.record.lock().unwrap();
        told.count(outcome);
        match outcome {
            Outcome::Done => _ = told.added.insert(element),
            Outcome::Unknown => _ = told.perhaps.insert(element),
            Outcome::Not => {}
        }
    }

    async fn write(&self) {
        // Unique among all clients: it is the moment itself.
        let begun = self.moment();
        let outcome = Outcome::of(&self.send(set(&begun.to_string())).await);
        let ended = self.moment();
        let access = |ended| Access { begun, ended, effect: Effect::Write(begun) };
        let mut told = self.record.lock().unwrap();
        told.count(outcome);
        match outcome {
            Outcome::Done => told.accesses.push(access(Some(ended))),
            Outcome::Unknown => told.accesses.push(access(None)),
            Outcome::Not => {}
        }
    }

    async fn read(&self) {
        let begun = self.moment();
        let ask = ReadKey {
            level: Some(self.level),
            timeout_ms: Some(self.within_ms()),
            ..ReadKey::of(&self.key)
        };
        let entry = self.door.read_as(ask).await;
        let ended = self.moment();
        let mut told = self.record.lock().unwrap();
        told.count(Outcome::of(&entry));
        if let Ok(entry) = entry {
            assert_eq!(entry.level, self.level, "{entry:?}");
            let effect = Effect::Read(entry.value.map(|value| number(&value)));
            told.accesses.push(Access { begun, ended: Some(ended), effect });
        }
    }

    async fn send(&self, write: WriteKey) -> Result<dwcp_api::state::Written, CallError> {
        let write = WriteKey {
            level: Some(self.level),
            timeout_ms: Some(self.within_ms()),
            ..write
        };
        self.door.write(&self.key, &write).await
    }
}

fn number(value: &StateValue) -> u64 {
    let StateValue::Content(Text::Plain(text)) = value else {
        panic!("not a register: {value:?}")
    };
    text.parse().unwrap()
}
