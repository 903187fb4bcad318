//! Somebody who looks into a node from outside and changes nothing: the simulator, which checks after each
//! thing it is told that nothing impossible happened anywhere in the cluster.
//!
//! A real machine has no observer, and pays one test of a pointer for each of these.

use std::collections::BTreeSet;

use bytes::Bytes;

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub term: u64,
    pub index: u64,
}

/// A vote: for whom, in which term, and whether he won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballot {
    pub term: u64,
    pub candidate: u64,
    pub won: bool,
}

/// A log, by its two ends: with the entries that lead up to its last one, that is all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub vote: Option<Ballot>,
    pub purged: Option<Place>,
    pub last: Option<Place>,
}

/// A group of commands: whose, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    pub node: u64,
    pub boot: u64,
    pub sequence: u64,
}

/// Where a reply comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From the log: it answers the command at this place in the group.
    Log { group: GroupId, place: usize },
    /// From the node's state, which has all up to `index`.
    State { index: u64 },
}

/// Something that happened inside of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A node starts, with this log, and a state that has all up to `applied`.
    Opened { node: u64, log: Extent, applied: Option<Place> },
    /// It begins to save a vote: its own, for itself or another, or for a leader that was elected.
    Voted(Ballot),
    /// It says that this vote is saved.
    VoteKept(Ballot),
    /// It puts an entry at the end of its log. A change of members says who votes then: two sets while changing.
    Appended { place: Place, checksum: u32, voters: Option<Vec<BTreeSet<u64>>> },
    /// It says that the entries up to this one are kept.
    EntriesKept(Place),
    /// It removes the entries after this one.
    Truncated(Option<Place>),
    /// It lets go of the entries up to this one.
    Purged(Place),
    /// A sync of the log has ended; this is what is on the disk.
    Synced(Extent),
    /// It takes everything up to this entry for committed.
    Committed(Place),
    /// It has applied an entry.
    Applied(AppliedEntry),
    /// A snapshot has taken the place of its state.
    Installed { place: Place, clock_ms: u64 },
    /// As the leader, it gives an entry this time.
    Stamped { clock_ms: u64 },
    /// It knows the cluster's time from now on.
    TimeKept,
    /// It goes by its wall clock, since nobody kept the time; from this time on.
    TimeFromWall { clock_ms: u64 },
    /// It has applied an entry of these bytes; the groups in it that count were answered so, in RESP2.
    Ran { index: u64, body: Bytes, answers: Vec<(GroupId, Vec<Bytes>)> },
    /// It gives a client, by his address, the reply with this number on his connection.
    Replied { address: String, number: u64, source: Source },
    /// A group of its own has these answers to give, from the entry just applied.
    Outcome { sequence: u64 },
    /// A client is given the answers to commands of this group.
    Answered { sequence: u64 },
    /// A client wants to read.
    ReadAsked { client: u64 },
    /// His reads are let through to the state, which has all up to `index`.
    ReadFrom { client: u64, index: u64 },
}

/// What applying an entry did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppliedEntry {
    pub place: Place,
    /// Of its bytes.
    pub checksum: u32,
    /// The cluster's time after it; 0 if it did not touch the state.
    pub clock_ms: u64,
    pub revision: u64,
    /// How many keys ended by themselves.
    pub expired: u64,
    /// When the next key ends.
    pub next_deadline: Option<u64>,
    /// A hash of the state, if the observer asked for it.
    pub state_hash: Option<u64>,
}

/// Who looks on.
pub trait Observer: Send + Sync {
    /// Whether the state is to be hashed once the entry at `index` is applied, which reads all of it.
    fn hashes_at(&self, index: u64) -> bool;
    /// Whether it is to be told what the entry at `index` was and what it answered.
    fn reads(&self, index: u64) -> bool;
    /// Told of everything, at the moment it happens.
    fn saw(&self, sight: &Sight);
}
