//! What every backend must answer: one suite, made into tests for each of them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest,
};
use proptest::prop_assert_eq;

use super::super::{
    Absent, Backend, Change, Fjall, KEY_LEN_MAX, LocalStore, OpenError, Redb, StoreError,
    Syncs, VALUE_LEN_MAX,
};
use super::Shipped;
use super::model::{self, Map};

fn put(key: &str, value: &str) -> Change {
    Change::Put { key: key.to_owned(), value: value.to_owned().into() }
}

fn delete(key: &str) -> Change {
    Change::Delete { key: key.to_owned() }
}

fn open<B: Backend>(folder: &Path) -> LocalStore<B> {
    LocalStore::open_in(&folder.join("store")).unwrap()
}

fn keys<B: Backend>(store: &LocalStore<B>, prefix: &str) -> Vec<String> {
    store.scan(prefix).unwrap().into_iter().map(|(key, _)| key).collect()
}

async fn changes_outlive_a_restart_and_a_scan_is_in_order<B: Backend>() {
    let folder = tempfile::tempdir().unwrap();
    let store = open::<B>(folder.path());
    store.apply(vec![put("r/2", "b"), put("r/1", "a"), put("s", "c")]).await.unwrap();
    store.apply(vec![put("r/1", "z"), delete("r/2"), put("r/3", "d")]).await.unwrap();
    let second = LocalStore::<B>::open_in(&folder.path().join("store"));
    assert!(matches!(second, Err(OpenError::Locked(_))));
    drop(store);
    let store = open::<B>(folder.path());
    let found = store.scan("r/").unwrap();
    let expected = [("r/1", "z"), ("r/3", "d")];
    assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), Bytes::from(v))));
    assert_eq!(store.get("s").unwrap().unwrap(), "c");
    assert_eq!(store.get("none").unwrap(), None);
    assert!(store.disk_len().unwrap() > 0);
}

async fn what_is_too_large_is_refused_whole<B: Backend>() {
    let folder = tempfile::tempdir().unwrap();
    let store = open::<B>(folder.path());
    let value = vec![0; VALUE_LEN_MAX + 1].into();
    let key = "k".repeat(KEY_LEN_MAX + 1);
    for large in [Change::Put { key: "l".into(), value }, Change::Delete { key }] {
        let error = store.apply(vec![put("a", "1"), large]).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    }
    assert_eq!(store.get("a").unwrap(), None);
    let largest = Change::Put {
        key: "k".repeat(KEY_LEN_MAX),
        value: vec![7; VALUE_LEN_MAX].into(),
    };
    store.apply(vec![largest]).await.unwrap();
    assert_eq!(
        store.get(&"k".repeat(KEY_LEN_MAX)).unwrap().unwrap().len(),
        VALUE_LEN_MAX
    );
}

