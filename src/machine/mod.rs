//! The replicated machine: log entries in, answers and events out.
//!
//! Every node runs the same entries in the same order and ends in the same state. Nothing here asks a
//! clock, draws a lot or depends on which node it runs on, but for one thing that changes no state: which
//! groups' answers are handed up.
//!
//! An entry is applied under one exclusive hold of the store, so a reader sees all of it or nothing. In it,
//! in this order: the cluster's clock moves; keys whose time has come are removed; the groups run, command by
//! command; keys that were given a time in the past are removed; and a little of what FLUSHALL, DEL and the like left
//! behind is swept.

pub mod entry;
mod origins;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::commands::{Args, Resolver};
use crate::error::StoreError;
use crate::mutants::{Mutant, planted};
use crate::resp::Reply;
use crate::store::{Author, Called, Event, Store, Touch, Txn};
use crate::types::{Ahead, expiry, keyspace};
use entry::{Call, Commands, Entry, GroupHeader, Guard, Malformed, Proposed};
use origins::{Admission, Origins, take_u32, take_u64};

/// Keys that one entry expires at most; the rest follow with the next, and are gone for every command
/// meanwhile.
const EXPIRE_BUDGET: usize = 1_000;
/// Leftovers of flushed databases and of collections that an entry removes at most, besides one for each word of
/// its commands: so they do not become more however fast collections are filled and deleted.
const SWEEP_BUDGET: usize = 64;
/// The same for an entry without commands, which nobody waits for.
const SWEEP_BUDGET_IDLE: usize = 1_000;
const STAMP_VERSION: u8 = 1;

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub term: u64,
    pub index: u64,
}

/// What applying an entry gave.
#[derive(Debug, Default)]
pub struct Applied {
    /// What became of this node's own groups in it.
    pub outcomes: Vec<Outcome>,
    /// Which groups ran, of any node, and what was answered to them.
    pub ran: Vec<(GroupHeader, Arc<Vec<Reply>>)>,
    /// What subscribers are told, in order.
    pub events: Vec<Event>,
    /// What those are told who keep copies, in order; see [`Effects`](crate::store::Effects).
    pub touched: Vec<Touch>,
    /// Commands of this node's clients, where clients keep copies, that have read.
    pub readers: Vec<Author>,
    /// The state's revision after it.
    pub revision: u64,
    /// Databases and keys of what came to be there, for those who block until it does.
    pub brought: Vec<(u8, Bytes)>,
    /// Anything may have come to be there.
    pub brought_any: bool,
    /// How many keys ended by themselves.
    pub expired: u64,
    /// The cluster's clock after it, in ms; 0 if the entry did not touch the state.
    pub clock_ms: u64,
    /// The wall clock of the leader that stamped it, in ms; 0 if that is not known.
    pub wall_ms: u64,
    /// When the next key expires, in ms of the cluster's clock.
    pub next_deadline: Option<u64>,
}

/// What the scripts among a group's commands have called, each with its command's place. Not kept for later.
pub type Calls = Arc<Vec<(usize, Called)>>;

/// What became of a group.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It ran; a reply to each of its commands.
    Answered { sequence: u64, replies: Arc<Vec<Reply>>, called: Calls },
    /// One before it is missing in the log: all from that one on must be sent again.
    Refused { sequence: u64 },
}

/// What a checkpoint says besides the data, in the same transaction: how far the log was applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamp {
    pub position: Option<Position>,
    /// Opaque here; consensus reads it.
    pub membership: Bytes,
    origins: Origins,
}

impl Stamp {
    /// | bytes | |
    /// | --- | --- |
    /// | 1 | version, 1 |
    /// | 8, 8 | term of the last entry applied, and one more than its index; 0, 0 for none |
    /// | 4 | length of the membership, and the membership |
    /// | | the table of origins |
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![STAMP_VERSION];
        let (term, next) = self.position.map_or((0, 0), |position| (position.term, position.index + 1));
        out.extend_from_slice(&term.to_le_bytes());
        out.extend_from_slice(&next.to_le_bytes());
        out.extend_from_slice(&(self.membership.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.membership);
        self.origins.encode(&mut out);
        out.into()
    }

