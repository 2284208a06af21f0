//! The embedded store's file: durable, private, locked, and never destroyed.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use store::{Commit, EmbeddedStore, Store, StoreError, Transaction, Watched};

async fn fill(store: &EmbeddedStore, count: u64) {
    for i in 0..count {
        let mut transaction = Transaction::default();
        transaction.put(format!("/k/{i:04}"), vec![i as u8; 3000]);
        assert_eq!(store.commit(transaction).await.unwrap(), Commit::Done(i + 1));
    }
}

#[tokio::test]
async fn what_was_answered_is_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = EmbeddedStore::open(&path).await.unwrap();
    fill(&store, 3).await;
    drop(store);
    let store = EmbeddedStore::open(&path).await.unwrap();
    assert_eq!(*store.newest().borrow(), 3);
    // What changed before it was opened is not known any more.
    let watched = store.watch(b"/k/".to_vec(), 2).await.unwrap();
    assert_eq!(watched, Watched::Compacted { revision: 3 });
    let entry = store.last(b"/k/".to_vec()).await.unwrap().unwrap();
    assert_eq!((entry.key.as_slice(), entry.revision), (b"/k/0002".as_slice(), 3));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_copy_taken_in_mid_life_opens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = EmbeddedStore::open(&path).await.unwrap();
    fill(&store, 20).await;
    // What a crash at this moment would leave.
    let crashed = directory.path().join("crashed");
    fs::copy(&path, &crashed).unwrap();
    let again = EmbeddedStore::open(&crashed).await.unwrap();
    assert_eq!(*again.newest().borrow(), 20);
}

#[tokio::test]
async fn a_second_opener_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let first = EmbeddedStore::open(&path).await.unwrap();
    let error = EmbeddedStore::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    drop(first);
    EmbeddedStore::open(&path).await.unwrap();
}

#[tokio::test]
async fn of_two_that_make_the_same_store_nobody_spoils_it() {
    for _ in 0..8 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let both = tokio::join!(
            tokio::spawn(EmbeddedStore::open(path.clone())),
            tokio::spawn(EmbeddedStore::open(path.clone())),
        );
        let both = [both.0.unwrap(), both.1.unwrap()];
        for answer in &both {
            assert!(matches!(answer, Ok(_) | Err(StoreError::InUse { .. })), "{answer:?}");
        }
        assert_eq!(both.iter().filter(|answer| answer.is_ok()).count(), 1);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = EmbeddedStore::open(&path).await.unwrap();
    fill(&store, 40).await;
    drop(store);
    let good = fs::read(&path).unwrap();
    let holes = |from: usize| {
        let mut bytes = good.clone();
        bytes[from..].iter_mut().step_by(97).for_each(|b| *b ^= 0x55);
        bytes
    };
    let cases = [
        ("empty", Vec::new()),
        ("text", b"this is not a store".repeat(1000)),
        ("head", holes(0)),
        ("pages", holes(4096)),
        ("cut", good[..good.len() / 3].to_vec()),
        ("short", good[..100].to_vec()),
    ];
    for (name, bytes) in cases {
        let spoilt = directory.path().join(name);
        fs::write(&spoilt, &bytes).unwrap();
        let error = EmbeddedStore::open(&spoilt).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{name}: {error}");
        assert_eq!(fs::metadata(&spoilt).unwrap().len(), bytes.len() as u64, "{name}");
    }
}

#[tokio::test]
async fn a_path_that_cannot_be_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("no/such/store");
    let error = EmbeddedStore::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
    assert!(error.to_string().contains("no/such/store"));
}
