//! What commands may ask of the node they run on.
//!
//! The [`Node`](super::Node) lane's only way up: the node implements [`Host`], and nothing down here
//! knows what a node is. All of it answers at once; what takes time is an [`Answer`](super::Answer).

use std::time::Duration;

use bytes::Bytes;

use super::server::{LatencyMonitor, SlowLog};
use crate::error::ClientError;

/// The version of Redis we present ourselves as, everywhere: client libraries refuse features below
/// it.
pub use crate::script::REDIS_VERSION;

/// A node, as its commands see it.
pub trait Host: Send + Sync {
    /// Milliseconds since the Unix epoch, by this node's wall clock.
    fn wall_ms(&self) -> u64;
    /// The password that clients must give (`requirepass`), if there is one.
    fn password(&self) -> Option<Bytes>;
    /// Fills `bytes` with what nobody can guess.
    ///
    /// # Errors
    /// The system gives none.
    fn fill_secret(&self, bytes: &mut [u8]) -> std::io::Result<()>;
    /// Whether this node leads.
    fn is_leader(&self) -> bool;
    /// This node's place in the cluster, for ROLE and INFO.
    fn replication(&self) -> Replication;
    /// Everything INFO shows.
    fn info(&self) -> NodeInfo;
    /// Zeroes the counters INFO shows.
    fn reset_stats(&self);
    /// The options whose names match one of the glob patterns (in any case), and their values, each
    /// once.
    fn config_get(&self, patterns: &[Bytes]) -> Vec<(String, String)>;
    /// The names of those of these options that are the cluster's, not the node's own.
    ///
    /// # Errors
    /// What [`Host::config_set`] would say of any of them.
    fn config_replicated(&self, options: &[(Bytes, Bytes)]) -> Result<Vec<Bytes>, ClientError>;
    /// Sets all of these options, or none. They must be the node's own.
    ///
    /// # Errors
    /// With Redis' texts: `ERR Unknown option or number of arguments for CONFIG SET - '...'`, or
    /// `ERR CONFIG SET failed (possibly related to argument '...') - ...`.
    fn config_set(&self, options: &[(Bytes, Bytes)]) -> Result<(), ClientError>;
    /// Writes the options to the configuration file the node was started with.
    ///
    /// # Errors
    /// If there is none (`ERR The server is running without a config file`), or it cannot be written.
    fn config_rewrite(&self) -> Result<(), ClientError>;
    /// Makes this node's clients wait, for so long. A pause that is on is neither shortened nor narrowed.
    fn pause(&self, scope: PauseScope, length: Duration);
    /// Ends the pause.
    fn unpause(&self);
    /// Whether this node, while it leads, sees to it that keys end on time if nobody asks for them.
    fn expire_actively(&self, on: bool);
    /// When the last checkpoint was made, or the node started, in milliseconds since the Unix epoch.
    fn last_checkpoint_ms(&self) -> u64;
    /// Begins a checkpoint, unless one is being made.
    fn begin_checkpoint(&self);
    /// Hands leadership over to the follower with this number.
    fn hand_over(&self, to: u64);
    /// Stops the node cleanly, soon.
    fn shut_down(&self);
    /// The members of the cluster and where their clients connect, for clients that look for the leader.
    fn topology(&self) -> Topology;
    /// How many calls of the command with this index took at most so many microseconds: only where there are
    /// more than for the number before, so the last is how many there were.
    fn histogram(&self, index: usize) -> Vec<(u64, u64)>;
    /// What took long of late.
    fn latency_monitor(&self) -> &LatencyMonitor;
    /// The slowest commands of late.
    fn slow_log(&self) -> &SlowLog;
}

/// Which commands CLIENT PAUSE makes wait; the wider is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PauseScope {
    /// Those that may write.
    Writes,
    All,
}

