//! Going back to a point within an entry.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::world::{KINDS, World};
use super::{all, checkpoint, get, put};
use crate::store::{Chance, Event, Table};

#[test]
fn undone_writes_were_never_there() {
    for kind in KINDS {
        let world = World::new(kind);
        let (store, _) = world.open();
        put(&store, "durable", "one");
        checkpoint(&world, &store, "s");
        put(&store, "buffered", "one");
        let before = (all(&store.view(0), Table::Keys), store.view(0).head().clone());
        let changed = store.read().active.len();

        let mut txn = store.txn(5, 9);
        let head = txn.head().clone();
        txn.save();
        for round in 0..3u8 {
            txn.put(Table::Keys, b"new", vec![round]);
            txn.put(Table::Keys, b"durable", vec![round]);
            txn.delete(Table::Keys, b"buffered");
            txn.delete(Table::Keys, b"durable");
        }
        txn.head_mut().revision += 7;
        txn.effects.changed = true;
        txn.effects.events.push(Event::Message { channel: Bytes::new(), payload: Bytes::new() });
        let drawn = txn.rng().next_u64();
        assert_eq!(all(&txn, Table::Keys), [(b"new".to_vec(), vec![2])]);
        txn.undo();
        assert_eq!(all(&txn, Table::Keys), before.0);
        assert_eq!((txn.head(), txn.effects.changed, txn.effects.events.len()), (&head, false, 0));
        assert_eq!(txn.rng().next_u64(), drawn);
        drop(txn);

        assert_eq!(all(&store.view(0), Table::Keys), before.0);
        assert_eq!(store.read().active.len(), changed);
        checkpoint(&world, &store, "t");
        drop(store);
        assert_eq!(all(&world.open().0.view(0), Table::Keys), before.0);
    }
}

#[test]
fn kept_writes_stay() {
    for kind in KINDS {
        let (store, _) = World::new(kind).open();
        let mut txn = store.txn(0, 0);
        txn.put(Table::Keys, b"a", "one");
        txn.save();
        txn.put(Table::Keys, b"a", "two");
        txn.keep();
        txn.undo();
        drop(txn);
        assert_eq!(get(&store, "a").expect("it was put"), "two");
    }
}

#[test]
fn a_scan_finds_what_came_back() {
    for kind in KINDS {
        let world = World::new(kind);
        let (store, _) = world.open();
        for n in 10..40 {
            put(&store, &format!("k{n}"), "v");
        }
        checkpoint(&world, &store, "s");
        let mut txn = store.txn(0, 0);
        txn.save();
        for n in 10..39 {
            txn.delete(Table::Keys, format!("k{n}").as_bytes());
        }
        // Steps over what was deleted, and notes that there is nothing.
        txn.scan(Table::Keys, b"k", None, &mut |_, _| ControlFlow::Break(())).expect("the database works");
        txn.undo();
        assert_eq!(all(&txn, Table::Keys).len(), 30);
    }
}

#[test]
fn without_a_point_nothing_is_undone() {
    let (store, _) = World::new(KINDS[0]).open();
    let mut txn = store.txn(0, 4);
    txn.put(Table::Keys, b"a", "one");
    txn.undo();
    assert_eq!(all(&txn, Table::Keys).len(), 1);
    assert_eq!(txn.rng().next_u64(), Chance::new(4).next_u64());
}
