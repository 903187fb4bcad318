//! The keyspace as a whole: expiry, revisions, flushing, listing.

mod hash;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;

use super::collection::{Apart, Body};
use super::{Expiry, Kind, Place, Record, expiry, keyspace, random, scan, string};
use crate::config::Events;
use crate::env::sim;
use crate::store::{Chance, Event, Found, Head, Options, Store, Table, Txn, View};

/// Runs a test on an empty state in memory.
pub(crate) fn with_store<T>(test: impl FnOnce(&Store) -> T) -> T {
    sim::run(1, async move |world: sim::World| {
        let (store, _) =
            Store::open(&world.node("a"), Path::new("state"), Options::default()).expect("an empty state");
        test(&store)
    })
}

/// The state for an entry's writes at `now`.
pub(crate) fn begin(store: &Store, now: u64) -> Txn<'_> {
    let mut tx = store.txn(now, 7);
    let head = tx.head_mut();
    head.clock_ms = now;
    head.notify = Events::parse(b"KEAnm").expect("letters of Redis").bits();
    tx
}

/// Everything a state holds.
pub(crate) fn dump(view: &View) -> (Head, BTreeMap<(Table, Bytes), Bytes>) {
    let mut all = BTreeMap::new();
    for table in [Table::Keys, Table::Expiry, Table::Elements, Table::Meta] {
        scan_all(view, table, |key, value| {
            all.insert((table, Bytes::copy_from_slice(key)), Bytes::copy_from_slice(value));
        });
    }
    (view.head().clone(), all)
}

/// Fails unless the counters, the expiry index and the elements are what the records say.
pub(crate) fn check_counters(view: &View) {
    let mut keys = BTreeMap::new();
    let mut indexed = BTreeSet::new();
    let mut collections = BTreeMap::new();
    scan_all(view, Table::Keys, |address, stored| {
        let generation = u64::from_be_bytes(*address.first_chunk().expect("an address has a generation"));
        let Record { header, value } = Record::decode(Found::here(stored)).expect("a record");
        if header.kind != Kind::String
            && let Body::Apart(apart) = Body::decode(&value).expect("a collection")
        {
            assert_eq!(collections.insert(apart.id, apart), None, "two keys share a collection");
        }
        let deadline = header.deadline;
        let (all, expiring) = keys.entry(generation).or_insert((0, 0));
        *all += 1;
        if let Some(deadline) = deadline {
            *expiring += 1;
            indexed.insert(expiry::index_key(deadline, address));
        }
    });
    let mut index = BTreeSet::new();
    scan_all(view, Table::Expiry, |key, _| {
        index.insert(key.to_vec());
    });
    assert_eq!(index, indexed, "the expiry index");
    for (db, database) in view.head().databases.iter().enumerate() {
        let counted = keys.remove(&database.generation).unwrap_or_default();
        assert_eq!((database.keys, database.expiring), counted, "the counters of database {db}");
    }
    let garbage: BTreeSet<u64> = view.head().garbage.iter().copied().collect();
    assert_eq!(garbage.len(), view.head().garbage.len(), "each is garbage once");
    let mut elements = BTreeMap::new();
    scan_all(view, Table::Elements, |address, content| {
        let id = u64::from_be_bytes(*address.first_chunk().expect("an address has a number"));
        let Apart { count, bytes, .. } = elements.entry(id).or_insert(Apart { id, count: 0, bytes: 0 });
        *count += 1;
        *bytes += (address.len() - 8 + content.len()) as u64;
    });
    elements.retain(|id, _| !garbage.contains(id));
    assert_eq!(elements, collections, "the elements of all collections");
    assert!(collections.keys().all(|id| !garbage.contains(id)), "a collection in use is garbage");
    assert!(keys.keys().all(|generation| garbage.contains(generation)), "keys of no database");
}

fn scan_all(view: &View, table: Table, mut visit: impl FnMut(&[u8], &[u8])) {
    view.scan(table, &[], None, &mut |key, value| {
        visit(key, value);
        ControlFlow::Continue(())
    })
    .expect("a simulated disk that works");
}

fn put(tx: &mut Txn, key: &str, expiry: Expiry) {
    string::put(tx, 0, &Bytes::copy_from_slice(key.as_bytes()), b"v", expiry).expect("it works");
}

fn get(view: &View, key: &str) -> bool {
    keyspace::exists(view, 0, &Bytes::copy_from_slice(key.as_bytes())).expect("it works")
}

fn events(tx: &mut Txn) -> Vec<String> {
    let events = std::mem::take(&mut tx.effects.events);
    let shown = events.iter().map(|event| match event {
        Event::Key { kind, key, .. } => format!("{kind} {}", String::from_utf8_lossy(key)),
        Event::Message { .. } | Event::ShardMessage { .. } => unreachable!("nobody publishes"),
    });
    shown.collect()
}

