//! The write-ahead log: what this node has promised the others, on disk.
//!
//! Votes, entries, truncations and purge marks go through **one ordered stream** to one writer, and whoever
//! asked is told after the sync, in that order. Raft's safety rests on that order: a vote that overtook an
//! entry, or an entry that was acknowledged before it was durable, can cost the cluster a write. Everything
//! here returns at once; the log can be read as if all of it were on disk already.
//!
//! Read in this order:
//!
//! * [`record`]: the bytes of one record, and what makes them one;
//! * [`segment`]: the files;
//! * [`view`]: what readers see;
//! * [`shared`]: what is queued, and what has failed;
//! * [`writer`]: group commit, rotation, failure;
//! * [`recovery`]: which damage is a crash's, and which refuses to start.
//!
//! **Invariants.** Nothing is reported durable before a sync that began after its write. A failed write or
//! sync is the end: it is never retried, and nothing is written after it. A record of a segment's former
//! life is never taken for a live one. Damage is never taken for the end of the log, except in the very
//! last batch when it was not sealed yet. Nothing here knows what a vote or an entry means.
//!
//! # Why not a database, and why not `O_DIRECT`
//!
//! A log needs no tree: an LMDB transaction for one entry costs three times this module's write and sync,
//! and for a thousand four times. A sync of preallocated blocks needs no journal commit, so the device is
//! the only cost left. `O_DIRECT` would save the page cache's copy, and the format allows it (a batch can
//! be written from the block that it begins in on), but the last block would then have to be kept and
//! written again with each batch, for a saving that shows only in large ones. Two batches share a block
//! now, too: like SQLite's `powersafe overwrite`, this relies on a device that does not lose bytes of a
//! sector which it is asked to overwrite with themselves.

mod record;
mod recovery;
mod segment;
mod shared;
mod view;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;

use crate::env::{Env, WorkerHandle};
use shared::{Shared, Step};
use view::Plan;
use writer::{Batch, Housekeeper, Jobs, Writer};

#[cfg(any(test, feature = "fuzz"))]
pub use record::fuzz;

/// The longest vote that can be saved.
pub const VOTE_BYTES_MAX: usize = 1024;
/// The longest entry body that can be appended.
pub const BODY_BYTES_MAX: usize = 1 << 30;
/// The bounds of [`Options::segment_bytes`].
pub const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 16 << 10..=1 << 30;

/// Where an entry stands, and the term of the leader that put it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    pub term: u64,
    pub index: u64,
}

/// What consensus has to know about an entry's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    Blank = 0,
    Normal = 1,
    Membership = 2,
}

impl EntryKind {
    /// The kind whose discriminant is `byte`.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Blank),
            1 => Some(Self::Normal),
            2 => Some(Self::Membership),
            _ => None,
        }
    }
}

/// An entry. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub id: LogId,
    pub kind: EntryKind,
    pub body: Bytes,
}

/// What a log adds up to, its entries aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// The last vote saved.
    pub vote: Option<Bytes>,
    /// The last committed id saved; may be older than what was really committed.
    pub committed: Option<LogId>,
    /// The last entry that was purged.
    pub purged: Option<LogId>,
    /// The last entry, or the last purged one if there is none after it.
    pub last: Option<LogId>,
}

impl LogState {
    fn truncate(&mut self, last: Option<LogId>) {
        self.last = last;
    }

    fn purge(&mut self, upto: LogId) {
        self.purged = Some(upto);
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = Some(upto);
        }
    }
}

fn index(id: Option<LogId>) -> Option<u64> {
    id.map(|id| id.index)
}

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// A directory of the log's own; made if need be.
    pub dir: PathBuf,
    /// The size of a segment file, within [`SEGMENT_BYTES`], made whole blocks. May differ from one start to the next.
    pub segment_bytes: u64,
    /// How much of the newest entries is kept in memory once they are on disk.
    pub cache_bytes_max: usize,
    /// How many purged segments are kept to be written again.
    pub recycle_max: usize,
}

impl Options {
    /// The usual sizes, in this directory.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), segment_bytes: 64 << 20, cache_bytes_max: 16 << 20, recycle_max: 8 }
    }
}

/// Whom the log tells what happens on its workers. Both are called there, and should be quick. They are
/// dropped when the workers have ended, which is when the directory may be opened again.
pub struct Hooks {
    /// Called once, on the first failed write or sync, before anybody waiting is told. The disk's state is
    /// unknown then, and the process should end.
    pub on_failure: Box<dyn Fn(io::Error) + Send + Sync>,
    /// Called after a sync, before anybody waiting is told, with what the log on disk adds up to.
    pub on_durable: Box<dyn Fn(&LogState) + Send + Sync>,
    /// Called after every sync.
    pub on_sync: Box<dyn Fn(&SyncStats) + Send + Sync>,
}

/// What one sync did.
#[derive(Clone, Copy, Debug)]
pub struct SyncStats {
    pub entries: u64,
    pub bytes: u64,
    /// How long handing the batch to the system took.
    pub write: Duration,
    /// How long the sync itself took.
    pub sync: Duration,
}

/// Totals since the log was opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub syncs: u64,
    pub entries: u64,
    pub bytes: u64,
    pub sync_micros: u64,
    pub sync_micros_last: u64,
}

