//! Random histories, against a plain sorted map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::store::key::Key;

const TABLES: [Table; 3] = [Table::Keys, Table::Expiry, Table::Elements];

#[derive(Clone, Debug)]
enum Step {
    Put(usize, Vec<u8>, Vec<u8>),
    Delete(usize, Vec<u8>),
    Freeze,
    Work,
    Scan(usize, Vec<u8>, Option<Vec<u8>>),
    Snapshot,
    Install,
    Reopen,
}

/// Few different keys, so that steps meet; of all lengths that differ inside.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![4 => 0..4_usize, 2 => 25..35_usize, 1 => 490..515_usize];
    (len, 0..3_u8, 0..3_u8).prop_map(|(len, first, last)| {
        let mut key = vec![first; len];
        if let Some(byte) = key.last_mut() {
            *byte = last;
        }
        key
    })
}

fn step() -> impl Strategy<Value = Step> {
    let table = 0..TABLES.len();
    let value = prop::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        20 => (table.clone(), key(), value).prop_map(|(table, key, value)| Step::Put(table, key, value)),
        10 => (table.clone(), key()).prop_map(|(table, key)| Step::Delete(table, key)),
        4 => Just(Step::Freeze),
        4 => Just(Step::Work),
        6 => (table, key(), prop::option::of(key())).prop_map(|(table, from, end)| Step::Scan(table, from, end)),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Install),
        1 => Just(Step::Reopen),
    ]
}

/// What a state should be: keys in the store's order.
#[derive(Clone, Default, PartialEq)]
struct Model {
    records: BTreeMap<(Table, Key), (Vec<u8>, Vec<u8>)>,
    revision: u64,
}

impl Model {
    fn table(&self, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.records.iter().filter(|((t, _), _)| *t == table).map(|(_, record)| record.clone()).collect()
    }

    fn stamp(&self) -> Bytes {
        self.revision.to_string().into()
    }
}

/// The store and what it should be now, in the buffer being written, and on disk.
struct Run {
    world: World,
    /// `None` only between two openings.
    store: Option<Arc<Store>>,
    now: Model,
    frozen: Option<Model>,
    durable: Option<Model>,
    snapshot: Option<Model>,
}

impl Run {
    fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }

    /// Each step is an entry, even if it changes nothing else.
    fn step(&mut self, step: Step) {
        self.now.revision += 1;
        self.store().txn(0, 0).head_mut().revision = self.now.revision;
        match step {
            Step::Put(table, key, value) => {
                self.store().txn(0, 0).put(TABLES[table], &key, value.clone());
                self.now.records.insert((TABLES[table], Key::new(TABLES[table], &key)), (key, value));
            }
            Step::Delete(table, key) => {
                self.store().txn(0, 0).delete(TABLES[table], &key);
                self.now.records.remove(&(TABLES[table], Key::new(TABLES[table], &key)));
            }
            Step::Freeze => {
                let frozen = self.store().freeze(self.now.stamp());
                assert_eq!(frozen, self.frozen.is_none());
                if frozen {
                    self.frozen = Some(self.now.clone());
                }
            }
            Step::Work => {
                self.world.work();
                self.durable = self.frozen.take().or(self.durable.take());
            }
            Step::Scan(table, from, end) => {
                self.check_scan(TABLES[table], &from, end.as_deref());
            }
            Step::Snapshot => {
                let copied = self.store().snapshot_to(&self.world.path("copy"));
                assert_eq!(copied.is_ok(), self.durable.is_some());
                if let Ok(info) = copied {
                    self.snapshot.clone_from(&self.durable);
                    assert_eq!(Some(info.stamp), self.snapshot.as_ref().map(Model::stamp));
                }
            }
            Step::Install => {
                if let Some(snapshot) = self.snapshot.clone() {
                    let (head, stamp) = self.store().install(&self.world.path("copy")).unwrap();
                    assert_eq!((head.revision, stamp), (snapshot.revision, snapshot.stamp()));
                    self.now = snapshot.clone();
                    self.durable = Some(snapshot);
                    self.frozen = None;
                }
            }
            Step::Reopen => {
                self.store = None;
                self.world.restart(true);
                let (store, opened) = self.world.open();
                assert_eq!(opened.stamp, self.durable.as_ref().map(Model::stamp));
                self.store = Some(store);
                self.now = self.durable.clone().unwrap_or_default();
                self.frozen = None;
            }
        }
        self.check();
    }

    fn check(&self) {
        let view = self.store().view(0);
        assert_eq!(view.head().revision, self.now.revision);
        for table in TABLES {
            assert_eq!(all(&view, table), self.now.table(table));
        }
        for ((table, _), (key, value)) in &self.now.records {
            assert_eq!(view.get(*table, key).unwrap().as_deref(), Some(&value[..]));
        }
        assert_eq!(view.get(Table::Meta, b"never put").unwrap(), None);
    }

    fn check_scan(&self, table: Table, from: &[u8], end: Option<&[u8]>) {
        let (from_place, end_place) = (Key::new(table, from), end.map(|end| Key::new(table, end)));
        let expected = |after: bool| -> Vec<(Vec<u8>, Vec<u8>)> {
            let inside = |key: &Key| {
                (*key > from_place || (!after && *key == from_place))
                    && end_place.as_ref().is_none_or(|end| key < end)
            };
            let records = self.now.records.iter().filter(|((t, key), _)| *t == table && inside(key));
            records.map(|(_, record)| record.clone()).take(5).collect()
        };
        let view = self.store().view(0);
        let (mut from_on, mut after) = (Vec::new(), Vec::new());
        let five = |found: &mut Vec<_>, key: &[u8], value: &[u8]| {
            found.push((key.to_vec(), value.to_vec()));
            if found.len() == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        view.scan(table, from, end, &mut |key, value| five(&mut from_on, key, value)).unwrap();
        view.scan_after(table, from, end, &mut |key, value| five(&mut after, key, value)).unwrap();
        assert_eq!(from_on, expected(false));
        assert_eq!(after, expected(true));
    }
}

fn check(kind: Kind, steps: Vec<Step>) {
    let world = World::new(kind);
    let (store, _) = world.open();
    let now = Model::default();
    let mut run = Run { world, store: Some(store), now, frozen: None, durable: None, snapshot: None };
    for step in steps {
        run.step(step);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lmdb_is_a_sorted_map(steps in prop::collection::vec(step(), 0..120)) {
        check(Kind::Lmdb, steps);
    }

    #[test]
    fn the_map_is_a_sorted_map(steps in prop::collection::vec(step(), 0..120)) {
        check(Kind::Map, steps);
    }
}
