//! The store against a plain sorted map, on both databases, through crashes.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "these are tests, on a world of their own"
)]

mod crash;
mod model;
mod undo;
mod world;

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::key::Key;
use super::{Head, Store, Table, View, lock, verify_snapshot};
use crate::error::StoreError;
use world::{KINDS, Kind, World};

/// Everything a view shows of a table, in order.
fn all(view: &View, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    view.scan(table, b"", None, &mut |key, value| {
        all.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    all
}

fn put(store: &Store, key: &str, value: &str) {
    let mut txn = store.txn(0, 0);
    txn.put(Table::Keys, key.as_bytes(), value);
    txn.head_mut().revision += 1;
}

fn get(store: &Store, key: &str) -> Option<Bytes> {
    store.view(0).get(Table::Keys, key.as_bytes()).unwrap()
}

/// A checkpoint, from freeze to the end.
fn checkpoint(world: &World, store: &Store, stamp: &'static str) {
    assert!(store.freeze(stamp.into()));
    world.work();
    assert_eq!(store.durable_stamp(), Some(stamp.into()));
}

#[test]
fn writes_are_seen_by_the_transaction_itself_and_then_by_all() {
    for kind in KINDS {
        let world = World::new(kind);
        let (store, opened) = world.open();
        assert_eq!((opened.head, opened.stamp), (Head::default(), None));
        let mut txn = store.txn(17, 3);
        assert_eq!((txn.now(), txn.head().revision), (17, 0));
        txn.put(Table::Keys, b"k", "one");
        txn.put(Table::Keys, b"k", vec![1, 2]);
        txn.put(Table::Elements, b"k", "other table");
        assert_eq!(txn.get(Table::Keys, b"k").unwrap().unwrap(), [1, 2][..]);
        txn.delete(Table::Keys, b"k");
        assert_eq!(txn.get(Table::Keys, b"k").unwrap(), None);
        txn.put(Table::Keys, b"k", "two");
        txn.head_mut().revision = 5;
        drop(txn);
        let view = store.view(18);
        assert_eq!(view.get(Table::Keys, b"k").unwrap().unwrap(), "two");
        assert_eq!((view.now(), view.head().revision), (18, 5));
        assert!(!view.is_late());
        view.mark_late();
        assert!(view.is_late());
        assert!(view.local().is_some());
        drop(view);
        let mut txn = store.txn(30, 3);
        assert!(txn.local().is_none());
        txn.head_mut().clock_ms = 30;
        drop(txn);
        assert_eq!(store.txn(29, 3).now(), 30, "time does not go back");
        assert_eq!(store.view(0).now(), 30, "time does not go back");
    }
}

#[test]
fn a_reopened_store_is_exactly_its_last_checkpoint() {
    for kind in KINDS {
        let world = World::new(kind);
        let (store, _) = world.open();
        put(&store, "a", "1");
        put(&store, "b", "1");
        checkpoint(&world, &store, "first");
        put(&store, "b", "2");
        store.txn(9, 0).delete(Table::Keys, b"a");
        checkpoint(&world, &store, "second");
        put(&store, "b", "3");
        put(&store, "c", "3");
        drop(store);
        world.restart(true);

        let (store, opened) = world.open();
        assert_eq!(opened.stamp, Some("second".into()));
        assert_eq!(opened.head.revision, 3);
        assert_eq!(store.view(0).head(), &opened.head);
        assert_eq!(store.durable_stamp(), opened.stamp);
        assert_eq!(all(&store.view(0), Table::Keys), [(b"b".to_vec(), b"2".to_vec())]);
    }
}

#[test]
fn one_checkpoint_at_a_time_and_each_is_told() {
    let world = World::new(Kind::Map);
    let (store, _) = world.open();
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = told.clone();
    store.on_checkpoint(Arc::new(move |stamp: &Bytes| tell.lock().unwrap().push(stamp.clone())));
    put(&store, "a", "1");
    assert!(store.freeze("one".into()));
    assert!(!store.freeze("two".into()));
    assert_eq!(store.durable_stamp(), None);
    assert_eq!(get(&store, "a").unwrap(), "1");
    world.work();
    world.work();
    assert_eq!(*told.lock().unwrap(), ["one"]);
    assert!(store.freeze("two".into()));
    world.work();
    assert_eq!(*told.lock().unwrap(), ["one", "two"]);
    assert_eq!(store.stats().unwrap().checkpoints, 2);
}

#[test]
fn what_was_written_last_is_kept_until_the_store_rests() {
    for kind in KINDS {
        let world = World::new(kind);
        let (store, _) = world.open();
        let kept = |store: &Store| store.stats().unwrap().written_bytes > 0;
        put(&store, "a", "1");
        assert!(!kept(&store), "nothing was");
        checkpoint(&world, &store, "first");
        assert!(kept(&store));
        store.txn(0, 0).delete(Table::Keys, b"a");
        put(&store, "b", "2");
        assert_eq!((get(&store, "a"), get(&store, "b")), (None, Some("2".into())));
        assert!(store.freeze("second".into()));
        assert!(!kept(&store), "one is enough");
        world.work();
        put(&store, "b", "3");
        for rests in [false, true] {
            if rests {
                store.rest();
                world.work();
            }
            assert_eq!(kept(&store), !rests);
            assert_eq!((get(&store, "a"), get(&store, "b")), (None, Some("3".into())));
            assert_eq!(all(&store.view(0), Table::Keys), [(b"b".to_vec(), b"3".to_vec())]);
        }
    }
}

#[test]
fn what_was_read_is_kept_until_the_database_changes() {
    for kind in KINDS {
        let world = World::new(kind);
        let (store, _) = world.open();
        let kept = |store: &Store| store.stats().unwrap().cache_bytes > 0;
        put(&store, "a", "1");
        assert_eq!(get(&store, "a"), Some("1".into()));
        assert!(!kept(&store), "it is in a buffer");
        checkpoint(&world, &store, "first");
        store.rest();
        for _ in 0..2 {
            assert_eq!((get(&store, "a"), get(&store, "b")), (Some("1".into()), None));
            assert!(kept(&store));
        }
        put(&store, "a", "2");
        put(&store, "b", "2");
        assert_eq!((get(&store, "a"), get(&store, "b")), (Some("2".into()), Some("2".into())));
        checkpoint(&world, &store, "second");
        assert!(!kept(&store));
        store.rest();
        assert_eq!((get(&store, "a"), get(&store, "b")), (Some("2".into()), Some("2".into())));
    }
}

#[test]
fn a_checkpoint_is_wanted_by_size_and_by_time() {
    let world = World::new(Kind::Map);
    let (store, _) = world.open();
    world.clock.advance(Duration::from_secs(60));
    assert!(!store.wants_checkpoint(), "nothing was written");
    put(&store, "a", "1");
    assert!(store.wants_checkpoint(), "it is an interval since the start");
    assert!(store.freeze("by time".into()));
    put(&store, "b", &"x".repeat(70_000));
    assert!(!store.wants_checkpoint(), "one is being written");
    assert!(!store.over_hard_limit());
    put(&store, "c", &"x".repeat(70_000));
    assert!(store.over_hard_limit());
    let stats = store.stats().unwrap();
    assert!(stats.frozen_bytes > 0 && stats.active_bytes > 140_000);
    world.work();
    assert!(!store.over_hard_limit());
    assert!(store.wants_checkpoint(), "the buffer is full");
    checkpoint(&world, &store, "by size");
    assert!(!store.wants_checkpoint());
    assert_eq!(store.stats().unwrap().active_bytes, 0);
    put(&store, "a", "1");
    world.clock.advance(Duration::from_secs(4));
    assert!(!store.wants_checkpoint());
    world.clock.advance(Duration::from_secs(1));
    assert!(store.wants_checkpoint());
}

#[test]
fn a_view_stays_the_same_while_a_checkpoint_ends() {
    for kind in KINDS {
        let world = World::new(kind);
        let (store, _) = world.open();
        for n in 0..100 {
            put(&store, &format!("old {n}"), "1");
        }
        checkpoint(&world, &store, "first");
        let before = store.state_hash().unwrap();
        for n in 0..100 {
            put(&store, &format!("new {n}"), "1");
            store.txn(0, 0).delete(Table::Keys, format!("old {n}").as_bytes());
        }
        assert_ne!(store.state_hash().unwrap(), before);
        let expected = all(&store.view(0), Table::Keys);
        assert!(store.freeze("second".into()));
        std::thread::scope(|scope| {
            // One view opens its reader before the commit, the other after it.
            let (early, late) = (store.view(0), store.view(0));
            assert_eq!(all(&early, Table::Keys), expected);
            let worker = scope.spawn(|| world.work());
            // The commit needs no lock, and becomes visible under the views.
            while store.durable_stamp() != Some("second".into()) {
                std::thread::yield_now();
            }
            assert_eq!(all(&early, Table::Keys), expected);
            assert_eq!(all(&late, Table::Keys), expected);
            assert_eq!(late.get(Table::Keys, b"old 7").unwrap(), None);
            drop((early, late));
            worker.join().unwrap();
        });
        assert_eq!(all(&store.view(0), Table::Keys), expected);
    }
}

#[test]
fn readers_never_see_half_of_an_entry() {
    for kind in KINDS {
        let world = World::new(kind);
        let (store, _) = world.open();
        let done = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..2000_u64 {
                    let mut txn = store.txn(n, n);
                    txn.put(Table::Keys, b"one", n.to_be_bytes());
                    txn.put(Table::Keys, b"two", n.to_be_bytes());
                    txn.head_mut().revision = n;
                    drop(txn);
                    if n % 50 == 0 {
                        store.freeze(n.to_be_bytes().to_vec().into());
                    }
                }
                done.store(1, Ordering::SeqCst);
            });
            scope.spawn(|| {
                while done.load(Ordering::SeqCst) == 0 {
                    world.work();
                }
            });
            while done.load(Ordering::SeqCst) == 0 {
                let view = store.view(0);
                let values = all(&view, Table::Keys);
                assert_eq!(
                    view.get(Table::Keys, b"two").unwrap().as_deref(),
                    values.first().map(|v| &v.1[..])
                );
                if let [(_, one), (_, two)] = &values[..] {
                    assert_eq!(one, two);
                    assert_eq!(view.head().revision.to_be_bytes(), one[..]);
                } else {
                    assert!(values.is_empty());
                }
            }
        });
    }
}

