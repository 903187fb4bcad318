//! The sixteen databases: where a key lives, and the few operations every command is made of.
//!
//! A key is stored under its database's *generation*, not under its number. FLUSHDB gives the database
//! a new generation and leaves the old one to [`sweep`], SWAPDB exchanges two: neither touches a key.
//!
//! A command finds a key's [`Place`] once, looks at what is there, and then puts, removes or changes
//! through it. So a write costs one read, and the counters, the expiry index, revisions and events
//! cannot be forgotten by a command.
//!
//! # Revisions
//! The first change of a command (or transaction, or script) takes the state's next revision; all its
//! other changes share it. While it runs its records already carry `head.revision + 1`; [`commit`] makes
//! that the state's revision if anything changed. A key's modification revision is therefore different
//! after any command that touched it, which is what WATCH asks: see [`watched`].
//!
//! What happens to keys whose time has come is told in [`super::expiry`].

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::record::{self, Form, Header, Kind, Record};
use super::{collection, expiry};
use crate::config::Events;
use crate::error::{Failure, StoreError, text};
use crate::store::{self, Author, Database, Event, Found, Located, Table, Touch, Txn, View};

/// How many databases there are.
pub const DATABASES: u8 = store::DATABASES as u8;

/// The class an event belongs to, by its letter in `notify-keyspace-events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    Generic = b'g',
    String = b'$',
    List = b'l',
    Set = b's',
    Hash = b'h',
    SortedSet = b'z',
    Stream = b't',
    Expired = b'x',
    /// A key came to be; not part of `A`.
    New = b'n',
    /// A key was read that is not there; not part of `A`.
    Miss = b'm',
}

/// What becomes of a key's deadline when its value is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It stays as it is.
    Keep,
    /// The key has none any more.
    None,
    /// The key ends at this time, in cluster milliseconds.
    At(u64),
}

/// A key's place in its database, and what was found there.
#[derive(Debug)]
pub struct Place<'k> {
    db: u8,
    key: &'k [u8],
    at: Located,
    found: Option<Record>,
    /// What was found has passed its deadline and only waits to be removed.
    gone: bool,
    /// The value of what was found was left unread.
    unread: bool,
}

impl<'k> Place<'k> {
    /// Looks a key up, which is then used.
    pub fn find(view: &View, db: u8, key: &'k [u8]) -> Result<Self, StoreError> {
        let place = Self::look(view, db, key)?;
        view.note_use(&place.at);
        Ok(place)
    }

    /// As [`Place::find`], for a command that puts another value there or removes the key, and does not ask what the value
    /// was: the place has no [`Place::record`].
    pub fn find_to_replace(view: &View, db: u8, key: &'k [u8]) -> Result<Self, StoreError> {
        let place = Self::look_by(view, db, key, Record::decode_unread)?;
        view.note_use(&place.at);
        Ok(Self { unread: true, ..place })
    }

    /// Looks a key up.
    pub(super) fn look(view: &View, db: u8, key: &'k [u8]) -> Result<Self, StoreError> {
        Self::look_by(view, db, key, Record::decode)
    }

    fn look_by(
        view: &View,
        db: u8,
        key: &'k [u8],
        decode: impl FnOnce(Found<'_>) -> Result<Record, StoreError>,
    ) -> Result<Self, StoreError> {
        let at = locate(view, db, key);
        let found = view.look(&at, decode)?;
        let gone = found.as_ref().is_some_and(|record| expiry::is_past(view, record.header.deadline));
        Ok(Self { db, key, at, found, gone, unread: false })
    }

    /// The living key's record.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        debug_assert!(!self.unread, "who replaces a value has not read it");
        self.found.as_ref().filter(|_| !self.gone)
    }

