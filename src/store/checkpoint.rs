//! Checkpoints: how the buffer reaches the disk.
//!
//! The applying thread decides *when*, between two log entries, and says up to where in a stamp: it
//! freezes the buffer and goes on with an empty one. The worker decides nothing; it commits what is
//! frozen, then makes the switch: from then on scans find in the database what they found in the frozen
//! buffer. One frozen buffer at a time: who fills buffers faster than the disk takes them has to wait,
//! see [`Store::over_hard_limit`].
//!
//! A commit that fails is never tried again. After a failed sync the kernel may hold clean pages that
//! never reached the disk, and the next sync says all is well.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use bytes::Bytes;

use super::engine::Mark;
use super::{Frozen, Store, lock, lock_mut};
use crate::env::{Exit, Round};
use crate::error::StoreError;
use crate::mutants::{Mutant, planted};

/// Who is told about a stamp that became durable.
pub(super) type Observer = Arc<dyn Fn(&Bytes) + Send + Sync>;

impl Store {
    /// Starts a checkpoint of all that is applied, which it calls `stamp`. Its end is told to
    /// [`Store::on_checkpoint`]. False, and nothing happened, when the one before has not ended.
    pub fn freeze(&self, stamp: Bytes) -> bool {
        let mut state = self.write();
        if state.frozen.is_some() {
            return false;
        }
        let next = state.active.successor();
        let layer = std::mem::replace(&mut state.active, next);
        self.gauges.frozen(layer.bytes(), self.env.clock.monotonic());
        if planted(Mutant::LogGoneTooEarly) {
            *lock(&self.durable) = Some(stamp.clone());
        }
        *lock(&self.retired) = state.written.take();
        state.frozen = Some(Arc::new(Frozen { layer, mark: Mark { head: state.head.clone(), stamp } }));
        drop(state);
        self.worker.wake();
        true
    }

    /// Has the memory given back that only makes what was written lately faster: after a time in which nothing was.
    pub fn rest(&self) {
        let mut state = self.write();
        if state.active.len() == 0 {
            state.active = state.active.emptied();
        }
        if let Some(written) = state.written.take() {
            drop(state);
            *lock(&self.retired) = Some(written);
            self.gauges.written_bytes.store(0, Relaxed);
            self.worker.wake();
        }
    }

    /// Whether it is time to [`Store::freeze`]: the buffer is full, or something has been waiting in it
    /// for the checkpoint interval. Never while a checkpoint is being written.
    #[must_use]
    pub fn wants_checkpoint(&self) -> bool {
        if self.gauges.writing.load(Acquire) || !self.gauges.changed.load(Relaxed) {
            return false;
        }
        self.gauges.active_bytes.load(Relaxed) >= self.options.buffer_bytes_max as u64
            || self.gauges.since_freeze(self.env.clock.monotonic()) >= self.options.checkpoint_interval
    }

    /// Whether a checkpoint is being written just now.
    #[must_use]
    pub fn is_checkpointing(&self) -> bool {
        self.gauges.writing.load(Acquire)
    }

    /// Whether nothing more should be applied before the checkpoint that is being written has ended:
    /// the buffer behind it has grown to twice its limit.
    #[must_use]
    pub fn over_hard_limit(&self) -> bool {
        self.gauges.writing.load(Acquire)
            && self.gauges.active_bytes.load(Relaxed) >= 2 * self.options.buffer_bytes_max as u64
    }

    /// Has `observer` called with the stamp of each checkpoint, once that is durable. It is called by
    /// the checkpoint's worker and must not block for long.
    pub fn on_checkpoint(&self, observer: Arc<dyn Fn(&Bytes) + Send + Sync>) {
        lock(&self.observers).push(observer);
    }

    /// The stamp of the last checkpoint that is durable, or of the snapshot that was installed after it.
    #[must_use]
    pub fn durable_stamp(&self) -> Option<Bytes> {
        lock(&self.durable).clone()
    }

    /// What the worker does when it is woken.
    pub(super) fn checkpoint_round(&self) -> Round {
        match self.checkpoint() {
            Ok(None) => {}
            Ok(Some(stamp)) => {
                let observers = lock(&self.observers).clone();
                for observer in observers {
                    observer(&stamp);
                }
            }
            Err(error) => {
                tracing::error!(%error, "a checkpoint of the state failed; the node stops");
                self.env.spawner.exit(Exit::StoreFailed);
            }
        }
        Round::Again
    }