    /// Reads what [`Stamp::encode`] wrote; `None` if it did not.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, mut rest) = bytes.split_first()?;
        if version != STAMP_VERSION {
            return None;
        }
        let (term, next) = (take_u64(&mut rest)?, take_u64(&mut rest)?);
        let length = take_u32(&mut rest)? as usize;
        let (membership, mut rest) = rest.split_at_checked(length)?;
        Some(Self {
            // A cluster's first entry, its membership, has index 0 of term 0.
            position: next.checked_sub(1).map(|index| Position { term, index }),
            membership: Bytes::copy_from_slice(membership),
            origins: Origins::decode(&mut rest)?,
        })
    }
}

/// The machine of one node.
pub struct Machine {
    store: Arc<Store>,
    /// Whose groups' answers are handed up: this node and its boot.
    local: (u64, u64),
    stamp: Stamp,
}

impl Machine {
    /// The machine that a store's last checkpoint (with this stamp, if there was one) left behind.
    ///
    /// # Errors
    /// When the stamp cannot be read.
    pub fn open(store: Arc<Store>, stamp: Option<&[u8]>, node: u64, boot: u64) -> Result<Self, StoreError> {
        let fresh = Stamp { position: None, membership: Bytes::new(), origins: Origins::default() };
        let stamp = stamp.map_or(Ok(fresh), decode_stamp)?;
        Ok(Self { store, local: (node, boot), stamp })
    }

    /// The state.
    #[must_use]
    pub const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The last entry applied.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        self.stamp.position
    }

    /// The membership last applied, as it was given.
    #[must_use]
    pub const fn membership(&self) -> &Bytes {
        &self.stamp.membership
    }

    /// Applies an entry that says nothing to the machine.
    pub fn skip(&mut self, position: Position) {
        self.stamp.position = Some(position);
    }

    /// Applies a change of membership.
    pub fn set_membership(&mut self, position: Position, membership: Bytes) {
        self.stamp.position = Some(position);
        self.stamp.membership = membership;
    }

    /// Applies an entry of commands, and begins a checkpoint if one is due.
    ///
    /// # Errors
    /// When the store fails or the entry cannot be read. The node must stop then: it can no longer say that
    /// it did what the others did.
    pub fn apply(&mut self, position: Position, body: Bytes) -> Result<Applied, StoreError> {
        let mut entry = Entry::decode(&body).map_err(unreadable)?;
        let mut applied = Applied::default();
        let store = Arc::clone(&self.store);
        {
            let mut tx = store.txn(entry.clock_ms, entry.seed);
            let clock = tx.now();
            tx.head_mut().clock_ms = clock;
            tx.head_mut().wall_ms = entry.wall_ms;
            expiry::expire_due(&mut tx, EXPIRE_BUDGET)?;
            keyspace::commit(&mut tx);
            let mut words = 0;
            while let Some((group, commands)) = entry.next_group().map_err(unreadable)? {
                self.apply_group(&mut tx, &body, &group, commands, &mut words, &mut applied)?;
            }
            applied.next_deadline = expiry::next_deadline(&tx)?;
            if applied.next_deadline.is_some_and(|deadline| deadline <= clock) {
                // A command gave a key a deadline in the past: it is gone with this entry, not with the next.
                expiry::expire_due(&mut tx, EXPIRE_BUDGET)?;
                keyspace::commit(&mut tx);
                applied.next_deadline = expiry::next_deadline(&tx)?;
            }
            keyspace::sweep(&mut tx, if words == 0 { SWEEP_BUDGET_IDLE } else { SWEEP_BUDGET + words })?;
            applied.events = std::mem::take(&mut tx.effects.events);
            applied.touched = tx.effects.touched.take().unwrap_or_default();
            applied.brought = std::mem::take(&mut tx.effects.brought);
            applied.brought_any = tx.effects.brought_any;
            applied.readers = std::mem::take(&mut tx.effects.readers);
            applied.expired = tx.effects.expired;
            applied.revision = tx.head().revision;
            applied.clock_ms = clock;
            applied.wall_ms = entry.wall_ms;
        }
        self.stamp.position = Some(position);
        if self.store.wants_checkpoint() {
            self.checkpoint();
        }
        Ok(applied)
    }

    fn apply_group(
        &mut self,
        tx: &mut Txn,
        body: &Bytes,
        group: &GroupHeader,
        mut commands: Commands,
        words: &mut usize,
        applied: &mut Applied,
    ) -> Result<(), StoreError> {
        let ours = (group.node, group.boot) == self.local;
        match self.stamp.origins.admit(group) {
            Admission::Repeat => return Ok(()),
            Admission::Gap => {
                applied.outcomes.extend(ours.then_some(Outcome::Refused { sequence: group.sequence }));
                return Ok(());
            }
            Admission::Apply => {}
        }
        tx.effects.shortage = group.shortage;
        tx.set_telling(ours);
        let mut calls = Vec::new();
        let mut replies = Vec::with_capacity(group.commands as usize);
        let mut commands = std::iter::from_fn(|| commands.next_command().transpose());
        let (mut ahead, mut names) = (Ahead::default(), Resolver::default());
        while let Some(command) = ahead.next(tx, &mut commands, first_key).map_err(unreadable)? {
            tx.effects.author = ours.then_some(Author { sequence: group.sequence, place: replies.len() });
            *words += command.words();
            let place = replies.len();
            replies.push(run(tx, body, &mut names, command)?);
            calls.extend(tx.take_called().map(|called| (place, called)));
            keyspace::commit(tx);
            if tx.take_read() && tx.effects.touched.is_some() {
                tx.effects.readers.extend(tx.effects.author);
            }
        }
        (tx.effects.author, tx.effects.shortage) = (None, None);
        let replies = Arc::new(replies);
        self.stamp.origins.answer(group, Arc::clone(&replies));
        applied.ran.push((*group, Arc::clone(&replies)));
        let (sequence, called) = (group.sequence, Arc::new(calls));
        applied.outcomes.extend(ours.then_some(Outcome::Answered { sequence, replies, called }));
        Ok(())
    }

    /// The answers to this node's own groups that the state still keeps: after a snapshot was installed,
    /// those of the entries it skipped are among them.
    #[must_use]
    pub fn kept_outcomes(&self) -> Vec<Outcome> {
        let (node, boot) = self.local;
        let kept = self.stamp.origins.answers(node, boot);
        let answered = |(sequence, replies)| {
            let (replies, called) = (Arc::clone(replies), Calls::default());
            Outcome::Answered { sequence, replies, called }
        };
        kept.map(answered).collect()
    }

    /// Begins a checkpoint of the state as it is now. `false` if the last one is still being written.
    pub fn checkpoint(&mut self) -> bool {
        self.store.freeze(self.stamp.encode())
    }

    /// Replaces the whole state by a snapshot.
    ///
    /// # Errors
    /// When the file is damaged or the store fails.
    pub fn install(&mut self, snapshot: &Path) -> Result<(), StoreError> {
        let (_, stamp) = self.store.install(snapshot)?;
        self.stamp = decode_stamp(&stamp)?;
        if planted(Mutant::SnapshotWithoutOrigins) {
            self.stamp.origins = Origins::default();
        }
        Ok(())
    }
}