    /// Whether there is a living key.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.found.is_some() && !self.gone
    }

    /// Writes a value, over what is there.
    pub fn put(mut self, tx: &mut Txn, kind: Kind, form: Form, value: &[u8], expiry: Expiry) {
        self.bury(tx);
        let revision = change(tx);
        touch(tx, tx.effects.author, self.key);
        let old = self.found.as_ref().map(|record| record.header);
        let old_deadline = old.and_then(|header| header.deadline);
        let header = Header {
            kind,
            form,
            deadline: match expiry {
                Expiry::Keep => old_deadline,
                Expiry::None => None,
                Expiry::At(deadline) => Some(deadline),
            },
            created: old.map_or(revision, |header| header.created),
            modified: revision,
            version: old.map_or(1, |header| header.version + 1),
        };
        self.write(tx, &header, value);
    }

    /// Writes a copy of another key's record and of all its elements here, as a new key, over what is there.
    pub fn put_copy(self, tx: &mut Txn, of: &Record) -> Result<(), StoreError> {
        let value = collection::copy(tx, of)?;
        self.put_moved(tx, &Record { header: of.header, value });
        Ok(())
    }

    /// Writes the record of another key, which is [vacated](Self::vacate), here, as a new key, over what is there.
    pub fn put_moved(mut self, tx: &mut Txn, of: &Record) {
        self.bury(tx);
        if self.found.is_some() {
            self.discard(tx);
            self.erase(tx);
        }
        let revision = change(tx);
        touch(tx, tx.effects.author, self.key);
        let header = Header { created: revision, modified: revision, version: 1, ..of.header };
        self.write(tx, &header, &of.value);
    }

    /// Gives the living key a deadline, or none. Without a living key nothing happens.
    pub fn set_deadline(self, tx: &mut Txn, deadline: Option<u64>) {
        let Some(record) = self.record() else { return };
        let modified = change(tx);
        touch(tx, tx.effects.author, self.key);
        let header = Header { deadline, modified, version: record.header.version + 1, ..record.header };
        self.write(tx, &header, &record.value);
    }

    /// Removes the living key, and says whether there was one.
    pub fn remove(mut self, tx: &mut Txn) -> bool {
        if !self.exists() {
            return false;
        }
        change(tx);
        touch(tx, tx.effects.author, self.key);
        self.discard(tx);
        self.erase(tx);
        true
    }

    /// Removes the living key, whose value goes on under another name.
    pub fn vacate(mut self, tx: &mut Txn) {
        change(tx);
        touch(tx, tx.effects.author, self.key);
        self.erase(tx);
    }

    /// Removes the key if its deadline has passed, as expiry does. Says whether it had.
    pub(super) fn bury(&mut self, tx: &mut Txn) -> bool {
        let gone = std::mem::take(&mut self.gone);
        if gone {
            change(tx);
            self.discard(tx);
            self.erase(tx);
            tx.effects.expired += 1;
            touch(tx, None, self.key);
            notify(tx, Class::Expired, "expired", self.db, self.key);
        }
        gone
    }

    /// Stores a record in place of what was found, and keeps the counters and the expiry index right.
    fn write(&self, tx: &mut Txn, header: &Header, value: &[u8]) {
        if self.apart() != collection::apart_of(header.kind, value) {
            self.discard(tx);
        }
        let old = self.found.as_ref().and_then(|record| record.header.deadline);
        let new = header.deadline;
        tx.put_at(&self.at, [&header.encode(), value]);
        if old != new {
            if let Some(old) = old {
                tx.delete(Table::Expiry, &expiry::index_key(old, self.at.key()));
            }
            if let Some(new) = new {
                tx.put(Table::Expiry, &expiry::index_key(new, self.at.key()), []);
            }
        }
        let database = database_mut(tx, self.db);
        database.expiring = database.expiring + u64::from(new.is_some()) - u64::from(old.is_some());
        if self.found.is_none() {
            database.keys += 1;
            mark(tx, self.key);
            notify(tx, Class::New, "new", self.db, self.key);
        }
    }

    /// The number of the collection that was found, if it lies apart.
    fn apart(&self) -> Option<u64> {
        let found = self.found.as_ref()?;
        collection::apart_of(found.header.kind, &found.value)
    }

    /// Leaves the elements of what was found to [`sweep`].
    fn discard(&self, tx: &mut Txn) {
        tx.head_mut().garbage.extend(self.apart());
    }

    /// Removes the record of what was found.
    fn erase(&mut self, tx: &mut Txn) {
        let deadline = self.found.take().and_then(|record| record.header.deadline);
        tx.delete_at(&self.at);
        if let Some(deadline) = deadline {
            tx.delete(Table::Expiry, &expiry::index_key(deadline, self.at.key()));
        }
        let database = database_mut(tx, self.db);
        database.keys -= 1;
        database.expiring -= u64::from(deadline.is_some());
        mark(tx, self.key);
    }
}