/// Told once what was asked for is durable, or never will be. Called on the writer's thread.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What [`Wal::open`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub state: LogState,
    /// Bytes of a last batch that a crash kept from being written wholly. Nobody was told that they are durable.
    pub dropped_tail_bytes: u64,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot read the log: {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    /// Something is there that no crash leaves behind, or of a format this program does not read.
    #[error("cannot use the log: {}, offset {offset}: {reason}", path.display())]
    Corrupt { path: PathBuf, offset: u64, reason: String },
}

/// The log. A clone is another handle; when the last one goes the workers end, and what was not yet
/// reported durable may be lost.
#[derive(Clone)]
pub struct Wal(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    writer: WorkerHandle,
}

impl Wal {
    /// Opens the log in `options.dir`. Blocks while it reads the segments, or fills the first one.
    ///
    /// # Errors
    /// When the disk fails, or holds what no crash leaves behind.
    ///
    /// # Panics
    /// If `options.segment_bytes` is out of bounds.
    pub fn open(env: &Env, options: &Options, hooks: Hooks) -> Result<(Self, Recovered), OpenError> {
        assert!(SEGMENT_BYTES.contains(&options.segment_bytes), "segment size out of bounds");
        let segment_bytes = options.segment_bytes.next_multiple_of(segment::HEADER_BYTES);
        let options = &Options { segment_bytes, ..options.clone() };
        let recovery::Opened { view, position, files, dropped_tail_bytes } = recovery::open(env, options)?;
        let recovered = Recovered { state: position.state.clone(), dropped_tail_bytes };

        let shared = Arc::new(Shared::new(view, hooks));
        let files = Arc::new(Mutex::new(files));
        let (sender, jobs) = mpsc::channel();
        let mut housekeeper = Housekeeper { shared: Arc::clone(&shared), files: Arc::clone(&files), jobs };
        let worker = env.spawner.worker("wal-files", Box::new(move || housekeeper.round()));
        let mut writer = Writer {
            shared: Arc::clone(&shared),
            clock: Arc::clone(&env.clock),
            files,
            jobs: Jobs { sender, worker },
            segment_bytes: options.segment_bytes,
            position,
            batch: Batch::default(),
        };
        writer.start();
        let writer = env.spawner.worker("wal", Box::new(move || writer.round()));
        Ok((Self(Arc::new(Handle { shared, writer })), recovered))
    }

    /// Appends entries that follow the last one. They can be read at once. Without entries, `done` is told
    /// when everything asked for before is durable.
    ///
    /// # Panics
    /// If an index does not follow the one before, or a body is longer than [`BODY_BYTES_MAX`]. Writing
    /// such a log would lose entries later; its caller is broken.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) {
        self.queue(Step::Append(entries), Some(done));
    }

    /// Saves a vote, in order with everything else.
    ///
    /// # Panics
    /// If it is longer than [`VOTE_BYTES_MAX`].
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        assert!(vote.len() <= VOTE_BYTES_MAX, "a vote of {} bytes", vote.len());
        self.queue(Step::Vote(vote), Some(done));
    }

    /// Remembers what is committed. Costs nothing: it goes to disk with the next batch.
    pub fn save_committed(&self, id: Option<LogId>) {
        self.0.shared.log().view.state.committed = id;
    }

    /// Removes the entries after `last`, or all that are not purged.
    pub fn truncate_after(&self, last: Option<LogId>) {
        self.queue(Step::Truncate(last), None);
    }

    /// Removes the entries up to `upto`, and goes on after it if the log ends before. Segments are given
    /// back once the mark is durable.
    pub fn purge(&self, upto: LogId) {
        self.queue(Step::Purge(upto), None);
    }

    /// Entries from `range.start` on, without a gap: as many as their records fit in `bytes_max` bytes, and
    /// at least one, unless the first is not in the log (any more). Blocks if it must read files.
    ///
    /// # Errors
    /// The disk's, and `InvalidData` naming file and offset where it has lost an entry.
    pub fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<LogEntry>> {
        let start = range.start;
        let plan = self.0.shared.log().view.plan(range, bytes_max);
        self.carry_out(plan, start)
    }

    fn carry_out(&self, plan: Plan, start: u64) -> io::Result<Vec<LogEntry>> {
        plan.carry_out().or_else(|error| {
            // The segment may have been given back between planning and reading.
            let first = self.0.shared.log().view.first_index();
            if first.is_none_or(|first| start < first) { Ok(Vec::new()) } else { Err(error) }
        })
    }

    /// Marks the log's end as durable, so that damage before it is not taken for a crash's work later. Does
    /// nothing if nothing was written since the last time: to be called every second or so, and before the
    /// process ends. `done` is told when everything asked for before is durable.
    pub fn seal(&self, done: Done) {
        self.queue(Step::Seal, Some(done));
    }

    /// What the log adds up to once all that was asked for is on disk.
    #[must_use]
    pub fn state(&self) -> LogState {
        self.0.shared.log().view.state.clone()
    }

    /// The first index that can be read.
    #[must_use]
    pub fn first_index(&self) -> Option<u64> {
        self.0.shared.log().view.first_index()
    }

    /// Bytes of the records of all entries that are not purged.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.shared.log().view.live_bytes()
    }

    /// What was written so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.shared.stats()
    }

    fn queue(&self, step: Step, done: Option<Done>) {
        if self.0.shared.queue(step, done) {
            self.0.writer.wake();
        }
    }
}
