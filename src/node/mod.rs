//! A node: everything between the connections and consensus.
//!
//! Reading order: [`propose`] (this node's writes), `lead` (the leader's side of them), [`read`] (the read
//! barrier), `gather` (why both wait a little), `clock` and `timekeeping` (the cluster's time), `applying` (what happens when
//! an entry was applied), `service` (what other nodes are answered), `bootstrap` and `identity` (how a node
//! comes by its number), `housekeeping` (what it does unasked), `host` (what INFO and the like see), `digest`.

mod announced;
mod applied;
mod applying;
mod belong;
mod bootstrap;
mod clock;
mod digest;
mod figures;
mod forget;
mod gather;
mod host;
mod housekeeping;
mod identity;
mod lead;
mod open;
mod pause;
mod progress;
mod propose;
mod reach;
mod read;
mod room;
mod service;
mod source;
mod timekeeping;
mod waiting;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::OptionFuture;
use tokio::sync::{Notify, oneshot, watch};

pub use gather::Contributor;
pub use open::StartError;
pub(crate) use open::doing;
pub use progress::Progress;
pub use propose::{AnswerReceiver, Answers};
pub use read::Barrier;

use crate::commands::{self, Command, gate};
use crate::config::{Config, Events, Settings};
use crate::env::observer::Sight;
use crate::env::{BoxFuture, DirLock, Env, TaskHandle};
use crate::error::{ClientError, text};
use crate::machine::Machine;
use crate::machine::entry::GroupBuilder;
use crate::metrics::{CommandLabel, Metrics};
use crate::mutants::{Mutant, planted};
use crate::pubsub::Hub;
use crate::raft::log::Wal;
use crate::raft::wire::Request;
use crate::raft::{Consensus, Identity, Member, PeerServer, Peers, Role, Service, StateMachine, Timers};
use crate::session::{Registry, Session};
use crate::store::{Options, Shortage, Store, View};
use announced::Announced;
use applied::{AppliedWatch, Reached};
use applying::Applying;
use belong::Belonging;
use bootstrap::Outside;
use clock::{ClusterClock, Moment};
use figures::Figures;
use housekeeping::Housekeeping;
use lead::Lead;
use open::{clear, open_log, slow_syncs, take_lock};
use pause::Pause;
use propose::Proposals;
use reach::Reach;
use read::Reads;
use room::Room;
use waiting::Waiting;

/// How long a planned hand-over may take before the node stops without one.
const HANDOVER: Duration = Duration::from_secs(2);
/// How much of the log is kept in memory: followers that are in step and the machine read its end.
const LOG_CACHE_BYTES: usize = 8 << 20;
/// How long a stopping node waits for the answers of its clients' commands.
const DRAIN: Duration = Duration::from_secs(5);

/// A running node.
pub struct Node {
    env: Env,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    hub: Arc<Hub>,
    registry: Arc<Registry>,
    consensus: Consensus,
    store: Arc<Store>,
    wal: Wal,
    applied: Arc<AppliedWatch>,
    lead: Arc<Lead>,
    proposals: Arc<Proposals>,
    reads: Arc<Reads>,
    reach: Arc<Reach>,
    waiting: Arc<Waiting>,
    service: service::Member,
    expires: Arc<AtomicBool>,
    figures: Figures,
    pause: Pause,
    stop_requested: Notify,
    stopping: AtomicBool,
    peer_server: Mutex<Option<PeerServer>>,
    _tasks: Vec<TaskHandle>,
    _lock: Box<dyn DirLock>,
}

