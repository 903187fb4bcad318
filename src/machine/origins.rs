//! Which groups have been applied, and what was answered to those not yet acknowledged.
//!
//! A node sends the groups it has no answer for again, to each new leader, so a group can be in the log
//! twice. Each origin numbers its groups from 1 in every boot; the machine applies them in order, drops a
//! repeat, and refuses a gap (a later group overtook one that was lost; the origin will send both again).
//! Answers are kept until the origin says, in a later group, that it has them: a node that skips entries
//! by installing a snapshot finds its own answers here.
//!
//! The table is part of the replicated state and of every checkpoint and snapshot: without it a repeat
//! after a restart would be applied twice.
//!
//! | bytes | one origin's row |
//! | --- | --- |
//! | 8, 8, 8 | node, boot, last applied sequence |
//! | 4 | number of kept answers, oldest first; the last one answers the last sequence |
//! | | each: 4 bytes count of replies, and the replies in [`Reply`]'s stored form |

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::entry::GroupHeader;
use crate::mutants::{Mutant, planted};
use crate::resp::Reply;

/// One row a node; the rows of its former boots are overwritten.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origins(BTreeMap<u64, Row>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Row {
    boot: u64,
    last: u64,
    answers: VecDeque<Arc<Vec<Reply>>>,
}

/// What to do with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is the next one.
    Apply,
    /// It was applied before, or comes from a boot that has ended.
    Repeat,
    /// One before it is missing.
    Gap,
}

impl Origins {
    /// Decides about a group, and forgets the answers it acknowledges.
    pub fn admit(&mut self, group: &GroupHeader) -> Admission {
        let row = self.0.entry(group.node).or_default();
        if group.boot > row.boot {
            *row = Row { boot: group.boot, ..Row::default() };
        }
        if group.boot < row.boot || group.sequence <= row.last {
            let is_applied = planted(Mutant::RepeatApplied) && group.boot == row.boot;
            return if is_applied { Admission::Apply } else { Admission::Repeat };
        }
        if group.sequence != row.last + 1 {
            return Admission::Gap;
        }
        let kept = row.last.saturating_sub(group.answered) as usize;
        while row.answers.len() > kept {
            row.answers.pop_front();
        }
        Admission::Apply
    }

    /// Notes the answers to a group that was just admitted and applied.
    pub fn answer(&mut self, group: &GroupHeader, replies: Arc<Vec<Reply>>) {
        let row = self.0.entry(group.node).or_default();
        row.last = group.sequence;
        row.answers.push_back(replies);
    }

    /// The kept answers of one boot of one node, with their sequences.
    pub fn answers(&self, node: u64, boot: u64) -> impl Iterator<Item = (u64, &Arc<Vec<Reply>>)> {
        let row = self.0.get(&node).filter(|row| row.boot == boot);
        row.into_iter().flat_map(|row| {
            let first = row.last + 1 - row.answers.len() as u64;
            row.answers.iter().enumerate().map(move |(place, replies)| (first + place as u64, replies))
        })
    }

    /// Appends the table's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.0.len() as u32).to_le_bytes());
        for (node, row) in &self.0 {
            for number in [*node, row.boot, row.last] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&(row.answers.len() as u32).to_le_bytes());
            for replies in &row.answers {
                out.extend_from_slice(&(replies.len() as u32).to_le_bytes());
                for reply in replies.iter() {
                    reply.store(out);
                }
            }
        }
    }

    /// Reads what [`Origins::encode`] wrote; `None` if it did not.
    pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let mut table = BTreeMap::new();
        for _ in 0..take_u32(bytes)? {
            let node = take_u64(bytes)?;
            let mut row = Row { boot: take_u64(bytes)?, last: take_u64(bytes)?, answers: VecDeque::new() };
            for _ in 0..take_u32(bytes)? {
                let count = take_u32(bytes)?;
                let replies = (0..count).map(|_| Reply::load(bytes)).collect::<Option<Vec<_>>>()?;
                row.answers.push_back(Arc::new(replies));
            }
            table.insert(node, row);
        }
        Some(Self(table))
    }
}

pub(super) fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

pub(super) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn group(boot: u64, sequence: u64, answered: u64) -> GroupHeader {
        GroupHeader { node: 1, boot, sequence, answered, commands: 1, shortage: None }
    }

    fn apply(origins: &mut Origins, group: GroupHeader) -> Admission {
        let admission = origins.admit(&group);
        if admission == Admission::Apply {
            origins.answer(&group, Arc::new(vec![Reply::Int(group.sequence as i64)]));
        }
        admission
    }

    #[test]
    fn a_repeat_is_dropped_and_a_gap_refused() {
        let mut origins = Origins::default();
        assert_eq!(apply(&mut origins, group(1, 1, 0)), Admission::Apply);
        assert_eq!(apply(&mut origins, group(1, 1, 0)), Admission::Repeat);
        assert_eq!(apply(&mut origins, group(1, 3, 0)), Admission::Gap);
        assert_eq!(apply(&mut origins, group(1, 2, 0)), Admission::Apply);
        assert_eq!(apply(&mut origins, group(1, 3, 0)), Admission::Apply);
    }

    #[test]
    fn a_new_boot_starts_over_and_ends_the_old_one() {
        let mut origins = Origins::default();
        apply(&mut origins, group(1, 1, 0));
        assert_eq!(apply(&mut origins, group(2, 1, 0)), Admission::Apply);
        assert_eq!(apply(&mut origins, group(1, 2, 1)), Admission::Repeat);
        assert_eq!(origins.answers(1, 1).count(), 0);
    }

    #[test]
    fn answers_are_kept_until_acknowledged() {
        let mut origins = Origins::default();
        for (sequence, answered) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
            apply(&mut origins, group(1, sequence, answered));
        }
        let kept = origins.answers(1, 1).map(|(sequence, _)| sequence).collect::<Vec<_>>();
        assert_eq!(kept, [2, 3, 4]);
    }

    #[test]
    fn the_table_survives_a_checkpoint() {
        let mut origins = Origins::default();
        for sequence in 1..4 {
            apply(&mut origins, group(7, sequence, 0));
        }
        let mut bytes = Vec::new();
        origins.encode(&mut bytes);
        assert_eq!(Origins::decode(&mut bytes.as_slice()).unwrap(), origins);
    }
}