#[test]
fn a_key_is_gone_from_the_entry_at_its_deadline() {
    with_store(|store| {
        put(&mut begin(store, 50), "k", Expiry::At(100));
        assert!(get(&store.view(99), "k"));
        let tx = begin(store, 99);
        assert!(get(&tx, "k"));
        drop(tx);
        let tx = begin(store, 100);
        assert!(!get(&tx, "k"));
        assert_eq!(keyspace::count(&tx, 0), 1, "it is not removed yet");
    });
}

#[test]
fn a_read_ahead_of_the_clock_is_late() {
    with_store(|store| {
        put(&mut begin(store, 50), "k", Expiry::At(100));
        let view = store.view(100);
        assert!(!get(&view, "k"));
        assert!(view.is_late());
        drop(view);
        drop(begin(store, 100));
        let view = store.view(100);
        assert!(!get(&view, "k"));
        assert!(!view.is_late(), "an entry has said so");
    });
}

#[test]
fn an_absent_key_is_not_watched_before_those_of_its_name_have_ended() {
    with_store(|store| {
        let key = Bytes::from_static(b"k");
        let watched = |view: &View| keyspace::watched(view, 1, &key).expect("it works");
        put(&mut begin(store, 50), "k", Expiry::At(100));
        let view = store.view(99);
        watched(&view);
        assert!(!view.is_late());
        drop(view);
        let view = store.view(100);
        watched(&view);
        assert!(view.is_late());
        drop(view);
        expiry::expire_due(&mut begin(store, 100), 10).expect("it works");
        let view = store.view(101);
        let before = watched(&view);
        assert!(!view.is_late());
        drop(view);
        let mut tx = begin(store, 102);
        keyspace::swap(&mut tx, 0, 1);
        keyspace::commit(&mut tx);
        assert_eq!(watched(&tx), before);
    });
}

#[test]
fn what_is_due_is_removed_in_order_of_the_deadlines() {
    with_store(|store| {
        let mut tx = begin(store, 1);
        for (key, deadline) in [("c", 30), ("a", 20), ("b", 10), ("later", 31)] {
            put(&mut tx, key, Expiry::At(deadline));
        }
        drop(tx);
        assert_eq!(expiry::next_deadline(&store.view(0)).expect("it works"), Some(10));
        let mut tx = begin(store, 30);
        assert_eq!(expiry::expire_due(&mut tx, 2).expect("it works"), 2);
        assert_eq!(events(&mut tx), ["expired b", "expired a"]);
        assert_eq!(expiry::expire_due(&mut tx, 2).expect("it works"), 1);
        assert_eq!(events(&mut tx), ["expired c"]);
        assert_eq!(expiry::next_deadline(&tx).expect("it works"), Some(31));
        check_counters(&tx);
    });
}

#[test]
fn a_write_over_a_gone_key_makes_a_new_one() {
    with_store(|store| {
        let mut tx = begin(store, 1);
        put(&mut tx, "k", Expiry::At(10));
        put(&mut tx, "k", Expiry::Keep);
        assert_eq!(keyspace::commit(&mut tx), 1);
        events(&mut tx);
        drop(tx);
        let mut tx = begin(store, 10);
        put(&mut tx, "k", Expiry::Keep);
        assert_eq!(events(&mut tx), ["expired k", "new k"]);
        keyspace::commit(&mut tx);
        let header =
            keyspace::get(&tx, 0, &Bytes::from_static(b"k")).expect("it works").expect("a new key").header;
        assert_eq!((header.deadline, header.created, header.modified, header.version), (None, 2, 2, 1));
        check_counters(&tx);
    });
}

#[test]
fn a_command_takes_one_revision_if_it_changes_anything() {
    with_store(|store| {
        let mut tx = begin(store, 1);
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        assert_eq!(keyspace::commit(&mut tx), 0);
        put(&mut tx, "a", Expiry::None);
        put(&mut tx, "b", Expiry::None);
        assert_eq!(keyspace::commit(&mut tx), 1);
        let modified = |tx: &Txn, key: &[u8]| {
            let record = keyspace::get(tx, 0, key).expect("it works");
            record.map_or(0, |record| record.header.modified)
        };
        assert_eq!((modified(&tx, &a), modified(&tx, &b)), (1, 1));
        assert!(!keyspace::delete(&mut tx, 0, &Bytes::from_static(b"absent")).expect("it works"));
        assert_eq!(keyspace::commit(&mut tx), 1);
        keyspace::rename(&mut tx, 0, &a, &b).expect("a exists");
        assert_eq!(keyspace::commit(&mut tx), 2);
        assert_eq!((modified(&tx, &a), modified(&tx, &b)), (0, 2));
        Place::find(&tx, 0, &b).expect("it works").set_deadline(&mut tx, Some(9));
        assert_eq!(keyspace::commit(&mut tx), 3);
        assert_eq!(modified(&tx, &b), 3);
    });
}

