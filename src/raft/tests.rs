//! Our storage against what openraft wants of one, and across a restart.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use openraft::storage::{
    EntryResponder, IOFlushed, RaftLogReader, RaftLogStorage, RaftStateMachine, StorageHelper,
};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageError, alias};
use tempfile::TempDir;
use tokio::sync::watch;

use super::log::{Hooks, Options, Wal};
use super::snapshot::{ScratchFile, SnapshotData};
use super::state_machine::SnapshotBuilder;
use super::types::{Body, Entry, LogId, Membership, SnapshotMeta, StoredMembership, Types, Vote, log_id};
use super::{Listener, LogStore, Member, StateMachine, confirm, log_store, seeded};
use crate::env::{Env, real, sim};
use crate::machine::entry::{self, GroupBuilder};
use crate::machine::{Applied, Machine, Position};
use crate::metrics::Metrics;
use crate::store::{self, Store};

/// Nobody waits for what is applied here.
struct Nobody;

impl Listener for Nobody {
    fn applied(&self, _: Position, _: Duration, _: Applied) {}
    fn replaced(&self, _: &Machine, _: Duration) {}
}

/// A node's storage in `dir`.
fn open(env: &Env, dir: &Path) -> (LogStore, StateMachine, Arc<Store>) {
    // Whoever waits for the log is told as well; when a test ends, its files go before its workers.
    let hooks =
        Hooks { on_failure: Box::new(|_| ()), on_durable: Box::new(|_| ()), on_sync: Box::new(|_| ()) };
    let options = Options { segment_bytes: 64 << 10, ..Options::new(dir.join("wal")) };
    let (wal, _) = Wal::open(env, &options, hooks).unwrap();
    let options = store::Options { map_bytes: 1 << 28, ..store::Options::default() };
    let (store, opened) = Store::open(env, &dir.join("state"), options).unwrap();
    let machine = Machine::open(Arc::clone(&store), opened.stamp.as_deref(), 1, 1).unwrap();
    let (sender, checkpoints) = watch::channel(0);
    store.on_checkpoint(Arc::new(move |_| sender.send_modify(|count| *count += 1)));
    let scratch = dir.join("scratch");
    let metrics = Arc::new(Metrics::new(Vec::new(), 1));
    let machine = StateMachine::new(env.clone(), metrics, machine, Arc::new(Nobody), scratch, checkpoints);
    (LogStore { env: env.clone(), wal }, machine, store)
}

/// Makes storage for openraft's suite, each in a directory of its own.
struct Builder {
    env: Env,
}

impl StoreBuilder<Types, LogStore, Received, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Received), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let (log, machine, _) = open(&self.env, dir.path());
        Ok((dir, log, Received { env: self.env.clone(), machine }))
    }
}

/// The suite hands one state machine's snapshot to another. Between nodes it becomes a file on the way.
struct Received {
    env: Env,
    machine: StateMachine,
}