#[test]
fn a_changed_value_is_found_and_named() {
    let world = World::new(Kind::Lmdb);
    let (store, _) = world.open();
    put(&store, "the-key", "a value that is right");
    put(&store, "z", "another");
    checkpoint(&world, &store, "first");
    store.rest();
    world.work();
    let file = world.path("state").join("state-1/data.mdb");
    assert!(world.disk.corrupt(&file, b"a value that is right", b"a value that is w"));
    let named = |result: Result<(), StoreError>| match result {
        Err(StoreError::Corrupt(text)) => assert!(text.contains("\"the-key\" in table Keys"), "{text}"),
        other => panic!("{other:?}"),
    };
    let view = store.view(0);
    named(view.get(Table::Keys, b"the-key").map(|_| ()));
    named(view.scan(Table::Keys, b"", None, &mut |_, _| ControlFlow::Continue(())));
    assert_eq!(view.get(Table::Keys, b"z").unwrap().unwrap(), "another");
    drop(view);
    named(store.state_hash().map(|_| ()));
    named(store.snapshot_to(&world.path("copy")).map(|_| ()));
    assert!(!world.path("copy").exists());
}

#[test]
fn long_keys_are_kept_apart_and_found() {
    for kind in KINDS {
        let world = World::new(kind);
        let (store, _) = world.open();
        let prefix = vec![b'p'; 600];
        let mut keys: Vec<Vec<u8>> = (0..50_u8).map(|n| [&prefix[..], &[n]].concat()).collect();
        keys.extend([
            prefix[..505].to_vec(),
            prefix[..509].to_vec(),
            prefix[..510].to_vec(),
            vec![b'q'; 4000],
        ]);
        let half = keys.len() / 2;
        for (n, key) in keys.iter().enumerate() {
            if n == half {
                checkpoint(&world, &store, "half");
            }
            store.txn(0, 0).put(Table::Keys, key, vec![n as u8]);
        }
        for round in 0..3 {
            let view = store.view(0);
            for (n, key) in keys.iter().enumerate() {
                assert_eq!(view.get(Table::Keys, key).unwrap().unwrap(), [n as u8][..], "{round}");
            }
            let found = all(&view, Table::Keys);
            assert_eq!(found.len(), keys.len());
            // A scan goes on after any key, and meets each once.
            for (n, (key, _)) in found.iter().enumerate() {
                let mut next = None;
                view.scan_after(Table::Keys, key, None, &mut |key, _| {
                    next = Some(key.to_vec());
                    ControlFlow::Break(())
                })
                .unwrap();
                assert_eq!(next.as_ref(), found.get(n + 1).map(|(key, _)| key));
            }
            for (len, count) in [(0, 54), (494, 53), (505, 53), (506, 52), (600, 50), (601, 0)] {
                let mut matching = 0;
                let wanted = vec![b'p'; len];
                view.scan_prefix(Table::Keys, &wanted, &mut |key, _| {
                    assert!(key.starts_with(&wanted));
                    matching += 1;
                    ControlFlow::Continue(())
                })
                .unwrap();
                assert_eq!(matching, count, "prefix of {len}");
            }
            drop(view);
            checkpoint(&world, &store, if round == 0 { "whole" } else { "again" });
        }
    }
}