impl Node {
    /// Starts a node on `config.data`, and returns once it is part of a cluster. `client_address` is where
    /// its clients reach it.
    ///
    /// # Errors
    /// When the data directory is in use, damaged, or another node's; when an address cannot be listened on.
    pub async fn start(
        env: Env,
        config: &Config,
        settings: Arc<Settings>,
        client_address: String,
        progress: &Progress,
    ) -> Result<Arc<Self>, StartError> {
        let figures = Figures::new(&env, config, &client_address);
        let data = config.data.clone();
        env.disk.create_dir_all(&data).map_err(doing(format!("cannot make {}", data.display())))?;
        let lock = take_lock(&env, &data)?;
        let scratch = data.join("scratch");
        clear(&env, &scratch)?;

        let peer_address = config.peer_listen.clone().unwrap_or_default();
        let member = Member { peer_address: peer_address.clone(), client_address };
        let outside = Outside::new(env.clone(), data.clone(), member.clone());
        let outside = Arc::new(outside.map_err(doing("cannot read who this node is"))?);
        let peer_server = match &config.peer_listen {
            Some(address) => {
                let listener =
                    env.net.listen(address).await.map_err(doing(format!("cannot listen on {address}")))?;
                Some(PeerServer::start(&env, listener, Arc::clone(&outside) as Arc<dyn Service>))
            }
            None => None,
        };
        outside.check(&config.peers).await.map_err(StartError::Refused)?;
        let identity = outside.establish(&config.peers, progress).await;
        let identity = identity.map_err(doing("cannot write who this node is"))?;
        progress.load();
        tracing::info!(
            cluster = format!("{:032x}", identity.cluster),
            node = identity.node,
            boot = identity.boot,
            "this node is part of a cluster"
        );

        let metrics = Arc::new(Metrics::new(labels(), config.threads.max(2)));
        let wal = open_log(&env, config, &metrics, slow_syncs(&env, &settings, &figures))?;
        let options = Options {
            buffer_bytes_max: usize::try_from(config.buffer_bytes).unwrap_or(usize::MAX),
            cache_bytes_max: config.cache_bytes,
            checkpoint_interval: config.checkpoint_interval,
            ..Options::default()
        };
        let (store, opened) = Store::open(&env, &data.join("state"), options)?;
        let machine =
            Machine::open(Arc::clone(&store), opened.stamp.as_deref(), identity.node, identity.boot)?;
        let (checkpoints_sender, checkpoints) = watch::channel(0);
        let checkpointed = Arc::clone(&metrics);
        let observed = Arc::downgrade(&store);
        let (last_checkpoint_ms, wall) = (Arc::clone(&figures.last_checkpoint_ms), Arc::clone(&env.clock));
        store.on_checkpoint(Arc::new(move |_| {
            last_checkpoint_ms.store(wall.wall_ms(), Ordering::Relaxed);
            checkpoints_sender.send_modify(|count| *count += 1);
            if let Some(Ok(stats)) = observed.upgrade().map(|store| store.stats()) {
                let took = Duration::from_micros(stats.last_checkpoint_micros);
                checkpointed.recorded.checkpoint_seconds.record(took);
                checkpointed.recorded.checkpoint_keys.absolute(stats.checkpointed_records);
            }
        }));

        let start = machine.position().map_or(0, |position| position.index);
        let reached = Reached { index: start, clock_ms: opened.head.clock_ms };
        let applied = Arc::new(AppliedWatch::new(reached));
        let clock = Arc::new(ClusterClock::new(env.clone(), Moment::of(&opened.head)));
        let peers = Peers::new(
            env.clone(),
            Identity { cluster: identity.cluster, node: identity.node },
            Arc::clone(&metrics),
        );
        let lead = Arc::new(Lead::new(env.clone(), Arc::clone(&clock), Arc::clone(&metrics)));
        let timeout = settings.request_timeout();
        let proposals =
            Proposals::new(peers.clone(), identity.boot, Arc::clone(&lead), config.gather, timeout);
        let proposals = Arc::new(proposals);
        let reads =
            Reads::new(peers.clone(), Arc::clone(&clock), Arc::clone(&applied), config.gather, timeout);
        let reads = Arc::new(reads);
        let hub = Arc::new(Hub::default());
        let waiting = Arc::<Waiting>::default();
        let registry = Arc::new(Registry::new(
            Arc::clone(store.local().copies()),
            Arc::clone(store.local().monitored()),
        ));
        registry.tracking().limit(settings.tracked_keys_max());
        let deadline = crate::types::expiry::next_deadline(&store.view(0))?;
        let (deadline_sender, deadline) = watch::channel(deadline);
        let followed_term = Arc::new(AtomicU64::new(0));
        let listener = Arc::new(Applying {
            proposals: Arc::clone(&proposals),
            applied: Arc::clone(&applied),
            clock: Arc::clone(&clock),
            hub: Arc::clone(&hub),
            waiting: Arc::clone(&waiting),
            registry: Arc::clone(&registry),
            metrics: Arc::clone(&metrics),
            deadline: deadline_sender,
            followed_term: Arc::clone(&followed_term),
        });
        let state_machine = StateMachine::new(
            env.clone(),
            Arc::clone(&metrics),
            machine,
            listener,
            scratch.clone(),
            checkpoints,
        );
        let timers = Timers {
            heartbeat_ms: millis(config.heartbeat),
            election_min_ms: millis(config.election_min),
            election_max_ms: millis(config.election_max),
        };
        let consensus = Consensus::start(&env, timers, peers, wal.clone(), state_machine)
            .await
            .map_err(|refused| StartError::Refused(refused.0))?;

        let room = Arc::new(Room::new(Arc::clone(&env.clock)));
        let service = service::Member {
            consensus: consensus.clone(),
            lead: Arc::clone(&lead),
            reads: Arc::clone(&reads),
            clock: Arc::clone(&clock),
            room: Arc::clone(&room),
        };
        if let Some(server) = &peer_server {
            server.attach(consensus.clone(), Arc::new(service.clone()), scratch);
        }
        let expires = Arc::new(AtomicBool::new(true));
        let housekeeping = Arc::new(Housekeeping {
            env: env.clone(),
            consensus: consensus.clone(),
            lead: Arc::clone(&lead),
            clock: Arc::clone(&clock),
            applied: Arc::clone(&applied),
            store: Arc::clone(&store),
            wal: wal.clone(),
            metrics: Arc::clone(&metrics),
            wal_keep_bytes: config.wal_keep_bytes,
            checkpoint_interval: config.checkpoint_interval,
            data: data.clone(),
            room,
            expires: Arc::clone(&expires),
        });

        let spawn = |task: BoxFuture<'static, ()>| env.spawner.spawn(task);
        let mut tasks = Vec::new();
        {
            let (lead, consensus) = (Arc::clone(&lead), consensus.clone());
            tasks.push(spawn(Box::pin(async move { lead.run(consensus).await })));
        }
        {
            let (proposals, view) = (Arc::clone(&proposals), consensus.view());
            tasks.push(spawn(Box::pin(async move { proposals.run(view).await })));
        }
        {
            let (reads, consensus, view) = (Arc::clone(&reads), consensus.clone(), consensus.view());
            tasks.push(spawn(Box::pin(async move { reads.run(consensus, view).await })));
        }
        let reach = Arc::<Reach>::default();
        tasks.push(spawn(Box::pin(Arc::clone(&reach).run(env.clone(), consensus.clone()))));
        let keeping =
            timekeeping::run(env.clone(), consensus.clone(), Arc::clone(&clock), Arc::clone(&applied));
        tasks.push(spawn(Box::pin(keeping)));
        {
            let keeper = Arc::clone(&housekeeping);
            tasks.push(spawn(Box::pin(async move { keeper.expire(deadline).await })));
            tasks.push(spawn(Box::pin(async move { housekeeping.run().await })));
        }
        {
            let (view, metrics) = (consensus.view(), Arc::clone(&metrics));
            let announced = Announced { hub: Arc::clone(&hub), master: config.sentinel_master_name.clone() };
            tasks.push(spawn(Box::pin(announced.follow(consensus.view()))));
            let following = follow_leader(view, identity.node, followed_term, metrics, Arc::clone(&registry));
            tasks.push(spawn(Box::pin(following)));
        }
        {
            let (env, consensus, peers) = (env.clone(), consensus.clone(), config.peers.clone());
            let belonging = Belonging { env, dir: data, identity, peers, member, consensus };
            tasks.push(spawn(Box::pin(belonging.keep())));
        }
        Ok(Arc::new(Self {
            pause: Pause::new(Arc::clone(&env.clock)),
            stop_requested: Notify::new(),
            env,
            settings,
            metrics,
            hub,
            registry,
            consensus,
            store,
            wal,
            applied,
            lead,
            proposals,
            reads,
            reach,
            waiting,
            service,
            expires,
            figures,
            stopping: AtomicBool::new(false),
            peer_server: Mutex::new(peer_server),
            _tasks: tasks,
            _lock: lock,
        }))
    }

