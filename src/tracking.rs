//! Who keeps copies of keys, and how they hear that a copy is no longer right: client-side caching.
//!
//! A client that tracks is remembered with every key it reads, or with prefixes of keys (BCAST). Each node
//! remembers its own clients only, and learns of every change by applying it, in log order; so nothing about
//! caches is in the log, and every node can serve them.
//!
//! # Never to miss a change
//! A read remembers its key while it holds the state still, with the revision it saw. An entry that is told
//! of here later may be one that this read has seen already; then its revision is not above, and nothing is
//! sent. Reads that are part of a log entry (EXEC, scripts) have no such moment on their connection: their
//! keys are *held* before the entry is proposed and *released* once it is answered. A change in between is
//! sent, and does not end the registration, as nobody knows on which side of the change the answer is.
//!
//! A client must not hear that a key has changed before the answer that carries the older value: it
//! would keep that value for good. So what is sent from here goes behind the replies to all that the
//! connection is being served ([`Keeper::push_behind`]).
//!
//! Where changes may have passed unseen, all is forgotten and the clients are told so: when a snapshot
//! replaces the state, and when the leader changes, since a node without one hears nothing.
//!
//! # Memory
//! Keys are limited (`tracking-table-max-keys`); above, a key is forgotten and its clients are told that it has
//! changed. What waits for a client is limited by its outbox.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use bytes::{Bytes, BytesMut};

use crate::resp::{Protocol, Reply, encode};
use crate::store::{Author, Touch};

/// The channel on which a RESP2 client hears of another's keys.
const CHANNEL: &str = "__redis__:invalidate";
/// Keys remembered as long as nobody says otherwise.
const KEYS_MAX: usize = 1_000_000;

/// A connection that keeps copies, or hears of the changes for another.
pub trait Keeper: Send + Sync {
    /// The same for the connection's whole life, and used for no other.
    fn id(&self) -> u64;
    /// What the connection speaks now.
    fn protocol(&self) -> Protocol;
    /// Whether it subscribes to anything: only then it expects messages in RESP2.
    fn listens(&self) -> bool;
    /// Hands over an encoded frame to be sent behind the replies to all that the connection is being served,
    /// without blocking. Must not call [`Tracking`], which is locked meanwhile.
    fn push_behind(&self, frame: Bytes);
    /// The connection that it redirects to is gone.
    fn redirect_broke(&self);
}

/// The copies that this node's clients keep.
pub struct Tracking {
    state: Mutex<State>,
    /// Whether anybody tracks: what applies the log asks, so as not to gather changes for nobody.
    any: Arc<AtomicBool>,
}

struct State {
    clients: BTreeMap<u64, Tracked>,
    keys: BTreeMap<Bytes, BTreeMap<u64, Seen>>,
    /// How many pairs of key and client there are.
    items: usize,
    prefixes: BTreeMap<Bytes, BTreeSet<u64>>,
    keys_max: usize,
    /// The key forgotten last for want of room; the next in order is next.
    evicted: Bytes,
}

struct Tracked {
    keeper: Arc<dyn Keeper>,
    redirect: Option<Redirect>,
    noloop: bool,
    /// What it is remembered with: keys, or prefixes.
    keys: BTreeSet<Bytes>,
    prefixes: BTreeSet<Bytes>,
    /// Whether the entry that keys are held for has read anything: a script need not.
    has_read: bool,
}

/// To whom a client has its changes sent.
#[derive(Clone)]
pub struct Redirect {
    pub id: u64,
    pub keeper: Weak<dyn Keeper>,
}

/// Up to where a client has seen a key's changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Revision(u64),
    /// An answer is on its way; nobody knows. `known`: it had seen the key before, too.
    Held {
        known: bool,
    },
}

/// A client's way of tracking.
pub struct Options {
    pub redirect: Option<Redirect>,
    /// It does not hear of its own changes.
    pub noloop: bool,
    /// BCAST and its prefixes, or the keys that are read.
    pub prefixes: Option<Vec<Bytes>>,
}

