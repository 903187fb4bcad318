//! Opening a log: what is there, what may be dropped, and what must not be.
//!
//! The rules follow from how the log is written (see [`super::record`] and [`super::segment`]):
//!
//! * **A segment that has a successor in use is whole.** Its successor's first record says where it ends;
//!   anything wrong before that is damage, and the log is refused.
//! * **The last batch may be missing in any part.** At the first place where there is no record, every
//!   later byte is searched for records of this life. One whose batch began later proves that this place
//!   was synced once: damage. Otherwise the log ends here, and what is left of the batch is zeroed, so that
//!   it cannot follow a later, shorter batch by chance.
//! * **The segment after the last one in use may be empty**, but not two of them: a segment is made only
//!   once its predecessor holds a durable batch.
//! * Sequences have no gap, each checkpoint agrees with the records before it, indexes are consecutive, and
//!   nothing between the purge mark and the first entry is missing.
//!
//! One kind of damage cannot be told from a crash: in the last batch, when no seal follows.
//!
//! What was read is not what is on disk: after a process crash it may be in the page cache only, and after
//! a failed sync it may stay there, marked clean, while the disk has something else. The last batch, the
//! only one that can be meant, is therefore written again and synced before anybody relies on it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::record::{self, ALIGNMENT, Bad, Found, Record};
use super::segment::{self, Files, HEADER_BYTES, Segment};
use super::view::{Slot, View};
use super::writer::{InUse, Position};
use super::{LogId, OpenError, Options, index};
use crate::env::Env;

/// Where a checkpoint has ended for certain: the only part of it that may be long is a vote.
const CHECKPOINT_END_MAX: u64 = HEADER_BYTES + super::VOTE_BYTES_MAX as u64 + 256;

/// The log as it was found, ready to be written to.
pub(super) struct Opened {
    pub view: View,
    pub position: Position,
    pub files: Files,
    pub dropped_tail_bytes: u64,
}

/// Reads the directory, which is made if need be.
pub(super) fn open(env: &Env, options: &Options) -> Result<Opened, OpenError> {
    let disk = &*env.disk;
    let io = |error: io::Error| OpenError::Io { path: options.dir.clone(), error };
    disk.create_dir_all(&options.dir).map_err(io)?;
    let names = disk.list(&options.dir).map_err(io)?;
    let mut segments = VecDeque::new();
    let mut spares = Vec::new();
    for name in &names {
        let path = options.dir.join(name);
        if segment::segment_sequence(name).is_some() {
            segments.push_back(Segment::open(disk, path)?);
        } else if let Some(sequence) = segment::spare_sequence(name) {
            spares.push((sequence, path));
        }
    }
    // A file that was made or renamed just before a crash is seen here, but may not be durable yet.
    disk.sync_dir(&options.dir).map_err(io)?;
    check_sequences(&segments)?;

    let next_sequence = segments.back().map_or(1, |segment| segment.life.sequence + 1);
    let mut files = Files::new(env, options, next_sequence, spares).map_err(io)?;
    if segments.is_empty() {
        segments.push_back(files.next().map_err(io)?);
    }
    let prepared = take_prepared(&mut segments)?;
    let mut replay = Replay::new(View::new(options.cache_bytes_max));
    let tail = replay.run(segments)?;
    replay.check(tail.end, prepared.is_some())?;

    // No segment was written to so far, and from here on none is refused.
    rewrite(&replay.last().segment, tail.batch, &tail.rewrite)?;
    if let Some((segment, torn_end)) = prepared {
        rewrite(&segment, HEADER_BYTES, &vec![0; (torn_end - HEADER_BYTES) as usize])?;
        files.prepared = Some(segment);
    }
    let Replay { view, in_use, .. } = replay;
    let position =
        Position { state: view.state.clone(), in_use, end: tail.end, previous_end: 0, sealed: false };
    Ok(Opened { view, position, files, dropped_tail_bytes: tail.dropped_bytes })
}

fn check_sequences(segments: &VecDeque<Segment>) -> Result<(), OpenError> {
    for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
        if next.life.sequence != segment.life.sequence + 1 {
            return Err(corrupt(next, 0, format!("segment {:016x} is missing", segment.life.sequence + 1)));
        }
    }
    Ok(())
}

