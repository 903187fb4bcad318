//! What nodes say to each other, in bytes.
//!
//! Every connection opens with a [`Hello`], answered by a [`Welcome`]; then frames follow: a length (4
//! bytes, little endian like all numbers here), a tag (1 byte) and a body. The kind of link says which
//! tags may come.
//!
//! | link | to the server | back |
//! | --- | --- | --- |
//! | append | `APPEND` | `APPENDED`, in order |
//! | control | `REQUEST` with a number | `RESPONSE` with the same number |
//! | snapshot | `SNAPSHOT_BEGIN`, `SNAPSHOT_DATA`..., `SNAPSHOT_END` | one `SNAPSHOT_DONE` |
//! | bootstrap | `REQUEST`, before there is a cluster | `RESPONSE` |

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};

use super::log;
use super::types::{
    LogId, Member, Put, SnapshotMeta, StoredMembership, Take, Types, Vote, entry_from_log, entry_to_log,
};

/// Raised when a frame changes its meaning; nodes of different versions refuse each other by name.
pub const VERSION: u16 = 2;
const MAGIC: [u8; 4] = *b"QRT1";
/// No frame is larger: an entry is bounded by what a client may send in one request.
pub const FRAME_BYTES_MAX: usize = 1 << 30;
/// The fixed size of a [`Hello`].
pub const HELLO_BYTES: usize = 4 + 2 + 1 + 16 + 8 + 8;

pub const APPEND: u8 = 1;
pub const APPENDED: u8 = 2;
pub const REQUEST: u8 = 3;
pub const RESPONSE: u8 = 4;
pub const SNAPSHOT_BEGIN: u8 = 5;
pub const SNAPSHOT_DATA: u8 = 6;
pub const SNAPSHOT_END: u8 = 7;
pub const SNAPSHOT_DONE: u8 = 8;

/// What a connection between nodes is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkKind {
    Append = 1,
    Control = 2,
    Snapshot = 3,
    Bootstrap = 4,
}

/// Who is calling whom. A node answers only if the cluster and the target are really its own, so that a
/// new node at an old address is never mistaken for the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    pub kind: LinkKind,
    /// 0 on a bootstrap link.
    pub cluster: u128,
    pub from: u64,
    pub to: u64,
}

impl Hello {
    #[must_use]
    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = Vec::with_capacity(HELLO_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.put_u16_le(VERSION);
        bytes.put_u8(self.kind as u8);
        bytes.put_u128_le(self.cluster);
        bytes.put_u64_le(self.from);
        bytes.put_u64_le(self.to);
        bytes.try_into().expect("the fields add up")
    }

    /// # Errors
    /// Why the caller is not one of ours, in words for it.
    pub fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, String> {
        let mut take = Take(bytes);
        if take.bytes(4) != Some(&MAGIC) {
            return Err("this is the peer port of a Quorate node".into());
        }
        match take.u16() {
            Some(VERSION) => {}
            version => return Err(format!("peer protocol version {version:?}, this node speaks {VERSION}")),
        }
        let read = |mut take: Take| {
            let kind = match take.u8()? {
                1 => LinkKind::Append,
                2 => LinkKind::Control,
                3 => LinkKind::Snapshot,
                4 => LinkKind::Bootstrap,
                _ => return None,
            };
            Some(Self { kind, cluster: take.u128()?, from: take.u64()?, to: take.u64()? })
        };
        read(take).ok_or_else(|| "an unknown kind of link".into())
    }
}

/// The answer to a [`Hello`]: nothing, or why not.
pub type Welcome = Result<(), String>;

/// Appends a frame whose body `write` writes.
pub fn put_frame(out: &mut BytesMut, tag: u8, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u8(tag);
    write(out);
    let length = u32::try_from(out.len() - start - 4).expect("frames are limited");
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Takes a whole frame off the front of `buffer`, if there is one.
///
/// # Errors
/// When its length is out of bounds.
pub fn take_frame(buffer: &mut BytesMut) -> Result<Option<(u8, Bytes)>, Malformed> {
    let Some(length) = buffer.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize) else {
        return Ok(None);
    };
    if length == 0 || length > FRAME_BYTES_MAX {
        return Err(Malformed("a frame's length is out of bounds"));
    }
    if buffer.len() < 4 + length {
        buffer.reserve(4 + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(4);
    let tag = buffer.get_u8();
    Ok(Some((tag, buffer.split_to(length - 1).freeze())))
}

/// The other side does not speak our language, whatever its hello said.
#[derive(Debug, thiserror::Error)]
#[error("malformed message from a peer: {0}")]
pub struct Malformed(pub &'static str);

impl From<Malformed> for std::io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, malformed)
    }
}