    /// Writes what is frozen, if anything is, and returns its stamp.
    fn checkpoint(&self) -> Result<Option<Bytes>, StoreError> {
        let _writer = lock(&self.writer);
        // It is large: it is given back here, where nobody waits for it.
        drop(lock(&self.retired).take());
        let (engine, frozen) = {
            let state = self.read();
            (state.engine.clone(), state.frozen.clone())
        };
        let Some(frozen) = frozen else { return Ok(None) };
        let start = self.env.clock.monotonic();
        if planted(Mutant::DataBeforeStamp)
            && let Some(former) = engine.reader()?.mark()?
        {
            engine.commit(&mut frozen.layer.ordered(), &former)?;
        }
        if planted(Mutant::CheckpointInHalves) {
            let half = frozen.layer.len() / 2;
            engine.commit(&mut frozen.layer.ordered().take(half), &frozen.mark)?;
        }
        engine.commit(&mut frozen.layer.ordered(), &frozen.mark)?;
        let stamp = frozen.mark.stamp.clone();
        *lock(&self.durable) = Some(stamp.clone());

        let mut state = self.write();
        state.written = state.frozen.take();
        let readers = std::mem::take(lock_mut(&mut state.readers));
        let recent = lock_mut(&mut state.recent).take();
        drop(state);
        let took = self.env.clock.monotonic().saturating_sub(start);
        self.gauges.written(took, frozen.layer.len());
        drop((readers, recent));
        Ok(Some(stamp))
    }
}

/// What is asked often and must not wait for the state's lock.
pub(super) struct Gauges {
    pub active_bytes: AtomicU64,
    pub frozen_bytes: AtomicU64,
    pub written_bytes: AtomicU64,
    pub checkpoints: AtomicU64,
    pub last_checkpoint_micros: AtomicU64,
    pub checkpointed_records: AtomicU64,
    /// Whether a frozen buffer is there.
    writing: AtomicBool,
    /// Whether an entry was applied since the last freeze.
    changed: AtomicBool,
    /// When the last freeze was, on the monotonic clock.
    frozen_at_micros: AtomicU64,
}

impl Gauges {
    pub fn new(now: Duration) -> Self {
        Self {
            active_bytes: AtomicU64::new(0),
            frozen_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            checkpoints: AtomicU64::new(0),
            last_checkpoint_micros: AtomicU64::new(0),
            checkpointed_records: AtomicU64::new(0),
            writing: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            frozen_at_micros: AtomicU64::new(micros(now)),
        }
    }

    /// An entry was applied and left the buffer this large.
    pub fn applied(&self, active_bytes: u64) {
        self.active_bytes.store(active_bytes, Relaxed);
        self.changed.store(true, Relaxed);
    }

    fn frozen(&self, bytes: u64, now: Duration) {
        self.active_bytes.store(0, Relaxed);
        self.frozen_bytes.store(bytes, Relaxed);
        self.written_bytes.store(0, Relaxed);
        self.changed.store(false, Relaxed);
        self.frozen_at_micros.store(micros(now), Relaxed);
        self.writing.store(true, Release);
    }

    fn written(&self, took: Duration, records: usize) {
        self.checkpointed_records.fetch_add(records as u64, Relaxed);
        self.written_bytes.store(self.frozen_bytes.swap(0, Relaxed), Relaxed);
        self.checkpoints.fetch_add(1, AcqRel);
        self.last_checkpoint_micros.store(micros(took), Relaxed);
        self.writing.store(false, Release);
    }

    /// Another state was installed; both buffers are empty.
    pub fn installed(&self, now: Duration) {
        self.active_bytes.store(0, Relaxed);
        self.frozen_bytes.store(0, Relaxed);
        self.written_bytes.store(0, Relaxed);
        self.changed.store(false, Relaxed);
        self.frozen_at_micros.store(micros(now), Relaxed);
        self.writing.store(false, Release);
    }

    fn since_freeze(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_micros(self.frozen_at_micros.load(Relaxed)))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
