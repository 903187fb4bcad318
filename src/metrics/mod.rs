//! What a node counts and measures, and the text in which Prometheus reads it.
//!
//! Four kinds of figures, by how often they change:
//!
//! - [`CommandStats`]: per command, on the way of every command; our own sharded atomics;
//! - [`Hot`]: some events per request (bytes, hits); plain atomics;
//! - [`Recorded`]: batches, syncs, elections; the `metrics` crate, whose histograms keep every sample
//!   until the next [`Metrics::upkeep`] and therefore have no place on the way of a command;
//! - [`Snapshot`]: what the node knows anyway and tells at the moment of a scrape.
//!
//! INFO and `/metrics` read the same figures, so they cannot disagree. Names mirror etcd's under
//! `quorate_`, and the `redis_` names of redis_exporter are served too, so that the dashboards people
//! already have work unchanged. Labels come from static tables, and `peer` from the cluster's few node ids.
//!
//! There is no global recorder: each node owns its [`Metrics`], and so a simulation can hold several.

mod commands;
mod process;
mod recorded;
mod snapshot;
mod text;

pub use commands::{CommandLabel, CommandStats, Figures, Outcome, Tally};
pub use process::{Process, operating_system};
pub use recorded::{PeerRecorded, Recorded};
pub use snapshot::{Database, Peer, Snapshot};

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use snapshot::Scrape;
use text::Text;

/// All figures of a node.
pub struct Metrics {
    pub commands: CommandStats,
    pub hot: Hot,
    pub recorded: Recorded,
}

/// Events that are counted on the way of a request.
#[derive(Debug, Default)]
pub struct Hot {
    /// Bytes read from clients.
    pub net_input_bytes: AtomicU64,
    /// Bytes written to clients.
    pub net_output_bytes: AtomicU64,
    pub connections_accepted: AtomicU64,
    /// Connections turned away because of `maxclients`.
    pub connections_rejected: AtomicU64,
    /// Reads of a key that was there.
    pub keyspace_hits: AtomicU64,
    /// Reads of a key that was not.
    pub keyspace_misses: AtomicU64,
    /// Keys that came to their deadline.
    pub expired_keys: AtomicU64,
    /// Error replies to clients.
    pub error_replies: AtomicU64,
    /// Bytes of the log that other nodes sent here.
    pub peer_input_bytes: AtomicU64,
    /// Bytes of the log that were sent to other nodes.
    pub peer_output_bytes: AtomicU64,
    /// What was read from one client and not yet served, in bytes.
    pub input_waiting: Peak,
    /// What was waiting to be written to one client, in bytes.
    pub output_waiting: Peak,
}

/// The highest of what was seen of late: since the last [`Metrics::upkeep`] but one.
#[derive(Debug, Default)]
pub struct Peak {
    now: AtomicU64,
    before: AtomicU64,
}

impl Peak {
    /// Something was so high.
    pub fn note(&self, value: u64) {
        // Hardly ever is it the highest, and a look does not take the cache line from the other threads.
        if value > self.now.load(Relaxed) {
            self.now.fetch_max(value, Relaxed);
        }
    }

    /// The highest of late.
    pub fn recent(&self) -> u64 {
        self.now.load(Relaxed).max(self.before.load(Relaxed))
    }

    fn turn(&self) {
        self.before.store(self.now.swap(0, Relaxed), Relaxed);
    }
}

/// A metric's declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

