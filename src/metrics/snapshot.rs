//! What a node tells about itself at the moment of a scrape, and the metrics made of it.
//!
//! One row a metric: name, help and the function that reads its value. The node fills a [`Snapshot`] and
//! knows no metric's name; nothing here knows where the figures come from.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::process::Process;
use super::text::Text;
use super::{Hot, Kind, Metric};

/// The state of a node, now.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub node_id: u64,
    pub uptime_seconds: u64,
    /// The Redis version we present ourselves as.
    pub redis_version: &'static str,

    pub has_leader: bool,
    pub is_leader: bool,
    pub is_learner: bool,
    pub voters: u64,
    pub learners: u64,
    pub term: u64,
    /// Index of the last entry in this node's log.
    pub log_last: u64,
    pub log_committed: u64,
    pub log_applied: u64,
    /// Index of the last entry in the newest snapshot.
    pub log_snapshot: u64,
    /// Index of the last entry the log no longer holds.
    pub log_purged: u64,
    /// Entries proposed by this node and not yet answered.
    pub proposals_pending: u64,
    /// Commands waiting to get into an entry.
    pub commands_waiting: u64,
    /// The other nodes, as far as this one knows.
    pub peers: Vec<Peer>,

    pub clients_connected: u64,
    /// Clients in a blocking command.
    pub clients_blocked: u64,
    pub clients_max: u64,
    pub pubsub_channels: u64,
    pub pubsub_patterns: u64,

    /// Size of keys and values, as `maxmemory` counts it.
    pub data_bytes: u64,
    /// `maxmemory`; 0: none.
    pub data_bytes_max: u64,
    /// The database file.
    pub store_bytes: u64,
    /// The part of it that is in use.
    pub store_bytes_used: u64,
    /// Applied writes that no checkpoint has written yet.
    pub buffer_bytes: u64,
    pub cache_bytes: u64,
    /// All files of the log.
    pub wal_bytes: u64,
    /// What is free on the data directory's disk.
    pub disk_bytes_free: u64,
    /// The number of write commands applied so far.
    pub revision: u64,
    /// Databases that hold keys.
    pub databases: Vec<Database>,
}

/// Another node, as this one sees it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its node id.
    pub id: u64,
    /// How far its log is behind ours; known on the leader.
    pub lag_entries: u64,
    pub connected: bool,
}

/// The keys of a database.
#[derive(Clone, Debug)]
pub struct Database {
    pub index: u8,
    pub keys: u64,
    /// Keys with a deadline.
    pub expiring: u64,
}

/// Everything that a row can read.
pub struct Scrape<'a> {
    pub snapshot: &'a Snapshot,
    pub hot: &'a Hot,
    pub process: &'a Process,
}

/// A metric with one series.
struct Row(Metric, fn(&Scrape) -> f64);

const fn gauge(name: &'static str, help: &'static str, value: fn(&Scrape) -> f64) -> Row {
    Row(Metric { name, kind: Kind::Gauge, help }, value)
}

const fn counter(name: &'static str, help: &'static str, value: fn(&Scrape) -> f64) -> Row {
    Row(Metric { name, kind: Kind::Counter, help }, value)
}

fn read(counter: &AtomicU64) -> f64 {
    counter.load(Relaxed) as f64
}

