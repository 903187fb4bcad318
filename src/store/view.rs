//! Reading the state: buffers and database as one.

use std::cell::{Cell, OnceCell, RefCell};
use std::cmp::Ordering;
use std::iter::Peekable;
use std::ops::{Bound, ControlFlow, Deref};
use std::sync::{RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::engine::{Bounds, Reader};
use super::key::{self, Key, Located, ORDERED_BYTES};
use super::recent::Recent;
use super::value::{Change, Found};
use super::{Called, Chance, Head, Local, State, Table, Telling, lock};
use crate::error::StoreError;

/// The state at one moment, and the time of the cluster's clock at which it is read.
pub struct View<'a> {
    state: Guard<'a>,
    /// Opened by the first read that the buffers cannot answer.
    reader: OnceCell<Box<dyn Reader>>,
    now_ms: u64,
    late: Cell<bool>,
    misses: RefCell<Vec<(u8, Bytes)>>,
    work: Cell<u64>,
    read: Cell<bool>,
    /// Whether looking at a key is a use of it.
    uses: Cell<bool>,
    /// Whether this node is told what scripts call, and whether it wants the words.
    tells: Cell<bool>,
    monitored: bool,
    called: RefCell<Called>,
    luck: Luck<'a>,
}

/// What looking at a record costs beside its bytes, in bytes.
const RECORD_WORK: usize = 64;

/// Where a view's chance comes from.
enum Luck<'a> {
    /// This node's own, with what else it keeps for its readers.
    Local(&'a Local),
    /// The log entry's: the same on every node.
    Entry(RefCell<Chance>),
}

