//! The type parameters of openraft, and our own bytes for what it wants stored or sent.
//!
//! openraft's serde forms are declared unstable, so none of them is used: every byte on disk and on the
//! wire is written here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::{BufMut, Bytes};
use openraft::impls::leader_id_std::LeaderId;
use openraft::{EntryPayload, alias};

use super::log;
use super::runtime::Runtime;

openraft::declare_raft_types!(
    /// openraft's types, as this project uses them.
    pub Types:
        D = Body,
        R = (),
        NodeId = u64,
        Node = Member,
        LeaderId = LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = Runtime,
);

pub type LogId = alias::LogIdOf<Types>;
pub type Vote = alias::VoteOf<Types>;
pub type Entry = alias::EntryOf<Types>;
pub type Membership = openraft::Membership<u64, Member>;
pub type StoredMembership = alias::StoredMembershipOf<Types>;
pub type SnapshotMeta = alias::SnapshotMetaOf<Types>;

/// What an entry of ours carries: the bytes that [`crate::machine`] understands.
#[derive(Clone, PartialEq, Eq)]
pub struct Body(pub Bytes);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where a member of the cluster is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// `host:port` for the other nodes.
    pub peer_address: String,
    /// `host:port` for clients.
    pub client_address: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.peer_address)
    }
}

/// A log id of this term and index.
#[must_use]
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(term.into(), index)
}

/// openraft's log id as the log writes it.
#[must_use]
pub fn to_log(id: &LogId) -> log::LogId {
    log::LogId { term: id.leader_id.term, index: id.index }
}

/// The log's id as openraft wants it.
#[must_use]
pub fn from_log(id: log::LogId) -> LogId {
    log_id(id.term, id.index)
}

/// Takes numbers and strings off the front of some bytes; `None` once they run out.
pub(super) struct Take<'a>(pub &'a [u8]);

impl<'a> Take<'a> {
    pub fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    pub fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// What was read, if nothing is left behind it.
    pub fn whole<T>(&self, read: T) -> Option<T> {
        self.0.is_empty().then_some(read)
    }

    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn text(&mut self) -> Option<String> {
        let length = self.u16()?;
        String::from_utf8(self.bytes(length.into())?.to_vec()).ok()
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    /// 1 byte of whether there is one, then it.
    pub fn option<T>(&mut self, take: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { take(self).map(Some) } else { Some(None) }
    }

    pub fn log_id(&mut self) -> Option<LogId> {
        Some(log_id(self.u64()?, self.u64()?))
    }

    /// Term 8, node 8, committed 1.
    pub fn vote(&mut self) -> Option<Vote> {
        let (term, node) = (self.u64()?, self.u64()?);
        Some(if self.flag()? { Vote::new_committed(term, node) } else { Vote::new(term, node) })
    }

    pub fn member(&mut self) -> Option<Member> {
        Some(Member { peer_address: self.text()?, client_address: self.text()? })
    }

    /// See [`Put::membership`].
    pub fn membership(&mut self) -> Option<Membership> {
        let mut configs = Vec::new();
        for _ in 0..self.u8()? {
            configs.push((0..self.u16()?).map(|_| self.u64()).collect::<Option<BTreeSet<u64>>>()?);
        }
        let mut nodes = BTreeMap::new();
        for _ in 0..self.u16()? {
            nodes.insert(self.u64()?, self.member()?);
        }
        if configs.is_empty() && nodes.is_empty() {
            return Some(Membership::default());
        }
        Membership::new(configs, nodes).ok()
    }

    pub fn stored_membership(&mut self) -> Option<StoredMembership> {
        Some(StoredMembership::new(self.option(Self::log_id)?, self.membership()?))
    }
}

/// Appends the forms that [`Take`] takes.
pub(super) trait Put: BufMut {
    fn put_text(&mut self, text: &str) {
        self.put_u16_le(u16::try_from(text.len()).expect("addresses are short"));
        self.put_slice(text.as_bytes());
    }

    fn put_log_id(&mut self, id: &LogId) {
        self.put_u64_le(id.leader_id.term);
        self.put_u64_le(id.index);
    }

    fn put_option<T>(&mut self, value: Option<&T>, put: impl FnOnce(&mut Self, &T)) {
        self.put_u8(value.is_some().into());
        if let Some(value) = value {
            put(self, value);
        }
    }

    fn put_vote(&mut self, vote: &Vote) {
        self.put_u64_le(vote.leader_id.term);
        self.put_u64_le(vote.leader_id.voted_for);
        self.put_u8(vote.committed.into());
    }

    fn put_member(&mut self, member: &Member) {
        self.put_text(&member.peer_address);
        self.put_text(&member.client_address);
    }

    /// The number of voter sets (two while changing) 1, each set's size 2 and ids 8; the number of
    /// nodes 2, each an id 8 and its two addresses.
    fn put_membership(&mut self, membership: &Membership) {
        let configs = membership.get_joint_config();
        self.put_u8(u8::try_from(configs.len()).expect("at most two"));
        for config in configs {
            self.put_u16_le(u16::try_from(config.len()).expect("a handful"));
            config.iter().for_each(|node| self.put_u64_le(*node));
        }
        let nodes = membership.nodes().collect::<Vec<_>>();
        self.put_u16_le(u16::try_from(nodes.len()).expect("a handful"));
        for (id, member) in nodes {
            self.put_u64_le(*id);
            self.put_member(member);
        }
    }

    fn put_stored_membership(&mut self, stored: &StoredMembership) {
        self.put_option(stored.log_id().as_ref(), Self::put_log_id);
        self.put_membership(stored.membership());
    }
}

impl<B: BufMut> Put for B {}

/// An entry as the log keeps it.
#[must_use]
pub fn entry_to_log(entry: &Entry) -> log::LogEntry {
    let (kind, body) = match &entry.payload {
        EntryPayload::Blank => (log::EntryKind::Blank, Bytes::new()),
        EntryPayload::Normal(body) => (log::EntryKind::Normal, body.0.clone()),
        EntryPayload::Membership(membership) => {
            let mut bytes = Vec::new();
            bytes.put_membership(membership);
            (log::EntryKind::Membership, bytes.into())
        }
    };
    log::LogEntry { id: to_log(&entry.log_id), kind, body }
}

/// The log's entry as openraft wants it; `None` if its membership cannot be read.
#[must_use]
pub fn entry_from_log(entry: log::LogEntry) -> Option<Entry> {
    let payload = match entry.kind {
        log::EntryKind::Blank => EntryPayload::Blank,
        log::EntryKind::Normal => EntryPayload::Normal(Body(entry.body)),
        log::EntryKind::Membership => EntryPayload::Membership(Take(&entry.body).membership()?),
    };
    Some(Entry { log_id: from_log(entry.id), payload })
}
