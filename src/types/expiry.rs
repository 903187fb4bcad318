//! Keys that end by themselves.
//!
//! There is one clock: the cluster's, which only log entries move. A key is *gone* from the moment an
//! entry whose time is at or past the key's deadline is applied, and every node applies that entry. From
//! then on no command sees the key, though its record may still be there: removing is a separate step,
//! [`expire_due`], which the machine takes a few keys at a time at the start of each entry, in the order
//! of the deadlines. A write that meets a gone key removes it first, so that the key's `expired` event
//! comes before whatever the write itself reports. The removal is a change like any other: it takes a
//! revision, WATCH notices it, and all nodes do it in the same entry.
//!
//! A read runs on one node, between entries, at a time (`view.now()`) that may be later than the last
//! entry's. If it meets a key whose deadline lies between the two, the answer "gone" is right but no
//! entry has said so yet, and another node could still answer "there". So the read marks its view late;
//! the node then has the leader propose a tick (an entry that only carries the time), waits for it, and
//! reads again. That makes expiry exact and linearizable at once, and no node ever removes a key on the
//! strength of a clock of its own. The leader also proposes a tick by itself when [`next_deadline`]
//! passes, so that `expired` events come in time though nobody asks for the key.
//!
//! # The index
//! `Table::Expiry` holds one entry without a value for each key that has a deadline: the deadline, 8
//! bytes big-endian, and then the key's address in `Table::Keys`. What a flush leaves behind keeps its
//! index entries until it is swept; one that comes due before is dropped without a word.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::keyspace::{GENERATION_BYTES, Place};
use super::{collection, record};
use crate::error::StoreError;
use crate::store::{Table, Txn, View};

const DEADLINE_BYTES: usize = 8;

/// Whether a key with this deadline is gone. Marks the view late if no entry has said so yet.
#[must_use]
pub fn is_past(view: &View, deadline: Option<u64>) -> bool {
    match deadline {
        Some(deadline) if deadline <= view.head().clock_ms => true,
        Some(deadline) if deadline <= view.now() => {
            view.mark_late();
            true
        }
        _ => false,
    }
}

/// When the next key ends, in cluster milliseconds: the time of the tick the leader owes.
pub fn next_deadline(view: &View) -> Result<Option<u64>, StoreError> {
    let mut next = None;
    view.scan(Table::Expiry, &[], None, &mut |index_key, _| {
        next = Some(deadline_of(index_key));
        ControlFlow::Break(())
    })?;
    next.transpose()
}

/// The average time to live of each database's keys, in milliseconds: of those that end first, up to a thousand in
/// all, which is what can be told without looking at every key.
pub fn average_ttls(view: &View) -> Result<BTreeMap<u8, u64>, StoreError> {
    const KEYS_MAX: usize = 1_000;
    let head = view.head();
    let mut sums: BTreeMap<u8, (u64, u64)> = BTreeMap::new();
    let mut seen = 0;
    view.scan(Table::Expiry, &[], None, &mut |index_key, _| {
        let generation = index_key.get(DEADLINE_BYTES..).and_then(|rest| rest.first_chunk());
        let deadline = deadline_of(index_key);
        if let (Some(generation), Ok(deadline)) = (generation, deadline) {
            let generation = u64::from_be_bytes(*generation);
            let db = head.databases.iter().position(|database| database.generation == generation);
            if let Some(db) = db.and_then(|db| u8::try_from(db).ok()) {
                let (sum, keys) = sums.entry(db).or_default();
                *sum = sum.saturating_add(deadline.saturating_sub(head.clock_ms));
                *keys += 1;
            }
        }
        seen += 1;
        if seen < KEYS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(sums.into_iter().map(|(db, (sum, keys))| (db, sum / keys)).collect())
}

/// Removes up to `budget` keys whose deadline has passed, the earliest first, each with its `expired`
/// event; answers how many index entries it took. The machine calls this at the start of each entry
/// and commits it before the entry's first command: these removals share a revision of their own.
pub fn expire_due(tx: &mut Txn, budget: usize) -> Result<usize, StoreError> {
    let now = tx.now();
    let end = now.checked_add(1).map(u64::to_be_bytes);
    let mut due = Vec::new();
    tx.scan(Table::Expiry, &[], end.as_ref().map(<[u8; DEADLINE_BYTES]>::as_slice), &mut |index_key, _| {
        due.push(Bytes::copy_from_slice(index_key));
        if due.len() < budget { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    for index_key in &due {
        expire_one(tx, index_key)?;
    }
    Ok(due.len())
}

fn expire_one(tx: &mut Txn, index_key: &Bytes) -> Result<(), StoreError> {
    let Some((generation, key)) = split(index_key) else { return Err(corrupt()) };
    let databases = &tx.head().databases;
    match databases.iter().position(|database| database.generation == generation) {
        Some(db) => {
            let db = u8::try_from(db).expect("there are sixteen databases");
            if !Place::look(tx, db, &key)?.bury(tx) {
                return Err(StoreError::Corrupt("the expiry index names a key with another deadline".into()));
            }
        }
        None => {
            let address = &index_key[DEADLINE_BYTES..];
            if let Some(stored) = tx.get(Table::Keys, address)? {
                let (header, value) = record::split(&stored)?;
                tx.head_mut().garbage.extend(collection::apart_of(header.kind, value));
            }
            tx.delete(Table::Keys, address);
            tx.delete(Table::Expiry, index_key);
        }
    }
    Ok(())
}

/// The index entry of the key stored at `address`.
pub(super) fn index_key(deadline: u64, address: &[u8]) -> Vec<u8> {
    let mut index_key = Vec::with_capacity(DEADLINE_BYTES + address.len());
    index_key.extend_from_slice(&deadline.to_be_bytes());
    index_key.extend_from_slice(address);
    index_key
}

fn deadline_of(index_key: &[u8]) -> Result<u64, StoreError> {
    index_key.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)).ok_or_else(corrupt)
}

/// The generation and the key in an index entry.
fn split(index_key: &Bytes) -> Option<(u64, Bytes)> {
    let generation = index_key.get(DEADLINE_BYTES..)?.first_chunk()?;
    Some((u64::from_be_bytes(*generation), index_key.slice(DEADLINE_BYTES + GENERATION_BYTES..)))
}

fn corrupt() -> StoreError {
    StoreError::Corrupt("an entry of the expiry index is too short".into())
}