async fn a_visit_begins_and_ends_where_it_is_told<B: Backend>() {
    let folder = tempfile::tempdir().unwrap();
    let store = open::<B>(folder.path());
    let rows: Vec<_> = (0..100).map(|i| put(&format!("p/{i:03}"), "v")).collect();
    store.apply(rows).await.unwrap();
    store.apply(vec![put("o", "before"), put("p0", "behind")]).await.unwrap();
    let mut pages = Vec::new();
    loop {
        let after = pages.last().cloned();
        let mut page = Vec::new();
        store
            .visit("p/", after.as_deref(), |key, value| {
                assert_eq!(value, b"v");
                page.push(key.to_owned());
                if page.len() == 7 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .unwrap();
        if page.is_empty() {
            break;
        }
        pages.extend(page);
    }
    assert_eq!(pages, keys(&store, "p/"));
    assert_eq!(pages.len(), 100);
    let mut first = None;
    let mut see = |key: &str, _: &[u8]| {
        first = Some(key.to_owned());
        ControlFlow::Break(())
    };
    store.visit("p/", Some("a"), &mut see).unwrap();
    assert_eq!(
        first.as_deref(),
        Some("p/000"),
        "a key before the prefix cuts nothing off"
    );
}

/// What is read is checked: a row that the backend gives back changed is an error that names
/// it, never an answer.
async fn a_row_that_is_not_what_was_written_is_an_error<B: Backend>() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = open::<B>(folder.path());
    store.apply(vec![put("a", "1"), put("b", "2"), put("c", "3")]).await.unwrap();
    drop(store);
    let backend = B::open(&path, Absent::Refuse, &Syncs::default()).unwrap();
    let mut stored = backend.get("b").unwrap().unwrap().to_vec();
    *stored.last_mut().unwrap() ^= 1;
    let moved = backend.get("c").unwrap().unwrap();
    let changes = vec![
        Change::Put { key: "b".to_owned(), value: stored.into() },
        Change::Put { key: "moved".to_owned(), value: moved },
        put("short", ""),
    ];
    backend.commit(changes, backend.count().unwrap() + 1).unwrap();
    drop(backend);
    let store = open::<B>(folder.path());
    for key in ["b", "moved", "short"] {
        let error = store.get(key).unwrap_err();
        let StoreError::Corrupt { reason } = &error else { panic!("{error:?}") };
        assert!(
            reason.contains(key) && reason.contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    assert!(matches!(store.scan(""), Err(StoreError::Corrupt { .. })));
    assert_eq!(store.get("a").unwrap().unwrap(), "1");
    // It can be written over.
    store.apply(vec![put("b", "4"), delete("moved"), delete("short")]).await.unwrap();
    assert_eq!(keys(&store, ""), ["a", "b", "c"]);
}

/// A store that holds less than was confirmed is refused, and says what to do.
async fn an_older_copy_is_refused<B: Backend>() {
    let folder = tempfile::tempdir().unwrap();
    let store = open::<B>(folder.path());
    store.apply(vec![put("a", "1")]).await.unwrap();
    drop(store);
    let older = tempfile::tempdir().unwrap();
    // All of its files, but not what was confirmed.
    let copy = |from: &Path, to: &Path| {
        let copied =
            std::process::Command::new("cp").arg("-rT").args([from, to]).status();
        assert!(copied.unwrap().success());
    };
    copy(folder.path(), older.path());
    std::fs::remove_file(older.path().join("store.confirmed")).unwrap();
    let store = open::<B>(folder.path());
    store.apply(vec![put("a", "2")]).await.unwrap();
    drop(store);
    let path = folder.path().join("store");
    std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path)).unwrap();
    copy(older.path(), folder.path());
    let error = LocalStore::<B>::open_in(&path).unwrap_err().to_string();
    assert!(error.contains("store.confirmed") && error.contains("older copy"), "{error}");
    std::fs::remove_file(folder.path().join("store.confirmed")).unwrap();
    assert_eq!(open::<B>(folder.path()).get("a").unwrap().unwrap(), "1");
}

async fn callers_share_commits_and_each_gets_its_own<B: Backend>() {
    const CALLERS: u32 = 16;
    const EACH: u64 = 8;
    let folder = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(open::<B>(folder.path()));
    let callers: Vec<_> = (0..CALLERS)
        .map(|writer| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move {
                for number in 1..=EACH {
                    store.apply(model::batch(writer, number)).await.unwrap();
                    assert_eq!(model::last_of(&store, writer), Ok(number));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    for writer in 0..CALLERS {
        let found: Map =
            store.scan(&model::prefix(writer)).unwrap().into_iter().collect();
        assert_eq!(found, model::rows(writer, EACH));
    }
}

fn change() -> impl Strategy<Value = Change> {
    let key = || prop_oneof!["[ab]{0,2}", Just("a/x".to_owned()), Just("ü".to_owned())];
    prop_oneof![
        4 => (key(), "[a-z]{0,3}").prop_map(|(key, value)| {
            Change::Put { key, value: value.into() }
        }),
        2 => key().prop_map(|key| Change::Delete { key }),
    ]
}

/// A batch, and whether the store is opened again after it.
fn steps() -> impl Strategy<Value = Vec<(Vec<Change>, bool)>> {
    let again = prop_oneof![3 => Just(false), 1 => any::<bool>()];
    prop::collection::vec((prop::collection::vec(change(), 0..6), again), 0..8)
}

fn holds_what_a_map_would<B: Backend>(
    steps: Vec<(Vec<Change>, bool)>,
) -> Result<(), proptest::test_runner::TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let folder = super::disk::memory_folder();
    let mut store = open::<B>(folder.path());
    let mut map = BTreeMap::new();
    for (batch, again) in steps {
        runtime.block_on(store.apply(batch.clone())).unwrap();
        model::apply(&mut map, batch);
        if again {
            drop(store);
            store = open::<B>(folder.path());
        }
    }
    for prefix in ["", "a", "a/", "b", "ü"] {
        let expected: Vec<_> = map
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        prop_assert_eq!(store.scan(prefix).unwrap(), expected);
    }
    for key in map.keys() {
        let found = store.get(key).unwrap();
        prop_assert_eq!(found.as_ref(), map.get(key));
    }
    Ok(())
}

/// Makes the suite into tests of a backend.
macro_rules! conformance {
    ($name:ident, $backend:ty) => {
        conformance! { $name, $backend:
            changes_outlive_a_restart_and_a_scan_is_in_order
            what_is_too_large_is_refused_whole
            a_visit_begins_and_ends_where_it_is_told
            a_row_that_is_not_what_was_written_is_an_error
            an_older_copy_is_refused
            callers_share_commits_and_each_gets_its_own
        }
    };
    ($name:ident, $backend:ty: $($property:ident)*) => {
        mod $name {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $property() {
                    super::$property::<$backend>().await;
                }
            )*

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(24))]
                #[test]
                fn it_holds_what_a_map_would(steps in steps()) {
                    holds_what_a_map_would::<$backend>(steps)?;
                }
            }
        }
    };
}

conformance!(redb, Redb);
conformance!(journaled_redb, Shipped);
conformance!(fjall, Fjall);
