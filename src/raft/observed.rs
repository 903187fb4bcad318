//! What consensus does, in the words of whoever looks on (see [`crate::env::observer`]).

use super::log::{EntryKind, LogEntry, LogId};
use super::types::{Take, Vote};
use crate::env::observer::{Ballot, Place, Sight};

/// A place in the log.
pub fn place(id: &LogId) -> Place {
    Place { term: id.term, index: id.index }
}

/// A vote.
pub fn ballot(vote: &Vote) -> Ballot {
    Ballot { term: vote.leader_id.term, candidate: vote.leader_id.voted_for, won: vote.committed }
}

/// An entry put at the end of the log.
pub fn appended(entry: &LogEntry) -> Sight {
    let membership = match entry.kind {
        EntryKind::Membership => Take(&entry.body).membership(),
        EntryKind::Blank | EntryKind::Normal => None,
    };
    Sight::Appended {
        place: place(&entry.id),
        checksum: crc32c::crc32c(&entry.body),
        voters: membership.map(|membership| membership.get_joint_config().clone()),
    }
}
