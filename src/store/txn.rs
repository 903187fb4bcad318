//! Writing the state: the writes of one log entry.
//!
//! A script is all or nothing, but it is only a part of its entry. [`Txn::save`] marks a point to which
//! [`Txn::undo`] goes back: from there on the first write of a key notes what it replaces in the buffer, and only while
//! somebody may want to go back.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Deref;
use std::sync::RwLockWriteGuard;

use bytes::Bytes;

use super::checkpoint::Gauges;
use super::key::{self, Key, Located};
use super::value::{Content, Found};
use super::{Chance, Effects, Head, Local, State, Table, View, lock_mut};

/// The writes of one log entry. Nobody sees them before it is dropped; then everybody sees all of them.
///
/// It reads as a [`View`] does, its own writes included.
pub struct Txn<'a> {
    view: View<'a>,
    gauges: &'a Gauges,
    /// What the entry causes beside its writes.
    pub effects: Effects,
    saved: Option<Saved>,
}

/// What a change counts beside its bytes, in bytes of [`View::add_work`].
const CHANGE_WORK: usize = 4_096;

/// How things were at a point to go back to.
struct Saved {
    /// What the buffer said of each key written since. Not of each write: what a value was between two of them, nobody
    /// goes back to, and a large one that grows would be kept as often as it grew.
    replaced: BTreeMap<Key, (Located, Option<Option<Bytes>>)>,
    head: Head,
    chance: Chance,
    events: usize,
    brought: usize,
    touched: Option<usize>,
    changed: bool,
    expired: u64,
}

impl<'a> Txn<'a> {
    pub(super) fn new(
        state: RwLockWriteGuard<'a, State>,
        now_ms: u64,
        seed: u64,
        gauges: &'a Gauges,
        local: &Local,
    ) -> Self {
        let view = View::exclusive(state, now_ms, Chance::new(seed), local.is_monitored());
        let effects = Effects { touched: local.has_copies().then(Vec::new), ..Effects::default() };
        Self { view, gauges, effects, saved: None }
    }

    /// Sets the value of `key`.
    pub fn put(&mut self, table: Table, key: &[u8], value: impl AsRef<[u8]>) {
        self.put_at(&self.locate(table, key, &[]), [value.as_ref(), &[]]);
    }

    /// Sets the value of `key`, to what the parts make one after the other.
    pub fn put_at(&mut self, key: &Located, parts: [&[u8]; 2]) {
        let packed = key::pack(key, parts);
        self.view.add_work(packed.len());
        lock_mut(&mut self.view.state_mut().gaps).put(key.stored());
        self.set(key, Some(packed));
    }

    /// Removes `key`, if it is there.
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.delete_at(&self.locate(table, key, &[]));
    }

    /// Removes `key`, if it is there.
    pub fn delete_at(&mut self, key: &Located) {
        self.set(key, None);
    }

    fn set(&mut self, key: &Located, content: Option<Content<'_>>) {
        self.view.add_work(CHANGE_WORK);
        let active = &mut self.view.state_mut().active;
        if let Some(saved) = &mut self.saved
            && let Entry::Vacant(replaced) = saved.replaced.entry(key.stored().clone())
        {
            let change = active.get(key).map(|change| change.map(Found::to_bytes));
            replaced.insert((key.clone(), change));
        }
        active.set(key, content);
    }

    /// Marks a point to which [`Txn::undo`] goes back, in place of any before it.
    pub fn save(&mut self) {
        let chance = self.rng().clone();
        self.saved = Some(Saved {
            replaced: BTreeMap::new(),
            head: self.head().clone(),
            chance,
            events: self.effects.events.len(),
            brought: self.effects.brought.len(),
            touched: self.effects.touched.as_ref().map(Vec::len),
            changed: self.effects.changed,
            expired: self.effects.expired,
        });
    }

    /// Forgets the point that was marked: what was written since stays.
    pub fn keep(&mut self) {
        self.saved = None;
    }

    /// Goes back to the point that was marked, and forgets it: writes, numbers, effects and chance are as they
    /// were.
    pub fn undo(&mut self) {
        let Some(saved) = self.saved.take() else { return };
        let state = self.view.state_mut();
        for (stored, (key, replaced)) in saved.replaced {
            // A scan may have noted that there is nothing where something now is again.
            lock_mut(&mut state.gaps).put(&stored);
            match replaced {
                Some(change) => state.active.set(&key, change.map(Content::Whole)),
                None => state.active.unset(&key),
            }
        }
        state.head = saved.head;
        *self.rng() = saved.chance;
        self.effects.events.truncate(saved.events);
        self.effects.brought.truncate(saved.brought);
        if let (Some(touched), Some(length)) = (&mut self.effects.touched, saved.touched) {
            touched.truncate(length);
        }
        self.effects.changed = saved.changed;
        self.effects.expired = saved.expired;
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
