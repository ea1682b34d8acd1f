//! What a batch of requests does to the database.
//!
//! Everything in memory (events, lease deadlines, the revision) follows the disk: it is
//! staged while a batch is applied, and takes effect only when the batch is durable.

use std::sync::Arc;
use std::time::Duration;

use redb::{ReadableDatabase, ReadableTable, Table, WriteTransaction};

use super::super::leases::LeaseClock;
use super::super::{Event, KeyValue, LeaseId, Op, OpId, StrongError, Txn, TxnOutcome};
use super::events::EventLog;
use super::tables::{
    FORMAT, FORMAT_VERSION, LAST_LEASE, LEASE_KEYS, LEASES, NUMBERS, OPS, OPS_ORDER,
    RECORDS, REVISION, encode, read_number, read_record,
};
use crate::commit::{Fault, Machine, RedbDisk, fault};

/// Operation ids remembered: about a minute at the 1,000 strong writes a second that the
/// control plane is designed for, twice the time of a call (30 s). A faster stream shortens
/// that; a retry that comes later than this is a new transaction, so what must not happen
/// twice also needs a comparison.
const OP_IDS_MAX: u64 = 65_536;

#[derive(Debug)]
pub(super) enum Request {
    Txn(Txn),
    Grant(Duration),
    End(Vec<LeaseId>),
}

#[derive(Debug)]
pub(super) enum Reply {
    Txn(Result<TxnOutcome, StrongError>),
    Granted(LeaseId),
    Ended,
}

pub(super) struct TxnMachine {
    events: Arc<EventLog>,
    leases: Arc<LeaseClock>,
    staged: Staged,
}

/// What takes effect in memory once the batch is durable.
#[derive(Default)]
struct Staged {
    revision: u64,
    events: Vec<Event>,
    begun: Vec<(LeaseId, Duration)>,
    ended: Vec<LeaseId>,
}

impl TxnMachine {
    pub(super) fn load(
        disk: &RedbDisk,
        events: Arc<EventLog>,
        leases: Arc<LeaseClock>,
    ) -> Result<Self, Fault> {
        let transaction = disk.database().begin_write().map_err(fault)?;
        check_format(Batch::open(&transaction)?)?;
        transaction.commit().map_err(fault)?;
        let mut machine = Self { events, leases, staged: Staged::default() };
        machine.reload(disk)?;
        Ok(machine)
    }
}

/// Makes the tables on first use, and refuses a layout that this code does not know.
fn check_format(mut batch: Batch<'_>) -> Result<(), Fault> {
    match read_number(&batch.numbers, FORMAT)? {
        0 => batch.write_number(FORMAT, FORMAT_VERSION),
        FORMAT_VERSION => Ok(()),
        other => Err(Fault::Foreign(format!("its records have the layout {other}"))),
    }
}

impl Machine for TxnMachine {
    type Disk = RedbDisk;
    type Request = Request;
    type Reply = Reply;

    fn apply(
        &mut self,
        transaction: &mut WriteTransaction,
        requests: Vec<Request>,
    ) -> Result<Vec<Reply>, Fault> {
        self.staged = Staged { revision: self.events.revision(), ..Staged::default() };
        let mut batch = Batch::open(transaction)?;
        let replies: Result<Vec<_>, Fault> =
            requests.into_iter().map(|request| self.one(&mut batch, request)).collect();
        batch.write_number(REVISION, self.staged.revision)?;
        replies
    }

    fn durable(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        for (lease, ttl) in staged.begun {
            self.leases.begin(lease, ttl);
        }
        for lease in staged.ended {
            self.leases.end(lease);
        }
        self.events.append(staged.events, staged.revision);
    }

    fn discarded(&mut self) {
        self.staged = Staged::default();
    }

    fn reload(&mut self, disk: &RedbDisk) -> Result<(), Fault> {
        let transaction = disk.database().begin_read().map_err(fault)?;
        let numbers = transaction.open_table(NUMBERS).map_err(fault)?;
        let leases = transaction.open_table(LEASES).map_err(fault)?;
        for row in leases.iter().map_err(fault)? {
            let (lease, ttl) = row.map_err(fault)?;
            let ttl = Duration::from_millis(ttl.value());
            self.leases.restore(LeaseId::new(lease.value()), ttl);
        }
        let revision = read_number(&numbers, REVISION)?;
        if revision != self.events.revision() || revision == 0 {
            self.events.restart(revision);
        }
        Ok(())
    }
}

