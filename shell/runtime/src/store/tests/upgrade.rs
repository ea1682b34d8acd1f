//! Files of the first layout: values without checksums, in a table named `rows`.

use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition, TableError};

use super::super::LocalStore;
use super::Shipped;
use super::child::Task;
use super::disk::{CHANGE, Disk, Plan};
use super::faults::{stops, tried};
use super::model;

const FIRST_ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");
const FIRST_COUNTER: TableDefinition<'_, (), u64> = TableDefinition::new("commit");

/// Batches in a file of the first layout.
const BATCHES: u64 = 30;

/// Writes a file as the first layout's code did.
fn first_layout(path: &Path) {
    let database = Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut rows = transaction.open_table(FIRST_ROWS).unwrap();
    for (key, value) in model::rows(0, BATCHES) {
        rows.insert(key.as_str(), value.as_ref()).unwrap();
    }
    drop(rows);
    transaction.open_table(FIRST_COUNTER).unwrap().insert((), BATCHES).unwrap();
    transaction.commit().unwrap();
}

fn has_everything(path: &Path) {
    let store = LocalStore::open(path).unwrap();
    let found: model::Map = store.scan("").unwrap().into_iter().collect();
    assert_eq!(found, model::rows(0, BATCHES));
}

#[tokio::test]
async fn a_file_of_the_first_layout_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    first_layout(&path);
    has_everything(&path);
    has_everything(&path);
    let store = LocalStore::open(&path).unwrap();
    store.apply(model::batch(0, BATCHES + 1)).await.unwrap();
    let found: model::Map = store.scan("").unwrap().into_iter().collect();
    assert_eq!(found, model::rows(0, BATCHES + 1));
}

/// A program of the first layout must not take a converted file for an empty one.
#[test]
fn the_first_layouts_code_refuses_a_converted_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    first_layout(&path);
    has_everything(&path);
    let database = Database::open(&path).unwrap();
    let opened = database.begin_read().unwrap().open_table(FIRST_ROWS);
    assert!(matches!(opened, Err(TableError::TableTypeMismatch { .. })));
}

#[test]
fn a_stop_while_a_file_is_converted_loses_nothing() {
    let Some(disk) = Disk::new() else { return };
    let task = Task { batches: 0, ..Task::of::<Shipped>(&disk.root()) };
    disk.fresh();
    first_layout(&task.path);
    let told = task.run(&disk.environment(&Plan { watch: CHANGE, ..Plan::NONE }));
    assert!(told.ended && told.errors.is_empty(), "{told:?}");
    let count = disk.counted();
    for at in tried(count, u64::MAX) {
        for (act, keep) in stops(at) {
            disk.fresh();
            first_layout(&task.path);
            let plan = Plan { at, act, keep, seed: at, ..Plan::NONE };
            task.run(&disk.environment(&plan));
            has_everything(&task.path);
        }
    }
}