/// The lock under which the state is read. A [`super::Txn`] reads under the lock it writes under.
enum Guard<'a> {
    Shared(RwLockReadGuard<'a, State>),
    Exclusive(RwLockWriteGuard<'a, State>),
}

/// What a scan calls with each key and its value, until it says stop.
pub type Visit<'f> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'f;

impl<'a> View<'a> {
    pub(super) fn shared(state: RwLockReadGuard<'a, State>, now_ms: u64, local: &'a Local) -> Self {
        Self::new(Guard::Shared(state), now_ms, Luck::Local(local), local.is_monitored())
    }

    pub(super) fn exclusive(
        state: RwLockWriteGuard<'a, State>,
        now_ms: u64,
        chance: Chance,
        monitored: bool,
    ) -> Self {
        Self::new(Guard::Exclusive(state), now_ms, Luck::Entry(RefCell::new(chance)), monitored)
    }

    fn new(state: Guard<'a>, now_ms: u64, luck: Luck<'a>, monitored: bool) -> Self {
        let now_ms = now_ms.max(state.head.clock_ms);
        let (late, misses) = (Cell::new(false), RefCell::default());
        let (work, read) = (Cell::new(0), Cell::new(false));
        let tells = Cell::new(matches!(luck, Luck::Local(_)));
        let (reader, called) = (OnceCell::new(), RefCell::default());
        let uses = Cell::new(true);
        Self { state, reader, now_ms, late, misses, work, read, uses, tells, monitored, called, luck }
    }

    /// The cluster's clock, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now_ms
    }

    /// The numbers that describe the state as a whole.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.state.head
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// The database failed, or its value does not match its checksum.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.look(&self.locate(table, key, &[]), |value| Ok(value.to_bytes()))
    }

    /// Where the key that `first` and `rest` make is looked for.
    #[must_use]
    pub fn locate(&self, table: Table, first: &[u8], rest: &[u8]) -> Located {
        Located::new(&self.state.hasher, table, first, rest)
    }

    /// What `read` makes of the value of `key`.
    ///
    /// # Errors
    /// As [`View::get`], and those of `read`.
    pub fn look<T>(
        &self,
        key: &Located,
        read: impl FnOnce(Found<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let read = |change: Change<'_>| {
            self.add_work(RECORD_WORK + change.map_or(0, |packed| packed.len()));
            change.map(|packed| read(key::value_of(key, packed)?)).transpose()
        };
        if let Some(change) = self.state.buffered(key) {
            return read(change);
        }
        // Another view has it, now and then, and this one does without.
        let mut recent = self.state.recent.try_lock().ok();
        if let Some(change) = recent.as_ref().and_then(|recent| recent.get(key)) {
            return read(change);
        }
        let change = self.reader()?.get(key.stored().as_bytes())?.map(Found::here);
        // What a write looks at will be in a buffer.
        if let (Guard::Shared(_), Some(recent)) = (&self.state, &mut recent) {
            recent.keep(key, change);
        }
        read(change)
    }

    /// Has the processor fetch where the buffers have a key of this hash, which will be looked up. A look waits for memory
    /// twice, first for the slot and then for the value; several at once wait for theirs together.
    pub fn fetch_slot(&self, hash: u64) {
        self.state.fetch_slot(hash);
        self.state.uses.fetch(hash);
        self.recent_ahead(|recent| recent.fetch_slot(hash));
    }

    /// Has it fetch what they have there, once it has the slot.
    pub fn fetch_value(&self, hash: u64) {
        if !self.state.fetch_value(hash) {
            self.recent_ahead(|recent| recent.fetch_value(hash));
        }
    }

    /// Has `fetch` look into what reads keep. What writes look at is mostly in a buffer: they do not pay for the lock.
    fn recent_ahead(&self, fetch: impl FnOnce(&Recent)) {
        if let Guard::Shared(state) = &self.state
            && let Ok(recent) = state.recent.try_lock()
        {
            fetch(&recent);
        }
    }

    /// Calls `visit` with the keys of `table` from `from` on, in order, and their values, until `end`,
    /// which is not among them, or the table's end.
    ///
    /// Keys of more than 509 bytes have the place that their hash gives them among the keys that agree
    /// with them in the first 494 bytes; a bound of that length means its place in this order.
    ///
    /// # Errors
    /// The database failed, or a value does not match its checksum.
    pub fn scan(
        &self,
        table: Table,
        from: &[u8],
        end: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.scan_between(Bound::Included(&Key::new(table, from)), table, end, visit)
    }

    /// Like [`View::scan`], from the key that follows `after`: how a scan goes on where it stopped.
    ///
    /// # Errors
    /// As [`View::scan`].
    pub fn scan_after(
        &self,
        table: Table,
        after: &[u8],
        end: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.scan_between(Bound::Excluded(&Key::new(table, after)), table, end, visit)
    }

    /// Calls `visit` with the keys of `table` that begin with `prefix`, of any length, and their values.
    ///
    /// # Errors
    /// As [`View::scan`].
    pub fn scan_prefix(&self, table: Table, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        // What keys' places cannot tell apart, their texts do.
        let ordered = &prefix[..prefix.len().min(ORDERED_BYTES)];
        self.scan(table, ordered, None, &mut |key, value| {
            if key.starts_with(prefix) {
                visit(key, value)
            } else if key.starts_with(ordered) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
    }

    /// What this node keeps for its readers; nothing under a [`super::Txn`], which must find the same on
    /// every node.
    #[must_use]
    pub fn local(&self) -> Option<&'a Local> {
        match self.luck {
            Luck::Local(local) => Some(local),
            Luck::Entry(_) => None,
        }
    }

    /// Chance for a read. Under a [`super::Txn`] it is drawn from the entry's, and so the same on every node.
    #[must_use]
    pub fn chance(&self) -> Chance {
        Chance::new(match &self.luck {
            Luck::Local(local) => local.draw(),
            Luck::Entry(chance) => chance.borrow_mut().next_u64(),
        })
    }

    /// Says that a read met a key past its deadline which no applied entry has ended yet, so that what
    /// was read is not the answer. Whoever asked has the cluster's clock moved on and reads again.
    pub fn mark_late(&self) {
        self.late.set(true);
    }

    /// Whether [`View::mark_late`] was called.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.late.get()
    }

    /// Notes that a command that only reads has run, be it within a script.
    pub fn mark_read(&self) {
        self.read.set(true);
    }

    /// Whether one has since this was last asked.
    #[must_use]
    pub fn take_read(&self) -> bool {
        self.read.replace(false)
    }

    /// Notes that `key` is used.
    pub fn note_use(&self, key: &Located) {
        if self.uses.get() {
            self.state.uses.note(key.hash(), self.now_ms);
        }
    }

    /// Whether from here on [`View::note_use`] notes anything.
    pub fn set_noting_uses(&self, uses: bool) {
        self.uses.set(uses);
    }

    /// How many seconds ago `key` was last used on this node, at least; nothing under a [`super::Txn`], which must find
    /// the same on every node.
    #[must_use]
    pub fn idle_seconds(&self, key: &Located) -> Option<u64> {
        self.local().map(|_| self.state.uses.idle_seconds(key.hash(), self.now_ms))
    }

    /// Notes that a read looked for a key that is not there, for those who want to hear of it.
    pub fn note_miss(&self, db: u8, key: &[u8]) {
        self.misses.borrow_mut().push((db, Bytes::copy_from_slice(key)));
    }

    /// Databases and keys of the misses noted since this was last asked.
    #[must_use]
    pub fn take_misses(&self) -> Vec<(u8, Bytes)> {
        // Most often there is nothing, after every single command.
        if self.misses.borrow().is_empty() { Vec::new() } else { self.misses.take() }
    }

    /// Whether this node is to be told what scripts call from here on. A view's own reads always tell it.
    pub fn set_telling(&self, tells: bool) {
        self.tells.set(tells);
    }

    /// How much this node wants to be told of what scripts call.
    #[must_use]
    pub fn telling(&self) -> Telling {
        match (self.tells.get(), self.monitored) {
            (false, _) => Telling::Nothing,
            (true, false) => Telling::Figures,
            (true, true) => Telling::Words,
        }
    }

    /// Tells what a script has called.
    pub fn tell(&self, called: Called) {
        self.called.borrow_mut().add(called);
    }

    /// What scripts have called since this was last asked, if they have.
    #[must_use]
    pub fn take_called(&self) -> Option<Called> {
        let is_empty = self.called.borrow().is_empty();
        (!is_empty).then(|| self.called.take())
    }

    /// Counts work, in bytes looked at or copied. Records count by themselves.
    pub fn add_work(&self, bytes: usize) {
        self.work.set(self.work.get().saturating_add(bytes as u64));
    }

    /// The work so far: for those who bound it. It is the same on every node.
    #[must_use]
    pub fn work(&self) -> u64 {
        self.work.get()
    }

    fn scan_between(
        &self,
        from: Bound<&Key>,
        table: Table,
        end: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let end = end.map(|end| Key::new(table, end));
        let after_table = [table as u8 + 1];
        let end = end.as_ref().map_or(&after_table[..], Key::as_bytes);
        let asked_from = from.map(Key::as_bytes);
        let behind_gap = lock(&self.state.gaps).skip(asked_from);
        let from = behind_gap.as_ref().map_or(asked_from, |key| Bound::Included(key.as_bytes()));
        if let Bound::Included(from) | Bound::Excluded(from) = from
            && from >= end
        {
            return Ok(());
        }
        let mut records = self.overlaid(table, (from, Bound::Excluded(end)))?;
        let mut deleted = 0;
        let mut next = next_living(&mut records, &mut deleted)?;
        if deleted > 0 {
            lock(&self.state.gaps).note(asked_from, next.map_or(end, |(stored, _)| stored), deleted);
        }
        while let Some((stored, packed)) = next {
            self.add_work(RECORD_WORK + stored.len() + packed.len());
            let (_, key, value) = key::unpack(stored, packed)?;
            if visit(key, value).is_break() {
                break;
            }
            next = next_living(&mut records, &mut deleted)?;
        }
        Ok(())
    }

    /// What is stored within the bounds: the database's records under the buffers' changes.
    fn overlaid<'s>(
        &'s self,
        table: Table,
        bounds: Bounds<'_>,
    ) -> Result<impl Iterator<Item = Layered<'s>> + use<'s, 'a>, StoreError> {
        let records = self.reader()?.range(bounds)?;
        let records = records.map(|record| record.map(|(stored, packed)| (stored, Some(packed))));
        let frozen = self.state.frozen.as_ref().map(|frozen| frozen.layer.range(table as usize, bounds));
        let frozen = frozen.into_iter().flatten().map(Ok);
        let active = self.state.active.range(table as usize, bounds).map(Ok);
        Ok(Overlay::new(active, Overlay::new(frozen, records)))
    }

    fn reader(&self) -> Result<&dyn Reader, StoreError> {
        if let Some(reader) = self.reader.get() {
            return Ok(&**reader);
        }
        let idle = lock(&self.state.readers).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => self.state.engine.reader()?,
        };
        Ok(&**self.reader.get_or_init(|| reader))
    }

    pub(super) fn entry_chance(&mut self) -> &mut Chance {
        match &mut self.luck {
            Luck::Entry(chance) => chance.get_mut(),
            Luck::Local(_) => unreachable!("only a Txn asks, and its view has the entry's chance"),
        }
    }

    pub(super) fn state_mut(&mut self) -> &mut State {
        match &mut self.state {
            Guard::Exclusive(state) => state,
            Guard::Shared(_) => unreachable!("only a Txn writes, and its view holds the lock exclusively"),
        }
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            lock(&self.state.readers).push(reader);
        }
    }
}