fn decode_stamp(bytes: &[u8]) -> Result<Stamp, StoreError> {
    Stamp::decode(bytes).ok_or_else(|| StoreError::Corrupt("the checkpoint's stamp cannot be read".into()))
}

fn unreadable(error: Malformed) -> StoreError {
    StoreError::Corrupt(error.to_string())
}

/// The key that a command most likely looks up first.
fn first_key<'c>(command: &'c Proposed<&[u8]>) -> Option<(u8, &'c [u8])> {
    match command {
        Proposed::Plain(call) => Some((call.db, call.argv.get(1)?)),
        Proposed::Transaction { .. } => None,
    }
}

fn run(
    tx: &mut Txn,
    body: &Bytes,
    names: &mut Resolver,
    command: Proposed<&[u8]>,
) -> Result<Reply, StoreError> {
    match command {
        Proposed::Plain(call) => run_call(tx, body, names, &call),
        Proposed::Transaction { guards, calls } => {
            for guard in guards {
                if !holds(tx, &guard)? {
                    return Ok(Reply::NilArray);
                }
            }
            calls
                .iter()
                .map(|call| run_call(tx, body, names, call))
                .collect::<Result<_, _>>()
                .map(Reply::Array)
        }
    }
}

fn holds(tx: &Txn, guard: &Guard<&[u8]>) -> Result<bool, StoreError> {
    Ok(keyspace::watched(tx, guard.db, guard.key)? == guard.revision || planted(Mutant::WatchBlind))
}

fn run_call(
    tx: &mut Txn,
    body: &Bytes,
    names: &mut Resolver,
    call: &Call<&[u8]>,
) -> Result<Reply, StoreError> {
    match names.resolve(&call.argv) {
        Ok(resolved) => resolved.apply(Args::within(body, &call.argv, resolved.skip, call.db), tx),
        Err(error) => Ok(error.into()),
    }
}