/// The living key's record, for a read: a key that is not there is a miss, which counts and may be told.
pub fn get(view: &View, db: u8, key: &[u8]) -> Result<Option<Record>, StoreError> {
    looked_up(view, Place::find(view, db, key)?)
}

/// The same for a read that only asks about the key, which is no use of it.
pub fn peek(view: &View, db: u8, key: &[u8]) -> Result<Option<Record>, StoreError> {
    looked_up(view, Place::look(view, db, key)?)
}

/// How many seconds ago a key was last used on this node, at least; 0 in entries of the log, where nodes may not
/// differ.
#[must_use]
pub fn idle_seconds(view: &View, db: u8, key: &[u8]) -> u64 {
    view.idle_seconds(&locate(view, db, key)).unwrap_or(0)
}

fn looked_up(view: &View, place: Place) -> Result<Option<Record>, StoreError> {
    let Place { db, key, .. } = place;
    let found = if place.gone { None } else { place.found };
    if let Some(local) = view.local() {
        local.looked_up(found.is_some());
    }
    if found.is_none() && wants(view, Class::Miss) {
        view.note_miss(db, key);
    }
    Ok(found)
}

/// Commands that will run one after another, the next of which the processor fetches memory for meanwhile.
pub struct Ahead<C> {
    /// Each with the hash of the key that it will most likely look up first.
    commands: VecDeque<(C, Option<u64>)>,
}

/// The database, and the key in it, that a command most likely looks up first.
type FirstKey<C> = fn(&C) -> Option<(u8, &[u8])>;

impl<C> Default for Ahead<C> {
    fn default() -> Self {
        Self { commands: VecDeque::new() }
    }
}

impl<C> Ahead<C> {
    /// How many are read together, and their slots fetched: finding out where a slot is waits for memory, too, and several
    /// wait together.
    const BATCH: usize = 8;
    /// For how many the values are fetched: a processor has only so many requests to memory under way.
    const NEAR: usize = 3;

    /// The next of `commands`, which must go on where they were left off. What `key` answers decides nothing but what is
    /// fetched.
    ///
    /// # Errors
    /// Those of `commands`.
    pub fn next<E>(
        &mut self,
        view: &View,
        commands: &mut impl Iterator<Item = Result<C, E>>,
        key: FirstKey<C>,
    ) -> Result<Option<C>, E> {
        let waiting = self.commands.len();
        if waiting < Self::BATCH {
            for command in commands.by_ref().take(Self::BATCH) {
                let command = command?;
                let hash = key(&command).map(|(db, key)| locate(view, db, key).hash());
                self.commands.push_back((command, hash));
            }
            let hashes = |from| self.commands.range(from..).filter_map(|(_, hash)| *hash);
            hashes(waiting).for_each(|hash| view.fetch_slot(hash));
            if waiting == 0 {
                hashes(0).take(Self::NEAR).for_each(|hash| view.fetch_value(hash));
            }
        }
        let next = self.commands.pop_front();
        if let Some((_, Some(hash))) = self.commands.get(Self::NEAR - 1) {
            view.fetch_value(*hash);
        }
        Ok(next.map(|(command, _)| command))
    }
}

/// Whether there is such a key.
pub fn exists(view: &View, db: u8, key: &[u8]) -> Result<bool, StoreError> {
    Ok(peek(view, db, key)?.is_some())
}

/// A number that is another one whenever the key has changed, come or gone meanwhile, which is all WATCH asks.
/// For a key that is there it is the revision that changed it last, or gave it to this database by SWAPDB. For
/// one that is not, it is that at which a key of its name last came or went in any database; some other names count as the
/// same, so now and then it changes for nothing. So that none of them goes later whose time has come already, the view
/// is late while one is there.
pub fn watched(view: &View, db: u8, key: &[u8]) -> Result<u64, StoreError> {
    Ok(match peek(view, db, key)? {
        Some(record) => record.header.modified.max(database(view, db).swapped) << 1 | 1,
        None => {
            let _ = expiry::is_past(view, expiry::next_deadline(view)?);
            view.head().mark(key) << 1
        }
    })
}