impl Deref for Guard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        match self {
            Self::Shared(state) => state,
            Self::Exclusive(state) => state,
        }
    }
}

/// A stored key, and what is stored under it: `None` for a deletion.
type Layered<'a> = Result<(&'a [u8], Option<&'a [u8]>), StoreError>;

/// A stored key and what is stored under it.
type Living<'a> = (&'a [u8], &'a [u8]);

/// The next record that is not deleted; counts those that are.
fn next_living<'a>(
    records: &mut impl Iterator<Item = Layered<'a>>,
    deleted: &mut usize,
) -> Result<Option<Living<'a>>, StoreError> {
    for record in records {
        match record? {
            (stored, Some(packed)) => return Ok(Some((stored, packed))),
            (_, None) => *deleted += 1,
        }
    }
    Ok(None)
}

/// Two ordered sequences as one, in which the newer's entry for a key hides the older's.
struct Overlay<N: Iterator, O: Iterator> {
    newer: Peekable<N>,
    older: Peekable<O>,
}

impl<N: Iterator, O: Iterator> Overlay<N, O> {
    fn new(newer: N, older: O) -> Self {
        Self { newer: newer.peekable(), older: older.peekable() }
    }
}

impl<'a, N, O> Iterator for Overlay<N, O>
where
    N: Iterator<Item = Layered<'a>>,
    O: Iterator<Item = Layered<'a>>,
{
    type Item = Layered<'a>;

    fn next(&mut self) -> Option<Layered<'a>> {
        let order = match (self.newer.peek(), self.older.peek()) {
            (Some(Ok((newer, _))), Some(Ok((older, _)))) => newer.cmp(older),
            (Some(Err(_)), _) | (_, None) => Ordering::Less,
            (_, Some(Err(_))) | (None, _) => Ordering::Greater,
        };
        match order {
            Ordering::Less => self.newer.next(),
            Ordering::Greater => self.older.next(),
            Ordering::Equal => {
                self.older.next();
                self.newer.next()
            }
        }
    }
}
