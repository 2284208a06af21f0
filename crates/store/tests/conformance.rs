//! What every store does, in the same words for each of them.

#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use proptest::prelude::*;
use store::{
    Commit, EmbeddedStore, MAX_KEY, MAX_RECENT, MAX_TRANSACTION, MAX_VALUE, MemoryStore, Range,
    Store, StoreError, Transaction, Watched,
};
use tokio::task::JoinSet;

fn put(key: &str, value: &str) -> Transaction {
    let mut transaction = Transaction::default();
    transaction.put(key, value);
    transaction
}

async fn done(store: &dyn Store, transaction: Transaction) -> u64 {
    match store.commit(transaction).await.unwrap() {
        Commit::Done(revision) => revision,
        other => panic!("{other:?}"),
    }
}

async fn value(store: &dyn Store, key: &str) -> Option<(String, u64)> {
    let entry = store.get(key.into()).await.unwrap()?;
    assert_eq!(entry.key, key.as_bytes());
    Some((String::from_utf8(entry.value).unwrap(), entry.revision))
}

async fn keys(store: &dyn Store, range: Range) -> Vec<String> {
    let found = store.range(range).await.unwrap();
    found.into_iter().map(|e| String::from_utf8(e.key).unwrap()).collect()
}

async fn revisions_rise_by_one(store: &dyn Store) {
    let mut newest = store.newest();
    let first = *newest.borrow_and_update();
    assert_eq!(done(store, put("/a", "1")).await, first + 1);
    assert_eq!(done(store, put("/b", "2")).await, first + 2);
    assert!(newest.has_changed().unwrap());
    assert_eq!(*newest.borrow_and_update(), first + 2);
    assert_eq!(value(store, "/a").await, Some(("1".into(), first + 1)));
    let mut change = put("/a", "3");
    change.delete("/b");
    change.delete("/never");
    assert_eq!(done(store, change).await, first + 3);
    assert_eq!(value(store, "/a").await, Some(("3".into(), first + 3)));
    assert_eq!(value(store, "/b").await, None);
}

async fn all_or_nothing(store: &dyn Store) {
    let revision = done(store, put("/x", "1")).await;
    let read = store.get("/x".into()).await.unwrap();
    let mut good = put("/x", "2");
    good.expect("/x", read.as_ref());
    good.expect("/y", None);
    good.put("/y", "1");
    let next = done(store, good.clone()).await;
    assert_eq!(next, revision + 1);
    let conflict = Commit::Conflict { key: b"/x".to_vec(), revision: Some(next) };
    assert_eq!(store.commit(good).await.unwrap(), conflict);
    let mut late = put("/z", "1");
    late.expect("/x", store.get("/x".into()).await.unwrap().as_ref());
    late.expect("/y", None);
    let conflict = Commit::Conflict { key: b"/y".to_vec(), revision: Some(next) };
    assert_eq!(store.commit(late).await.unwrap(), conflict);
    assert_eq!(value(store, "/z").await, None);
    assert_eq!(*store.newest().borrow(), next);
    let gone = store.get("/x".into()).await.unwrap();
    let mut delete = Transaction::default();
    delete.delete("/x");
    done(store, delete).await;
    let mut stale = put("/x", "9");
    stale.expect("/x", gone.as_ref());
    let conflict = Commit::Conflict { key: b"/x".to_vec(), revision: None };
    assert_eq!(store.commit(stale).await.unwrap(), conflict);
}

async fn ranges_are_ordered_and_bounded(store: &dyn Store) {
    for key in ["/r/2", "/r/10", "/r/1", "/r", "/s/1", "/q", "/r/"] {
        done(store, put(key, key)).await;
    }
    let all = ["/r/", "/r/1", "/r/10", "/r/2"];
    assert_eq!(keys(store, Range::prefix("/r/")).await, all);
    let after =
        |after: &str, limit| Range { prefix: b"/r/".to_vec(), after: Some(after.into()), limit };
    assert_eq!(keys(store, after("/r/1", 9)).await, all[2..]);
    assert_eq!(keys(store, after("/r/1", 1)).await, all[2..3]);
    assert_eq!(keys(store, after("/a", 2)).await, all[..2]);
    assert_eq!(keys(store, after("/z", 2)).await, [""; 0]);
    assert_eq!(keys(store, after("/r/1", 0)).await, [""; 0]);
    assert_eq!(store.last(b"/r/".to_vec()).await.unwrap().unwrap().key, b"/r/2");
    assert_eq!(store.last(b"/none/".to_vec()).await.unwrap(), None);
    done(store, put("\u{7f}", "1")).await;
    let mut wide = Transaction::default();
    wide.put(vec![0xff, 0xff, 1], "2");
    done(store, wide).await;
    assert_eq!(store.last(vec![0xff, 0xff]).await.unwrap().unwrap().key, [0xff, 0xff, 1]);
    let many = vec![b"/r/2".to_vec(), b"/none".to_vec(), b"/q".to_vec()];
    let read = store.read(many).await.unwrap();
    let found: Vec<bool> = read.iter().map(Option::is_some).collect();
    assert_eq!(found, [true, false, true]);
}

