//! Everything comes back from the wire as it was.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;

use super::*;
use crate::raft::types::{Body, Entry, Membership, log_id};

fn member(port: u16) -> Member {
    Member { peer_address: format!("h:{port}"), client_address: format!("c:{port}") }
}

fn membership() -> Membership {
    let nodes = BTreeMap::from([(1, member(1)), (2, member(2)), (3, member(3))]);
    Membership::new(vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])], nodes).unwrap()
}

fn frame(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    write(&mut out);
    let (_, body) = take_frame(&mut out).unwrap().unwrap();
    assert!(out.is_empty());
    body
}

#[test]
fn append_requests_survive_the_wire() {
    let request = AppendEntriesRequest {
        vote: Vote::new_committed(7, 2),
        prev_log_id: Some(log_id(6, 41)),
        entries: vec![
            Entry { log_id: log_id(7, 42), payload: EntryPayload::Blank },
            Entry { log_id: log_id(7, 43), payload: EntryPayload::Normal(Body(Bytes::from_static(b"x"))) },
            Entry { log_id: log_id(7, 44), payload: EntryPayload::Membership(membership()) },
        ],
        leader_commit: None,
    };
    let read = take_append(&frame(|out| put_append(out, &request))).unwrap();
    assert_eq!(format!("{read:?}"), format!("{request:?}"));
}

#[test]
fn append_answers_survive_the_wire() {
    let answers = [
        Ok(None),
        Ok(Some(log_id(1, 2))),
        Err(StreamAppendError::Conflict(log_id(3, 4))),
        Err(StreamAppendError::HigherVote(Vote::new(9, 1))),
    ];
    for answer in answers {
        assert_eq!(take_appended(&frame(|out| put_appended(out, &answer))).unwrap(), answer);
    }
}

#[test]
fn requests_and_responses_survive_the_wire() {
    let requests = [
        Request::Vote { pre: true, vote: Vote::new(3, 1), last: Some(log_id(2, 9)), transfer: false },
        Request::TransferLeader { from: Vote::new_committed(3, 1), to: 2, last: None },
        Request::ReadIndex { vote: Some(Vote::new_committed(3, 1)) },
        Request::ReadIndex { vote: None },
        Request::Confirm { vote: Vote::new_committed(3, 1) },
        Request::Tick { clock_ms: 5 },
        Request::Propose { group: Bytes::from_static(b"group") },
        Request::Join { member: member(9) },
        Request::Admit { node: 4, member: member(9) },
        Request::Return { node: 4, member: member(9) },
        Request::Forget { node: 4 },
        Request::Status,
        Request::Form { cluster: 1 << 100, node: 3 },
        Request::Clock,
        Request::DiskLow,
    ];
    for (number, request) in requests.into_iter().enumerate() {
        let read = take_request(&frame(|out| put_request(out, number as u64, &request))).unwrap();
        assert_eq!(read, (number as u64, request));
    }
    let responses = [
        Response::Vote { vote: Vote::new(3, 1), granted: true, last: None },
        Response::Done,
        Response::ReadIndex { index: 1, clock_ms: 2 },
        Response::Joined { cluster: 5, node: 6 },
        Response::Empty { member: member(7) },
        Response::Member { cluster: 5, node: 6 },
        Response::Clock { kept_ms: Some(8) },
        Response::Clock { kept_ms: None },
        Response::Forgotten,
        Response::Refused { reason: "not the leader".into() },
    ];
    for (number, response) in responses.into_iter().enumerate() {
        let read = take_response(&frame(|out| put_response(out, number as u64, &response))).unwrap();
        assert_eq!(read, (number as u64, response));
    }
}

#[test]
fn hellos_survive_and_strangers_are_told_where_they_are() {
    let hello = Hello { kind: LinkKind::Control, cluster: 3, from: 1, to: 2 };
    assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    assert!(Hello::decode(&[b'G'; HELLO_BYTES]).unwrap_err().contains("peer port"));
}

#[test]
fn damaged_frames_are_refused_without_panic() {
    let whole = frame(|out| {
        put_snapshot_begin(
            out,
            &Vote::new(1, 1),
            &SnapshotMeta {
                last_log_id: Some(log_id(1, 1)),
                last_membership: StoredMembership::new(None, membership()),
            },
        )
    });
    for end in 0..whole.len() {
        assert!(take_snapshot_begin(&whole[..end]).is_err());
        drop(take_append(&whole.slice(..end)));
        drop(take_request(&whole.slice(..end)));
        drop(take_response(&whole[..end]));
    }
    assert!(take_frame(&mut BytesMut::from(&[255u8; 8][..])).is_err());
}
