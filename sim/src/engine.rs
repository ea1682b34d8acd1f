//! The strong engine as its contract promises it: a linearizable map with revisions and
//! transactions that compare.
//!
//! Its host may crash and come back; what it acknowledged is there again. Whether a question
//! was lost before it or its answer after it, the asker cannot tell.

use std::collections::BTreeMap;
use std::fmt;

use dwcp_controller::failover::Log;
use dwcp_controller::lease::LeaseRecord;
use dwcp_controller::ownership::{EpochFloor, TokenRecord, VmRecord};

/// A stored value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Vm(Box<VmRecord>),
    Token(Box<TokenRecord>),
    Floor(EpochFloor),
    Lease(Box<LeaseRecord>),
    Log(Box<Log>),
}

impl Value {
    pub(crate) fn vm(&self) -> Option<&VmRecord> {
        if let Self::Vm(record) = self { Some(record) } else { None }
    }

    pub(crate) fn token(&self) -> Option<&TokenRecord> {
        if let Self::Token(record) = self { Some(record) } else { None }
    }

    pub(crate) fn lease(&self) -> Option<&LeaseRecord> {
        if let Self::Lease(record) = self { Some(record) } else { None }
    }

    pub(crate) fn log(&self) -> Option<&Log> {
        if let Self::Log(log) = self { Some(log) } else { None }
    }

    pub(crate) const fn floor(&self) -> Option<EpochFloor> {
        if let Self::Floor(floor) = self { Some(*floor) } else { None }
    }
}

/// A value with the revision that wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Versioned {
    pub(crate) value: Value,
    pub(crate) revision: u64,
}

/// What was read, by key.
pub(crate) type Rows = BTreeMap<String, Versioned>;

/// Done whole if every key is at its revision (zero: absent), else not at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Txn {
    pub(crate) compares: Vec<(String, u64)>,
    pub(crate) puts: Vec<(String, Value)>,
    pub(crate) deletes: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum EngineRequest {
    /// Several keys at one revision.
    Read(Vec<String>),
    /// Everything under a prefix at one revision.
    List(&'static str),
    /// Everything under several prefixes at one revision.
    ListAll(&'static [&'static str]),
    Txn(Txn),
}

#[derive(Clone, Debug)]
pub(crate) enum EngineReply {
    Rows(Rows),
    /// The revision of the transaction; none when it was not done.
    Txn(Option<u64>),
}

impl fmt::Display for EngineRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(keys) => write!(f, "read {}", keys.join(" ")),
            Self::List(prefix) => write!(f, "list {prefix}"),
            Self::ListAll(prefixes) => write!(f, "list {}", prefixes.join(" ")),
            Self::Txn(txn) => {
                let puts = txn.puts.iter().map(|(key, _)| key.as_str());
                let deletes = txn.deletes.iter().map(String::as_str);
                let keys: Vec<_> = puts.chain(deletes).collect();
                write!(f, "txn {}", keys.join(" "))
            }
        }
    }
}

impl fmt::Display for EngineReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{} rows", rows.len()),
            Self::Txn(done) => write!(f, "txn {done:?}"),
        }
    }
}

/// The map.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    pub(crate) rows: Rows,
    revision: u64,
    /// What each transaction wrote, in order; the invariants read it.
    pub(crate) written: Vec<(String, Option<Value>)>,
}

impl Engine {
    pub(crate) fn answer(&mut self, request: EngineRequest) -> EngineReply {
        match request {
            EngineRequest::Read(keys) => {
                let found =
                    |key: String| Some((key.clone(), self.rows.get(&key)?.clone()));
                EngineReply::Rows(keys.into_iter().filter_map(found).collect())
            }
            EngineRequest::List(prefix) => EngineReply::Rows(self.under(&[prefix])),
            EngineRequest::ListAll(prefixes) => EngineReply::Rows(self.under(prefixes)),
            EngineRequest::Txn(txn) => EngineReply::Txn(self.commit(txn)),
        }
    }

    fn under(&self, prefixes: &[&str]) -> Rows {
        let wanted = |key: &String| prefixes.iter().any(|prefix| key.starts_with(prefix));
        let rows = self.rows.iter().filter(|(key, _)| wanted(key));
        rows.map(|(key, row)| (key.clone(), row.clone())).collect()
    }

    /// How often VMs were stopped for more urgent ones, and had their capacity again.
    pub(crate) fn gave_way(&self) -> (usize, usize) {
        let (mut displaced, mut reinstated) = (0, 0);
        let mut before: BTreeMap<&String, bool> = BTreeMap::new();
        for (key, value) in &self.written {
            let Some(record) = value.as_ref().and_then(Value::vm) else { continue };
            let gives_way = record.preempted_by.is_some();
            match before.insert(key, gives_way) {
                Some(true) if !gives_way => reinstated += 1,
                Some(false) | None if gives_way => displaced += 1,
                _ => {}
            }
        }
        (displaced, reinstated)
    }

    fn commit(&mut self, txn: Txn) -> Option<u64> {
        let at = |key: &String| self.rows.get(key).map_or(0, |row| row.revision);
        if txn.compares.iter().any(|(key, revision)| at(key) != *revision) {
            return None;
        }
        self.revision += 1;
        for key in txn.deletes {
            self.rows.remove(&key);
            self.written.push((key, None));
        }
        for (key, value) in txn.puts {
            self.written.push((key.clone(), Some(value.clone())));
            self.rows.insert(key, Versioned { value, revision: self.revision });
        }
        Some(self.revision)
    }
}