/// Two prefixes of one client of which one begins with the other.
#[derive(Debug, PartialEq, Eq)]
pub enum Overlap {
    /// The new one, and one that the client has already.
    Existing(Bytes, Bytes),
    /// Two new ones.
    Provided(Bytes, Bytes),
}

/// How much is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub clients: usize,
    pub keys: usize,
    /// Pairs of key and client.
    pub items: usize,
    pub prefixes: usize,
}

impl Default for Tracking {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Tracking {
    /// Nobody tracks. `any` says from now on whether somebody does.
    #[must_use]
    pub fn new(any: Arc<AtomicBool>) -> Self {
        let state = State {
            clients: BTreeMap::new(),
            keys: BTreeMap::new(),
            items: 0,
            prefixes: BTreeMap::new(),
            keys_max: KEYS_MAX,
            evicted: Bytes::new(),
        };
        Self { state: Mutex::new(state), any }
    }

    /// A client begins to track, or changes how it does. What it is remembered with stays.
    ///
    /// # Errors
    /// If prefixes overlap; nothing is changed then.
    pub fn start(&self, keeper: Arc<dyn Keeper>, options: Options) -> Result<(), Overlap> {
        let id = keeper.id();
        let mut state = self.lock();
        if let Some(prefixes) = &options.prefixes {
            let none = BTreeSet::new();
            let existing = state.clients.get(&id).map_or(&none, |client| &client.prefixes);
            check_overlaps(existing, prefixes)?;
        }
        let client = state.clients.entry(id).or_insert_with(|| Tracked {
            keeper,
            redirect: None,
            noloop: false,
            keys: BTreeSet::new(),
            prefixes: BTreeSet::new(),
            has_read: false,
        });
        client.redirect = options.redirect;
        client.noloop = options.noloop;
        if let Some(mut prefixes) = options.prefixes {
            if prefixes.is_empty() {
                prefixes.push(Bytes::new());
            }
            client.prefixes.extend(prefixes.iter().cloned());
            for prefix in prefixes {
                state.prefixes.entry(prefix).or_default().insert(id);
            }
        }
        self.any.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// A client no longer tracks, or is gone.
    pub fn stop(&self, id: u64) {
        if !self.any.load(Ordering::SeqCst) {
            return;
        }
        let mut state = self.lock();
        let Some(client) = state.clients.remove(&id) else { return };
        for key in client.keys {
            state.forget(&key, id);
        }
        for prefix in client.prefixes {
            if let Some(ids) = state.prefixes.get_mut(&prefix) {
                ids.remove(&id);
                if ids.is_empty() {
                    state.prefixes.remove(&prefix);
                }
            }
        }
        self.any.store(!state.clients.is_empty(), Ordering::SeqCst);
    }

    /// A client has read these keys in a state of this revision, which is held still meanwhile.
    pub fn remember(&self, id: u64, keys: &[Bytes], revision: u64) {
        let mut state = self.lock();
        keys.iter().for_each(|key| state.remember(id, key, Seen::Revision(revision)));
    }

    /// A client may read these keys in a log entry.
    pub fn hold(&self, id: u64, keys: &[Bytes]) {
        let mut state = self.lock();
        keys.iter().for_each(|key| state.remember(id, key, Seen::Held { known: false }));
        if let Some(client) = state.clients.get_mut(&id) {
            client.has_read = false;
        }
    }

    /// These clients' commands in the entry just applied have read.
    pub fn have_read(&self, ids: impl Iterator<Item = u64>) {
        let mut ids = ids.peekable();
        if ids.peek().is_some() {
            let mut state = self.lock();
            ids.for_each(|id| {
                if let Some(client) = state.clients.get_mut(&id) {
                    client.has_read = true;
                }
            });
        }
    }

    /// The entry is answered. What it has not read is forgotten.
    pub fn release(&self, id: u64, keys: &[Bytes]) {
        let mut state = self.lock();
        let read = state.clients.get(&id).is_some_and(|client| client.has_read);
        for key in keys {
            let seen = state.keys.get_mut(key).and_then(|clients| clients.get_mut(&id));
            match seen {
                Some(Seen::Held { known: false }) if !read => state.forget(key, id),
                Some(seen) => *seen = Seen::Revision(0),
                None => {}
            }
        }
    }

    /// An entry has been applied, which left the state at this revision. `author` says which of the clients here
    /// a command comes from.
    pub fn touched(&self, touched: &[Touch], revision: u64, author: impl Fn(Author) -> Option<u64>) {
        if touched.is_empty() {
            return;
        }
        let mut state = self.lock();
        let mut batches: BTreeMap<Bytes, BTreeMap<Bytes, Option<u64>>> = BTreeMap::new();
        for touch in touched {
            match touch {
                Touch::All => state.forget_all(revision),
                Touch::Key { key, author: by } => {
                    let author = by.and_then(&author);
                    state.invalidate(key, revision, author);
                    for prefix in state.prefixes_of(key) {
                        batches.entry(prefix).or_default().insert(key.clone(), author);
                    }
                }
            }
        }
        for (prefix, keys) in batches {
            state.broadcast(&prefix, &keys);
        }
    }

    /// Changes may have passed unseen.
    pub fn flush(&self) {
        if self.any.load(Ordering::SeqCst) {
            self.lock().forget_all(u64::MAX);
        }
    }

    /// Limits how many keys are remembered; 0: no limit.
    pub fn limit(&self, keys_max: u64) {
        let mut state = self.lock();
        state.keys_max =
            if keys_max == 0 { usize::MAX } else { usize::try_from(keys_max).unwrap_or(usize::MAX) };
        state.evict();
    }

    /// A client's prefixes, sorted.
    #[must_use]
    pub fn prefixes(&self, id: u64) -> Vec<Bytes> {
        let state = self.lock();
        state.clients.get(&id).map(|client| client.prefixes.iter().cloned().collect()).unwrap_or_default()
    }

    /// How much is remembered.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let state = self.lock();
        Totals {
            clients: state.clients.len(),
            keys: state.keys.len(),
            items: state.items,
            prefixes: state.prefixes.len(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the table of copies")
    }
}

impl State {
    fn remember(&mut self, id: u64, key: &Bytes, seen: Seen) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if let Some(clients) = self.keys.get_mut(key) {
            let known = clients.get(&id).copied();
            let seen = match (known, seen) {
                // Another of its reads is still on its way.
                (Some(Seen::Held { .. }), _) | (Some(_), Seen::Held { .. }) => Seen::Held { known: true },
                (_, seen) => seen,
            };
            clients.insert(id, seen);
            if known.is_none() {
                let (key, _) = self.keys.get_key_value(key).expect("it was just found");
                client.keys.insert(key.clone());
                self.items += 1;
            }
            return;
        }
        // An argument is a slice of a read buffer.
        let key = Bytes::copy_from_slice(key);
        client.keys.insert(key.clone());
        self.keys.insert(key, BTreeMap::from([(id, seen)]));
        self.items += 1;
        self.evict();
    }

    /// Forgets that a client has a key.
    fn forget(&mut self, key: &Bytes, id: u64) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.keys.remove(key);
        }
        if let Some(clients) = self.keys.get_mut(key) {
            self.items -= usize::from(clients.remove(&id).is_some());
            if clients.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    /// Tells who has a key and has not seen this revision that it has changed.
    fn invalidate(&mut self, key: &Bytes, revision: u64, author: Option<u64>) {
        let Some(clients) = self.keys.get(key) else { return };
        let behind = |seen: &Seen| !matches!(seen, Seen::Revision(seen) if *seen >= revision);
        let stale = clients.iter().filter(|(_, seen)| behind(seen)).map(|(id, seen)| (*id, *seen));
        for (id, seen) in stale.collect::<Vec<_>>() {
            let client = &self.clients[&id];
            if !(client.noloop && author == Some(id)) {
                client.send(|| Reply::Array(vec![Reply::Bulk(key.clone())]));
            }
            if matches!(seen, Seen::Revision(_)) {
                self.forget(key, id);
            }
        }
    }

    /// Tells everybody to forget everything, and forgets it but for what was read at or after this revision.
    fn forget_all(&mut self, revision: u64) {
        for client in self.clients.values() {
            client.send(|| Reply::Nil);
        }
        let mut items = 0;
        for clients in self.keys.values_mut() {
            clients.retain(|_, seen| match seen {
                Seen::Revision(seen) => *seen >= revision,
                Seen::Held { .. } => true,
            });
            items += clients.len();
        }
        self.keys.retain(|_, clients| !clients.is_empty());
        self.items = items;
        for (id, client) in &mut self.clients {
            client.keys.retain(|key| self.keys.get(key).is_some_and(|clients| clients.contains_key(id)));
        }
    }

    /// The prefixes among those that somebody tracks.
    fn prefixes_of(&self, key: &Bytes) -> Vec<Bytes> {
        let longest = self.prefixes.keys().map(Bytes::len).max();
        let lengths = longest.map_or(0..0, |longest| 0..longest.min(key.len()) + 1);
        let prefixes = lengths.filter_map(|length| self.prefixes.get_key_value(&key[..length]));
        prefixes.map(|(prefix, _)| prefix.clone()).collect()
    }

    /// Tells who tracks a prefix of these keys, but nobody of what he did himself and does not want to hear.
    fn broadcast(&self, prefix: &Bytes, keys: &BTreeMap<Bytes, Option<u64>>) {
        for id in self.prefixes.get(prefix).into_iter().flatten() {
            let client = &self.clients[id];
            let others = keys.iter().filter(|(_, author)| !(client.noloop && **author == Some(*id)));
            let others = others.map(|(key, _)| Reply::Bulk(key.clone())).collect::<Vec<_>>();
            if !others.is_empty() {
                client.send(|| Reply::Array(others));
            }
        }
    }

    /// Forgets keys until there are no more than may be.
    fn evict(&mut self) {
        while self.keys.len() > self.keys_max {
            let from = (Bound::Excluded(&self.evicted), Bound::Unbounded);
            let next = self.keys.range::<Bytes, _>(from).next().or_else(|| self.keys.first_key_value());
            let Some((key, clients)) = next.map(|(key, clients)| (key.clone(), clients.clone())) else {
                return;
            };
            for id in clients.into_keys() {
                self.clients[&id].send(|| Reply::Array(vec![Reply::Bulk(key.clone())]));
                self.forget(&key, id);
            }
            self.evicted = key;
        }
    }
}

impl Tracked {
    /// Sends what is no longer right, as whoever is to hear it understands it; who cannot, hears nothing.
    fn send(&self, what: impl FnOnce() -> Reply) {
        let keeper = match &self.redirect {
            None => Arc::clone(&self.keeper),
            Some(redirect) => match redirect.keeper.upgrade() {
                Some(keeper) => keeper,
                None => {
                    self.keeper.redirect_broke();
                    if self.keeper.protocol() == Protocol::Resp3 {
                        let broken = Reply::text("tracking-redir-broken");
                        push(&*self.keeper, vec![broken, Reply::Int(redirect.id.cast_signed())]);
                    }
                    return;
                }
            },
        };
        match keeper.protocol() {
            Protocol::Resp3 => push(&*keeper, vec![Reply::text("invalidate"), what()]),
            Protocol::Resp2 if self.redirect.is_some() && keeper.listens() => {
                push(&*keeper, vec![Reply::text("message"), Reply::text(CHANNEL), what()]);
            }
            Protocol::Resp2 => {}
        }
    }
}

fn push(keeper: &dyn Keeper, frame: Vec<Reply>) {
    let mut bytes = BytesMut::new();
    encode(&Reply::Push(frame), keeper.protocol(), &mut bytes);
    keeper.push_behind(bytes.freeze());
}

fn check_overlaps(existing: &BTreeSet<Bytes>, provided: &[Bytes]) -> Result<(), Overlap> {
    let overlap = |one: &Bytes, other: &Bytes| one.starts_with(other) || other.starts_with(one);
    for (place, prefix) in provided.iter().enumerate() {
        if let Some(other) = existing.iter().find(|other| overlap(prefix, other)) {
            return Err(Overlap::Existing(prefix.clone(), other.clone()));
        }
        if let Some(other) = provided[place + 1..].iter().find(|other| overlap(prefix, other)) {
            return Err(Overlap::Provided(prefix.clone(), other.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