/// Vote; previous log id; leader's commit; count of entries 4; each: kind 1, term 8, index 8, length 4, body.
pub fn put_append(out: &mut BytesMut, request: &AppendEntriesRequest<Types>) {
    put_frame(out, APPEND, |out| {
        out.put_vote(&request.vote);
        out.put_option(request.prev_log_id.as_ref(), Put::put_log_id);
        out.put_option(request.leader_commit.as_ref(), Put::put_log_id);
        out.put_u32_le(request.entries.len() as u32);
        for entry in &request.entries {
            let entry = entry_to_log(entry);
            out.put_u8(entry.kind as u8);
            out.put_u64_le(entry.id.term);
            out.put_u64_le(entry.id.index);
            out.put_u32_le(entry.body.len() as u32);
            out.put_slice(&entry.body);
        }
    });
}

/// Reads what [`put_append`] wrote; the entries' bodies are slices of `body`.
///
/// # Errors
/// When it did not.
pub fn take_append(body: &Bytes) -> Result<AppendEntriesRequest<Types>, Malformed> {
    read_append(body).ok_or(Malformed("an append request"))
}

fn read_append(body: &Bytes) -> Option<AppendEntriesRequest<Types>> {
    let mut take = Take(body);
    let vote = take.vote()?;
    let prev_log_id = take.option(Take::log_id)?;
    let leader_commit = take.option(Take::log_id)?;
    let count = take.u32()? as usize;
    let mut entries = Vec::with_capacity(count.min(body.len() / 21));
    for _ in 0..count {
        let kind = log::EntryKind::from_byte(take.u8()?)?;
        let id = log::LogId { term: take.u64()?, index: take.u64()? };
        let length = take.u32()? as usize;
        let body = body.slice_ref(take.bytes(length)?);
        entries.push(entry_from_log(log::LogEntry { id, kind, body })?);
    }
    take.whole(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

/// Status 1 (0 matched up to, 1 conflict at, 2 higher vote), then the log id or the vote.
pub fn put_appended(out: &mut BytesMut, result: &StreamAppendResult<Types>) {
    put_frame(out, APPENDED, |out| match result {
        Ok(matched) => {
            out.put_u8(0);
            out.put_option(matched.as_ref(), Put::put_log_id);
        }
        Err(StreamAppendError::Conflict(at)) => {
            out.put_u8(1);
            out.put_log_id(at);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            out.put_u8(2);
            out.put_vote(vote);
        }
    });
}

/// Reads what [`put_appended`] wrote.
///
/// # Errors
/// When it did not.
pub fn take_appended(body: &[u8]) -> Result<StreamAppendResult<Types>, Malformed> {
    let mut take = Take(body);
    let read = |take: &mut Take| match take.u8()? {
        0 => take.option(Take::log_id).map(Ok),
        1 => take.log_id().map(|at| Err(StreamAppendError::Conflict(at))),
        2 => take.vote().map(|vote| Err(StreamAppendError::HigherVote(vote))),
        _ => None,
    };
    read(&mut take).and_then(|read| take.whole(read)).ok_or(Malformed("an append answer"))
}

/// The head of a snapshot: the leader's vote, and what the snapshot holds.
pub fn put_snapshot_begin(out: &mut BytesMut, vote: &Vote, meta: &SnapshotMeta) {
    put_frame(out, SNAPSHOT_BEGIN, |out| {
        out.put_vote(vote);
        out.put_option(meta.last_log_id.as_ref(), Put::put_log_id);
        out.put_stored_membership(&meta.last_membership);
    });
}

/// Reads what [`put_snapshot_begin`] wrote.
///
/// # Errors
/// When it did not.
pub fn take_snapshot_begin(body: &[u8]) -> Result<(Vote, SnapshotMeta), Malformed> {
    let mut take = Take(body);
    let read = |take: &mut Take| {
        let vote = take.vote()?;
        let last_log_id = take.option(Take::log_id)?;
        Some((vote, SnapshotMeta { last_log_id, last_membership: take.stored_membership()? }))
    };
    read(&mut take).and_then(|read| take.whole(read)).ok_or(Malformed("the head of a snapshot"))
}

/// A question on a control or bootstrap link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Vote {
        pre: bool,
        vote: Vote,
        last: Option<LogId>,
        transfer: bool,
    },
    TransferLeader {
        from: Vote,
        to: u64,
        last: Option<LogId>,
    },
    /// The leader's read index and clock, and the last vote of who asks.
    ReadIndex {
        vote: Option<Vote>,
    },
    /// Whether this was the last vote; `Done` if so.
    Confirm {
        vote: Vote,
    },
    /// That the cluster's clock reach this.
    Tick {
        clock_ms: u64,
    },
    /// A sealed group to propose. Answered when refused, or with `Done` once proposed.
    Propose {
        group: Bytes,
    },
    /// A new member wants an id.
    Join {
        member: Member,
    },
    /// The member with this id runs, and wants to be caught up and made a voter.
    Admit {
        node: u64,
        member: Member,
    },
    /// The member with this id is here again, and wants to be known by these addresses.
    Return {
        node: u64,
        member: Member,
    },
    /// Somebody wants this member to be taken out of the cluster.
    Forget {
        node: u64,
    },
    /// Bootstrap: what are you?
    Status,
    /// Bootstrap: be this node of this new cluster.
    Form {
        cluster: u128,
        node: u64,
    },
    /// The cluster's time, as the asked node kept it.
    Clock,
    /// The asking node's disk is nearly full.
    DiskLow,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    Vote {
        vote: Vote,
        granted: bool,
        last: Option<LogId>,
    },
    Done,
    ReadIndex {
        index: u64,
        clock_ms: u64,
    },
    Joined {
        cluster: u128,
        node: u64,
    },
    /// Bootstrap: an empty data directory; this is what the node would be as a member.
    Empty {
        member: Member,
    },
    /// Bootstrap: a node of a cluster.
    Member {
        cluster: u128,
        node: u64,
    },
    /// The cluster's time; `None`: this node has not heard of it since it started.
    Clock {
        kept_ms: Option<u64>,
    },
    /// The cluster has taken the asking node out, for good.
    Forgotten,
    /// Certainly not done; the asker may ask again, another node perhaps.
    Refused {
        reason: String,
    },
}

