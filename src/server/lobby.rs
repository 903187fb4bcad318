//! Where clients wait while the node is not part of its cluster yet, or reads its log.
//!
//! Greetings are returned at once, INFO says `loading:1` and whom the node waits for, PING and what else is about this
//! node is refused with the reason. What needs the state waits, as it would for a leader: so a node that is started
//! again quickly is a pause to its clients, and no error. A transaction is opened and collected, and waits at its EXEC:
//! had MULTI been refused, what stands behind it would run by itself when the node has started. A connection goes on
//! then: what was said on it holds.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::connection;
use super::dispatch::OUTPUT_BYTES;
use crate::commands::host::{
    ClientsInfo, Following, NodeInfo, PauseScope, PersistenceInfo, Replication, Role, ServerInfo, Topology,
};
use crate::commands::server::{LatencyMonitor, SlowLog};
use crate::commands::{self, Answer, Args, Host, Lane, Resolved, gate};
use crate::config::{Config, Settings};
use crate::env::{Accepted, Env, Listener, TaskHandle};
use crate::error::{ClientError, Failure};
use crate::metrics;
use crate::node::{Node, Progress};
use crate::pubsub::Hub;
use crate::resp::{Limits, Reader, Reply, encode};
use crate::session::{Outbox, Registry, Session};

/// What is answered before there is a node: about the connection, and about the server as far as that is known.
const ANSWERED: [&str; 23] = [
    "AUTH",
    "CLIENT|CAPA",
    "CLIENT|GETNAME",
    "CLIENT|ID",
    "CLIENT|INFO",
    "CLIENT|NO-TOUCH",
    "CLIENT|SETINFO",
    "CLIENT|SETNAME",
    "COMMAND",
    "COMMAND|COUNT",
    "COMMAND|DOCS",
    "COMMAND|INFO",
    "COMMAND|LIST",
    "CONFIG|GET",
    "DISCARD",
    "ECHO",
    "HELLO",
    "INFO",
    "MULTI",
    "QUIT",
    "READONLY",
    "READWRITE",
    "SELECT",
];

/// The clients of a node that has not started yet.
pub struct Lobby {
    env: Env,
    settings: Arc<Settings>,
    cluster_enabled: bool,
    begun: Duration,
    progress: Arc<Progress>,
    registry: Arc<Registry>,
    hub: Arc<Hub>,
    slow_log: SlowLog,
    latency: LatencyMonitor,
    started: watch::Sender<Option<Arc<Node>>>,
    connections: Mutex<Vec<TaskHandle>>,
}

impl Lobby {
    /// An empty one, of a node whose start is told by `progress`.
    #[must_use]
    pub fn new(env: Env, config: &Config, settings: Arc<Settings>, progress: Arc<Progress>) -> Arc<Self> {
        Arc::new(Self {
            begun: env.clock.monotonic(),
            env,
            settings,
            cluster_enabled: config.cluster_enabled,
            progress,
            registry: Arc::default(),
            hub: Arc::default(),
            slow_log: SlowLog::default(),
            latency: LatencyMonitor::default(),
            started: watch::Sender::new(None),
            connections: Mutex::default(),
        })
    }

    /// Lets clients in, for ever.
    pub async fn accept(self: &Arc<Self>, listener: &dyn Listener) {
        loop {
            let Ok(accepted) = listener.accept().await else {
                self.env.clock.sleep(super::ACCEPT_PAUSE).await;
                continue;
            };
            let serving = if self.registry.len() as u64 >= self.settings.clients_max() {
                self.env.spawner.spawn(Box::pin(super::turn_away(accepted)))
            } else {
                self.env.spawner.spawn(Box::pin(Arc::clone(self).wait(accepted)))
            };
            let mut connections = self.connections.lock().expect("no holder panics");
            connections.retain(|connection| !connection.is_finished());
            connections.push(serving);
        }
    }

    /// Hands all connections to the node.
    pub fn open(&self, node: &Arc<Node>) -> Vec<TaskHandle> {
        node.registry().number_after(&self.registry);
        self.started.send_replace(Some(Arc::clone(node)));
        std::mem::take(&mut *self.connections.lock().expect("no holder panics"))
    }

