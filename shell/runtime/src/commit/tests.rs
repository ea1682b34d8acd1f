//! The writer over redb: failures that a machine makes, and files that go away.

use std::io;
use std::path::{Path, PathBuf};

use redb::{ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{CommitError, Fault, Ledger, Machine, RedbDisk, fault};

const LOG: TableDefinition<'_, u64, ()> = TableDefinition::new("log");

/// Writes numbers, and fails when told to.
struct Faulty {
    /// Moved away when a request says so, which keeps it from being opened again.
    path: PathBuf,
}

/// What a request does.
#[derive(Clone, Copy, PartialEq)]
enum Ask {
    Write(u64),
    Fail,
    FailAndStayClosed,
}

impl Machine for Faulty {
    type Disk = RedbDisk;
    type Request = Ask;
    type Reply = ();

    fn apply(
        &mut self,
        transaction: &mut WriteTransaction,
        requests: Vec<Ask>,
    ) -> Result<Vec<()>, Fault> {
        let mut log = transaction.open_table(LOG).map_err(fault)?;
        for ask in &requests {
            match ask {
                Ask::Write(number) => {
                    log.insert(number, ()).map_err(fault)?;
                }
                Ask::Fail => return Err(disk_error()),
                Ask::FailAndStayClosed => {
                    std::fs::rename(&self.path, self.path.with_extension("away"))
                        .unwrap();
                    std::fs::create_dir(&self.path).unwrap();
                    return Err(disk_error());
                }
            }
        }
        Ok(vec![(); requests.len()])
    }
}

fn disk_error() -> Fault {
    Fault::of_io(&io::Error::from(io::ErrorKind::StorageFull))
}

fn open(path: &Path) -> Ledger<Faulty> {
    let faulty = Faulty { path: path.to_owned() };
    Ledger::open(path, |_| Ok(faulty)).unwrap()
}

fn written(ledger: &Ledger<Faulty>) -> Result<Vec<u64>, CommitError> {
    ledger.read(|disk| {
        let transaction = disk.database().begin_read().map_err(fault)?;
        let log = transaction.open_table(LOG).map_err(fault)?;
        let rows = log.iter().map_err(fault)?;
        rows.map(|row| row.map(|(key, _)| key.value()).map_err(fault)).collect()
    })
}

#[tokio::test]
async fn a_failure_costs_its_batch_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory.path().join("l.redb"));
    ledger.submit(Ask::Write(1)).await.unwrap();
    let error = ledger.submit(Ask::Fail).await.unwrap_err();
    assert!(matches!(&error, CommitError::NotWritten { reason, .. }
        if reason.contains("l.redb") && reason.contains("free space")));
    ledger.submit(Ask::Write(2)).await.unwrap();
    assert_eq!(written(&ledger).unwrap(), [1, 2]);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_again_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.redb");
    let ledger = open(&path);
    ledger.submit(Ask::Write(1)).await.unwrap();
    let error = ledger.submit(Ask::FailAndStayClosed).await.unwrap_err();
    assert!(matches!(error, CommitError::NotWritten { .. }), "it never began");
    assert!(matches!(written(&ledger), Err(CommitError::NotWritten { .. })));
    ledger.submit(Ask::Write(2)).await.unwrap_err();
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(path.with_extension("away"), &path).unwrap();
    // It comes back by itself; writes are refused until then.
    while ledger.submit(Ask::Write(3)).await.is_err() {}
    assert_eq!(written(&ledger).unwrap(), [1, 3]);
}