/// Splits off the last segment if it was made but no batch in it ever became durable, and says where the
/// remains of such a batch end.
fn take_prepared(segments: &mut VecDeque<Segment>) -> Result<Option<(Segment, u64)>, OpenError> {
    if segments.len() < 2 {
        return Ok(None);
    }
    let Some(last) = segments.pop_back() else { return Ok(None) };
    if checkpoint(&last)?.is_ok() {
        segments.push_back(last);
        return Ok(None);
    }
    let torn_end = Contents::read(&last, None)?.torn_end(HEADER_BYTES)?;
    Ok(Some((last, torn_end)))
}

/// The record a segment begins with: a checkpoint and where its predecessor ends.
fn checkpoint(segment: &Segment) -> Result<Result<u64, &'static str>, OpenError> {
    let contents = Contents::read(segment, Some(CHECKPOINT_END_MAX))?;
    Ok(match contents.record(HEADER_BYTES).map(|found| found.record) {
        Ok(Record::Checkpoint { previous_end, .. }) => Ok(previous_end),
        Ok(_) => Err("the segment does not begin with a checkpoint"),
        Err(bad) => Err(bad.reason()),
    })
}

fn corrupt(segment: &Segment, offset: u64, reason: impl Into<String>) -> OpenError {
    OpenError::Corrupt { path: segment.path.clone(), offset, reason: reason.into() }
}

/// A segment's bytes, as far as they were read.
struct Contents<'a> {
    segment: &'a Segment,
    bytes: Vec<u8>,
}

impl<'a> Contents<'a> {
    /// Reads the file, or only its part before `end`.
    fn read(segment: &'a Segment, end: Option<u64>) -> Result<Self, OpenError> {
        let read = || {
            let length = segment.file.len()?;
            let mut bytes = vec![0; end.map_or(length, |end| end.min(length)) as usize];
            segment.file.read_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|error| OpenError::Io { path: segment.path.clone(), error })?;
        Ok(Self { segment, bytes })
    }

    fn record(&self, offset: u64) -> Result<Found<'_>, Bad> {
        let bytes = self.bytes.get(offset as usize..).unwrap_or_default();
        record::decode(bytes, self.segment.life, offset)
    }

    /// The log ends at `offset`: where the remains of a batch that was being written there end.
    ///
    /// # Errors
    /// `Corrupt` when the log cannot end here.
    fn torn_end(&self, offset: u64) -> Result<u64, OpenError> {
        let life = self.segment.life;
        let length = self.bytes.len() as u64;
        let claimed = |at: u64| record::claimed_bytes(&self.bytes[at as usize..], life);
        let mut torn_end = offset;
        let mut at = offset;
        while at < length {
            let mut step = ALIGNMENT as u64;
            if let Some(claimed) = claimed(at) {
                torn_end = torn_end.max(length.min(at + claimed as u64));
                match self.record(at) {
                    Ok(found) if found.batch > offset => {
                        let reason = format!("no record, but one that was written later follows at {at}");
                        return Err(corrupt(self.segment, offset, reason));
                    }
                    Ok(found) => step = found.bytes,
                    Err(Bad::Malformed(reason)) => return Err(corrupt(self.segment, at, reason)),
                    Err(Bad::Missing(_)) => {}
                }
            }
            at += step;
        }
        Ok(torn_end)
    }
}

fn rewrite(segment: &Segment, offset: u64, bytes: &[u8]) -> Result<(), OpenError> {
    let written = segment.file.write_at(bytes, offset).and_then(|()| segment.file.sync());
    written.map_err(|error| OpenError::Io { path: segment.path.clone(), error })
}

/// Where the last segment ends.
struct Tail {
    end: u64,
    dropped_bytes: u64,
    /// Where the last batch begins, and what must be there: itself, and zeros up to the end of the remains.
    batch: u64,
    rewrite: Vec<u8>,
}

/// Goes through the stream, from the oldest segment on.
struct Replay {
    view: View,
    in_use: VecDeque<InUse>,
    /// The last entry that was in the log before the oldest segment.
    last_before: Option<LogId>,
}

impl Replay {
    const fn new(view: View) -> Self {
        Self { view, in_use: VecDeque::new(), last_before: None }
    }