/// How many keys a database holds, those included that are past their deadline and not yet removed.
#[must_use]
pub fn count(view: &View, db: u8) -> u64 {
    database(view, db).keys
}

/// Removes a key, with Redis' `del` event. Says whether there was one.
pub fn delete(tx: &mut Txn, db: u8, key: &[u8]) -> Result<bool, StoreError> {
    let removed = Place::find_to_replace(tx, db, key)?.remove(tx);
    if removed {
        notify(tx, Class::Generic, "del", db, key);
    }
    Ok(removed)
}

/// Gives a key another name, over any key of that name.
///
/// # Errors
/// "no such key".
pub fn rename(tx: &mut Txn, db: u8, from: &[u8], to: &[u8]) -> Result<(), Failure> {
    let source = Place::find(tx, db, from)?;
    let record = source.record().ok_or(text::NO_SUCH_KEY)?.clone();
    if from == to {
        return Ok(());
    }
    Place::find(tx, db, to)?.put_moved(tx, &record);
    source.vacate(tx);
    notify(tx, Class::Generic, "rename_from", db, from);
    notify(tx, Class::Generic, "rename_to", db, to);
    Ok(())
}

/// Empties a database. Costs the same whatever it held: the keys are left to [`sweep`].
pub fn flush(tx: &mut Txn, db: u8) {
    touch_all(tx);
    // A revision even if there is nothing to remove: it tells what was read before from what is read after.
    change(tx);
    if database(tx, db).keys == 0 {
        return;
    }
    let head = tx.head_mut();
    let generation = head.next_id;
    head.next_id += 1;
    let old = std::mem::replace(
        &mut head.databases[usize::from(db)],
        Database { generation, ..Database::default() },
    );
    head.garbage.push(old.generation);
}

/// Exchanges two databases.
pub fn swap(tx: &mut Txn, one: u8, other: u8) {
    if one != other {
        touch_all(tx);
        tx.effects.brought_any = true;
        let revision = change(tx);
        let databases = &mut tx.head_mut().databases;
        databases.swap(usize::from(one), usize::from(other));
        databases[usize::from(one)].swapped = revision;
        databases[usize::from(other)].swapped = revision;
    }
}

/// Deletes up to `budget` keys and elements that nothing refers to any more: what a flush left behind, and the
/// elements of collections whose keys are gone. The machine calls this after every entry; what it deletes was gone
/// already, so it takes no revision and causes no event.
pub fn sweep(tx: &mut Txn, budget: usize) -> Result<(), StoreError> {
    let mut left = budget;
    while left > 0
        && let Some(&id) = tx.head().garbage.first()
    {
        let keys = sweep_keys(tx, id, left)?;
        let elements = collection::sweep(tx, id, left - keys)?;
        if keys + elements < left {
            tx.head_mut().garbage.remove(0);
        }
        // A number under which there was nothing costs a look, too.
        left = left.saturating_sub((keys + elements).max(1));
    }
    Ok(())
}