/// Prometheus' kinds. There are no summaries: quantiles of three nodes cannot be added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Metrics {
    /// Figures at zero, for these commands; up to `threads` threads count without meeting each other.
    #[must_use]
    pub fn new(commands: Vec<CommandLabel>, threads: usize) -> Self {
        Self {
            commands: CommandStats::new(commands, threads),
            hot: Hot::default(),
            recorded: Recorded::new(),
        }
    }

    /// Everything, in Prometheus' text format.
    #[must_use]
    pub fn render(&self, snapshot: &Snapshot) -> String {
        let process = Process::read();
        let scrape = Scrape { snapshot, hot: &self.hot, process: &process };
        let mut text = Text::default();
        snapshot::render(&mut text, &scrape);
        commands::render(&mut text, &self.commands);
        text.push_rendered(&self.recorded.render());
        text.into_string()
    }

    /// Folds the samples of the histograms into their buckets. To be called every few seconds, whether
    /// or not anybody scrapes: until then each sample takes memory.
    pub fn upkeep(&self) {
        self.recorded.upkeep();
        self.hot.input_waiting.turn();
        self.hot.output_waiting.turn();
    }

    /// CONFIG RESETSTAT: what INFO counts starts again from zero.
    pub fn reset(&self) {
        self.commands.reset();
        let Hot {
            net_input_bytes,
            net_output_bytes,
            connections_accepted,
            connections_rejected,
            keyspace_hits,
            keyspace_misses,
            expired_keys,
            error_replies,
            peer_input_bytes,
            peer_output_bytes,
            // They start again by themselves.
            input_waiting: _,
            output_waiting: _,
        } = &self.hot;
        for counter in [
            net_input_bytes,
            net_output_bytes,
            connections_accepted,
            connections_rejected,
            keyspace_hits,
            keyspace_misses,
            expired_keys,
            error_replies,
            peer_input_bytes,
            peer_output_bytes,
        ] {
            counter.store(0, Relaxed);
        }
    }

    /// Every metric there is. A histogram's series are its name with `_bucket`, `_sum` and `_count`.
    #[must_use]
    pub fn table(&self) -> Vec<Metric> {
        [snapshot::table(), commands::TABLE.to_vec(), self.recorded.table()].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::time::Duration;

    use super::*;

    fn metrics() -> Metrics {
        let label = |name: &str, class| CommandLabel { name: name.to_owned(), class };
        Metrics::new(vec![label("get", "read"), label("config|get", "node")], 2)
    }

    fn busy() -> Metrics {
        let metrics = metrics();
        metrics.commands.record(0, Duration::from_micros(100), Outcome::Done, 1);
        metrics.recorded.leader_changes.increment(1);
        metrics.recorded.wal_fsync_seconds.record(0.001);
        let peer = metrics.recorded.peer(7);
        peer.sent_bytes.increment(3);
        peer.round_trip_seconds.record(0.002);
        metrics
    }

    #[test]
    fn names_are_unique_and_well_formed() {
        let mut seen = HashSet::new();
        for Metric { name, kind, help } in metrics().table() {
            assert!(seen.insert(name), "{name} is declared twice");
            let prefix = ["quorate_", "redis_", "process_"].iter().any(|prefix| name.starts_with(prefix));
            assert!(prefix && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert!(help.ends_with('.'), "{name}: {help}");
            // etcd's two gauges that are called totals are mirrored under their names.
            let total = name.ends_with("_total") && !name.starts_with("quorate_server_proposals_");
            assert!(!total || kind == Kind::Counter, "{name} is called a total");
            assert!(kind != Kind::Counter || name.ends_with("_total"), "{name} is a counter");
        }
    }

    #[test]
    fn every_series_belongs_to_a_declared_metric() {
        let metrics = busy();
        let snapshot = Snapshot {
            databases: vec![Database { index: 0, keys: 5, expiring: 1 }],
            peers: vec![Peer { id: 7, lag_entries: 2, connected: true }],
            ..Snapshot::default()
        };
        let text = metrics.render(&snapshot);
        let table = metrics.table();
        let kinds: HashMap<&str, Kind> = table.iter().map(|metric| (metric.name, metric.kind)).collect();
        let mut described = HashSet::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a kind");
                let declared = kinds.get(name).unwrap_or_else(|| panic!("{name} is not declared"));
                assert_eq!(kind, declared.word(), "{name}");
                assert!(described.insert(name), "{name} is described twice");
            } else if !line.starts_with('#') {
                assert!(!line.contains("quantile="), "a summary: {line}");
                let name = line.split(['{', ' ']).next().expect("a line has a first word");
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let histogram = base.is_some_and(|base| kinds.get(base) == Some(&Kind::Histogram));
                assert!(histogram || kinds.contains_key(name), "{name} is not declared");
                let value = line.rsplit(' ').next().expect("a line has a last word");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        for Metric { name, .. } in table {
            assert!(described.contains(name), "{name} is not served");
        }
    }

    /// The names that make Grafana's dashboard 763, the most used one for Redis, live.
    #[test]
    fn the_best_known_dashboard_finds_its_names() {
        let table = metrics().table();
        for name in [
            "redis_up",
            "redis_uptime_in_seconds",
            "redis_connected_clients",
            "redis_blocked_clients",
            "redis_memory_used_bytes",
            "redis_memory_max_bytes",
            "redis_commands_total",
            "redis_keyspace_hits_total",
            "redis_keyspace_misses_total",
            "redis_net_input_bytes_total",
            "redis_net_output_bytes_total",
            "redis_db_keys",
            "redis_db_keys_expiring",
            "redis_expired_keys_total",
            "redis_evicted_keys_total",
            "redis_commands_duration_seconds_total",
        ] {
            assert!(table.iter().any(|metric| metric.name == name), "{name}");
        }
    }

    #[test]
    fn reset_starts_from_zero() {
        let metrics = busy();
        metrics.hot.keyspace_hits.store(5, Relaxed);
        metrics.reset();
        assert_eq!(metrics.hot.keyspace_hits.load(Relaxed), 0);
        assert_eq!(metrics.commands.read(0).calls, 0);
    }
}