static ROWS: &[Row] = &[
    gauge("quorate_server_id", "This node's id.", |s| s.snapshot.node_id as f64),
    gauge("quorate_server_has_leader", "Whether a leader is known.", |s| s.snapshot.has_leader.into()),
    gauge("quorate_server_is_leader", "Whether this node leads.", |s| s.snapshot.is_leader.into()),
    gauge("quorate_server_is_learner", "Whether this node does not vote.", |s| s.snapshot.is_learner.into()),
    gauge("quorate_server_voters", "Nodes that vote.", |s| s.snapshot.voters as f64),
    gauge("quorate_server_learners", "Nodes that do not vote.", |s| s.snapshot.learners as f64),
    // etcd calls these two totals and declares them gauges; its alerts translate by prefix.
    gauge("quorate_server_proposals_committed_total", "Entries committed.", |s| {
        s.snapshot.log_committed as f64
    }),
    gauge("quorate_server_proposals_applied_total", "Entries applied.", |s| s.snapshot.log_applied as f64),
    gauge("quorate_server_proposals_pending", "Entries proposed here and not yet answered.", |s| {
        s.snapshot.proposals_pending as f64
    }),
    gauge("quorate_server_commands_waiting", "Commands waiting to get into an entry.", |s| {
        s.snapshot.commands_waiting as f64
    }),
    gauge("quorate_raft_term", "The current term.", |s| s.snapshot.term as f64),
    gauge("quorate_raft_log_last_index", "Last entry in the log.", |s| s.snapshot.log_last as f64),
    gauge("quorate_raft_log_committed_index", "Last committed entry.", |s| s.snapshot.log_committed as f64),
    gauge("quorate_raft_log_applied_index", "Last applied entry.", |s| s.snapshot.log_applied as f64),
    gauge("quorate_raft_log_snapshot_index", "Last entry in the snapshot.", |s| {
        s.snapshot.log_snapshot as f64
    }),
    gauge("quorate_raft_log_purged_index", "Last entry no longer kept.", |s| s.snapshot.log_purged as f64),
    gauge("quorate_store_size_bytes", "Size of the database file.", |s| s.snapshot.store_bytes as f64),
    gauge("quorate_store_used_bytes", "Part of the file in use.", |s| s.snapshot.store_bytes_used as f64),
    gauge("quorate_store_buffer_bytes", "Applied writes not yet checkpointed.", |s| {
        s.snapshot.buffer_bytes as f64
    }),
    gauge("quorate_store_cache_bytes", "Values read from the database and kept.", |s| {
        s.snapshot.cache_bytes as f64
    }),
    gauge("quorate_store_data_bytes", "Size of keys and values.", |s| s.snapshot.data_bytes as f64),
    gauge("quorate_store_data_max_bytes", "Limit of keys and values; 0: none.", |s| {
        s.snapshot.data_bytes_max as f64
    }),
    gauge("quorate_store_revision", "Write commands applied.", |s| s.snapshot.revision as f64),
    gauge("quorate_disk_wal_size_bytes", "Size of the log, from the first entry kept.", |s| {
        s.snapshot.wal_bytes as f64
    }),
    gauge("quorate_disk_free_bytes", "Space left for the data directory.", |s| {
        s.snapshot.disk_bytes_free as f64
    }),
    gauge("quorate_clients_connected", "Connected clients.", |s| s.snapshot.clients_connected as f64),
    gauge("quorate_clients_blocked", "Clients in a blocking command.", |s| s.snapshot.clients_blocked as f64),
    gauge("quorate_clients_max", "Clients served at a time.", |s| s.snapshot.clients_max as f64),
    gauge("quorate_pubsub_channels", "Channels subscribed to here.", |s| s.snapshot.pubsub_channels as f64),
    gauge("quorate_pubsub_patterns", "Patterns subscribed to here.", |s| s.snapshot.pubsub_patterns as f64),
    counter("quorate_clients_accepted_total", "Connections accepted.", |s| read(&s.hot.connections_accepted)),
    counter("quorate_clients_rejected_total", "Connections turned away.", |s| {
        read(&s.hot.connections_rejected)
    }),
    counter("quorate_network_client_received_bytes_total", "Bytes read from clients.", |s| {
        read(&s.hot.net_input_bytes)
    }),
    counter("quorate_network_client_sent_bytes_total", "Bytes written to clients.", |s| {
        read(&s.hot.net_output_bytes)
    }),
    counter("quorate_keyspace_hits_total", "Reads of keys that were there.", |s| read(&s.hot.keyspace_hits)),
    counter("quorate_keyspace_misses_total", "Reads of keys that were not.", |s| {
        read(&s.hot.keyspace_misses)
    }),
    counter("quorate_keyspace_expired_total", "Keys that expired.", |s| read(&s.hot.expired_keys)),
    counter("quorate_error_replies_total", "Error replies to clients.", |s| read(&s.hot.error_replies)),
    gauge("process_resident_memory_bytes", "Resident memory.", |s| s.process.resident_bytes as f64),
    gauge("process_virtual_memory_bytes", "Virtual memory.", |s| s.process.virtual_bytes as f64),
    counter("process_cpu_seconds_total", "Processor time, user and system.", |s| {
        s.process.cpu_user_seconds + s.process.cpu_system_seconds
    }),
    gauge("process_open_fds", "Open files and sockets.", |s| s.process.open_files as f64),
    gauge("process_max_fds", "How many there may be.", |s| s.process.open_files_max as f64),
    gauge("process_threads", "Threads.", |s| s.process.threads as f64),
    gauge("process_start_time_seconds", "Start, since the Unix epoch.", |s| s.process.start_seconds),
    gauge("redis_up", "Always 1.", |_| 1.0),
    gauge("redis_uptime_in_seconds", "Time since the start.", |s| s.snapshot.uptime_seconds as f64),
    gauge("redis_connected_clients", "Connected clients.", |s| s.snapshot.clients_connected as f64),
    gauge("redis_blocked_clients", "Clients in a blocking command.", |s| s.snapshot.clients_blocked as f64),
    gauge("redis_connected_slaves", "Peers this node is connected to.", |s| {
        s.snapshot.peers.iter().filter(|peer| peer.connected).count() as f64
    }),
    gauge("redis_memory_used_bytes", "Size of keys and values.", |s| s.snapshot.data_bytes as f64),
    gauge("redis_memory_used_rss_bytes", "Resident memory.", |s| s.process.resident_bytes as f64),
    // Dashboards divide by it: without a limit, the machine is the limit.
    gauge("redis_memory_max_bytes", "Limit of keys and values, or the machine's memory.", |s| {
        let limit = s.snapshot.data_bytes_max;
        (if limit == 0 { s.process.machine_memory_bytes } else { limit }) as f64
    }),
    gauge("redis_total_system_memory_bytes", "The machine's memory.", |s| {
        s.process.machine_memory_bytes as f64
    }),
    counter("redis_keyspace_hits_total", "Reads of keys that were there.", |s| read(&s.hot.keyspace_hits)),
    counter("redis_keyspace_misses_total", "Reads of keys that were not.", |s| read(&s.hot.keyspace_misses)),
    counter("redis_net_input_bytes_total", "Bytes read from clients.", |s| read(&s.hot.net_input_bytes)),
    counter("redis_net_output_bytes_total", "Bytes written to clients.", |s| read(&s.hot.net_output_bytes)),
    counter("redis_expired_keys_total", "Keys that expired.", |s| read(&s.hot.expired_keys)),
    counter("redis_evicted_keys_total", "Always 0: nothing is evicted.", |_| 0.0),
    counter("redis_connections_received_total", "Connections accepted.", |s| {
        read(&s.hot.connections_accepted)
    }),
    counter("redis_rejected_connections_total", "Connections turned away.", |s| {
        read(&s.hot.connections_rejected)
    }),
];