    /// The world this node lives in.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// What CONFIG shows and sets.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// This node's figures.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The subscriptions of this node's clients.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The clients of this node that wait for a key to hold something.
    #[must_use]
    pub const fn waiting(&self) -> &Arc<Waiting> {
        &self.waiting
    }

    /// The clients of this node.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Whether CLIENT PAUSE makes a command wait; `writes` says whether it may write.
    #[must_use]
    pub fn is_paused(&self, writes: bool) -> bool {
        self.pause.holds(writes)
    }

    /// Waits until CLIENT PAUSE lets such a command run.
    pub async fn pause_over(&self, writes: bool) {
        self.pause.over(writes).await;
    }

    /// What this node believes about its cluster.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<crate::raft::View> {
        self.consensus.view()
    }

    /// Proposes the commands that `fill` adds, to be applied one after another; see [`Proposals::submit`].
    ///
    /// # Errors
    /// When they were certainly not proposed.
    pub fn submit(
        &self,
        contributor: &Contributor,
        fill: impl FnOnce(&mut GroupBuilder),
    ) -> Result<AnswerReceiver, ClientError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(text::SHUTTING_DOWN);
        }
        let shortage = self.shortage();
        self.proposals.submit(contributor, |group| {
            group.note_shortage(shortage);
            fill(group);
        })
    }

    /// Waits until this node's state shows everything that was acknowledged before this call.
    ///
    /// # Errors
    /// When no leader confirmed itself in time.
    pub async fn barrier(&self, contributor: &Contributor) -> Result<Barrier, ClientError> {
        let client = contributor.client();
        self.env.saw(|| Sight::ReadAsked { client });
        let barrier = self.reads.barrier(contributor).await;
        if let Ok(Barrier { index, .. }) = barrier {
            self.env.saw(|| Sight::ReadFrom { client, index });
        }
        barrier
    }

    /// The barrier that a connection's own writes are, once they are answered with these: what came with them, in one piece, may read
    /// the state they left.
    #[must_use]
    pub fn own_writes_barrier(&self, answers: &Answers) -> Barrier {
        self.env.saw(|| Sight::Answered { sequence: answers.sequence() });
        let reached = self.applied.reached();
        Barrier { index: reached.index, clock_ms: reached.clock_ms }
    }

    /// Reads the state behind `barrier`. `read` may be called again: when it met a key whose deadline had
    /// passed by the barrier's time but not yet in the log, that expiry is put into the log first. So a key
    /// that was seen to be gone is gone, for everybody and after every change of leaders.
    ///
    /// # Errors
    /// When the log did not take that expiry in time.
    pub async fn read<T>(
        &self,
        barrier: Barrier,
        mut read: impl FnMut(&View) -> T,
    ) -> Result<T, ClientError> {
        let clock = &self.env.clock;
        let give_up = clock.monotonic() + self.settings.request_timeout();
        loop {
            {
                let view = self.store.view(barrier.clock_ms);
                let result = read(&view);
                if !view.is_late() {
                    let missed = view.take_misses();
                    drop(view);
                    self.announce_misses(&missed);
                    let (hits, misses) = self.store.local().take_lookups();
                    self.metrics.hot.keyspace_hits.fetch_add(hits, Ordering::Relaxed);
                    self.metrics.hot.keyspace_misses.fetch_add(misses, Ordering::Relaxed);
                    return Ok(result);
                }
            }
            tokio::select! {
                () = self.tick(barrier.clock_ms) => {}
                () = clock.sleep(give_up.saturating_sub(clock.monotonic())) => return Err(text::NO_LEADER),
            }
        }
    }

    /// Tells this node's subscribers what reads on it looked for in vain: reads leave nothing in the log.
    fn announce_misses(&self, missed: &[(u8, Bytes)]) {
        if missed.is_empty() {
            return;
        }
        let wanted = Events::from_bits(self.store.view(0).head().notify);
        for (db, key) in missed {
            let (by_key, by_event) = (wanted.meets(Events::of(b'K')), wanted.meets(Events::of(b'E')));
            applying::announce(&self.hub, "keymiss", *db, key, by_key, by_event);
        }
    }

    /// Waits until the cluster's clock shows `clock_ms` in the log, and asks for it until it does.
    async fn tick(&self, clock_ms: u64) {
        const PATIENCE: Duration = Duration::from_millis(50);
        while self.applied.reached().clock_ms < clock_ms {
            let view = self.consensus.view().borrow().clone();
            match view.leader_member() {
                Some((leader, _)) if leader == self.consensus.identity().node => self.lead.tick(),
                Some((leader, member)) => {
                    let request = Request::Tick { clock_ms };
                    // Its answer says nothing: what counts is that the clock moves.
                    drop(self.consensus.peers().post(leader, &member.peer_address, request));
                }
                None => {}
            }
            tokio::select! {
                () = self.applied.clock(clock_ms) => {}
                () = self.env.clock.sleep(PATIENCE) => {}
            }
        }
    }

    /// What there is no room for just now, so that commands that add data are refused. Decided here, before
    /// anything is proposed: what is in the log is applied by all.
    #[must_use]
    pub fn shortage(&self) -> Option<Shortage> {
        if self.service.room.is_short() {
            return Some(Shortage::Disk);
        }
        self.figures.over_memory_limit(&self.settings, &self.store).then_some(Shortage::Memory)
    }

    /// Whether a command may write, as far as this node knows the scripts and functions it may call.
    #[must_use]
    pub fn may_write(&self, command: &Command, argv: &[Bytes], session: &Session) -> bool {
        let view = self.store.view(0);
        gate::may_write(command, argv, session, |command, argv| commands::only_reads(command, argv, &view))
    }

    /// Ends when somebody has asked the node to stop (SHUTDOWN).
    pub async fn stop_requested(&self) {
        self.stop_requested.notified().await;
    }

    /// Waits until everything applied so far is in a checkpoint.
    pub async fn checkpoint(&self) {
        let applied = self.applied.reached().index;
        while housekeeping::durable_index(&self.store) < applied {
            if !self.store.is_checkpointing()
                && let Err(error) = self.consensus.snapshot().await
            {
                tracing::debug!(%error, "no checkpoint was begun");
                return;
            }
            self.env.clock.sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops cleanly: hands leadership over, waits for what is in flight, and ends consensus.
    pub async fn stop(&self) {
        let mut view = self.consensus.view();
        let (leads, successor) = {
            let view = view.borrow();
            (view.role == Role::Leader, self.successor(&view))
        };
        if leads && let Some(successor) = successor {
            tracing::info!(to = successor, "handing leadership over");
            if let Err(error) = self.consensus.transfer_leader(successor).await {
                tracing::warn!(%error, "leadership was not handed over");
            }
            let handed = view.wait_for(|view| view.leader.is_some() && view.role != Role::Leader);
            tokio::select! {
                _ = handed => tracing::info!("leadership is handed over"),
                () = self.env.clock.sleep(HANDOVER) => tracing::warn!("nobody took over in time"),
            }
        }
        let drained = async {
            while self.proposals.pending() > 0 {
                self.env.clock.sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = drained => {}
            () = self.env.clock.sleep(DRAIN) => tracing::warn!("some commands were not answered in time"),
        }
        self.stopping.store(true, Ordering::Relaxed);
        let peer_server = self.peer_server.lock().expect("no holder panics").take();
        OptionFuture::from(peer_server.map(PeerServer::stop)).await;
        self.consensus.stop().await;
        let (sealed, done) = oneshot::channel();
        self.wal.seal(Box::new(move |result| drop(sealed.send(result))));
        // A seal that fails only leaves the log as a crash would.
        drop(done.await);
    }

    /// The follower that is furthest along.
    fn successor(&self, view: &crate::raft::View) -> Option<u64> {
        let matched = self.consensus.progress().matched;
        let others = view.voters.iter().filter(|voter| Some(**voter) != view.leader);
        others.max_by_key(|voter| matched.get(voter)).copied()
    }
}

/// Keeps `followed_term` and the metrics in step with who leads.
async fn follow_leader(
    mut view: watch::Receiver<crate::raft::View>,
    node: u64,
    followed_term: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    registry: Arc<Registry>,
) {
    let mut last = None;
    let mut heard = None;
    let mut campaigned = 0;
    loop {
        let (leader, role, term) = {
            let view = view.borrow_and_update();
            (view.leader, view.role, view.term)
        };
        if role == Role::Candidate && term != campaigned {
            campaigned = term;
            metrics.recorded.elections.increment(1);
        }
        let follows = leader.is_some_and(|leader| leader != node);
        followed_term.store(if follows { term } else { 0 }, Ordering::Relaxed);
        if leader != heard {
            if heard.is_some() && !planted(Mutant::CopiesKept) {
                // A node without a leader hears of no change: what its clients have kept may be old.
                registry.tracking().flush();
            }
            heard = leader;
        }
        if leader.is_some() && leader != last {
            if last.is_some() {
                metrics.recorded.leader_changes.increment(1);
            }
            last = leader;
            tracing::info!(leader, term, "the cluster has a leader");
        }
        if view.changed().await.is_err() {
            return;
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The commands, as metrics label them.
fn labels() -> Vec<CommandLabel> {
    let class = |command: &commands::Command| match command.lane {
        commands::Lane::Write(_) => "write",
        commands::Lane::Read(_) => "read",
        commands::Lane::Session(_) => "session",
        commands::Lane::Node(_) => "node",
    };
    commands::all()
        .iter()
        .map(|command| CommandLabel { name: command.spec.name.to_ascii_lowercase(), class: class(command) })
        .collect()
}