/// Everything INFO shows of a node; the rest is computed from it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub server: ServerInfo,
    pub clients: ClientsInfo,
    pub memory: MemoryInfo,
    pub persistence: PersistenceInfo,
    pub stats: StatsInfo,
    pub replication: Replication,
    pub cpu: CpuInfo,
    /// In the table's order; those never called may be among them.
    pub commands: Vec<CommandInfo>,
    /// The percentiles of the durations that are shown; `None`: none are.
    pub percents: Option<Vec<f64>>,
    /// The error replies given, by code, sorted.
    pub errors: Vec<(String, u64)>,
    /// The databases that hold keys, in order.
    pub keyspace: Vec<DatabaseInfo>,
    pub raft: RaftInfo,
    /// Whether the members show themselves as a Redis cluster.
    pub cluster_enabled: bool,
    /// Names and values of our own, shown as they are. A name must not begin with `db` or `cluster_`
    /// by accident: redis_exporter exports such fields.
    pub quorate: Vec<(&'static str, String)>,
}

/// The process.
#[derive(Clone, Debug, Default)]
pub struct ServerInfo {
    /// The kernel's name, release and architecture: `Linux 6.1.0 x86_64`.
    pub os: String,
    pub process_id: u32,
    /// 40 hexadecimal digits, different at each start.
    pub run_id: String,
    pub tcp_port: u16,
    pub uptime: Duration,
    /// Of the program's file.
    pub executable: String,
    /// Of the configuration file, or empty.
    pub config_file: String,
}

/// The connections.
#[derive(Clone, Debug, Default)]
pub struct ClientsInfo {
    pub connected: u64,
    pub connected_max: u64,
    pub blocked: u64,
    /// Those that keep copies of keys.
    pub tracking: u64,
    /// The longest input and output waiting on a connection of late, in bytes.
    pub input_bytes_max: u64,
    pub output_bytes_max: u64,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default)]
pub struct MemoryInfo {
    pub used: u64,
    pub resident: u64,
    pub peak: u64,
    /// What the process used before it held any data.
    pub startup: u64,
    /// What does not grow with the data: buffers of clients, the log's memory, ...
    pub overhead: u64,
    /// Of the machine.
    pub system: u64,
    /// `maxmemory`, 0 without one.
    pub limit: u64,
    pub clients: u64,
    /// Scripts that are known, and their bytes.
    pub scripts: u64,
    pub script_bytes: u64,
    pub functions: u64,
    /// Libraries of functions, and their bytes.
    pub libraries: u64,
    pub library_bytes: u64,
    pub allocator: &'static str,
}

/// Checkpoints stand where Redis has RDB saves, the log where it has the append-only file.
#[derive(Clone, Debug, Default)]
pub struct PersistenceInfo {
    /// The node has not caught up with the log yet.
    pub loading: bool,
    pub changes_since_checkpoint: u64,
    pub checkpoint_running: bool,
    /// In milliseconds since the Unix epoch.
    pub last_checkpoint_ms: u64,
    pub last_checkpoint_took: Option<Duration>,
    pub checkpoints: u64,
    pub log_bytes: u64,
}

/// Counters since the start, or since CONFIG RESETSTAT.
#[derive(Clone, Debug, Default)]
pub struct StatsInfo {
    pub connections_received: u64,
    pub connections_rejected: u64,
    pub commands_processed: u64,
    pub commands_per_second: u64,
    pub input_bytes: u64,
    pub output_bytes: u64,
    pub peer_input_bytes: u64,
    pub peer_output_bytes: u64,
    /// Of late, in KiB each second.
    pub input_kbps: f64,
    pub output_kbps: f64,
    pub snapshots_sent: u64,
    pub expired_keys: u64,
    pub keyspace_hits: u64,
    pub keyspace_misses: u64,
    pub pubsub_channels: u64,
    pub pubsub_patterns: u64,
    pub pubsub_shard_channels: u64,
    /// Keys that clients keep copies of, pairs of key and client, and prefixes that clients ask for.
    pub tracked_keys: u64,
    pub tracked_items: u64,
    pub tracked_prefixes: u64,
    pub error_replies: u64,
    pub reads_processed: u64,
    pub writes_processed: u64,
}

/// The cluster as replication: the leader is the master, everybody else its replica; an offset is a log
/// index.
#[derive(Clone, Debug)]
pub struct Replication {
    pub role: Role,
    /// 40 hexadecimal digits, the same on all nodes of a cluster.
    pub id: String,
    /// The last log index this node knows to be committed.
    pub offset: u64,
}

