//! Hashes: against a model, small and large, and what becomes of their elements.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{begin, check_counters, dump, events, with_store};
use crate::store::{Chance, Store, Txn, View};
use crate::types::collection::INLINE_BYTES_MAX;
use crate::types::hash::{self, Change, Hash};
use crate::types::{Expiry, Place, encoding, keyspace, string};

type Model = BTreeMap<Bytes, BTreeMap<Bytes, Bytes>>;

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn set(tx: &mut Txn, key: &str, pairs: &[(Bytes, Bytes)]) {
    let key = text(key);
    let mut hash = Change::find(tx, 0, &key).expect("a hash");
    for (field, value) in pairs {
        hash.set(tx, field, value).expect("a disk that works");
    }
    hash.finish(tx);
    keyspace::commit(tx);
}

fn set_one(tx: &mut Txn, key: &str, field: &str, value: &str) {
    set(tx, key, &[(text(field), text(value))]);
}

fn numbered(fields: std::ops::Range<usize>) -> Vec<(Bytes, Bytes)> {
    fields.map(|number| (text(&format!("field:{number:06}")), text(&format!("value:{number}")))).collect()
}

fn get(view: &View, key: &str) -> Hash {
    hash::get(view, 0, &text(key)).expect("a hash")
}

fn is_large(view: &View, key: &str) -> bool {
    matches!(get(view, key), Hash::Large(_))
}

fn encoding_of(view: &View, key: &str) -> &'static str {
    encoding(&keyspace::get(view, 0, &text(key)).expect("a disk that works").expect("a key"))
}

/// Sweeps until there is nothing left to sweep, and says how many rounds it took.
fn sweep_all(tx: &mut Txn, budget: usize) -> usize {
    for round in 0.. {
        if tx.head().garbage.is_empty() {
            return round;
        }
        keyspace::sweep(tx, budget).expect("a disk that works");
    }
    unreachable!("the rounds do not end")
}

/// Does something to a hash of the model and to the one in the state, and compares what came of it.
fn step(tx: &mut Txn, model: &mut Model, chance: &mut Chance) {
    let key = text(&format!("h{}", chance.below(4)));
    // Short and long ones, so that hashes grow out of their records now and then.
    let field = text(&format!("{}{}", "f".repeat(chance.below(3) as usize * 300), chance.below(30)));
    let value = text(&"v".repeat([0, 3, 70, 400][chance.below(4) as usize]));
    match chance.below(12) {
        0 => {
            assert_eq!(keyspace::delete(tx, 0, &key).expect("it works"), model.remove(&key).is_some());
        }
        1 => {
            let to = text(&format!("h{}", chance.below(4)));
            let renamed = keyspace::rename(tx, 0, &key, &to).is_ok();
            assert_eq!(renamed, model.contains_key(&key));
            if let Some(hash) = model.remove(&key) {
                model.insert(to, hash);
            }
        }
        2 => {
            let to = text(&format!("h{}", chance.below(4)));
            let record = keyspace::get(tx, 0, &key).expect("it works");
            if let Some(record) = record.filter(|_| key != to) {
                Place::find(tx, 0, &to).expect("it works").put_copy(tx, &record).expect("it works");
                model.insert(to, model[&key].clone());
            }
        }
        3..=5 => {
            let mut change = Change::find(tx, 0, &key).expect("a hash");
            let removed = change.remove(tx, &field).expect("it works");
            let expected = model.get_mut(&key).is_some_and(|hash| hash.remove(&field).is_some());
            assert_eq!(removed, expected);
            if removed {
                let stays = change.finish(tx);
                assert_eq!(stays, !model[&key].is_empty());
                model.retain(|_, hash| !hash.is_empty());
            }
        }
        _ => {
            let mut change = Change::find(tx, 0, &key).expect("a hash");
            let is_new = change.set(tx, &field, &value).expect("it works");
            assert!(change.finish(tx));
            assert_eq!(is_new, model.entry(key).or_default().insert(field, value).is_none());
        }
    }
    keyspace::commit(tx);
}