/// Appends a numbered request.
pub fn put_request(out: &mut BytesMut, number: u64, request: &Request) {
    put_frame(out, REQUEST, |out| {
        out.put_u64_le(number);
        match request {
            Request::Vote { pre, vote, last, transfer } => {
                out.put_u8(1);
                out.put_u8((*pre).into());
                out.put_vote(vote);
                out.put_option(last.as_ref(), Put::put_log_id);
                out.put_u8((*transfer).into());
            }
            Request::TransferLeader { from, to, last } => {
                out.put_u8(2);
                out.put_vote(from);
                out.put_u64_le(*to);
                out.put_option(last.as_ref(), Put::put_log_id);
            }
            Request::ReadIndex { vote } => {
                out.put_u8(3);
                out.put_option(vote.as_ref(), Put::put_vote);
            }
            Request::Confirm { vote } => {
                out.put_u8(14);
                out.put_vote(vote);
            }
            Request::Tick { clock_ms } => {
                out.put_u8(4);
                out.put_u64_le(*clock_ms);
            }
            Request::Propose { group } => {
                out.put_u8(5);
                out.put_slice(group);
            }
            Request::Clock => out.put_u8(10),
            Request::DiskLow => out.put_u8(11),
            Request::Join { member } => {
                out.put_u8(6);
                out.put_member(member);
            }
            Request::Admit { node, member } => {
                out.put_u8(7);
                out.put_u64_le(*node);
                out.put_member(member);
            }
            Request::Return { node, member } => {
                out.put_u8(12);
                out.put_u64_le(*node);
                out.put_member(member);
            }
            Request::Forget { node } => {
                out.put_u8(13);
                out.put_u64_le(*node);
            }
            Request::Status => out.put_u8(8),
            Request::Form { cluster, node } => {
                out.put_u8(9);
                out.put_u128_le(*cluster);
                out.put_u64_le(*node);
            }
        }
    });
}

/// Reads what [`put_request`] wrote.
///
/// # Errors
/// When it did not.
pub fn take_request(body: &Bytes) -> Result<(u64, Request), Malformed> {
    read_request(body).ok_or(Malformed("a request"))
}

