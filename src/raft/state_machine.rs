//! openraft's state machine over [`crate::machine`].
//!
//! Entries are applied where openraft calls, one at a time, to the buffer in memory; the disk sees them at
//! the next checkpoint, and until then the log is what makes them durable. So a node that starts applies
//! again what its last checkpoint did not hold, and the log is never purged past a checkpoint.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, alias};
use tokio::sync::watch;

use super::snapshot::{self, SnapshotData};
use super::types::{LogId, SnapshotMeta, StoredMembership, Types, log_id};
use super::wire;
use crate::env::observer::{AppliedEntry, GroupId, Place, Sight};
use crate::env::{Env, Exit};
use crate::error::StoreError;
use crate::machine::entry::GroupHeader;
use crate::machine::{Applied, Machine, Outcome, Position, Stamp};
use crate::metrics::Metrics;
use crate::mutants::{Mutant, planted};
use crate::resp::{Protocol, encode};
use crate::store::Store;

/// Who hears of what was applied. Called in log order, from the task that applies; must not block.
pub trait Listener: Send + Sync {
    /// An entry was applied: `applied` is what it answered and what happened in it. It `came` here then, by the monotonic
    /// clock; it may have been much to do.
    fn applied(&self, position: Position, came: Duration, applied: Applied);
    /// The state was replaced by a snapshot, which `came` here then.
    fn replaced(&self, machine: &Machine, came: Duration);
}

/// The replicated machine, for openraft.
pub struct StateMachine {
    env: Env,
    metrics: Arc<Metrics>,
    machine: Machine,
    listener: Arc<dyn Listener>,
    /// Where snapshots are copied to before they are sent.
    scratch: PathBuf,
    /// Counts checkpoints that have become durable.
    checkpoints: watch::Receiver<u64>,
}

impl StateMachine {
    /// `checkpoints` must change after each durable checkpoint of the machine's store.
    #[must_use]
    pub fn new(
        env: Env,
        metrics: Arc<Metrics>,
        machine: Machine,
        listener: Arc<dyn Listener>,
        scratch: PathBuf,
        checkpoints: watch::Receiver<u64>,
    ) -> Self {
        Self { env, metrics, machine, listener, scratch, checkpoints }
    }

