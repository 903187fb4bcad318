//! openraft's log storage over our own log.
//!
//! Nothing here waits for the disk but `save_vote` and `truncate_after`: openraft's core awaits each of these
//! calls, and an append that waited would make it one sync a proposal. A truncation is rare, and waits because
//! what may follow it is a snapshot, which reaches the disk by another way: a crash must not leave the
//! snapshot's state beside a log that still has the conflicting entries.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use futures_util::Stream;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, alias};
use tokio::sync::oneshot;

use super::log::{self, Wal};
use super::observed;
use super::types::{Entry, LogId, Put, Take, Types, Vote, entry_from_log, entry_to_log, from_log, to_log};
use crate::env::Env;
use crate::env::observer::{Extent, Sight};
use crate::mutants::{Mutant, planted};

/// What one read of the log may return, in bytes of entries; it returns at least one.
const READ_BYTES_MAX: usize = 2 << 20;

/// The log, for openraft. Cheap to clone: readers are clones.
#[derive(Clone)]
pub struct LogStore {
    pub env: Env,
    pub wal: Wal,
}

impl LogStore {
    fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let entries = self.wal.read(start..end, bytes_max)?;
        let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "an entry of the log cannot be read");
        entries.into_iter().map(|entry| entry_from_log(entry).ok_or_else(unreadable)).collect()
    }
}

/// Waits until what `ask` asked of the log is on disk, and all before it.
async fn durable(ask: impl FnOnce(log::Done)) -> io::Result<()> {
    let (done, told) = oneshot::channel();
    // The receiver may be gone when openraft is shutting down.
    ask(Box::new(move |result| drop(done.send(result))));
    told.await.map_err(|_| io::Error::other("the log's writer has stopped"))?
}

fn bounds(range: impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(range);
        // Whatever of the range the log holds: it may begin later.
        let first = self.wal.first_index().unwrap_or(start);
        self.read(start.max(first), end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES_MAX)
    }

    /// In pieces: the default would read the whole range into memory first.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(range);
        let pieces = Pieces { log: self.clone(), next: start, end, read: Vec::new().into_iter() };
        futures_util::stream::unfold(pieces, |mut pieces| async move {
            pieces.next().map(|entry| (entry, pieces))
        })
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.wal.state().vote.map(|bytes| decode_vote(&bytes)).transpose()
    }
}

struct Pieces {
    log: LogStore,
    next: u64,
    end: u64,
    read: std::vec::IntoIter<Entry>,
}

impl Pieces {
    fn next(&mut self) -> Option<io::Result<Entry>> {
        if let Some(entry) = self.read.next() {
            return Some(Ok(entry));
        }
        if self.next >= self.end {
            return None;
        }
        match self.log.read(self.next, self.end, READ_BYTES_MAX) {
            Ok(entries) => {
                self.next = entries.last().map_or(self.end, |last| last.log_id.index + 1);
                self.read = entries.into_iter();
                self.read.next().map(Ok)
            }
            Err(error) => {
                self.next = self.end;
                Some(Err(error))
            }
        }
    }
}

fn encode_vote(vote: &Vote) -> Bytes {
    let mut bytes = Vec::new();
    bytes.put_vote(vote);
    bytes.into()
}

/// What a log on disk looks like to whoever looks on.
#[must_use]
pub fn extent(state: &log::LogState) -> Extent {
    let vote = state.vote.as_deref().and_then(|bytes| decode_vote(bytes).ok());
    Extent {
        vote: vote.as_ref().map(observed::ballot),
        purged: state.purged.as_ref().map(observed::place),
        last: state.last.as_ref().map(observed::place),
    }
}

/// The last vote that the log was given to save; it may not be durable yet.
pub(super) fn last_vote(wal: &Wal) -> Option<Vote> {
    wal.state().vote.and_then(|bytes| decode_vote(&bytes).ok())
}

fn decode_vote(bytes: &[u8]) -> io::Result<Vote> {
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "the log's vote cannot be read");
    Take(bytes).vote().ok_or_else(unreadable)
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.wal.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(from_log),
            last_log_id: state.last.or(state.purged).map(from_log),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.env.saw(|| Sight::Voted(observed::ballot(vote)));
        let save = |done| self.wal.save_vote(encode_vote(vote), done);
        if planted(Mutant::VoteBeforeSync) {
            save(Box::new(drop));
        } else {
            durable(save).await?;
        }
        self.env.saw(|| Sight::VoteKept(observed::ballot(vote)));
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(id) = &committed {
            self.env.saw(|| Sight::Committed(observed::place(&to_log(id))));
        }
        self.wal.save_committed(committed.as_ref().map(to_log));
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.wal.state().committed.map(from_log))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = alias::EntryOf<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(|entry| entry_to_log(&entry)).collect::<Vec<_>>();
        entries.iter().for_each(|entry| self.env.saw(|| observed::appended(entry)));
        if planted(Mutant::AppendBeforeSync) {
            self.wal.append(entries, Box::new(drop));
            callback.io_completed(Ok(()));
            return Ok(());
        }
        let (env, last) = (self.env.clone(), entries.last().map(|entry| entry.id));
        let done = move |result: io::Result<()>| {
            if let (Ok(()), Some(last)) = (&result, &last) {
                env.saw(|| Sight::EntriesKept(observed::place(last)));
            }
            callback.io_completed(result);
        };
        self.wal.append(entries, Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let last = last_log_id.as_ref().map(to_log);
        self.env.saw(|| Sight::Truncated(last.as_ref().map(observed::place)));
        self.wal.truncate_after(last);
        durable(|done| self.wal.append(Vec::new(), done)).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.env.saw(|| Sight::Purged(observed::place(&to_log(&log_id))));
        self.wal.purge(to_log(&log_id));
        Ok(())
    }
}