fn read_request(body: &Bytes) -> Option<(u64, Request)> {
    let mut take = Take(body);
    let number = take.u64()?;
    let request = match take.u8()? {
        1 => Request::Vote {
            pre: take.flag()?,
            vote: take.vote()?,
            last: take.option(Take::log_id)?,
            transfer: take.flag()?,
        },
        2 => {
            Request::TransferLeader { from: take.vote()?, to: take.u64()?, last: take.option(Take::log_id)? }
        }
        3 => Request::ReadIndex { vote: take.option(Take::vote)? },
        4 => Request::Tick { clock_ms: take.u64()? },
        5 => Request::Propose { group: body.slice_ref(take.bytes(take.0.len())?) },
        6 => Request::Join { member: take.member()? },
        7 => Request::Admit { node: take.u64()?, member: take.member()? },
        8 => Request::Status,
        9 => Request::Form { cluster: take.u128()?, node: take.u64()? },
        10 => Request::Clock,
        11 => Request::DiskLow,
        12 => Request::Return { node: take.u64()?, member: take.member()? },
        13 => Request::Forget { node: take.u64()? },
        14 => Request::Confirm { vote: take.vote()? },
        _ => return None,
    };
    take.whole((number, request))
}

/// Appends the response to the request of this number.
pub fn put_response(out: &mut BytesMut, number: u64, response: &Response) {
    put_frame(out, RESPONSE, |out| {
        out.put_u64_le(number);
        match response {
            Response::Vote { vote, granted, last } => {
                out.put_u8(1);
                out.put_vote(vote);
                out.put_u8((*granted).into());
                out.put_option(last.as_ref(), Put::put_log_id);
            }
            Response::Done => out.put_u8(2),
            Response::ReadIndex { index, clock_ms } => {
                out.put_u8(3);
                out.put_u64_le(*index);
                out.put_u64_le(*clock_ms);
            }
            Response::Joined { cluster, node } => {
                out.put_u8(4);
                out.put_u128_le(*cluster);
                out.put_u64_le(*node);
            }
            Response::Empty { member } => {
                out.put_u8(5);
                out.put_member(member);
            }
            Response::Member { cluster, node } => {
                out.put_u8(6);
                out.put_u128_le(*cluster);
                out.put_u64_le(*node);
            }
            Response::Clock { kept_ms } => {
                out.put_u8(8);
                out.put_option(kept_ms.as_ref(), |out, ms| out.put_u64_le(*ms));
            }
            Response::Forgotten => out.put_u8(9),
            Response::Refused { reason } => {
                out.put_u8(7);
                out.put_text(&reason.chars().take(1_000).collect::<String>());
            }
        }
    });
}

/// Reads what [`put_response`] wrote.
///
/// # Errors
/// When it did not.
pub fn take_response(body: &[u8]) -> Result<(u64, Response), Malformed> {
    read_response(Take(body)).ok_or(Malformed("a response"))
}

fn read_response(mut take: Take) -> Option<(u64, Response)> {
    let number = take.u64()?;
    let response = match take.u8()? {
        1 => Response::Vote { vote: take.vote()?, granted: take.flag()?, last: take.option(Take::log_id)? },
        2 => Response::Done,
        3 => Response::ReadIndex { index: take.u64()?, clock_ms: take.u64()? },
        4 => Response::Joined { cluster: take.u128()?, node: take.u64()? },
        5 => Response::Empty { member: take.member()? },
        6 => Response::Member { cluster: take.u128()?, node: take.u64()? },
        7 => Response::Refused { reason: take.text()? },
        8 => Response::Clock { kept_ms: take.option(Take::u64)? },
        9 => Response::Forgotten,
        _ => return None,
    };
    take.whole((number, response))
}

/// The stamp part that consensus owns: what membership the state was left with.
#[must_use]
pub fn encode_membership(stored: &StoredMembership) -> Bytes {
    let mut bytes = Vec::new();
    bytes.put_stored_membership(stored);
    bytes.into()
}

/// Reads what [`encode_membership`] wrote; `None` if it did not.
#[must_use]
pub fn decode_membership(bytes: &[u8]) -> Option<StoredMembership> {
    if bytes.is_empty() {
        return Some(StoredMembership::default());
    }
    let mut take = Take(bytes);
    let stored = take.stored_membership()?;
    take.whole(stored)
}

#[cfg(test)]
mod tests;