    async fn wait(self: Arc<Self>, mut accepted: Accepted) {
        let now = self.env.clock.monotonic();
        let (peer, local) = (accepted.peer.clone(), accepted.local.clone());
        let client = self.registry.connect(peer, local, Arc::new(Nothing), now);
        let (registry, hub) = (Arc::clone(&self.registry), Arc::clone(&self.hub));
        let mut session = Session::new(client, registry, hub, !self.settings.asks_password());
        let (mut reader, mut out) = (Reader::new(), BytesMut::new());
        let mut started = self.started.subscribe();
        let (node, pending) = loop {
            let next = self.answer_all(&mut reader, &mut session, &mut out);
            if !out.is_empty() && accepted.stream.write_all_buf(&mut out).await.is_err() {
                return;
            }
            let node = async { started.wait_for(Option::is_some).await.ok().and_then(|node| node.clone()) };
            match next {
                Next::Answer => {}
                Next::Wait(argv) => tokio::select! {
                    biased;
                    node = node => match node {
                        Some(node) => break (node, Some(argv)),
                        None => return,
                    },
                    () = self.env.clock.sleep(self.settings.request_timeout()) => {
                        let refusal = gate::reject(&mut session, &argv, self.progress.error());
                        encode(&refusal, session.protocol(), &mut out);
                        session.replied += 1;
                    }
                },
                Next::Read => tokio::select! {
                    biased;
                    node = node => match node {
                        Some(node) => break (node, None),
                        None => return,
                    },
                    read = accepted.stream.read_buf(reader.buffer()) => {
                        if !matches!(read, Ok(1..)) {
                            return;
                        }
                    }
                },
                Next::End => return,
            }
        };
        connection::take_over(node, accepted, reader, session, pending).await;
    }

    /// Answers what has come, or as much of it as gives an amount of output that can be written at once.
    fn answer_all(&self, reader: &mut Reader, session: &mut Session, out: &mut BytesMut) -> Next {
        while out.len() < OUTPUT_BYTES && !session.close {
            let limits = if session.is_authenticated() {
                let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
                let (argument, query) = (self.settings.argument_bytes_max(), self.settings.query_bytes_max());
                Limits::authenticated(size(argument), size(query))
            } else {
                Limits::UNAUTHENTICATED
            };
            match reader.next(&limits) {
                Ok(Some(argv)) => match self.answer(session, argv) {
                    Ok(reply) => {
                        encode(&reply, session.protocol(), out);
                        session.replied += 1;
                    }
                    Err(argv) => return Next::Wait(argv),
                },
                Ok(None) => return Next::Read,
                Err(violation) => {
                    if let Some(error) = violation.reply() {
                        encode(&error.into(), session.protocol(), out);
                    }
                    return Next::End;
                }
            }
        }
        if session.close { Next::End } else { Next::Answer }
    }

    /// The reply; the request again if it has to wait for the node.
    fn answer(&self, session: &mut Session, argv: Vec<Bytes>) -> Result<Reply, Vec<Bytes>> {
        let resolved = match self.admit(session, &argv) {
            Ok(resolved) => resolved,
            Err(error) => return Ok(gate::reject(session, &argv, error)),
        };
        if gate::queues(resolved.command, session) {
            return Ok(session.queue(argv));
        }
        let name = resolved.command.spec.name;
        let executes = |session: &Session| session.transaction().is_some_and(|queue| !queue.is_aborted());
        let mut args = Args::new(&argv, resolved.skip, session.db());
        let answer = match resolved.command.lane {
            Lane::Session(_) if name == "EXEC" && executes(session) => return Err(argv),
            Lane::Session(execute) if name == "EXEC" || ANSWERED.contains(&name) => {
                execute(&mut args, session).map(Answer::Now)
            }
            Lane::Node(execute) if ANSWERED.contains(&name) => execute(&mut args, session, self),
            Lane::Node(_) => return Ok(self.progress.error().into()),
            _ if name == "PING" => return Ok(self.progress.error().into()),
            Lane::Session(_) | Lane::Write(_) | Lane::Read(_) => return Err(argv),
        };
        Ok(match answer {
            Ok(Answer::Now(reply)) => reply,
            Err(Failure::Client(error)) => error.into(),
            Ok(_) | Err(Failure::Store(_)) => self.progress.error().into(),
        })
    }

