//! The one writer, and the worker that keeps a segment ready for it.
//!
//! A round takes everything queued, encodes it into one buffer, writes that, syncs, and then reports to
//! everybody in order. What is queued meanwhile is the next batch: the disk's latency is the batching
//! window, and there is no timer.
//!
//! A batch never spans segments: where a record does not fit, what is encoded so far is written and synced,
//! and the rest begins the next segment. A record too big for any segment goes alone behind a checkpoint
//! and the file grows with it.
//!
//! The first failure is kept for ever. The page cache may have dropped what a failed sync did not write, so
//! a second sync that succeeds proves nothing, and nothing is written after it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, mpsc};

use super::record::{self, Record};
use super::segment::{self, Files, Segment};
use super::shared::{Shared, Step};
use super::view::Slot;
use super::{Done, LogEntry, LogId, LogState, SyncStats, index};
use crate::env::{Clock, Round, WorkerHandle};
use crate::mutants::{Mutant, planted};

/// The batch buffer is given back to the system when a batch has made it bigger than this.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// A segment in use, from the writer's side.
pub(super) struct InUse {
    pub segment: Arc<Segment>,
    /// The greatest index whose record is in it, dead or alive.
    pub index_max: Option<u64>,
}

/// Where the writer starts: what recovery found.
pub(super) struct Position {
    /// The log's state where the next batch goes.
    pub state: LogState,
    /// Oldest first; the last one is written to. Never empty.
    pub in_use: VecDeque<InUse>,
    /// Where the next batch goes.
    pub end: u64,
    /// Where the segment before the last one ends.
    pub previous_end: u64,
    /// Whether there is a seal.
    pub sealed: bool,
}

/// The state of the worker `wal`.
pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub clock: Arc<dyn Clock>,
    pub files: Arc<Mutex<Files>>,
    pub jobs: Jobs,
    pub segment_bytes: u64,
    pub position: Position,
    pub batch: Batch,
}

/// What will be written next.
#[derive(Default)]
pub(super) struct Batch {
    steps: Vec<(Step, Option<Done>)>,
    bytes: Vec<u8>,
    /// The entries in `bytes`.
    placed: Vec<(LogId, Slot)>,
    /// Whom to tell once `bytes` is durable.
    done: Vec<Done>,
    /// Whether there is a purge mark in `bytes`.
    purges: bool,
    /// Whether to seal the log behind `bytes`.
    seals: bool,
}

impl Writer {
    /// Finishes what a crash may have interrupted.
    pub(super) fn start(&mut self) {
        if !self.is_fresh() {
            self.jobs.send(Job::Prepare);
        }
        self.retire();
    }

    pub(super) fn round(&mut self) -> Round {
        let mut steps = std::mem::take(&mut self.batch.steps);
        let committed = {
            let mut log = self.shared.log();
            std::mem::swap(&mut log.queue, &mut steps);
            log.view.state.committed
        };
        if steps.is_empty() {
            return Round::Again;
        }
        for (step, done) in steps.drain(..) {
            self.unless_failed(|writer| writer.take(&step));
            self.batch.done.extend(done);
        }
        self.batch.steps = steps;
        if committed != self.position.state.committed {
            self.unless_failed(|writer| writer.put(&Record::Committed(committed)));
            self.position.state.committed = committed;
        }
        self.unless_failed(Self::flush);
        if std::mem::take(&mut self.batch.seals) {
            self.unless_failed(Self::seal);
        }
        // Whoever is left has not been told because of a failure.
        for done in self.batch.done.drain(..) {
            done(self.shared.check());
        }
        self.batch.bytes.shrink_to(BUFFER_BYTES_KEPT);
        Round::Again
    }

    fn unless_failed(&mut self, act: impl FnOnce(&mut Self) -> io::Result<()>) {
        if self.shared.check().is_ok()
            && let Err(error) = act(self)
        {
            self.shared.fail(error);
        }
    }