    /// The last entry applied.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        self.machine.position()
    }

    /// Tells whoever looks on what an entry did.
    fn observe(&self, position: Position, checksum: Option<u32>, applied: &Applied) {
        let (Some(observer), Some(checksum)) = (&self.env.observer, checksum) else { return };
        let state_hash = observer.hashes_at(position.index).then(|| self.machine.store().state_hash());
        observer.saw(&Sight::Applied(AppliedEntry {
            place: Place { term: position.term, index: position.index },
            checksum,
            clock_ms: applied.clock_ms,
            revision: applied.revision,
            expired: applied.expired,
            next_deadline: applied.next_deadline,
            state_hash: state_hash.and_then(Result::ok),
        }));
        for outcome in &applied.outcomes {
            if let Outcome::Answered { sequence, .. } = outcome {
                observer.saw(&Sight::Outcome { sequence: *sequence });
            }
        }
    }

    /// Tells whoever looks on, and wants to know, what an entry was and what was answered to it.
    fn show(&self, index: u64, body: Option<Bytes>, applied: &Applied) {
        let (Some(observer), Some(body)) = (&self.env.observer, body) else { return };
        let answer = |reply| {
            let mut bytes = BytesMut::new();
            encode(reply, Protocol::Resp2, &mut bytes);
            bytes.freeze()
        };
        let answers = applied.ran.iter().map(|(group, replies)| {
            let GroupHeader { node, boot, sequence, .. } = *group;
            (GroupId { node, boot, sequence }, replies.iter().map(answer).collect())
        });
        observer.saw(&Sight::Ran { index, body, answers: answers.collect() });
    }

    /// A failed store ends the node at once: openraft would only stop its core, and clients would wait.
    fn fail(&self, error: &StoreError) -> ! {
        tracing::error!(%error, "the state cannot be kept");
        self.env.spawner.exit(Exit::StoreFailed)
    }

    fn apply_entry(&mut self, entry: alias::EntryOf<Types>) {
        let came = self.env.clock.monotonic();
        let position = Position { term: entry.log_id.leader_id.term, index: entry.log_id.index };
        let checksum = self.env.observer.as_ref().map(|_| match &entry.payload {
            EntryPayload::Normal(body) => crc32c::crc32c(&body.0),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        });
        let shown = self.env.observer.as_ref().and_then(|observer| match &entry.payload {
            EntryPayload::Normal(body) if observer.reads(position.index) => Some(body.0.clone()),
            _ => None,
        });
        let applied = match entry.payload {
            EntryPayload::Blank => {
                self.machine.skip(position);
                Applied::default()
            }
            EntryPayload::Membership(membership) => {
                let stored = StoredMembership::new(Some(entry.log_id), membership);
                self.machine.set_membership(position, wire::encode_membership(&stored));
                Applied::default()
            }
            EntryPayload::Normal(body) => match self.machine.apply(position, body.0) {
                Ok(applied) => applied,
                Err(error) => self.fail(&error),
            },
        };
        self.observe(position, checksum, &applied);
        self.show(position.index, shown, &applied);
        self.listener.applied(position, came, applied);
    }

    /// Lets the checkpoint catch up when the buffer has grown far beyond its limit: memory is bounded by
    /// making the log wait, as it is durable already.
    async fn wait_for_room(&mut self) {
        while self.machine.store().over_hard_limit() {
            self.checkpoints.mark_unchanged();
            if !self.machine.store().over_hard_limit() || self.checkpoints.changed().await.is_err() {
                return;
            }
        }
    }

    fn membership(&self) -> io::Result<StoredMembership> {
        wire::decode_membership(self.machine.membership()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the state's membership cannot be read")
        })
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let position = self.machine.position().map(|position| log_id(position.term, position.index));
        Ok((position, self.membership()?))
    }

    // THE ONLY PLACE WHERE ENTRIES ARE APPLIED.
    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let began = self.env.clock.monotonic();
            self.apply_entry(entry);
            let took = self.env.clock.monotonic().saturating_sub(began);
            self.metrics.recorded.apply_seconds.record(took);
            if let Some(responder) = responder {
                responder.send(());
            }
            self.wait_for_room().await;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let mut checkpoints = self.checkpoints.clone();
        checkpoints.mark_unchanged();
        let frozen = self.machine.checkpoint();
        SnapshotBuilder {
            store: Arc::clone(self.machine.store()),
            scratch: self.scratch.clone(),
            // A checkpoint already under way is as good: it ends with a durable stamp as well.
            wait: (frozen || self.machine.store().is_checkpointing()) && !planted(Mutant::LogGoneTooEarly),
            checkpoints,
        }
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let SnapshotData::Received(file) = snapshot else {
            // openraft offers our own current snapshot at start; the state already holds it.
            return Ok(());
        };
        let came = self.env.clock.monotonic();
        if let Err(error) = self.machine.install(&file.path) {
            self.fail(&error);
        }
        if let (Some(observer), Some(position)) = (&self.env.observer, self.machine.position()) {
            let place = Place { term: position.term, index: position.index };
            let clock_ms = self.machine.store().view(0).head().clock_ms;
            observer.saw(&Sight::Installed { place, clock_ms });
            for outcome in self.machine.kept_outcomes() {
                if let Outcome::Answered { sequence, .. } = outcome {
                    observer.saw(&Sight::Outcome { sequence });
                }
            }
        }
        self.listener.replaced(&self.machine, came);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<
        Option<Snapshot<alias::CommittedLeaderIdOf<Types>, u64, super::types::Member, SnapshotData>>,
    > {
        current_snapshot(self.machine.store(), &self.scratch)
    }
}

/// The last durable checkpoint, as a snapshot.
fn current_snapshot(
    store: &Arc<Store>,
    scratch: &std::path::Path,
) -> io::Result<Option<alias::SnapshotOf<Types, SnapshotData>>> {
    let Some(stamp) = store.durable_stamp() else { return Ok(None) };
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "the checkpoint's stamp cannot be read");
    let meta = Stamp::decode(&stamp).as_ref().and_then(snapshot::meta).ok_or_else(unreadable)?;
    let data = SnapshotData::Live { store: Arc::clone(store), scratch: scratch.to_owned() };
    Ok(Some(Snapshot { meta, snapshot: data }))
}

/// Waits for the checkpoint that was begun when it was made.
pub struct SnapshotBuilder {
    store: Arc<Store>,
    scratch: PathBuf,
    wait: bool,
    checkpoints: watch::Receiver<u64>,
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<alias::SnapshotOf<Types, SnapshotData>> {
        if self.wait {
            self.checkpoints.changed().await.map_err(|_| io::Error::other("the store has stopped"))?;
        }
        current_snapshot(&self.store, &self.scratch)?
            .ok_or_else(|| io::Error::other("the store has no checkpoint"))
    }
}