    fn run(&mut self, segments: VecDeque<Segment>) -> Result<Tail, OpenError> {
        let mut segments = segments.into_iter().map(Arc::new).peekable();
        while let Some(segment) = segments.next() {
            self.view.add_segment(Arc::clone(&segment));
            self.in_use.push_back(InUse { segment: Arc::clone(&segment), index_max: None });
            let Some(next) = segments.peek() else { return self.run_last(&segment) };
            let end = checkpoint(next)?.map_err(|reason| corrupt(next, HEADER_BYTES, reason))?;
            let contents = Contents::read(&segment, Some(end))?;
            let mut offset = HEADER_BYTES;
            let mut batch = HEADER_BYTES;
            while offset != end {
                let found = contents.record(offset).map_err(|bad| corrupt(&segment, offset, bad.reason()))?;
                offset += self.take(&segment, offset, &mut batch, found)?;
            }
        }
        unreachable!("there is a last segment")
    }

    /// The last segment ends where its records do.
    fn run_last(&mut self, segment: &Segment) -> Result<Tail, OpenError> {
        let contents = Contents::read(segment, None)?;
        let mut end = HEADER_BYTES;
        let mut batch = HEADER_BYTES;
        let sealed = loop {
            match contents.record(end) {
                Ok(found) if found.record == Record::Seal => break true,
                Ok(found) => end += self.take(segment, end, &mut batch, found)?,
                Err(Bad::Missing(_)) => break false,
                Err(Bad::Malformed(reason)) => return Err(corrupt(segment, end, reason)),
            }
        };
        let remains = contents.torn_end(end)? - end;
        let dropped_bytes = if sealed && remains == record::SEAL_BYTES { 0 } else { remains };
        let mut rewrite = contents.bytes[batch as usize..end as usize].to_vec();
        rewrite.resize(rewrite.len() + remains as usize, 0);
        Ok(Tail { end, dropped_bytes, batch, rewrite })
    }

    /// Takes the record at `offset`, and returns its length. `batch` is that of the record before.
    fn take(
        &mut self,
        segment: &Segment,
        offset: u64,
        batch: &mut u64,
        found: Found<'_>,
    ) -> Result<u64, OpenError> {
        let refuse = |reason: &str| Err(corrupt(segment, offset, reason));
        if found.batch != offset && found.batch != *batch {
            return refuse("the record belongs to another batch");
        }
        *batch = found.batch;
        if matches!(found.record, Record::Checkpoint { .. }) != (offset == HEADER_BYTES) {
            return refuse("a checkpoint begins a segment, and is nowhere else");
        }
        match found.record {
            Record::Checkpoint { state, .. } if self.in_use.len() == 1 => {
                self.last_before = state.last;
                self.view.state = state;
            }
            Record::Checkpoint { state, .. } if state != self.view.state => {
                return refuse("the checkpoint does not agree with the records before it");
            }
            Record::Checkpoint { .. } => {}
            Record::Vote(vote) => self.view.state.vote = Some(Bytes::copy_from_slice(vote)),
            Record::Committed(id) => self.view.state.committed = id,
            Record::Truncate(last) => self.view.truncate(last),
            Record::Purge(upto) => self.view.purge(upto),
            Record::Seal => return refuse("the log was sealed here, and goes on"),
            Record::Entry { id, .. } => {
                if self.view.state.last.is_some_and(|last| id.index != last.index + 1) {
                    return refuse("the entry's index does not follow the one before");
                }
                let narrow = |value: u64| u32::try_from(value).expect("the writer had it in 32 bits");
                let slot =
                    Slot { segment: segment.number(), offset: narrow(offset), bytes: narrow(found.bytes) };
                self.view.append_slot(id, slot);
                let current = self.in_use.back_mut().expect("a log has a segment");
                current.index_max = current.index_max.max(Some(id.index));
            }
        }
        Ok(found.bytes)
    }

    fn last(&self) -> &InUse {
        self.in_use.back().expect("a log has a segment")
    }

    /// What can only be said when all is read. `end` is the last segment's.
    fn check(&self, end: u64, has_successor: bool) -> Result<(), OpenError> {
        let last = &self.last().segment;
        if end == HEADER_BYTES && (last.life.sequence > 1 || has_successor) {
            return Err(corrupt(last, HEADER_BYTES, "the segment is empty, but it was in use"));
        }
        // Whatever was in the log before the oldest segment must have been purged since.
        let missing = index(self.last_before);
        let purged = index(self.view.state.purged);
        match self.in_use.front() {
            Some(oldest) if missing > purged => {
                let reason =
                    format!("the log up to {missing:?} is missing, but purged only up to {purged:?}");
                Err(corrupt(&oldest.segment, HEADER_BYTES, reason))
            }
            _ => Ok(()),
        }
    }
}