    fn take(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::Append(entries) => entries.iter().try_for_each(|entry| self.take_entry(entry)),
            Step::Vote(vote) => {
                self.put(&Record::Vote(vote))?;
                self.position.state.vote = Some(vote.clone());
                Ok(())
            }
            Step::Truncate(last) => {
                self.put(&Record::Truncate(*last))?;
                self.position.state.truncate(*last);
                Ok(())
            }
            Step::Purge(upto) => {
                self.put(&Record::Purge(*upto))?;
                self.position.state.purge(*upto);
                self.batch.purges = true;
                Ok(())
            }
            Step::Seal => {
                self.batch.seals = true;
                Ok(())
            }
        }
    }

    fn take_entry(&mut self, entry: &LogEntry) -> io::Result<()> {
        let LogEntry { id, kind, body } = entry;
        self.put(&Record::Entry { id: *id, kind: *kind, body })?;
        let bytes = record::entry_bytes(body.len());
        let end = self.position.end + self.batch.bytes.len() as u64;
        let offset = u32::try_from(end - u64::from(bytes)).expect("records start below the segment size");
        let current = self.current_mut();
        current.index_max = current.index_max.max(Some(id.index));
        let slot = Slot { segment: current.segment.number(), offset, bytes };
        self.batch.placed.push((*id, slot));
        self.position.state.last = Some(*id);
        Ok(())
    }

    /// Encodes one record into the batch, in the next segment if this one is full.
    fn put(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.put_checkpoint();
        let start = self.batch.bytes.len();
        self.encode(record);
        if self.position.end + self.batch.bytes.len() as u64 > self.segment_bytes {
            self.batch.bytes.truncate(start);
            self.flush()?;
            self.rotate()?;
            self.put_checkpoint();
            self.encode(record);
        }
        Ok(())
    }

    /// A segment begins with what the ones before it add up to.
    fn put_checkpoint(&mut self) {
        if self.is_fresh() && self.batch.bytes.is_empty() {
            let Position { state, previous_end, .. } = &self.position;
            self.encode(&Record::Checkpoint { state: state.clone(), previous_end: *previous_end });
        }
    }

    fn encode(&mut self, record: &Record<'_>) {
        let life = self.current().segment.life;
        record::encode(&mut self.batch.bytes, life, self.position.end, record);
    }

    /// Makes the batch durable and reports it.
    fn flush(&mut self) -> io::Result<()> {
        if self.batch.bytes.is_empty() {
            self.batch.done.drain(..).for_each(|done| done(Ok(())));
            return Ok(());
        }
        if planted(Mutant::AckBeforeSync) {
            self.batch.done.drain(..).for_each(|done| done(Ok(())));
        }
        let segment = &self.current().segment;
        let start = self.clock.monotonic();
        segment.file.append_at(&self.batch.bytes, self.position.end).map_err(segment.failed("writing"))?;
        let written = self.clock.monotonic();
        if !planted(Mutant::SyncLeftOut) {
            segment.file.sync().map_err(segment.failed("syncing"))?;
        }
        let synced = self.clock.monotonic();
        self.shared.durable(&self.position.state);
        self.batch.done.drain(..).for_each(|done| done(Ok(())));

        self.shared.count(&SyncStats {
            entries: self.batch.placed.len() as u64,
            bytes: self.batch.bytes.len() as u64,
            write: written.saturating_sub(start),
            sync: synced.saturating_sub(written),
        });
        // Not before: recovery takes the next segment's existence as proof that this one's first batch was
        // durable.
        if self.is_fresh() {
            self.jobs.send(Job::Prepare);
        }
        self.position.end += self.batch.bytes.len() as u64;
        self.position.sealed = false;
        self.batch.bytes.clear();
        self.shared.log().view.settle(&self.batch.placed);
        self.batch.placed.clear();
        if std::mem::take(&mut self.batch.purges) {
            self.retire();
        }
        Ok(())
    }

    /// Gives back the segments that the purge mark, which is durable by now, has passed.
    ///
    /// It asks for the greatest index ever written to a segment. Entries that were truncated count, so a
    /// segment may stay a little longer; but the view, which is ahead of the disk, is not needed to tell.
    fn retire(&mut self) {
        let Position { state, in_use, .. } = &mut self.position;
        let purged = index(state.purged);
        while in_use.len() > 1 && in_use.front().is_some_and(|oldest| oldest.index_max <= purged) {
            if let Some(oldest) = in_use.pop_front() {
                self.shared.log().view.drop_oldest_segment();
                self.jobs.send(Job::Retire(oldest.segment));
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let next = self.files.lock().expect("nobody panics while holding the files").next()?;
        let segment = Arc::new(next);
        self.shared.log().view.add_segment(Arc::clone(&segment));
        self.position.in_use.push_back(InUse { segment, index_max: None });
        self.position.previous_end = std::mem::replace(&mut self.position.end, segment::HEADER_BYTES);
        Ok(())
    }

    /// Marks the end of the log, which is durable. See [`super::record`].
    fn seal(&mut self) -> io::Result<()> {
        let room = self.position.end + record::SEAL_BYTES <= self.segment_bytes;
        if self.is_fresh() || !room || self.position.sealed {
            return Ok(());
        }
        self.position.sealed = true;
        self.encode(&Record::Seal);
        let segment = &self.current().segment;
        let sealed = segment.file.write_at(&self.batch.bytes, self.position.end);
        let sealed = sealed.map_err(segment.failed("writing"));
        self.batch.bytes.clear();
        sealed
    }

    fn is_fresh(&self) -> bool {
        self.position.end == segment::HEADER_BYTES
    }

    fn current(&self) -> &InUse {
        self.position.in_use.back().expect("there is always a segment in use")
    }

    fn current_mut(&mut self) -> &mut InUse {
        self.position.in_use.back_mut().expect("there is always a segment in use")
    }
}

/// What the writer leaves to the other worker.
pub(super) enum Job {
    /// Have the next segment ready.
    Prepare,
    /// Take this one back.
    Retire(Arc<Segment>),
}

/// The way to the other worker.
pub(super) struct Jobs {
    pub sender: mpsc::Sender<Job>,
    pub worker: WorkerHandle,
}

impl Jobs {
    pub(super) fn send(&self, job: Job) {
        // Nobody receives once the log is closing, and then nobody needs to.
        if self.sender.send(job).is_ok() {
            self.worker.wake();
        }
    }
}

/// The state of the worker `wal-files`: creating, filling and unlinking files takes too long to do it
/// between two batches.
pub(super) struct Housekeeper {
    pub shared: Arc<Shared>,
    pub files: Arc<Mutex<Files>>,
    pub jobs: mpsc::Receiver<Job>,
}

impl Housekeeper {
    pub(super) fn round(&mut self) -> Round {
        for job in self.jobs.try_iter() {
            if self.shared.check().is_err() {
                break;
            }
            let mut files = self.files.lock().expect("nobody panics while holding the files");
            let result = match job {
                Job::Prepare => files.prepare(),
                Job::Retire(segment) => files.retire(&segment),
            };
            drop(files);
            match result {
                // Not yet a failure: the segment in use still has room, and until that is used up somebody
                // may have made some. The writer will see.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
                Err(error) => self.shared.fail(error),
                Ok(()) => {}
            }
        }
        Round::Again
    }
}