#[test]
fn a_scan_does_not_step_over_what_was_deleted_again_and_again() {
    for kind in KINDS {
        let world = World::new(kind);
        let (store, _) = world.open();
        let key = |n: u32| n.to_be_bytes();
        for n in 0..1000 {
            store.txn(0, 0).put(Table::Expiry, &key(n), "");
        }
        checkpoint(&world, &store, "all");
        let first = |from: &[u8]| {
            let mut first = None;
            let mut visit = |key: &[u8], _: &[u8]| {
                first = Some(key.to_vec());
                ControlFlow::Break(())
            };
            store.view(0).scan(Table::Expiry, from, None, &mut visit).unwrap();
            first
        };
        for n in 0..1000 {
            assert_eq!(first(b""), Some(key(n).to_vec()));
            store.txn(0, 0).delete(Table::Expiry, &key(n));
        }
        assert_eq!(first(b""), None);
        let start = Bound::Included(&[Table::Expiry as u8][..]);
        assert!(lock(&store.read().gaps).skip(start) == Some(Key::from_stored(&[Table::Expiry as u8 + 1])));
        store.txn(0, 0).put(Table::Expiry, &key(500), "");
        assert_eq!(first(b""), Some(key(500).to_vec()));
        assert_eq!(first(&key(501)), None);
        store.txn(0, 0).put(Table::Expiry, &key(7), "");
        assert_eq!(first(b""), Some(key(7).to_vec()));
        store.txn(0, 0).delete(Table::Expiry, &key(7));
        assert_eq!(first(b""), Some(key(500).to_vec()));
        checkpoint(&world, &store, "few");
        assert_eq!(first(b""), Some(key(500).to_vec()));
    }
}