impl TxnMachine {
    fn one(&mut self, batch: &mut Batch<'_>, request: Request) -> Result<Reply, Fault> {
        match request {
            Request::Txn(txn) => self.txn(batch, txn).map(Reply::Txn),
            Request::Grant(ttl) => self.grant(batch, ttl).map(Reply::Granted),
            Request::End(leases) => {
                leases.into_iter().try_for_each(|lease| self.end(batch, lease))?;
                Ok(Reply::Ended)
            }
        }
    }

    fn txn(
        &mut self,
        batch: &mut Batch<'_>,
        txn: Txn,
    ) -> Result<Result<TxnOutcome, StrongError>, Fault> {
        let digest = txn.digest();
        if let Some(op_id) = &txn.op_id
            && let Some((revision, known)) = batch.known_op(op_id)?
        {
            return Ok(if known == digest {
                Ok(TxnOutcome::Committed { revision })
            } else {
                let reason =
                    format!("operation id {op_id} was used for another transaction");
                Err(StrongError::Malformed { reason })
            });
        }
        if let Some(current) = conflict(batch, &txn)? {
            return Ok(Ok(TxnOutcome::Conflict { current }));
        }
        if let Some(lease) = self.missing_lease(batch, &txn)? {
            return Ok(Err(StrongError::LeaseNotFound { lease }));
        }
        self.change(batch, txn.then)?;
        let revision = self.staged.revision;
        if let Some(op_id) = &txn.op_id {
            batch.remember_op(op_id, revision, digest)?;
        }
        Ok(Ok(TxnOutcome::Committed { revision }))
    }

    /// The first lease that the transaction names and that is not there.
    fn missing_lease(
        &self,
        batch: &Batch<'_>,
        txn: &Txn,
    ) -> Result<Option<LeaseId>, Fault> {
        for op in &txn.then {
            if let Op::Put { lease: Some(lease), .. } = op {
                let there = batch.leases.get(lease.get()).map_err(fault)?.is_some();
                if !there || self.leases.is_over(*lease) {
                    return Ok(Some(*lease));
                }
            }
        }
        Ok(None)
    }

    /// Makes all changes at one new revision, if any of them changes something.
    fn change(&mut self, batch: &mut Batch<'_>, ops: Vec<Op>) -> Result<(), Fault> {
        let revision = self.staged.revision + 1;
        for op in ops {
            let event = match op {
                Op::Put { key, value, lease } => {
                    let record = KeyValue {
                        key,
                        value,
                        create_revision: revision,
                        mod_revision: revision,
                        lease,
                    };
                    Some(Event::Put(batch.put(record)?))
                }
                Op::Delete { key } => batch
                    .delete(&key)?
                    .then_some(Event::Delete { key, mod_revision: revision }),
            };
            if let Some(event) = event {
                self.staged.revision = revision;
                self.staged.events.push(event);
            }
        }
        Ok(())
    }

    fn grant(&mut self, batch: &mut Batch<'_>, ttl: Duration) -> Result<LeaseId, Fault> {
        let number = read_number(&batch.numbers, LAST_LEASE)? + 1;
        batch.write_number(LAST_LEASE, number)?;
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        batch.leases.insert(number, millis).map_err(fault)?;
        self.staged.begun.push((LeaseId::new(number), ttl));
        Ok(LeaseId::new(number))
    }

    fn end(&mut self, batch: &mut Batch<'_>, lease: LeaseId) -> Result<(), Fault> {
        batch.leases.remove(lease.get()).map_err(fault)?;
        let deletes = batch.keys_of(lease)?.into_iter().map(|key| Op::Delete { key });
        self.change(batch, deletes.collect())?;
        self.staged.ended.push(lease);
        Ok(())
    }
}

type Current = Vec<(String, Option<KeyValue>)>;