impl RaftStateMachine<Types> for Received {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        self.machine.applied_state().await
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        self.machine.apply(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.machine.get_snapshot_builder().await
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let SnapshotData::Live { store, scratch } = snapshot else { unreachable!("nothing was received") };
        let file = ScratchFile::new(&self.env, &scratch)?;
        store.snapshot_to(&file.path).map_err(io::Error::other)?;
        self.machine.install_snapshot(meta, SnapshotData::Received(file)).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<alias::SnapshotOf<Types, SnapshotData>>> {
        self.machine.get_current_snapshot().await
    }
}

// The suite sleeps, for storage that deletes in the background.
#[tokio::test(start_paused = true)]
async fn storage_is_what_openraft_wants() {
    let env = real::env().unwrap();
    let builder = Builder { env: env.clone() };
    seeded(&env, Suite::test_all(builder)).await.unwrap();
}

fn set(index: u64, key: &'static str, value: String) -> Entry {
    let mut group = GroupBuilder::default();
    group.push_plain(0, &[Bytes::from_static(b"SET"), Bytes::from_static(key.as_bytes()), value.into()]);
    let body = entry::encode(1_000 * index, 0, index, &[group.seal(1, 1, index, index - 1)]);
    Entry { log_id: log_id(1, index), payload: EntryPayload::Normal(Body(body)) }
}

/// What a log of three members' cluster may begin with, up to `last`.
fn entries(last: u64) -> Vec<Entry> {
    let members = (1..=3).map(|node| (node, Member::default())).collect::<BTreeMap<_, _>>();
    let membership = Membership::new(vec![BTreeSet::from([1, 2, 3])], members).unwrap();
    let first = Entry { log_id: log_id(0, 0), payload: EntryPayload::Membership(membership) };
    let rest = (1..=last).map(|index| set(index, ["a", "b", "c"][index as usize % 3], index.to_string()));
    std::iter::once(first).chain(rest).collect()
}

async fn append(log: &mut LogStore, entries: &[Entry]) {
    let (sender, flushed) = Types::oneshot();
    log.append(entries.to_vec(), IOFlushed::signal(sender)).await.unwrap();
    flushed.await.unwrap().unwrap();
}

async fn apply(machine: &mut StateMachine, entries: &[Entry]) {
    let entries = entries.iter().map(|entry| Ok((entry.clone(), None)));
    machine.apply(futures_util::stream::iter(entries)).await.unwrap();
}

/// A node crashes with its log ahead of its last checkpoint, and stands afterwards where it stood before.
#[test]
fn a_crash_between_checkpoints_loses_nothing() {
    sim::run(1, async |world| {
        let dir = Path::new("data");
        let env = world.node("n1");
        let before = run_on(&env, async move |env| {
            let (mut log, mut machine, store) = open(&env, dir);
            let entries = entries(9);
            log.save_vote(&Vote::new(1, 2)).await.unwrap();
            append(&mut log, &entries).await;
            apply(&mut machine, &entries[..5]).await;
            machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
            apply(&mut machine, &entries[5..8]).await;
            let before = (store.state_hash().unwrap(), machine.applied_state().await.unwrap());
            log.save_committed(Some(log_id(1, 7))).await.unwrap();
            log.save_vote(&Vote::new_committed(1, 2)).await.unwrap();
            before
        })
        .await;
        world.crash("n1");

        let env = world.node("n1");
        run_on(&env, async move |env| {
            let (mut log, mut machine, store) = open(&env, dir);
            assert_eq!(machine.applied_state().await.unwrap().0, Some(log_id(1, 4)), "the checkpoint");
            assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(1, 2)));
            assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(log_id(1, 9)));
            let read = log.try_get_log_entries(0..).await.unwrap();
            assert_eq!(format!("{read:?}"), format!("{:?}", entries(9)));
            StorageHelper::new(&mut log, &mut machine).get_initial_state().await.unwrap();
            assert_eq!((store.state_hash().unwrap(), machine.applied_state().await.unwrap()), before);
        })
        .await;
    });
}

/// Before anybody hears of a vote, no earlier leader is confirmed any more.
#[test]
fn a_vote_takes_back_the_one_before_it() {
    sim::run(1, async |world| {
        let env = world.node("n1");
        run_on(&env, async move |env| {
            let (mut log, ..) = open(&env, Path::new("data"));
            let wal = log.wal.clone();
            let confirms = |leader: Vote| confirm::confirms(log_store::last_vote(&wal), &leader);
            let (leader, later) = (Vote::new_committed(1, 2), Vote::new(2, 3));
            assert!(!confirms(leader), "nobody was voted for");
            log.save_vote(&Vote::new(1, 2)).await.unwrap();
            assert!(confirms(leader) && !confirms(Vote::new_committed(1, 3)));
            let mut saving = pin!(log.save_vote(&later));
            assert!(futures_util::poll!(&mut saving).is_pending(), "its sync takes a while");
            assert!(confirms(later) && !confirms(leader));
            saving.await.unwrap();
        })
        .await;
    });
}

/// Runs `work` as a task of the node whose world `env` is.
async fn run_on<T: Send + 'static, F>(env: &Env, work: impl FnOnce(Env) -> F) -> T
where
    F: Future<Output = T> + Send + 'static,
{
    let (sender, done) = tokio::sync::oneshot::channel();
    let (owned, work) = (env.clone(), work(env.clone()));
    let task = async move { drop(sender.send(seeded(&owned, work).await)) };
    env.spawner.spawn(Box::pin(task)).detach();
    done.await.unwrap()
}