/// Runs commands on a state in which `k` is absent or holds something, and says whether a watcher of it notices.
fn check_watched(present: bool, commands: &[fn(&mut Txn)], notices: bool) {
    with_store(|store| {
        let key = Bytes::from_static(b"k");
        let mut tx = begin(store, 1);
        // Also a key of its name in another database, of the same revision.
        if present {
            put(&mut tx, "k", Expiry::None);
            Place::find(&tx, 1, &key).expect("it works").put(
                &mut tx,
                super::Kind::String,
                super::Form::Whole,
                &key,
                Expiry::None,
            );
        }
        keyspace::commit(&mut tx);
        let before = keyspace::watched(&tx, 0, &key).expect("it works");
        for command in commands {
            command(&mut tx);
            keyspace::commit(&mut tx);
        }
        let after = keyspace::watched(&tx, 0, &key).expect("it works");
        assert_eq!(before != after, notices, "{before} {after}");
        check_counters(&tx);
    });
}

#[test]
fn a_watcher_notices_what_came_and_went() {
    let set: fn(&mut Txn) = |tx| put(tx, "k", Expiry::None);
    let delete: fn(&mut Txn) = |tx| {
        keyspace::delete(tx, 0, &Bytes::from_static(b"k")).expect("it works");
    };
    let other: fn(&mut Txn) = |tx| put(tx, "other", Expiry::None);
    let flush: fn(&mut Txn) = |tx| keyspace::flush(tx, 0);
    let swap: fn(&mut Txn) = |tx| keyspace::swap(tx, 0, 1);
    check_watched(false, &[], false);
    check_watched(false, &[other, delete], false);
    check_watched(false, &[other, flush, swap], false);
    check_watched(false, &[set], true);
    check_watched(false, &[set, delete], true);
    check_watched(false, &[set, flush], true);
    check_watched(true, &[], false);
    check_watched(true, &[other], false);
    check_watched(true, &[set], true);
    check_watched(true, &[delete], true);
    check_watched(true, &[delete, set], true);
    check_watched(true, &[flush], true);
    check_watched(true, &[swap], true);
    check_watched(true, &[swap, swap], true);
}

#[test]
fn events_are_made_only_for_those_who_asked() {
    with_store(|store| {
        let mut tx = begin(store, 1);
        for (classes, expect) in [
            ("KEAn", vec!["new k", "del k"]),
            ("KEA", vec!["del k"]),
            ("Eg", vec!["del k"]),
            ("Kn", vec!["new k"]),
            ("A", vec![]),
            ("E", vec![]),
            ("", vec![]),
        ] {
            tx.head_mut().notify = Events::parse(classes.as_bytes()).expect("letters of Redis").bits();
            put(&mut tx, "k", Expiry::None);
            keyspace::delete(&mut tx, 0, &Bytes::from_static(b"k")).expect("it works");
            assert_eq!(events(&mut tx), expect, "{classes}");
        }
    });
}

#[test]
fn a_flushed_database_is_empty_at_once_and_swept_later() {
    with_store(|store| {
        let mut tx = begin(store, 1);
        for number in 0..10 {
            put(&mut tx, &number.to_string(), if number % 2 == 0 { Expiry::None } else { Expiry::At(5) });
        }
        keyspace::flush(&mut tx, 0);
        keyspace::flush(&mut tx, 0);
        assert_eq!(tx.head().garbage.len(), 1, "there was nothing to flush the second time");
        put(&mut tx, "0", Expiry::At(5));
        assert_eq!(scan::all(&tx, 0, &scan::Filter::default()).expect("it works"), ["0"]);
        keyspace::sweep(&mut tx, 4).expect("it works");
        events(&mut tx);
        drop(tx);
        let mut tx = begin(store, 5);
        assert!(expiry::expire_due(&mut tx, 100).expect("it works") > 1, "leftovers are due as well");
        assert_eq!(events(&mut tx), ["expired 0"]);
        for _ in 0..3 {
            keyspace::sweep(&mut tx, 4).expect("it works");
            check_counters(&tx);
        }
        let (head, records) = dump(&tx);
        assert!(head.garbage.is_empty() && records.is_empty());
    });
}