/// A node's part in it.
#[derive(Clone, Debug)]
pub enum Role {
    Leader { followers: Vec<Follower> },
    Follower(Following),
}

/// A node that follows this one.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    pub id: u64,
    /// Where its clients connect.
    pub host: String,
    pub port: u16,
    /// Whether it answers.
    pub online: bool,
    /// Its last log index known here.
    pub offset: u64,
    /// Since it last answered.
    pub lag: Duration,
}

/// What a node that does not lead knows of the one that does.
#[derive(Clone, Debug, Default)]
pub struct Following {
    /// Where the leader's clients connect, if there is a leader: host and port.
    pub leader: Option<(String, u16)>,
    /// Since it was last heard of.
    pub silence: Duration,
    /// Whether a snapshot is being received.
    pub syncing: bool,
    /// This node's last log index.
    pub offset: u64,
}

/// Processor time, in seconds.
#[derive(Clone, Debug, Default)]
pub struct CpuInfo {
    pub system: f64,
    pub user: f64,
    pub children_system: f64,
    pub children_user: f64,
}

/// A command's figures.
#[derive(Clone, Debug, Default)]
pub struct CommandInfo {
    /// As in its declaration: upper case, a subcommand's is `PARENT|NAME`.
    pub name: &'static str,
    pub calls: u64,
    pub micros: u64,
    /// Refused before they ran.
    pub rejected: u64,
    /// Answered with an error.
    pub failed: u64,
    /// The percentiles of the duration that [`NodeInfo::percents`] names, in microseconds.
    pub percentiles: Vec<f64>,
}

/// A database's figures.
#[derive(Clone, Copy, Debug, Default)]
pub struct DatabaseInfo {
    pub db: u8,
    pub keys: u64,
    /// Keys with a deadline.
    pub expires: u64,
    /// In milliseconds, 0 if unknown.
    pub average_ttl_ms: u64,
}

/// Consensus.
#[derive(Clone, Debug, Default)]
pub struct RaftInfo {
    pub node_id: u64,
    /// `leader`, `follower`, `candidate`, `learner`.
    pub state: &'static str,
    /// 0 if there is none.
    pub leader_id: u64,
    pub term: u64,
    pub last_log_index: u64,
    pub commit_index: u64,
    pub applied_index: u64,
    /// The last log index a snapshot covers.
    pub snapshot_index: u64,
    /// All members, this node included, by id.
    pub members: Vec<Member>,
}

/// A member of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Member {
    pub id: u64,
    /// `leader`, `follower`, `learner`, as far as this node knows.
    pub state: &'static str,
    pub voter: bool,
    /// Where its peers connect, `host:port`.
    pub address: String,
    pub peer_port: u16,
    /// Where its clients connect.
    pub host: String,
    pub port: u16,
    /// Whether it answers, as far as this node knows.
    pub online: bool,
    /// Its last log index known here.
    pub offset: u64,
}

/// The cluster, as clients see it that look for the leader.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// 32 hexadecimal digits, the same on all nodes.
    pub cluster: String,
    /// This node.
    pub node: u64,
    pub leader: Option<u64>,
    pub term: u64,
    /// This node included, by id.
    pub members: Vec<Member>,
    /// Whether the members show themselves as a Redis cluster (`cluster-enabled`).
    pub cluster_enabled: bool,
    /// What the leader is called by Sentinel (`sentinel-master-name`).
    pub master_name: String,
    /// The silence of a leader after which there is an election, at most.
    pub election_ms: u64,
}

impl Topology {
    /// The leader, if there is one.
    #[must_use]
    pub fn leader(&self) -> Option<&Member> {
        self.members.iter().find(|member| Some(member.id) == self.leader)
    }

    /// A member's name, where Redis has 40 hexadecimal digits: the same on all nodes and after restarts.
    #[must_use]
    pub fn name_of(&self, id: u64) -> String {
        format!("{}{:08x}", self.cluster, id & 0xffff_ffff)
    }

    /// How many members must agree.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.members.iter().filter(|member| member.voter).count() / 2 + 1
    }
}

impl Default for Replication {
    fn default() -> Self {
        Self { role: Role::Follower(Following::default()), id: "0".repeat(40), offset: 0 }
    }
}