async fn limits_are_refused(store: &dyn Store) {
    let before = *store.newest().borrow();
    let mut many = Transaction::default();
    for i in 0..=MAX_TRANSACTION {
        many.put(format!("/l/{i}"), "");
    }
    let mut long = Transaction::default();
    long.expect(vec![b'k'; MAX_KEY + 1], None);
    let mut large = Transaction::default();
    large.put("/l", vec![0; MAX_VALUE + 1]);
    for transaction in [many, long, large] {
        let error = store.commit(transaction).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    }
    assert_eq!(*store.newest().borrow(), before);
    let mut largest = Transaction::default();
    largest.put(vec![b'k'; MAX_KEY], vec![7; MAX_VALUE]);
    done(store, largest).await;
    assert_eq!(store.get(vec![b'k'; MAX_KEY]).await.unwrap().unwrap().value.len(), MAX_VALUE);
}

async fn watches_tell_every_change(store: &dyn Store) {
    let changed = |revision, keys: &[&str]| Watched::Changed {
        revision,
        keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
    };
    let first = done(store, put("/w/a", "1")).await;
    let mut two = put("/w/c", "2");
    two.delete("/w/a");
    two.put("/v/x", "2");
    two.put("/w/c", "3");
    let second = done(store, two).await;
    let third = done(store, put("/w/b", "3")).await;
    let watch = async |prefix: &str, after| store.watch(prefix.into(), after).await.unwrap();
    assert_eq!(watch("/w/", first - 1).await, changed(third, &["/w/a", "/w/b", "/w/c"]));
    assert_eq!(watch("/w/", second).await, changed(third, &["/w/b"]));
    assert_eq!(watch("/v/", first).await, changed(third, &["/v/x"]));
    // From the future, as after a restored backup.
    assert_eq!(watch("/w/", third + 1).await, Watched::Compacted { revision: third });
    // Nothing yet: it waits, for keys of its prefix only, and refusals are no news.
    let mut waiting = pin!(store.watch("/w/".into(), third));
    let mut poll = || waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_pending());
    done(store, put("/v/y", "1")).await;
    let mut refused = put("/w/d", "1");
    refused.expect("/w/none", store.get("/w/c".into()).await.unwrap().as_ref());
    assert!(matches!(store.commit(refused).await.unwrap(), Commit::Conflict { .. }));
    assert!(poll().is_pending());
    let last = done(store, put("/w/d", "2")).await;
    assert_eq!(waiting.await.unwrap(), changed(last, &["/w/d"]));
}

async fn watches_know_when_they_missed_something(store: &dyn Store) {
    let begin = *store.newest().borrow();
    for _ in 0..=MAX_RECENT / MAX_TRANSACTION {
        let mut many = Transaction::default();
        for i in 0..MAX_TRANSACTION {
            many.put(format!("/m/{i}"), "");
        }
        done(store, many).await;
    }
    let revision = *store.newest().borrow();
    let watch = async |after| store.watch("/m/".into(), after).await.unwrap();
    assert_eq!(watch(begin).await, Watched::Compacted { revision });
    let Watched::Changed { keys, .. } = watch(begin + 1).await else { panic!("forgotten") };
    assert_eq!(keys.len(), MAX_TRANSACTION);
}

async fn conforms(store: &dyn Store) {
    assert_eq!(*store.newest().borrow(), 0);
    revisions_rise_by_one(store).await;
    all_or_nothing(store).await;
    ranges_are_ordered_and_bounded(store).await;
    limits_are_refused(store).await;
    watches_tell_every_change(store).await;
    watches_know_when_they_missed_something(store).await;
}

#[tokio::test]
async fn the_memory_store_conforms() {
    conforms(&MemoryStore::default()).await;
}

#[tokio::test]
async fn the_embedded_store_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conforms(&EmbeddedStore::open(directory.path().join("store")).await.unwrap()).await;
}

#[tokio::test]
async fn of_two_that_read_the_same_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path().join("store")).await.unwrap();
    let read = store.get("/n".into()).await.unwrap();
    let store = Arc::new(store);
    let mut racers = JoinSet::new();
    for i in 0..8 {
        let mut transaction = put("/n", &i.to_string());
        transaction.expect("/n", read.as_ref());
        let store = Arc::clone(&store);
        racers.spawn(async move { store.commit(transaction).await.unwrap() });
    }
    let answers = racers.join_all().await;
    assert_eq!(answers.iter().filter(|c| matches!(c, Commit::Done(_))).count(), 1);
}

/// A key of few, so that transactions meet.
fn steps() -> impl Strategy<Value = Vec<(u8, Option<u8>, u8, bool)>> {
    prop::collection::vec((0u8..4, prop::option::of(0u8..8), any::<u8>(), any::<bool>()), 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn both_stores_answer_alike(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let file = EmbeddedStore::open(directory.path().join("store")).await.unwrap();
            let memory = MemoryStore::default();
            for (key, expected, value, delete) in steps {
                let mut transaction = Transaction::default();
                let revision = expected.map(u64::from).filter(|r| *r > 0);
                if expected.is_some() {
                    let key = vec![key];
                    transaction.conditions.push(store::Condition { key, revision });
                }
                if delete {
                    transaction.delete(vec![key]);
                } else {
                    transaction.put(vec![key], vec![value]);
                }
                let answers = (
                    file.commit(transaction.clone()).await.unwrap(),
                    memory.commit(transaction).await.unwrap(),
                );
                assert_eq!(answers.0, answers.1);
            }
            let all = (
                file.range(Range::prefix("")).await.unwrap(),
                memory.range(Range::prefix("")).await.unwrap(),
            );
            assert_eq!(all.0, all.1);
        });
    }
}