const BUILD_INFO: Metric =
    Metric { name: "quorate_build_info", kind: Kind::Gauge, help: "Always 1; the version is a label." };
const INSTANCE_INFO: Metric =
    Metric { name: "redis_instance_info", kind: Kind::Gauge, help: "Always 1; role and version are labels." };
const PEER_LAG: Metric = Metric {
    name: "quorate_raft_replication_lag_entries",
    kind: Kind::Gauge,
    help: "Entries a peer has not yet got, as the leader knows.",
};
const PEER_CONNECTED: Metric = Metric {
    name: "quorate_network_peer_connected",
    kind: Kind::Gauge,
    help: "Whether there is a connection to a peer.",
};
const DB_KEYS: Metric = Metric { name: "redis_db_keys", kind: Kind::Gauge, help: "Keys of a database." };
const DB_EXPIRING: Metric =
    Metric { name: "redis_db_keys_expiring", kind: Kind::Gauge, help: "Keys with a deadline." };

/// Those that have labels.
const LABELLED: [Metric; 6] = [BUILD_INFO, INSTANCE_INFO, PEER_LAG, PEER_CONNECTED, DB_KEYS, DB_EXPIRING];

pub fn table() -> Vec<Metric> {
    ROWS.iter().map(|row| row.0).chain(LABELLED).collect()
}

pub fn render(text: &mut Text, scrape: &Scrape) {
    let Snapshot { peers, databases, is_leader, redis_version, .. } = scrape.snapshot;
    text.describe(BUILD_INFO);
    text.series(BUILD_INFO.name, &[("version", &env!("CARGO_PKG_VERSION"))], 1);
    text.describe(INSTANCE_INFO);
    let role = if *is_leader { "master" } else { "slave" };
    let labels: [(&str, &dyn std::fmt::Display); 3] =
        [("role", &role), ("redis_version", redis_version), ("redis_mode", &"standalone")];
    text.series(INSTANCE_INFO.name, &labels, 1);
    for Row(metric, value) in ROWS {
        text.single(*metric, value(scrape));
    }
    text.describe(PEER_LAG);
    for peer in peers.iter().filter(|_| *is_leader) {
        text.series(PEER_LAG.name, &[("peer", &peer.id)], peer.lag_entries);
    }
    text.describe(PEER_CONNECTED);
    for peer in peers {
        text.series(PEER_CONNECTED.name, &[("peer", &peer.id)], u8::from(peer.connected));
    }
    text.describe(DB_KEYS);
    for Database { index, keys, .. } in databases {
        text.series(DB_KEYS.name, &[("db", &format!("db{index}"))], keys);
    }
    text.describe(DB_EXPIRING);
    for Database { index, expiring, .. } in databases {
        text.series(DB_EXPIRING.name, &[("db", &format!("db{index}"))], expiring);
    }
}
