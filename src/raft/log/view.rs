//! What readers see: the log as it will be once everything queued is on disk.
//!
//! Every entry has a slot of twelve bytes that says where its record lies; the newest entries are in memory
//! as well, because replication and apply ask for them at once. An entry without a place on disk is always
//! in memory, whatever the cache's limit, so every entry of the log can be read at any time.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::record::{self, Record};
use super::segment::Segment;
use super::{BODY_BYTES_MAX, LogEntry, LogId, LogState};

/// Runs of records on disk are read together when no more than this lies between two of them.
const READ_GAP_BYTES: u64 = 4096;

/// Where an entry's record lies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    /// The segment's number; 0 while the entry is not on disk.
    pub segment: u32,
    pub offset: u32,
    /// The record's length, padding included.
    pub bytes: u32,
}

/// The readable log.
#[derive(Default)]
pub(super) struct View {
    pub state: LogState,
    /// The index of the first slot, if there is one.
    first: u64,
    slots: VecDeque<Slot>,
    /// The newest entries, up to the last.
    cache: VecDeque<LogEntry>,
    cache_bytes: usize,
    cache_bytes_max: usize,
    /// Bytes of the records that have a slot.
    live_bytes: u64,
    /// The segments in use, by sequence, without gaps.
    segments: VecDeque<Arc<Segment>>,
}

/// How to read a range: first from disk, then what was in memory. Carried out without the lock.
#[derive(Default)]
pub(super) struct Plan {
    runs: Vec<Run>,
    cached: Vec<LogEntry>,
}

/// Records of consecutive entries, close together in one segment.
struct Run {
    segment: Arc<Segment>,
    first: u64,
    /// Where the run lies in the file.
    range: Range<u64>,
    /// Where each entry's record begins in the file.
    offsets: Vec<u64>,
}

impl View {
    pub(super) fn new(cache_bytes_max: usize) -> Self {
        Self { cache_bytes_max, ..Self::default() }
    }

    /// The first index that is in the log.
    pub(super) fn first_index(&self) -> Option<u64> {
        (!self.slots.is_empty()).then_some(self.first)
    }

    pub(super) const fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// An entry that is not on disk yet.
    ///
    /// # Panics
    /// If it does not follow the last one.
    pub(super) fn append(&mut self, entry: LogEntry) {
        let last = self.state.last;
        let follows = last.is_none_or(|last| entry.id.index == last.index + 1);
        assert!(follows, "an entry with {:?} is appended to a log that ends with {last:?}", entry.id);
        assert!(entry.body.len() <= BODY_BYTES_MAX, "an entry of {} bytes", entry.body.len());
        let bytes = record::entry_bytes(entry.body.len());
        self.append_slot(entry.id, Slot { bytes, ..Slot::default() });
        self.cache_bytes += cached_bytes(&entry);
        self.cache.push_back(entry);
    }

    /// An entry that is on disk.
    pub(super) fn append_slot(&mut self, id: LogId, slot: Slot) {
        if self.slots.is_empty() {
            self.first = id.index;
        }
        self.slots.push_back(slot);
        self.live_bytes += u64::from(slot.bytes);
        self.state.last = Some(id);
    }

    /// Forgets the entries after `last`.
    pub(super) fn truncate(&mut self, last: Option<LogId>) {
        self.state.truncate(last);
        let kept = last.map_or(0, |last| (last.index + 1).saturating_sub(self.first)) as usize;
        while self.slots.len() > kept {
            self.live_bytes -= self.slots.pop_back().map_or(0, |slot| u64::from(slot.bytes));
            self.cache_bytes -= self.cache.pop_back().as_ref().map_or(0, cached_bytes);
        }
    }

    /// Forgets the entries up to `upto`, and goes on after it even if the log never got there.
    pub(super) fn purge(&mut self, upto: LogId) {
        self.state.purge(upto);
        while !self.slots.is_empty() && self.first <= upto.index {
            if self.cache.len() == self.slots.len() {
                self.cache_bytes -= self.cache.pop_front().as_ref().map_or(0, cached_bytes);
            }
            self.live_bytes -= self.slots.pop_front().map_or(0, |slot| u64::from(slot.bytes));
            self.first += 1;
        }
    }

    /// These entries are durable now, in these places.
    ///
    /// One that was truncated meanwhile is not in memory under that id, and is passed over. The same id may
    /// have been appended again: then it has the same content, and gets its later place later.
    pub(super) fn settle(&mut self, placed: &[(LogId, Slot)]) {
        for (id, slot) in placed {
            let cached_first = self.cached_first();
            let cached = id.index.checked_sub(cached_first).and_then(|at| self.cache.get(at as usize));
            if cached.is_some_and(|entry| entry.id == *id) {
                self.slots[(id.index - self.first) as usize] = *slot;
            }
        }
        self.evict();
    }

