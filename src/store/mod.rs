//! The replicated state: an ordered byte space in a few tables, kept by an embedded database behind a
//! write-back buffer.
//!
//! A durable commit of the database costs milliseconds for a hundred random keys, and the log has
//! already made every write durable. So the writes of an applied log entry go to an ordered buffer in
//! memory, and now and then one *checkpoint* writes a whole buffer, sorted and with all overwrites
//! gone, in one durable transaction, together with the [`Head`] and a stamp that says up to which log
//! entry it reaches. After a crash the database is exactly what one checkpoint wrote, and the log is
//! replayed from its stamp on.
//!
//! ```text
//!   put, delete ──► active ──freeze──► frozen ──checkpoint──► database
//!                      ▲                  ▲                      ▲
//!   get, scan ─────────┴─── else ─────────┴──────── else ────────┘
//! ```
//!
//! A read looks into the active buffer, the frozen one and the database, in this order, under one
//! shared lock; the writes of a log entry happen under the exclusive lock and so become visible
//! together. While a checkpoint commits, a reader of the database may see it before or after that
//! commit: with the same frozen buffer laid over it, both look the same. Only the switch that ends a
//! checkpoint needs the exclusive lock, for a moment. Gets, which would find the same in the database, go on to look into
//! the buffer that was written, until the next is frozen; and what they do find in the database they keep until the next
//! switch.
//!
//! Reading order: `key` (what a stored key is) and `value`, `layers` (a buffer) with its memory in `slab`, `view` and
//! `txn` (how the three are read as one, and written), `recent` (what reads keep), `gaps` (where scans need not look),
//! `engine` with its two implementations `lmdb` and `map`, `checkpoint`, then `snapshot`, `install` and `directory`.
//! `memory` and `prefetch` are asides of `layers` and `slab`.
//!
//! **Invariant:** nothing here decides by clock, chance or hash order what the state contains.
//!
//! # Why not one LMDB transaction a log entry
//!
//! It costs 4 ms for 128 random keys, against 0.2 ms for the log's own write of the same entry, and
//! writes every touched page of 4 KiB to the disk each time. Sorted checkpoints of a large buffer cost
//! a tenth of that CPU and almost none of those writes.

mod called;
mod chance;
mod checkpoint;
mod directory;
mod effects;
mod engine;
mod gaps;
mod hash;
mod head;
mod install;
mod key;
mod layers;
mod lmdb;
mod local;
mod map;
mod memory;
mod prefetch;
mod recent;
mod slab;
mod snapshot;
mod txn;
mod uses;
mod value;
mod view;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::FixedState;

use crate::env::{Env, Round, WorkerHandle};
use crate::error::StoreError;
use crate::mutants::{Mutant, planted};

use checkpoint::{Gauges, Observer};
use engine::{Engine, Mark, Reader};
use gaps::Gaps;
use layers::Layer;
use recent::Recent;
use uses::Uses;
use value::Change;

pub use called::{Called, Telling};
pub use chance::Chance;
pub use effects::{Author, Effects, Event, Shortage, Touch};
pub use hash::Pinned;
pub use head::{DATABASES, Database, Head};
pub use key::Located;
pub use local::Local;
#[cfg(any(test, feature = "fuzz"))]
pub use snapshot::file_of as snapshot_file_of;
pub use snapshot::{SnapshotInfo, verify as verify_snapshot};
pub use txn::Txn;
pub use value::Found;
pub use view::{View, Visit};

/// The parts of the ordered byte space. The number is the first byte of a stored key and of a
/// snapshot's record: never change one, never use one again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// A key's record.
    Keys = 1,
    /// (deadline, key), in the order in which keys end.
    Expiry = 2,
    /// (collection, element) of collections too large for their key's record.
    Elements = 3,
    /// What belongs to the state but to no key.
    Meta = 4,
}

/// The numbers of tables are below this.
const TABLES: usize = 5;

impl TryFrom<u8> for Table {
    type Error = StoreError;

    fn try_from(byte: u8) -> Result<Self, StoreError> {
        match byte {
            1 => Ok(Self::Keys),
            2 => Ok(Self::Expiry),
            3 => Ok(Self::Elements),
            4 => Ok(Self::Meta),
            _ => Err(StoreError::Corrupt(format!("there is no table {byte}"))),
        }
    }
}

