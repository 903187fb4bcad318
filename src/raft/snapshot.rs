//! Sending the whole state to a follower that the log no longer reaches, and receiving it.
//!
//! A snapshot costs nothing until somebody needs it: after a checkpoint the database itself is one, so
//! what openraft passes around is only a handle ([`SnapshotData::Live`]). Sending copies the database to a
//! file at disk speed (a read transaction that lived as long as a slow network would make the database
//! grow) and streams that file. The receiver checks it, syncs it, and hands it to the state machine.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::{BufMut, BytesMut};
use openraft::alias;

use super::link::Link;
use super::peers::Peers;
use super::types::{SnapshotMeta, Types, Vote, log_id};
use super::wire;
use crate::env::{Disk, Env};
use crate::machine::Stamp;
use crate::metrics::Metrics;
use crate::store::Store;

/// How much of the file travels in a frame.
const BLOCK_BYTES: usize = 256 << 10;

/// What openraft holds of a snapshot.
pub enum SnapshotData {
    /// This node's own database, as of its last checkpoint.
    Live { store: Arc<Store>, scratch: PathBuf },
    /// A received file, complete and synced.
    Received(ScratchFile),
}

/// A file that is removed when it is no longer needed.
pub struct ScratchFile {
    disk: Arc<dyn Disk>,
    pub path: PathBuf,
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        // What is left over after a failure here is removed at the next start.
        drop(self.disk.remove(&self.path));
    }
}

impl ScratchFile {
    /// A name for a new file in `dir`, which is created if need be.
    ///
    /// # Errors
    /// When the directory cannot be created.
    pub fn new(env: &Env, dir: &Path) -> io::Result<Self> {
        env.disk.create_dir_all(dir)?;
        let path = dir.join(format!("snapshot-{:016x}", env.rng.next_u64()));
        Ok(Self { disk: Arc::clone(&env.disk), path })
    }
}

/// What the checkpoint with this stamp holds, in openraft's words.
#[must_use]
pub fn meta(stamp: &Stamp) -> Option<SnapshotMeta> {
    Some(SnapshotMeta {
        last_log_id: stamp.position.map(|position| log_id(position.term, position.index)),
        last_membership: wire::decode_membership(&stamp.membership)?,
    })
}

/// Sends `snapshot` and returns the receiver's vote.
///
/// # Errors
/// When the copy or the connection fails.
pub async fn send(
    peers: &Peers,
    mut link: Link,
    vote: Vote,
    snapshot: alias::SnapshotOf<Types, SnapshotData>,
) -> io::Result<Vote> {
    let SnapshotData::Live { store, scratch } = snapshot.snapshot else {
        return Err(io::Error::other("only this node's own state is ever sent"));
    };
    let env = peers.env();
    let started = env.clock.monotonic();
    let file = ScratchFile::new(env, &scratch)?;
    let stamp = copy(env, store, &file.path).await?;
    let meta = Stamp::decode(&stamp).as_ref().and_then(meta).ok_or_else(unreadable)?;

    let mut out = BytesMut::new();
    wire::put_snapshot_begin(&mut out, &vote, &meta);
    let opened = env.disk.open(&file.path)?;
    let length = opened.len()?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut offset = 0;
    while offset < length {
        let count = BLOCK_BYTES.min(usize::try_from(length - offset).unwrap_or(BLOCK_BYTES));
        opened.read_at(&mut block[..count], offset)?;
        wire::put_frame(&mut out, wire::SNAPSHOT_DATA, |out| out.put_slice(&block[..count]));
        link.send(&mut out).await?;
        offset += count as u64;
    }
    wire::put_frame(&mut out, wire::SNAPSHOT_END, |_| {});
    link.send(&mut out).await?;
    let vote = match link.receive().await? {
        (wire::SNAPSHOT_DONE, body) => super::types::Take(&body).vote().ok_or_else(unreadable)?,
        _ => return Err(unreadable()),
    };
    let figures = &peers.metrics().recorded;
    figures.snapshot_send_bytes.increment(length);
    figures.snapshot_send_seconds.record(env.clock.monotonic().saturating_sub(started));
    Ok(vote)
}

async fn copy(env: &Env, store: Arc<Store>, path: &Path) -> io::Result<bytes::Bytes> {
    let result = Arc::new(Mutex::new(None));
    let (to, path) = (Arc::clone(&result), path.to_owned());
    let work = move || *to.lock().expect("no holder panics") = Some(store.snapshot_to(&path));
    env.spawner.blocking(Box::new(work)).await;
    let copied = result.lock().expect("no holder panics").take();
    let info = copied.ok_or_else(|| io::Error::other("the copy was cancelled"))?.map_err(io::Error::other)?;
    Ok(info.stamp)
}

fn unreadable() -> io::Error {
    wire::Malformed("a snapshot").into()
}

/// Receives a snapshot into a file below `scratch`.
///
/// # Errors
/// When the connection breaks or the disk fails; nothing is left behind then.
pub async fn receive(
    env: &Env,
    metrics: &Metrics,
    link: &mut Link,
    scratch: &Path,
) -> io::Result<(Vote, alias::SnapshotOf<Types, SnapshotData>)> {
    let started = env.clock.monotonic();
    let (wire::SNAPSHOT_BEGIN, head) = link.receive().await? else { return Err(unreadable()) };
    let (vote, meta) = wire::take_snapshot_begin(&head)?;
    let file = ScratchFile::new(env, scratch)?;
    let created = env.disk.create(&file.path)?;
    let mut length = 0;
    loop {
        match link.receive().await? {
            (wire::SNAPSHOT_DATA, block) => {
                created.write_at(&block, length)?;
                length += block.len() as u64;
            }
            (wire::SNAPSHOT_END, _) => break,
            _ => return Err(unreadable()),
        }
    }
    created.sync()?;
    let figures = &metrics.recorded;
    figures.snapshot_receive_bytes.increment(length);
    figures.snapshot_receive_seconds.record(env.clock.monotonic().saturating_sub(started));
    let snapshot = openraft::Snapshot { meta, snapshot: SnapshotData::Received(file) };
    Ok((vote, snapshot))
}

/// Answers a received snapshot with this node's vote.
///
/// # Errors
/// When the connection broke.
pub async fn acknowledge(link: &mut Link, vote: &Vote) -> io::Result<()> {
    let mut out = BytesMut::new();
    wire::put_frame(&mut out, wire::SNAPSHOT_DONE, |out| super::types::Put::put_vote(out, vote));
    link.send(&mut out).await
}