fn compare(view: &View, model: &Model) {
    for number in 0..4 {
        let key = text(&format!("h{number}"));
        let hash = hash::get(view, 0, &key).expect("a hash");
        let expected = model.get(&key).cloned().unwrap_or_default();
        assert_eq!(hash.len(), expected.len() as u64);
        for (field, value) in &expected {
            assert_eq!(hash.get(view, field).expect("it works").as_ref(), Some(value));
        }
        let found: BTreeMap<Bytes, Bytes> = hash.pairs(view).expect("it works").into_iter().collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_hash_is_a_map() {
    let (mut small, mut large) = (0, 0);
    for seed in 0..6 {
        with_store(|store| {
            let (mut model, mut chance) = (Model::new(), Chance::new(seed));
            for round in 0..300 {
                let mut tx = begin(store, 1);
                step(&mut tx, &mut model, &mut chance);
                if round % 3 == 0 {
                    keyspace::sweep(&mut tx, 5).expect("it works");
                }
                if round % 10 == 0 {
                    compare(&tx, &model);
                    check_counters(&tx);
                }
                for key in model.keys() {
                    match hash::get(&tx, 0, key).expect("a hash") {
                        Hash::Small(_) => small += 1,
                        Hash::Large(_) => large += 1,
                    }
                }
            }
            let mut tx = begin(store, 1);
            keyspace::flush(&mut tx, 0);
            sweep_all(&mut tx, 50);
            assert!(dump(&tx).1.is_empty(), "nothing is left of what was deleted");
        });
    }
    assert!(small > 500 && large > 500, "{small} small, {large} large");
}

#[test]
fn a_hash_grows_out_of_its_record() {
    with_store(|store| {
        let mut tx = begin(store, 1);
        let pairs = [(text("b"), text("1")), (text("a"), text("2"))];
        set(&mut tx, "h", &pairs);
        assert_eq!(get(&tx, "h").pairs(&tx).expect("it works"), pairs, "in the order in which they came");
        let header = 2 * 4 + 1;
        let room = INLINE_BYTES_MAX - 3 * header - 1 - 1;
        set_one(&mut tx, "h", "c", &"v".repeat(room));
        assert!(!is_large(&tx, "h"));
        set_one(&mut tx, "h", "c", &"v".repeat(room + 1));
        assert!(is_large(&tx, "h"));
        let fields = get(&tx, "h").pairs(&tx).expect("it works").into_iter().map(|(field, _)| field);
        assert_eq!(fields.collect::<Vec<_>>(), ["a", "b", "c"], "in the order of their bytes");
        set_one(&mut tx, "h", "c", "");
        assert!(is_large(&tx, "h"), "it does not go back");
        check_counters(&tx);
    });
}

#[test]
fn encodings_are_those_of_redis() {
    with_store(|store| {
        let mut tx = begin(store, 1);
        set_one(&mut tx, "h", &"f".repeat(64), &"v".repeat(64));
        assert_eq!(encoding_of(&tx, "h"), "listpack");
        set_one(&mut tx, "h", "f", &"v".repeat(65));
        assert_eq!(encoding_of(&tx, "h"), "hashtable");
        set_one(&mut tx, "h", "f", "v");
        assert_eq!(encoding_of(&tx, "h"), "hashtable", "it does not go back");
        set(&mut tx, "many", &numbered(0..512));
        assert_eq!(encoding_of(&tx, "many"), "listpack");
        set_one(&mut tx, "many", "f", "v");
        assert_eq!(encoding_of(&tx, "many"), "hashtable");
        keyspace::rename(&mut tx, 0, &text("many"), &text("h")).expect("it exists");
        assert_eq!(encoding_of(&tx, "h"), "hashtable");
    });
}

#[test]
fn what_becomes_of_a_key_touches_no_element() {
    with_store(|store| {
        let end = |tx: &mut Txn, name: &str| match name {
            "deleted" => assert!(keyspace::delete(tx, 0, &text("h")).expect("it works")),
            "overwritten" => string::put(tx, 0, &text("h"), b"v", Expiry::None).expect("it works"),
            "renamed over" => keyspace::rename(tx, 0, &text("other"), &text("h")).expect("it exists"),
            "emptied" => {
                let key = text("h");
                let mut change = Change::find(tx, 0, &key).expect("a hash");
                for (field, _) in numbered(0..1_000) {
                    assert!(change.remove(tx, &field).expect("it works"));
                }
                assert!(!change.finish(tx));
            }
            "flushed" => keyspace::flush(tx, 0),
            "expired" => {
                Place::find(tx, 0, &text("h")).expect("it works").set_deadline(tx, Some(1));
                assert_eq!(super::expiry::expire_due(tx, 9).expect("it works"), 1);
            }
            _ => unreachable!("it is one of these"),
        };
        for name in ["deleted", "overwritten", "renamed over", "emptied", "flushed", "expired"] {
            let mut tx = begin(store, 1);
            set(&mut tx, "h", &numbered(0..1_000));
            set_one(&mut tx, "other", "f", "v");
            drop(tx);
            let before = store.stats().expect("it works").active_bytes;
            let mut tx = begin(store, 1);
            end(&mut tx, name);
            check_counters(&tx);
            drop(tx);
            let growth = store.stats().expect("it works").active_bytes.saturating_sub(before);
            assert!(growth < 1_000, "{name}: {growth} bytes were written");
            let mut tx = begin(store, 1);
            assert!(
                sweep_all(&mut tx, 100) >= usize::from(name != "emptied") * 10,
                "{name}: in bounded steps"
            );
            keyspace::flush(&mut tx, 0);
            sweep_all(&mut tx, 100);
            assert!(dump(&tx).1.is_empty(), "{name}");
        }
    });
}

#[test]
fn a_renamed_hash_keeps_its_elements_and_a_copy_has_its_own() {
    with_store(|store| {
        let mut tx = begin(store, 1);
        set(&mut tx, "h", &numbered(0..2_500));
        keyspace::rename(&mut tx, 0, &text("h"), &text("renamed")).expect("it exists");
        assert!(tx.head().garbage.is_empty());
        let record = keyspace::get(&tx, 0, &text("renamed")).expect("it works").expect("it exists");
        Place::find(&tx, 0, &text("copy")).expect("it works").put_copy(&mut tx, &record).expect("it works");
        check_counters(&tx);
        assert_eq!(get(&tx, "copy").pairs(&tx).expect("it works"), numbered(0..2_500));
        set_one(&mut tx, "copy", "new", "v");
        keyspace::delete(&mut tx, 0, &text("renamed")).expect("it works");
        sweep_all(&mut tx, 1_000);
        assert_eq!(get(&tx, "copy").len(), 2_501);
        check_counters(&tx);
    });
}

#[test]
fn a_gone_hash_is_swept_with_the_database_it_was_in() {
    with_store(|store| {
        let mut tx = begin(store, 1);
        set(&mut tx, "h", &numbered(0..100));
        Place::find(&tx, 0, &text("h")).expect("it works").set_deadline(&mut tx, Some(5));
        keyspace::flush(&mut tx, 0);
        events(&mut tx);
        drop(tx);
        let mut tx = begin(store, 5);
        super::expiry::expire_due(&mut tx, 10).expect("it works");
        assert!(events(&mut tx).is_empty(), "it was flushed before");
        sweep_all(&mut tx, 10);
        assert!(dump(&tx).1.is_empty());
    });
}

/// What setting one new field and one old one writes, in bytes.
fn cost(store: &Store, key: &str) -> u64 {
    let before = store.stats().expect("it works").active_bytes;
    let mut tx = begin(store, 1);
    set_one(&mut tx, key, "new", "v");
    set_one(&mut tx, key, "field:000500", "VALUE:500");
    drop(tx);
    store.stats().expect("it works").active_bytes - before
}

#[test]
fn a_field_costs_the_same_in_a_hash_of_any_size() {
    with_store(|store| {
        set(&mut begin(store, 1), "a", &numbered(0..1_000));
        set(&mut begin(store, 1), "b", &numbered(0..200_000));
        assert_eq!(cost(store, "a"), cost(store, "b"));
    });
}

#[test]
fn a_scan_of_a_large_hash_returns_what_is_there_throughout() {
    with_store(|store| {
        set(&mut begin(store, 1), "h", &numbered(0..500));
        let (mut seen, mut cursor) = (BTreeSet::new(), 0);
        let mut chance = Chance::new(3);
        for round in 0.. {
            let mut tx = begin(store, 1);
            let key = text("h");
            let mut change = Change::find(&tx, 0, &key).expect("a hash");
            let goes = text(&format!("field:{:06}", 1 + 2 * chance.below(250)));
            change.remove(&mut tx, &goes).expect("it works");
            change.set(&mut tx, &text(&format!("new:{round}")), &text("v")).expect("it works");
            change.finish(&mut tx);
            // Now as every node sees it in a transaction: without the node's memory.
            let page = if round % 2 == 1 {
                get(&tx, "h").page(&tx, cursor, 7, None)
            } else {
                drop(tx);
                let view = store.view(1);
                get(&view, "h").page(&view, cursor, 7, None)
            };
            let page = page.expect("it works");
            seen.extend(page.pairs.into_iter().map(|(field, _)| field));
            cursor = page.cursor;
            if cursor == 0 {
                break;
            }
        }
        for number in (0..500).step_by(2) {
            assert!(seen.contains(&text(&format!("field:{number:06}"))), "{number}");
        }
    });
}

#[test]
fn chance_reaches_every_field() {
    with_store(|store| {
        set(&mut begin(store, 1), "small", &numbered(0..10));
        set(&mut begin(store, 1), "walked", &numbered(0..100));
        set(&mut begin(store, 1), "drawn", &numbered(0..3_500));
        let view = store.view(1);
        let mut chance = Chance::new(9);
        for (key, fields) in [("small", 10), ("walked", 100), ("drawn", 3_500)] {
            let hash = get(&view, key);
            let all: BTreeSet<_> = hash.pairs(&view).expect("it works").into_iter().collect();
            let repeated = hash.repeated(&view, fields * 20, &mut chance).expect("it works");
            assert_eq!(repeated.len() as u64, fields * 20);
            assert_eq!(BTreeSet::from_iter(repeated), all, "{key}");
            for count in [0, 1, 2, 3, fields / 2, fields - 1, fields, fields + 5, u64::MAX] {
                let distinct = hash.distinct(&view, count, &mut chance).expect("it works");
                assert_eq!(distinct.len() as u64, count.min(fields), "{key} {count}");
                let distinct: BTreeSet<_> = distinct.into_iter().collect();
                assert_eq!(distinct.len() as u64, count.min(fields), "{key} {count}");
                assert!(distinct.is_subset(&all));
            }
        }
    });
}

#[test]
fn different_ones_are_found_however_the_fields_are_named() {
    with_store(|store| {
        // Of such names the walk down their beginnings draws the first ones nearly always.
        let long = (1..20).map(|length| (text(&"a".repeat(length)), text("v")));
        let alike = (0..30_000).map(|number| (text(&format!("{}{number}", "a".repeat(150))), text("v")));
        set(&mut begin(store, 1), "h", &long.chain(alike).collect::<Vec<_>>());
        let view = store.view(1);
        let distinct = get(&view, "h").distinct(&view, 29, &mut Chance::new(1)).expect("it works");
        assert_eq!(distinct.into_iter().collect::<BTreeSet<_>>().len(), 29);
    });
}