/// What the compared keys are, when a comparison does not hold.
fn conflict(batch: &Batch<'_>, txn: &Txn) -> Result<Option<Current>, Fault> {
    let mut current = Vec::with_capacity(txn.compare.len());
    let mut holds = true;
    for compare in &txn.compare {
        let record = read_record(&batch.records, compare.key())?;
        holds &= compare.holds(record.as_ref());
        current.push((compare.key().to_owned(), record));
    }
    Ok((!holds).then_some(current))
}

/// The tables of one write transaction.
struct Batch<'t> {
    records: Table<'t, &'static str, &'static [u8]>,
    leases: Table<'t, u64, u64>,
    lease_keys: Table<'t, (u64, &'static str), ()>,
    ops: Table<'t, &'static str, (u64, [u8; 32])>,
    ops_order: Table<'t, u64, &'static str>,
    numbers: Table<'t, &'static str, u64>,
}

impl<'t> Batch<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, Fault> {
        Ok(Self {
            records: transaction.open_table(RECORDS).map_err(fault)?,
            leases: transaction.open_table(LEASES).map_err(fault)?,
            lease_keys: transaction.open_table(LEASE_KEYS).map_err(fault)?,
            ops: transaction.open_table(OPS).map_err(fault)?,
            ops_order: transaction.open_table(OPS_ORDER).map_err(fault)?,
            numbers: transaction.open_table(NUMBERS).map_err(fault)?,
        })
    }

    fn write_number(&mut self, name: &str, number: u64) -> Result<(), Fault> {
        self.numbers.insert(name, number).map(|_| ()).map_err(fault)
    }

    /// Writes a record, which keeps the revision of its creation, and moves it between leases.
    fn put(&mut self, mut record: KeyValue) -> Result<KeyValue, Fault> {
        let before = read_record(&self.records, &record.key)?;
        if let Some(before) = &before {
            record.create_revision = before.create_revision;
        }
        let old = before.and_then(|before| before.lease);
        if old != record.lease {
            self.detach(old, &record.key)?;
            if let Some(lease) = record.lease {
                let row = (lease.get(), record.key.as_str());
                self.lease_keys.insert(row, ()).map_err(fault)?;
            }
        }
        let stored = encode(&record);
        self.records.insert(record.key.as_str(), stored.as_slice()).map_err(fault)?;
        Ok(record)
    }

    /// Deletes a record; says whether it was there.
    fn delete(&mut self, key: &str) -> Result<bool, Fault> {
        let Some(before) = read_record(&self.records, key)? else { return Ok(false) };
        self.detach(before.lease, key)?;
        self.records.remove(key).map_err(fault)?;
        Ok(true)
    }

    fn detach(&mut self, lease: Option<LeaseId>, key: &str) -> Result<(), Fault> {
        if let Some(lease) = lease {
            self.lease_keys.remove((lease.get(), key)).map_err(fault)?;
        }
        Ok(())
    }

    fn keys_of(&self, lease: LeaseId) -> Result<Vec<String>, Fault> {
        let mut keys = Vec::new();
        for row in self.lease_keys.range((lease.get(), "")..).map_err(fault)? {
            let (row, ()) = row.map(|(row, unit)| (row, unit.value())).map_err(fault)?;
            let (owner, key) = row.value();
            if owner != lease.get() {
                break;
            }
            keys.push(key.to_owned());
        }
        Ok(keys)
    }

    fn known_op(&self, op_id: &OpId) -> Result<Option<(u64, [u8; 32])>, Fault> {
        let row = self.ops.get(op_id.as_str()).map_err(fault)?;
        Ok(row.map(|row| row.value()))
    }

    /// Remembers an operation id, and forgets the oldest beyond the limit.
    fn remember_op(
        &mut self,
        op_id: &OpId,
        revision: u64,
        digest: [u8; 32],
    ) -> Result<(), Fault> {
        let last = self.ops_order.last().map_err(fault)?;
        let number = last.map_or(0, |(number, _)| number.value()) + 1;
        self.ops.insert(op_id.as_str(), (revision, digest)).map_err(fault)?;
        self.ops_order.insert(number, op_id.as_str()).map_err(fault)?;
        if number > OP_IDS_MAX {
            let forgotten = self.ops_order.remove(number - OP_IDS_MAX).map_err(fault)?;
            if let Some(forgotten) = forgotten {
                self.ops.remove(forgotten.value()).map_err(fault)?;
            }
        }
        Ok(())
    }
}