#[test]
fn the_hash_says_what_the_state_is_and_not_where() {
    let worlds = [Kind::Lmdb, Kind::Map, Kind::Lmdb].map(World::new);
    let stores = worlds.each_ref().map(|world| world.open().0);
    let mut hashes = std::collections::BTreeSet::new();
    for n in 0..300_u64 {
        for store in &stores {
            let mut txn = store.txn(n, n);
            let key = txn.rng().below(40).to_string();
            match txn.rng().below(4) {
                0 => txn.delete(Table::Keys, key.as_bytes()),
                _ => txn.put(Table::Elements, key.as_bytes(), n.to_string()),
            }
            txn.head_mut().revision = n;
        }
        // They freeze and write at different moments.
        for (store, world, every) in [(&stores[0], &worlds[0], 7), (&stores[1], &worlds[1], 31)] {
            if n % every == 0 {
                store.freeze("stamp".into());
            }
            if n % every == 3 {
                world.work();
            }
        }
        let hash = stores[0].state_hash().unwrap();
        assert_eq!(stores[1].state_hash().unwrap(), hash, "after {n}");
        assert_eq!(stores[2].pin().unwrap().hash().unwrap(), hash, "after {n}");
        hashes.insert(hash);
    }
    assert_eq!(hashes.len(), 300);
}

#[test]
fn a_snapshot_is_a_checkpoint_in_a_file() {
    for (kind, other) in [(Kind::Lmdb, Kind::Map), (Kind::Map, Kind::Lmdb)] {
        let world = World::new(kind);
        let (store, _) = world.open();
        assert!(store.snapshot_to(&world.path("too early")).is_err());
        for n in 0..3000 {
            put(&store, &format!("{n}{}", "k".repeat(n)), &"v".repeat(n % 300));
        }
        put(&store, "large", &"x".repeat(1 << 20));
        checkpoint(&world, &store, "stamp");
        let (hash, contents) = (store.state_hash().unwrap(), all(&store.view(0), Table::Keys));
        put(&store, "later", "not in it");
        let info = store.snapshot_to(&world.path("copy")).unwrap();
        assert_eq!((info.stamp.clone(), info.records, info.head.revision), ("stamp".into(), 3001, 3001));
        assert_eq!(verify_snapshot(&*world.disk, &world.path("copy")).unwrap(), info);

        // Carried to a node with another kind of database.
        let target = World::new(other);
        let (follower, _) = target.open();
        put(&follower, "old", "gone after");
        checkpoint(&target, &follower, "old");
        put(&follower, "large", "old");
        assert!(follower.freeze("never written".into()));
        put(&follower, "older", "gone too");
        crash::carry(&world, &target, "copy");
        let (head, stamp) = follower.install(&target.path("copy")).unwrap();
        assert_eq!((head, stamp), (info.head, info.stamp));
        assert_eq!(follower.durable_stamp(), Some("stamp".into()));
        target.work();
        assert_eq!(follower.state_hash().unwrap(), hash);
        assert_eq!(all(&follower.view(0), Table::Keys), contents);
        put(&follower, "next", "1");
        checkpoint(&target, &follower, "next");
        drop(follower);
        target.restart(true);
        let (follower, opened) = target.open();
        assert_eq!(opened.stamp, Some("next".into()));
        assert_eq!(get(&follower, "next").unwrap(), "1");
        assert_eq!(all(&follower.view(0), Table::Keys).len(), 3002);
        assert_eq!(
            crate::env::Disk::list(&*target.disk, &target.path("state")).unwrap(),
            ["CURRENT", "state-2"]
        );
    }
}