    fn admit(&self, session: &mut Session, argv: &[Bytes]) -> Result<Resolved, ClientError> {
        let resolved = commands::resolve(argv)?;
        session.begin(self.env.clock.monotonic(), resolved.command.spec.name, argv);
        session.show_begun();
        let rules =
            gate::Rules { password: self.settings.asks_password(), debug: self.settings.debug_clients() };
        gate::refuse(resolved.command, session, rules).map_or(Ok(resolved), Err)
    }
}

/// What a connection does next.
enum Next {
    /// Answers more of what has come.
    Answer,
    /// Waits for the node with this request.
    Wait(Vec<Bytes>),
    /// Reads.
    Read,
    End,
}

/// Nobody sends these clients anything that they have not asked for.
struct Nothing;

impl Outbox for Nothing {
    fn push(&self, _: Bytes) -> bool {
        false
    }

    fn push_behind(&self, _: Bytes) -> bool {
        false
    }

    fn close(&self) {}

    fn wake(&self) {}

    fn queued(&self) -> (usize, usize) {
        (0, 0)
    }
}

/// As far as a node that has not started can tell.
impl Host for Lobby {
    fn wall_ms(&self) -> u64 {
        self.env.clock.wall_ms()
    }

    fn password(&self) -> Option<Bytes> {
        self.settings.password().map(|password| Bytes::copy_from_slice(password.as_bytes()))
    }

    fn fill_secret(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        self.env.rng.fill_secret(bytes)
    }

    fn is_leader(&self) -> bool {
        false
    }

    fn replication(&self) -> Replication {
        Replication { role: Role::Follower(Following::default()), ..Replication::default() }
    }

    fn info(&self) -> NodeInfo {
        let process = metrics::Process::read();
        let mut info = NodeInfo {
            server: ServerInfo {
                os: metrics::operating_system(),
                process_id: std::process::id(),
                uptime: self.env.clock.monotonic().saturating_sub(self.begun),
                ..ServerInfo::default()
            },
            clients: ClientsInfo {
                connected: self.registry.len() as u64,
                connected_max: self.settings.clients_max(),
                ..ClientsInfo::default()
            },
            persistence: PersistenceInfo { loading: true, ..PersistenceInfo::default() },
            replication: self.replication(),
            cluster_enabled: self.cluster_enabled,
            quorate: vec![
                ("quorate_version", env!("CARGO_PKG_VERSION").to_owned()),
                ("waiting_for", self.progress.waiting_for()),
            ],
            ..NodeInfo::default()
        };
        info.memory.resident = process.resident_bytes;
        info.memory.system = process.machine_memory_bytes;
        info
    }

    fn reset_stats(&self) {}

    fn config_get(&self, patterns: &[Bytes]) -> Vec<(String, String)> {
        self.settings.get(patterns)
    }

    fn config_replicated(&self, _: &[(Bytes, Bytes)]) -> Result<Vec<Bytes>, ClientError> {
        Err(self.progress.error())
    }

    fn config_set(&self, _: &[(Bytes, Bytes)]) -> Result<(), ClientError> {
        Err(self.progress.error())
    }

    fn config_rewrite(&self) -> Result<(), ClientError> {
        Err(self.progress.error())
    }

    fn pause(&self, _: PauseScope, _: Duration) {}

    fn unpause(&self) {}

    fn expire_actively(&self, _: bool) {}

    fn last_checkpoint_ms(&self) -> u64 {
        0
    }

    fn begin_checkpoint(&self) {}

    fn hand_over(&self, _: u64) {}

    fn shut_down(&self) {}

    fn topology(&self) -> Topology {
        Topology { cluster_enabled: self.cluster_enabled, ..Topology::default() }
    }

    fn histogram(&self, _: usize) -> Vec<(u64, u64)> {
        Vec::new()
    }

    fn latency_monitor(&self) -> &LatencyMonitor {
        &self.latency
    }

    fn slow_log(&self) -> &SlowLog {
        &self.slow_log
    }
}