/// Walks through all pages; before each, `between` may change the state.
fn scan_pages(store: &Store, filter: &scan::Filter, mut between: impl FnMut(&mut Txn, usize)) -> Vec<Bytes> {
    let (mut seen, mut cursor) = (Vec::new(), 0);
    for round in 0.. {
        between(&mut begin(store, 1), round);
        // Now as a read, and now as every node sees it in a transaction: without the node's memory.
        let page = if round % 2 == 0 {
            scan::page(&store.view(1), 0, cursor, filter, 7)
        } else {
            scan::page(&begin(store, 1), 0, cursor, filter, 7)
        };
        let page = page.expect("it works");
        seen.extend(page.keys);
        cursor = page.cursor;
        if cursor == 0 {
            break;
        }
        assert!(cursor < 1 << 48);
    }
    seen
}

#[test]
fn a_scan_returns_what_is_there_throughout() {
    with_store(|store| {
        let mut tx = begin(store, 1);
        let mut staying: BTreeSet<Bytes> = BTreeSet::new();
        for number in 0..100 {
            put(&mut tx, &format!("stays:{number}"), Expiry::None);
            staying.insert(format!("stays:{number}").into());
            put(&mut tx, &format!("goes:{number}"), Expiry::None);
        }
        drop(tx);
        let mut chance = Chance::new(3);
        let seen = scan_pages(store, &scan::Filter::default(), |tx, _| {
            let key = format!("goes:{}", chance.below(100));
            keyspace::delete(tx, 0, key.as_bytes()).expect("it works");
            put(tx, &format!("new:{}", chance.below(100)), Expiry::None);
        });
        assert!(seen.iter().cloned().collect::<BTreeSet<_>>().is_superset(&staying));
    });
}

#[test]
fn a_scan_goes_on_behind_a_removed_key() {
    with_store(|store| {
        let mut tx = begin(store, 1);
        (10..60).for_each(|number| put(&mut tx, &number.to_string(), Expiry::None));
        drop(tx);
        let first = scan::page(&store.view(1), 0, 0, &scan::Filter::default(), 7).expect("it works");
        let last = first.keys.last().expect("seven keys").clone();
        keyspace::delete(&mut begin(store, 1), 0, &last).expect("it works");
        let next =
            scan::page(&store.view(1), 0, first.cursor, &scan::Filter::default(), 7).expect("it works");
        assert_eq!(next.keys[0], "17", "this node remembers the place");
        let again =
            scan::page(&begin(store, 1), 0, first.cursor, &scan::Filter::default(), 7).expect("it works");
        assert_eq!(again.keys[0], "10", "a node that does not starts again");
    });
}

#[test]
fn a_scan_of_a_pattern_stays_within_its_beginning() {
    with_store(|store| {
        let mut tx = begin(store, 1);
        let long = "k".repeat(700);
        for key in ["a", "j", "k1", "k2", "k\u{ff}", "l", &long] {
            put(&mut tx, key, Expiry::None);
        }
        put(&mut tx, "kgone", Expiry::At(1));
        drop(tx);
        let list = |pattern: &str| {
            let filter = scan::Filter { pattern: Some(pattern.to_owned().into()), kind: None };
            let all = scan::all(&store.view(1), 0, &filter).expect("it works");
            let paged: BTreeSet<Bytes> = scan_pages(store, &filter, |_, _| {}).into_iter().collect();
            assert_eq!(all.iter().cloned().collect::<BTreeSet<_>>(), paged);
            all
        };
        assert_eq!(list("k?"), ["k1", "k2"]);
        assert_eq!(list("k*"), ["k1", "k2", &long, "k\u{ff}"]);
        assert_eq!(list(&long), [&long]);
        assert_eq!(list("*").len(), 7);
        assert!(list("m*").is_empty());
    });
}

#[test]
fn every_key_comes_up_at_random() {
    with_store(|store| {
        let mut chance = Chance::new(5);
        assert_eq!(random::key(&store.view(1), 0, &mut chance).expect("it works"), None);
        let mut tx = begin(store, 1);
        let keys = ["", "a", "ab", "abc", "b", "\u{ff}", &"k".repeat(600), &"k".repeat(601)];
        keys.iter().for_each(|key| put(&mut tx, key, Expiry::None));
        put(&mut tx, "gone", Expiry::At(1));
        drop(tx);
        let mut seen = BTreeSet::new();
        for _ in 0..500 {
            seen.insert(
                random::key(&store.view(1), 0, &mut chance).expect("it works").expect("there are keys"),
            );
        }
        // Of the two that agree in their first bytes only one stands for both.
        assert_eq!(seen.len(), keys.len() - 1);
        assert!(!seen.contains(&b"gone"[..]));
        let mut tx = begin(store, 1);
        keyspace::flush(&mut tx, 0);
        put(&mut tx, "gone", Expiry::At(1));
        assert_eq!(random::key(&tx, 0, &mut chance).expect("it works"), None);
    });
}