/// What a store may be told.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A checkpoint is wanted when the active buffer holds this many bytes, and must have ended when it
    /// holds twice as many.
    pub buffer_bytes_max: usize,
    /// How much of what was read from the database is kept in memory, at most.
    pub cache_bytes_max: u64,
    /// Address space reserved for the database: the largest it can ever become. It costs nothing, so
    /// that the disk is always full first.
    pub map_bytes: usize,
    /// A checkpoint is wanted when the oldest write in the buffer may be this old; it bounds how much
    /// log a restart replays.
    pub checkpoint_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            buffer_bytes_max: 64 << 20,
            cache_bytes_max: 64 << 20,
            map_bytes: 1 << 40,
            checkpoint_interval: Duration::from_secs(5),
        }
    }
}

/// What was found when a store was opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The numbers of the last checkpoint, or of an empty state.
    pub head: Head,
    /// The last checkpoint's stamp; `None` when there has been none.
    pub stamp: Option<Bytes>,
}

/// Figures for INFO and /metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes in the active buffer, its own bookkeeping included.
    pub active_bytes: u64,
    /// Bytes in the buffer that is being written to the database.
    pub frozen_bytes: u64,
    /// Bytes in the buffer that was written last, which is kept to be read from.
    pub written_bytes: u64,
    /// Bytes of what was read from the database and is kept to be read again.
    pub cache_bytes: u64,
    /// The size of the database's file.
    pub database_bytes: u64,
    /// How much of that file is in use.
    pub used_bytes: u64,
    /// Checkpoints since the start.
    pub checkpoints: u64,
    /// Records that checkpoints have written since the start.
    pub checkpointed_records: u64,
    /// How long the last checkpoint took.
    pub last_checkpoint_micros: u64,
}

/// The state of one node.
pub struct Store {
    env: Env,
    dir: PathBuf,
    options: Options,
    state: RwLock<State>,
    /// Held while the database is written or replaced, so that there is one writer. It holds the number
    /// of the directory in use.
    writer: Mutex<u64>,
    /// What reads need no more: the worker gives it back, which takes a while.
    retired: Mutex<Option<Arc<Frozen>>>,
    /// The stamp of what is durable.
    durable: Mutex<Option<Bytes>>,
    observers: Mutex<Vec<Observer>>,
    gauges: Gauges,
    local: Local,
    worker: WorkerHandle,
}

/// What the lock protects.
struct State {
    /// The hash by which the buffers look for keys.
    hasher: FixedState,
    active: Layer,
    frozen: Option<Arc<Frozen>>,
    /// What the last checkpoint wrote. The database has it, too, but what was written lately is soon asked for again, and
    /// is found here in a fraction of the time.
    written: Option<Arc<Frozen>>,
    engine: Arc<dyn Engine>,
    /// Open read transactions that nobody uses just now. All of them see a state that is right under
    /// the present buffers: the switch at the end of a checkpoint throws them away.
    readers: Mutex<Vec<Box<dyn Reader>>>,
    /// What they found.
    recent: Mutex<Recent>,
    gaps: Mutex<Gaps>,
    uses: Uses,
    head: Head,
}

/// A buffer that no longer changes, and what a checkpoint of it says.
struct Frozen {
    layer: Layer,
    mark: Mark,
}

impl Store {
    /// Opens the state in `dir`, or creates an empty one, and removes what a crash left there.
    ///
    /// # Errors
    /// The directory cannot be used, or what is in it is not a state this version reads.
    pub fn open(env: &Env, dir: &Path, options: Options) -> Result<(Arc<Self>, Opened), StoreError> {
        let (number, engine) = directory::open(env, dir, &options)?;
        let mark = engine.reader()?.mark()?;
        let (head, stamp) = match mark {
            Some(mark) => (mark.head, Some(mark.stamp)),
            None => (Head::default(), None),
        };
        let store = Arc::new_cyclic(|store: &Weak<Self>| {
            let store = store.clone();
            // The worker must not keep the store alive: it lives as long as the store's handle on it.
            let worker = env.spawner.worker(
                "checkpoint",
                Box::new(move || match store.upgrade() {
                    Some(store) => store.checkpoint_round(),
                    None => Round::End,
                }),
            );
            Self {
                env: env.clone(),
                dir: dir.to_owned(),
                options,
                state: RwLock::new(State::new(engine, head.clone(), &options, env.rng.next_u64())),
                writer: Mutex::new(number),
                retired: Mutex::default(),
                durable: Mutex::new(stamp.clone()),
                observers: Mutex::default(),
                gauges: Gauges::new(env.clock.monotonic()),
                local: Local::new(env.rng.clone()),
                worker,
            }
        });
        Ok((store, Opened { head, stamp }))
    }