    fn evict(&mut self) {
        while self.cache_bytes > self.cache_bytes_max {
            let oldest = self.slots.len() - self.cache.len();
            if self.slots.get(oldest).is_none_or(|slot| slot.segment == 0) {
                break;
            }
            self.cache_bytes -= self.cache.pop_front().as_ref().map_or(0, cached_bytes);
        }
    }

    fn cached_first(&self) -> u64 {
        self.first + (self.slots.len() - self.cache.len()) as u64
    }

    pub(super) fn add_segment(&mut self, segment: Arc<Segment>) {
        self.segments.push_back(segment);
    }

    /// The oldest segment holds nothing but purged entries.
    pub(super) fn drop_oldest_segment(&mut self) {
        self.segments.pop_front();
    }

    /// The entries of `range` from its start on: as many as there are within `bytes_max` bytes of records,
    /// or the first alone; none if the first is not in the log.
    pub(super) fn plan(&self, range: Range<u64>, bytes_max: usize) -> Plan {
        let mut plan = Plan::default();
        let mut planned_bytes = 0;
        let end = range.end.min(self.first + self.slots.len() as u64);
        if range.start < self.first {
            return plan;
        }
        for index in range.start..end {
            let slot = self.slots[(index - self.first) as usize];
            planned_bytes += slot.bytes as usize;
            if planned_bytes > bytes_max && index > range.start {
                break;
            }
            match index.checked_sub(self.cached_first()) {
                Some(at) => plan.cached.push(self.cache[at as usize].clone()),
                None => plan.add_run(index, slot, |number| self.segment(number)),
            }
        }
        plan
    }

    #[cfg(test)]
    pub(super) fn slot(&self, index: u64) -> Slot {
        self.slots[(index - self.first) as usize]
    }

    fn segment(&self, number: u32) -> Arc<Segment> {
        let oldest = self.segments.front().map_or(0, |segment| segment.number());
        let at = number.checked_sub(oldest).and_then(|at| self.segments.get(at as usize));
        Arc::clone(at.expect("a segment is dropped after the last of its entries"))
    }
}

impl Plan {
    fn add_run(&mut self, index: u64, slot: Slot, segment: impl Fn(u32) -> Arc<Segment>) {
        let (start, end) = (u64::from(slot.offset), u64::from(slot.offset) + u64::from(slot.bytes));
        if let Some(run) = self.runs.last_mut()
            && run.segment.number() == slot.segment
            && start.checked_sub(run.range.end).is_some_and(|gap| gap <= READ_GAP_BYTES)
        {
            run.range.end = end;
            run.offsets.push(start);
        } else {
            let segment = segment(slot.segment);
            self.runs.push(Run { segment, first: index, range: start..end, offsets: vec![start] });
        }
    }

    /// Reads what the plan says. The bodies that come from one run share its memory.
    ///
    /// # Errors
    /// The disk's, and `InvalidData` where a record is not what the slot promised: the segment was recycled
    /// meanwhile, or the disk has lost it.
    pub(super) fn carry_out(self) -> io::Result<Vec<LogEntry>> {
        let on_disk: usize = self.runs.iter().map(|run| run.offsets.len()).sum();
        let mut entries = Vec::with_capacity(on_disk + self.cached.len());
        for run in self.runs {
            run.read(&mut entries)?;
        }
        entries.extend(self.cached);
        Ok(entries)
    }
}

impl Run {
    fn read(&self, entries: &mut Vec<LogEntry>) -> io::Result<()> {
        let mut bytes = vec![0; (self.range.end - self.range.start) as usize];
        self.segment.file.read_at(&mut bytes, self.range.start).map_err(self.segment.failed("reading"))?;
        let bytes = Bytes::from(bytes);
        for (index, offset) in (self.first..).zip(&self.offsets) {
            let record = &bytes[(offset - self.range.start) as usize..];
            let wrong = |reason: &str| {
                let path = self.segment.path.display();
                let message = format!("{path}, offset {offset}: {reason} (entry {index})");
                io::Error::new(io::ErrorKind::InvalidData, message)
            };
            match record::decode(record, self.segment.life, *offset).map(|found| found.record) {
                Ok(Record::Entry { id, kind, body }) if id.index == index => {
                    entries.push(LogEntry { id, kind, body: bytes.slice_ref(body) });
                }
                Ok(_) => return Err(wrong("another record than the one that was written")),
                Err(bad) => return Err(wrong(bad.reason())),
            }
        }
        Ok(())
    }
}

fn cached_bytes(entry: &LogEntry) -> usize {
    size_of::<LogEntry>() + entry.body.len()
}