/// Deletes up to `budget` keys of a generation, and discards their collections. Says how many.
fn sweep_keys(tx: &mut Txn, generation: u64, budget: usize) -> Result<usize, StoreError> {
    let mut found = Vec::new();
    let mut corrupt = None;
    let (from, end) = bounds(generation);
    tx.scan(Table::Keys, &from, end.as_deref(), &mut |address, stored| {
        match record::split(stored) {
            Ok((header, value)) => {
                found.push((address.to_vec(), header.deadline, collection::apart_of(header.kind, value)))
            }
            Err(error) => corrupt = Some(error),
        }
        if found.len() < budget && corrupt.is_none() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    if let Some(error) = corrupt {
        return Err(error);
    }
    for (address, deadline, apart) in &found {
        tx.delete(Table::Keys, address);
        if let Some(deadline) = deadline {
            tx.delete(Table::Expiry, &expiry::index_key(*deadline, address));
        }
        tx.head_mut().garbage.extend(apart);
    }
    Ok(found.len())
}

/// Ends a command, transaction or script: if it changed anything, the revision its records carry
/// becomes the state's. Answers the state's revision.
pub fn commit(tx: &mut Txn) -> u64 {
    if std::mem::take(&mut tx.effects.changed) {
        tx.head_mut().revision += 1;
    }
    tx.head().revision
}

/// What happens to a key that then holds something which a blocking command may have waited for.
const BRINGING: [&str; 6] = ["lpush", "rpush", "linsert", "rename_to", "copy_to", "move_to"];

/// Reports what happened to a key, in Redis' words: to those who wait for it, and to the cluster's clients, if
/// they want to hear of it.
pub fn notify(tx: &mut Txn, class: Class, kind: &'static str, db: u8, key: &[u8]) {
    if BRINGING.contains(&kind) {
        tx.effects.brought.push((db, Bytes::copy_from_slice(key)));
    }
    if wants(tx, class) {
        let wanted = Events::from_bits(tx.head().notify);
        let (by_key, by_event) = (wanted.meets(BY_KEY), wanted.meets(BY_EVENT));
        tx.effects.events.push(Event::Key { kind, db, key: Bytes::copy_from_slice(key), by_key, by_event });
    }
}

/// Reports that a write, in its part that reads, found no key.
pub fn notify_miss(tx: &mut Txn, db: u8, key: &[u8]) {
    notify(tx, Class::Miss, "keymiss", db, key);
}

/// Reports what reads among an entry's commands looked for in vain.
pub fn notify_misses(tx: &mut Txn) {
    for (db, key) in tx.take_misses() {
        notify_miss(tx, db, &key);
    }
}

const BY_KEY: Events = Events::of(b'K');
const BY_EVENT: Events = Events::of(b'E');

/// Whether an event of this class is told to anybody.
fn wants(view: &View, class: Class) -> bool {
    let wanted = view.head().notify;
    wanted != 0 && {
        let wanted = Events::from_bits(wanted);
        wanted.meets(Events::of(class as u8)) && (wanted.meets(BY_KEY) || wanted.meets(BY_EVENT))
    }
}

/// Tells who keeps a copy of a key that it is no longer right.
fn touch(tx: &mut Txn, author: Option<Author>, key: &[u8]) {
    if let Some(touched) = &mut tx.effects.touched {
        touched.push(Touch::Key { key: Bytes::copy_from_slice(key), author });
    }
}

/// Tells all who keep copies to forget them.
fn touch_all(tx: &mut Txn) {
    if let Some(touched) = &mut tx.effects.touched
        && touched.last() != Some(&Touch::All)
    {
        touched.push(Touch::All);
    }
}

/// Notes that a key of this name comes or goes.
fn mark(tx: &mut Txn, key: &[u8]) {
    let head = tx.head_mut();
    let revision = head.revision + 1;
    head.set_mark(key, revision);
}

/// Notes that the running command changes something, and answers the revision its records carry.
fn change(tx: &mut Txn) -> u64 {
    tx.effects.changed = true;
    tx.head().revision + 1
}

pub(super) fn database(view: &View, db: u8) -> Database {
    view.head().databases[usize::from(db)]
}

fn database_mut<'t>(tx: &'t mut Txn, db: u8) -> &'t mut Database {
    &mut tx.head_mut().databases[usize::from(db)]
}

fn locate(view: &View, db: u8, key: &[u8]) -> Located {
    view.locate(Table::Keys, &database(view, db).generation.to_be_bytes(), key)
}

/// Where a key is stored: the database's generation, big-endian, and the key.
pub(super) fn address(generation: u64, key: &[u8]) -> Vec<u8> {
    let mut address = Vec::with_capacity(GENERATION_BYTES + key.len());
    address.extend_from_slice(&generation.to_be_bytes());
    address.extend_from_slice(key);
    address
}

pub(super) const GENERATION_BYTES: usize = 8;

/// The addresses of a generation: from the first, and the first after them.
pub(super) fn bounds(generation: u64) -> (Vec<u8>, Option<Vec<u8>>) {
    let end = generation.checked_add(1).map(|next| next.to_be_bytes().to_vec());
    (generation.to_be_bytes().to_vec(), end)
}
