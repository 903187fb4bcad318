//! What strangers may send, in pieces at which a fuzzer can throw bytes.
//!
//! A target takes any bytes and panics when something is said that must not be: that it does not panic otherwise, on
//! whatever input, is what is looked for. `cargo test` replays the inputs that were kept in `corpus/`, one directory
//! for each target; `prove fuzz` (in compat-tests) looks for new ones with libFuzzer, which sees what
//! they reach.

use std::path::Path;

use bytes::{Bytes, BytesMut};

use crate::commands::{self, Args};
use crate::env::Env;
use crate::env::sim::{self, World};
use crate::error::StoreError;
use crate::glob;
use crate::machine::entry::{self, Entry};
use crate::raft::{log, wire};
use crate::resp::{Limits, Reader};
use crate::store::{self, Options, Store};
use crate::types::keyspace;

/// Something that reads bytes.
pub struct Target {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target { name: "requests", about: "a client's bytes, in reads of any size", run: requests },
    Target { name: "commands", about: "requests, applied to an empty state", run: commands },
    Target { name: "glob", about: "a pattern, a line end, a text", run: globs },
    Target { name: "entry", about: "what the log holds of commands", run: entries },
    Target { name: "log-record", about: "a record of the log behind its checksum", run: log::fuzz },
    Target { name: "peer", about: "frames of another node", run: peer },
    Target { name: "hello", about: "how another node introduces itself", run: hello },
    Target { name: "snapshot", about: "a snapshot file, checksums put right", run: snapshot },
];

/// A frame's length and tag.
const FRAME_HEAD_BYTES: usize = 5;
const LIMITS: Limits = Limits::authenticated(512 << 20, 1 << 30);

/// The requests in `bytes`, read in pieces of `read_bytes` at most, and why there are no more.
fn read(bytes: &[u8], read_bytes: usize) -> (Vec<Vec<Bytes>>, Option<String>) {
    let mut reader = Reader::new();
    let mut requests = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let buffer = reader.buffer();
        let room = buffer.capacity() - buffer.len();
        assert!(room > 0, "there is always room to read into");
        let (piece, unread) = rest.split_at(rest.len().min(room).min(read_bytes));
        buffer.extend_from_slice(piece);
        rest = unread;
        loop {
            match reader.next(&LIMITS) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(violation) => return (requests, Some(violation.to_string())),
            }
        }
    }
    (requests, None)
}

/// However the bytes are cut into reads, they are the same requests.
fn requests(bytes: &[u8]) {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    assert_eq!(read(bytes, usize::MAX), read(bytes, 1 + usize::from(cut)));
}

/// Any command may be applied, scripts among them.
fn commands(bytes: &[u8]) {
    let (requests, _) = read(bytes, usize::MAX);
    with_store(|store, _| {
        let mut tx = store.txn(1_000, 7);
        tx.head_mut().clock_ms = 1_000;
        for argv in &requests {
            if let Ok(resolved) = commands::resolve(argv) {
                resolved.apply(Args::new(argv, resolved.skip, 0), &mut tx).expect("the simulated disk works");
                keyspace::commit(&mut tx);
            }
        }
    });
}

/// A match begins with what every match begins with, and with any case the text's is of no account.
fn globs(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (pattern, text) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if glob::matches(pattern, text) {
        assert!(text.starts_with(&glob::literal_prefix(pattern)));
    }
    let lower = text.to_ascii_lowercase();
    assert_eq!(glob::matches_ignore_case(pattern, text), glob::matches_ignore_case(pattern, &lower));
}

fn entries(bytes: &[u8]) {
    drop(entry::group_header(bytes));
    let Ok(mut entry) = Entry::decode(bytes) else { return };
    while let Ok(Some((_, mut commands))) = entry.next_group() {
        while let Ok(Some(command)) = commands.next_command() {
            drop(command);
        }
    }
}

/// What is read of a frame, written again, is read as the same.
fn peer(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    // A frame may be long, and only its beginning here.
    while let Some(length) = buffer.first_chunk().map(|length| u32::from_le_bytes(*length) as usize)
        && length <= buffer.len()
        && let Ok(Some((tag, body))) = wire::take_frame(&mut buffer)
    {
        if let Ok(once) = again(tag, &body) {
            assert_eq!(again(tag, &once).expect("what was written is read"), once, "frame {tag}");
        }
    }
}

/// The body of the frame that says what this one says.
fn again(tag: u8, body: &Bytes) -> Result<Bytes, wire::Malformed> {
    let mut out = BytesMut::new();
    match tag {
        wire::APPEND => wire::put_append(&mut out, &wire::take_append(body)?),
        wire::APPENDED => wire::put_appended(&mut out, &wire::take_appended(body)?),
        wire::REQUEST => {
            let (number, request) = wire::take_request(body)?;
            wire::put_request(&mut out, number, &request);
        }
        wire::RESPONSE => {
            let (number, response) = wire::take_response(body)?;
            wire::put_response(&mut out, number, &response);
        }
        wire::SNAPSHOT_BEGIN => {
            let (vote, meta) = wire::take_snapshot_begin(body)?;
            wire::put_snapshot_begin(&mut out, &vote, &meta);
        }
        _ => return Err(wire::Malformed("no frame that stands alone")),
    }
    Ok(out.split_off(FRAME_HEAD_BYTES).freeze())
}

fn hello(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk()
        && let Ok(hello) = wire::Hello::decode(bytes)
    {
        assert_eq!(hello.encode(), *bytes);
    }
}

/// A head, and records: a file that does not make sense is refused, whatever its checksums say.
fn snapshot(bytes: &[u8]) {
    let Some((&length, bytes)) = bytes.split_first() else { return };
    let (head, records) = bytes.split_at(bytes.len().min(length.into()));
    with_store(|store, env| {
        let path = Path::new("snapshot");
        let written =
            env.disk.create(path).and_then(|file| file.write_at(&store::snapshot_file_of(head, records), 0));
        written.expect("the simulated disk works");
        match store.install(path) {
            Ok(_) | Err(StoreError::Corrupt(_)) => {}
            Err(other) => panic!("{other}"),
        }
    });
}

fn with_store(action: impl FnOnce(&Store, &Env)) {
    sim::run(1, async move |world: World| {
        let env = world.node("a");
        let (store, _) = Store::open(&env, Path::new("state"), Options::default()).expect("an empty state");
        action(&store, &env);
    });
}

#[cfg(test)]
mod tests;