    /// The state as it is now, read at `now_ms` of the cluster's clock, or at the time the state has
    /// already reached if that is later. It stays as it is for as long
    /// as the view is held, because nothing can be applied meanwhile: hold it for one command, never
    /// across an await, and take no second one on the same thread.
    #[must_use]
    pub fn view(&self, now_ms: u64) -> View<'_> {
        View::shared(self.read(), now_ms, &self.local)
    }

    /// What this node keeps for its readers.
    #[must_use]
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// The state for the writes of one log entry, which become visible together when the transaction is
    /// dropped. `now_ms` and `seed` are the entry's; the clock does not go back whatever the entry says. For the one thread that applies entries.
    #[must_use]
    pub fn txn(&self, now_ms: u64, seed: u64) -> Txn<'_> {
        let now_ms = if planted(Mutant::LocalExpiry) { self.env.clock.wall_ms() } else { now_ms };
        let seed = if planted(Mutant::OwnChance) { self.env.rng.next_u64() } else { seed };
        Txn::new(self.write(), now_ms, seed, &self.gauges, &self.local)
    }

    /// Figures about buffers, database and checkpoints.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let (engine, cache_bytes) = {
            let state = self.read();
            (state.engine.clone(), lock(&state.recent).bytes())
        };
        let size = engine.size()?;
        Ok(StoreStats {
            active_bytes: self.gauges.active_bytes.load(Relaxed),
            frozen_bytes: self.gauges.frozen_bytes.load(Relaxed),
            written_bytes: self.gauges.written_bytes.load(Relaxed),
            cache_bytes,
            database_bytes: size.file_bytes,
            used_bytes: size.used_bytes,
            checkpoints: self.gauges.checkpoints.load(Relaxed),
            checkpointed_records: self.gauges.checkpointed_records.load(Relaxed),
            last_checkpoint_micros: self.gauges.last_checkpoint_micros.load(Relaxed),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("a thread that panics inside the state takes the process with it")
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect("a thread that panics inside the state takes the process with it")
    }
}

impl State {
    /// What a database holds whose mark has this head. Clients should not be able to choose keys of the same hash: that is
    /// what `chance` is for.
    fn new(engine: Arc<dyn Engine>, head: Head, options: &Options, chance: u64) -> Self {
        let hasher = FixedState::with_seed(chance);
        let recent = Mutex::new(Recent::new(hasher.clone(), options.cache_bytes_max));
        Self {
            active: Layer::new(hasher.clone()),
            hasher,
            frozen: None,
            written: None,
            engine,
            readers: Mutex::default(),
            recent,
            gaps: Mutex::default(),
            uses: Uses::new(head.clock_ms),
            head,
        }
    }

    /// The last change to `key` that is still in memory.
    fn buffered(&self, key: &Located) -> Option<Change<'_>> {
        self.active.get(key).or_else(|| self.older()?.get(key))
    }

    /// Has the processor fetch the slots that a key of this hash has in the buffers.
    fn fetch_slot(&self, hash: u64) {
        self.active.fetch_slot(hash);
        if let Some(older) = self.older() {
            older.fetch_slot(hash);
        }
    }

    /// Has the processor fetch the value that a key of this hash has in the buffers, and says whether one seems to be there.
    fn fetch_value(&self, hash: u64) -> bool {
        self.active.fetch_value(hash) || self.older().is_some_and(|older| older.fetch_value(hash))
    }

    /// The buffer before the active one, while it is in memory.
    fn older(&self) -> Option<&Layer> {
        Some(&self.frozen.as_ref().or(self.written.as_ref())?.layer)
    }
}

/// Locks a mutex that guards a value which is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What [`lock`] gives, where nobody else can hold it.
fn lock_mut<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().unwrap_or_else(PoisonError::into_inner)
}
