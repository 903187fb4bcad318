//! Writing the state: the writes of one log entry.

use std::ops::Deref;
use std::sync::RwLockWriteGuard;

use bytes::Bytes;

use super::checkpoint::Gauges;
use super::key::{self, Key};
use super::{Chance, Effects, Head, State, Table, View, lock_mut};

/// The writes of one log entry. Nobody sees them before it is dropped; then everybody sees all of them.
///
/// It reads as a [`View`] does, its own writes included.
pub struct Txn<'a> {
    view: View<'a>,
    gauges: &'a Gauges,
    /// What the entry causes beside its writes.
    pub effects: Effects,
}

impl<'a> Txn<'a> {
    pub(super) fn new(
        state: RwLockWriteGuard<'a, State>,
        now_ms: u64,
        seed: u64,
        gauges: &'a Gauges,
        has_copies: bool,
    ) -> Self {
        let view = View::exclusive(state, now_ms, Chance::new(seed));
        let effects = Effects { touched: has_copies.then(Vec::new), ..Effects::default() };
        Self { view, gauges, effects }
    }

    /// Sets the value of `key`. The store keeps `value` as it is: a slice of something larger keeps all
    /// of that in memory until the next checkpoint.
    pub fn put(&mut self, table: Table, key: &[u8], value: impl Into<Bytes>) {
        let stored = Key::new(table, key);
        let packed = key::pack(&stored, key, value.into());
        let state = self.view.state_mut();
        lock_mut(&mut state.gaps).put(&stored);
        state.active.set(stored, Some(packed));
    }

    /// Removes `key`, if it is there.
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.view.state_mut().active.set(Key::new(table, key), None);
    }

    /// The numbers that describe the state as a whole, to change.
    pub fn head_mut(&mut self) -> &mut Head {
        &mut self.view.state_mut().head
    }

    /// The entry's chance: the same numbers on every node.
    pub fn rng(&mut self) -> &mut Chance {
        self.view.entry_chance()
    }
}

impl<'a> Deref for Txn<'a> {
    type Target = View<'a>;

    fn deref(&self) -> &View<'a> {
        &self.view
    }
}

impl Drop for Txn<'_> {
    fn drop(&mut self) {
        self.gauges.applied(self.view.state_mut().active.bytes());
    }
}
