//! The table of options: each is declared once, here.
//!
//! A row is all there is to adding an option: flag, variable, key in the file, `--help`, CONFIG GET and
//! SET and the README's table follow from it. What remains is to read its value, in
//! [`Config`](super::Config) if it holds from the start, in [`Settings`](super::Settings) if it can change.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::format::Format;

/// An option.
#[derive(Debug)]
pub struct Opt {
    /// The flag without its dashes, the key in the file and CONFIG's name.
    pub name: &'static str,
    pub format: Format,
    /// As somebody would write it.
    pub default: &'static str,
    pub scope: Scope,
    /// One sentence for `--help` and the README; empty where Redis' own documentation says it.
    pub help: &'static str,
}

/// Who may set an option, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Whoever starts the node; fixed from then on.
    Start,
    /// Whoever starts the node, and CONFIG SET.
    Live,
    /// CONFIG SET, for the whole cluster: its value is in the replicated state. What a node was started with could
    /// only contradict it.
    Cluster,
    /// CONFIG SET: accepted and remembered for the tools that set it, without effect.
    Remembered,
    /// The same, and told to those only who ask for its very name: what Redis keeps for its developers.
    Hidden,
    /// Nobody: what Quorate is, in the words of a parameter that tools read.
    Fact,
    /// Nobody, where Redis would let CONFIG SET.
    Fixed,
}

impl Scope {
    /// Whether flags, variables and the file may give it.
    #[must_use]
    pub const fn at_start(self) -> bool {
        matches!(self, Self::Start | Self::Live)
    }

    /// Whether CONFIG SET may change it.
    #[must_use]
    pub const fn at_run_time(self) -> bool {
        matches!(self, Self::Live | Self::Cluster | Self::Remembered | Self::Hidden)
    }

    /// Whether CONFIG SET may give it the value that it has, as a tool does that writes back all it has read. What
    /// cannot be set in Redis either is refused as there.
    #[must_use]
    pub const fn may_stay(self) -> bool {
        matches!(self, Self::Start | Self::Fixed)
    }
}

/// Options that belong together, under the title that `--help` and the README give them.
pub struct Topic {
    pub title: &'static str,
    pub options: &'static [Opt],
}

const fn start(name: &'static str, format: Format, default: &'static str, help: &'static str) -> Opt {
    Opt { name, format, default, scope: Scope::Start, help }
}

const fn live(name: &'static str, format: Format, default: &'static str, help: &'static str) -> Opt {
    Opt { name, format, default, scope: Scope::Live, help }
}

const fn cluster(name: &'static str, format: Format, default: &'static str, help: &'static str) -> Opt {
    Opt { name, format, default, scope: Scope::Cluster, help }
}

const fn remembered(name: &'static str, format: Format, default: &'static str) -> Opt {
    Opt { name, format, default, scope: Scope::Remembered, help: "" }
}

const fn hidden(name: &'static str, format: Format, default: &'static str) -> Opt {
    Opt { name, format, default, scope: Scope::Hidden, help: "" }
}

const fn fact(name: &'static str, default: &'static str) -> Opt {
    Opt { name, format: Format::Text, default, scope: Scope::Fact, help: "" }
}

const fn fixed(name: &'static str, default: &'static str) -> Opt {
    Opt { name, format: Format::Text, default, scope: Scope::Fixed, help: "" }
}

const fn int(min: i64, max: i64) -> Format {
    Format::Int { min, max }
}

const fn bytes(min: u64, max: u64) -> Format {
    Format::Bytes { min, max }
}

const I32_MIN: i64 = i32::MIN as i64;
const I32_MAX: i64 = i32::MAX as i64;
const SIZE_MAX: u64 = i64::MAX as u64;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What Redis could evict. Here nothing is.
const POLICIES: [&str; 8] = [
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
];

/// What `quorate serve` and CONFIG know.
pub static TOPICS: [Topic; 6] = [
    Topic {
        title: "Node",
        options: &[
            start("data", Format::Path, "./quorate-data", "Directory that holds all the node knows."),
            start("listen", Format::Address, "127.0.0.1:6379", "Address for clients."),
            start(
                "http-listen",
                Format::OptionalAddress,
                "",
                "Address for /metrics, /livez, /readyz and the like.",
            ),
            start(
                "peer-listen",
                Format::OptionalAddress,
                "",
                "Address for the other nodes; one of the peers.",
            ),
            start(
                "peers",
                Format::Addresses,
                "",
                "Peer addresses of all nodes, this one included, separated by commas; the same on every node.",
            ),
            start(
                "replica-announce-ip",
                Format::Text,
                "",
                "Host at which clients reach this node, where it is not the one it listens at.",
            ),
            start(
                "replica-announce-port",
                int(0, 65_535),
                "0",
                "Port at which clients reach this node; 0: the one it listens at.",
            ),
            start(
                "cluster-enabled",
                Format::YesNo,
                "no",
                "Whether to answer CLUSTER, as one shard of which the leader is the master.",
            ),
            start(
                "sentinel-master-name",
                Format::Text,
                "mymaster",
                "What the leader is called when clients ask as they ask a Sentinel.",
            ),
            start(
                "sentinel-listen",
                Format::OptionalAddress,
                "",
                "Address for clients that make sure that it is a Sentinel they ask: ROLE says so there.",
            ),
            start(
                "enable-debug-command",
                Format::OneOf(&["no", "yes", "local"]),
                "no",
                "Who may send DEBUG: no client, any, or those on this machine.",
            ),
            start(
                "threads",
                int(0, 1024),
                "0",
                "Threads that serve clients; 0 takes one on up to two cores, else one fewer than there are cores.",
            ),
        ],
    },
    Topic {
        title: "Clients",
        options: &[
            live("requirepass", Format::Text, "", "Password that clients must give; none when empty."),
            live("maxclients", int(1, u32::MAX as i64), "10000", "Connections served at a time."),
            live(
                "timeout",
                int(0, I32_MAX),
                "0",
                "Seconds after which an idle client is disconnected; 0: never.",
            ),
            live(
                "request-timeout-ms",
                int(1, I32_MAX),
                "10000",
                "How long a command may wait for a quorum before it is answered with an error.",
            ),
            live(
                "maxmemory",
                bytes(0, SIZE_MAX),
                "0",
                "Size of the data above which writes are refused; 0: none.",
            ),
            live("proto-max-bulk-len", bytes(MIB, SIZE_MAX), "512mb", "Longest argument."),
            live(
                "client-query-buffer-limit",
                bytes(MIB, SIZE_MAX),
                "1gb",
                "Bytes of unanswered requests above which a client is disconnected.",
            ),
            live(
                "client-output-buffer-limit",
                Format::OutputLimits,
                "normal 1gb 0 0 slave 256mb 64mb 60 pubsub 32mb 8mb 60",
                "Bytes of unread replies above which a client is disconnected: at once, or after so many seconds.",
            ),
            live(
                "slowlog-log-slower-than",
                int(-1, i64::MAX),
                "10000",
                "Microseconds above which a command is remembered as slow; -1: none is.",
            ),
            live("slowlog-max-len", int(0, i64::MAX), "128", "Slow commands remembered."),
            live(
                "tracking-table-max-keys",
                int(0, i64::MAX),
                "1000000",
                "Keys remembered of which clients keep copies; 0: no limit.",
            ),
            live(
                "latency-tracking",
                Format::YesNo,
                "yes",
                "Whether INFO and LATENCY tell how long commands took.",
            ),
            live(
                "latency-tracking-info-percentiles",
                Format::Percentiles,
                "50 99 99.9",
                "The percentiles of commands' times that INFO tells.",
            ),
            live(
                "latency-monitor-threshold",
                int(0, i64::MAX),
                "0",
                "Milliseconds above which LATENCY remembers an event; 0: it remembers none.",
            ),
            cluster(
                "notify-keyspace-events",
                Format::Events,
                "",
                "Classes of keyspace events that are published.",
            ),
        ],
    },
    Topic {
        title: "Consensus",
        options: &[
            start("heartbeat-ms", int(5, 60_000), "60", "How often a leader is heard of."),
            start(
                "election-min-ms",
                int(10, 600_000),
                "650",
                "Silence of the leader before an election, at least.",
            ),
            start(
                "election-max-ms",
                int(10, 600_000),
                "900",
                "Silence of the leader before an election, at most.",
            ),
            start(
                "gather-us",
                int(0, 10_000),
                "300",
                "How long a busy node gathers commands into one log entry, at most, in microseconds.",
            ),
        ],
    },
    Topic {
        title: "Storage",
        options: &[
            start("wal-segment-bytes", bytes(MIB, GIB), "64mb", "Size of a file of the log."),
            start(
                "wal-keep-bytes",
                bytes(0, SIZE_MAX),
                "256mb",
                "Log kept for slow followers; one further behind is sent a snapshot.",
            ),
            start(
                "buffer-bytes",
                bytes(MIB, 64 * GIB),
                "64mb",
                "Applied writes held in memory before they are checkpointed to the database.",
            ),
            start(
                "cache-bytes",
                bytes(0, 64 * GIB),
                "64mb",
                "Values read from the database that are kept in memory.",
            ),
            start("checkpoint-seconds", int(1, 86_400), "30", "Time between checkpoints, at most."),
        ],
    },
    Topic {
        title: "Log messages",
        options: &[
            start(
                "log-format",
                Format::OneOf(&["text", "json"]),
                "text",
                "How messages are written to stderr.",
            ),
            start(
                "log-level",
                Format::OneOf(&["error", "warn", "info", "debug", "trace"]),
                "info",
                "The least important messages that are written.",
            ),
        ],
    },
    Topic {
        title: "Redis parameters that only CONFIG knows",
        options: &[
            fixed("bind", ""),
            fixed("port", ""),
            fixed("tls-port", "0"),
            fact("databases", "16"),
            fact("daemonize", "no"),
            fact("io-threads", "1"),
            fact("io-threads-do-reads", "no"),
            fact("logfile", ""),
            fact("pidfile", ""),
            fact("rdbchecksum", "yes"),
            fact("replicaof", ""),
            fact("supervised", "no"),
            fact("tcp-backlog", "511"),
            fact("unixsocket", ""),
            fact("aclfile", ""),
            fact("appenddirname", "appendonlydir"),
            fact("appendfilename", "appendonly.aof"),
            fact("always-show-logo", "no"),
            fact("aof_rewrite_cpulist", ""),
            fact("bgsave_cpulist", ""),
            fact("bio_cpulist", ""),
            fact("cluster-config-file", "nodes.conf"),
            fact("cluster-port", "0"),
            fact("dbfilename", "dump.rdb"),
            fact("disable-thp", "no"),
            fact("enable-protected-configs", "no"),
            fact("enable-module-command", "no"),
            fact("server_cpulist", ""),
            fact("set-proc-title", "no"),
            fact("socket-mark-id", "0"),
            fact("syslog-enabled", "no"),
            fact("syslog-facility", "local0"),
            fact("syslog-ident", "redis"),
            fact("unixsocketperm", "0"),
            remembered("save", Format::SavePoints, ""),
            remembered("appendonly", Format::YesNo, "yes"),
            remembered("appendfsync", Format::OneOf(&["everysec", "always", "no"]), "always"),
            remembered("aof-disable-auto-gc", Format::YesNo, "no"),
            remembered("aof-load-truncated", Format::YesNo, "yes"),
            remembered("aof-rewrite-incremental-fsync", Format::YesNo, "yes"),
            remembered("aof-timestamp-enabled", Format::YesNo, "no"),
            remembered("auto-aof-rewrite-percentage", int(0, I32_MAX), "100"),
            remembered("auto-aof-rewrite-min-size", bytes(0, SIZE_MAX), "64mb"),
            remembered("aof-use-rdb-preamble", Format::YesNo, "yes"),
            remembered("no-appendfsync-on-rewrite", Format::YesNo, "no"),
            remembered("rdbcompression", Format::YesNo, "yes"),
            remembered("rdb-del-sync-files", Format::YesNo, "no"),
            remembered("rdb-save-incremental-fsync", Format::YesNo, "yes"),
            remembered("sanitize-dump-payload", Format::OneOf(&["no", "yes", "clients"]), "no"),
            remembered("stop-writes-on-bgsave-error", Format::YesNo, "yes"),
            remembered("maxmemory-policy", Format::OneOf(&POLICIES), "noeviction"),
            remembered("maxmemory-samples", int(1, I32_MAX), "5"),
            remembered("maxmemory-clients", Format::NoLimit, "0"),
            remembered("maxmemory-eviction-tenacity", int(0, 100), "10"),
            remembered("lfu-log-factor", int(0, I32_MAX), "10"),
            remembered("lfu-decay-time", int(0, I32_MAX), "1"),
            remembered("loglevel", Format::OneOf(&["debug", "verbose", "notice", "warning"]), "notice"),
            remembered("protected-mode", Format::YesNo, "no"),
            remembered("bind-source-addr", Format::Text, ""),
            remembered("tcp-keepalive", int(0, I32_MAX), "300"),
            remembered("hz", Format::Capped { min: 1, max: 500 }, "10"),
            remembered("dynamic-hz", Format::YesNo, "yes"),
            remembered("activerehashing", Format::YesNo, "yes"),
            remembered("active-expire-effort", int(1, 10), "1"),
            remembered("activedefrag", Format::YesNo, "no"),
            remembered("active-defrag-cycle-max", int(1, 99), "25"),
            remembered("active-defrag-cycle-min", int(1, 99), "1"),
            remembered("active-defrag-ignore-bytes", bytes(1, SIZE_MAX), "100mb"),
            remembered("active-defrag-max-scan-fields", int(1, i64::MAX), "1000"),
            remembered("active-defrag-threshold-lower", int(0, 1000), "10"),
            remembered("active-defrag-threshold-upper", int(0, 1000), "100"),
            remembered("crash-log-enabled", Format::YesNo, "yes"),
            remembered("crash-memcheck-enabled", Format::YesNo, "yes"),
            remembered("ignore-warnings", Format::Text, ""),
            remembered("oom-score-adj", Format::OneOf(&["no", "yes", "relative", "absolute"]), "no"),
            remembered("proc-title-template", Format::Text, "{title} {listen-addr} {server-mode}"),
            remembered("shutdown-timeout", int(0, I32_MAX), "10"),
            remembered("jemalloc-bg-thread", Format::YesNo, "yes"),
            remembered("lazyfree-lazy-eviction", Format::YesNo, "no"),
            remembered("lazyfree-lazy-expire", Format::YesNo, "no"),
            remembered("lazyfree-lazy-server-del", Format::YesNo, "no"),
            remembered("lazyfree-lazy-user-del", Format::YesNo, "no"),
            remembered("lazyfree-lazy-user-flush", Format::YesNo, "no"),
            remembered("replica-lazy-flush", Format::YesNo, "no"),
            remembered("busy-reply-threshold", int(0, i64::MAX), "5000"),
            remembered("acllog-max-len", int(0, i64::MAX), "128"),
            remembered(
                "acl-pubsub-default",
                Format::OneOf(&["allchannels", "resetchannels"]),
                "resetchannels",
            ),
            remembered("masterauth", Format::Text, ""),
            remembered("masteruser", Format::Text, ""),
            remembered("min-replicas-to-write", int(0, I32_MAX), "0"),
            remembered("min-replicas-max-lag", int(0, I32_MAX), "10"),
            remembered("repl-backlog-size", bytes(1, SIZE_MAX), "1mb"),
            remembered("repl-backlog-ttl", int(0, i64::MAX), "3600"),
            remembered("repl-diskless-sync", Format::YesNo, "yes"),
            remembered("repl-diskless-sync-delay", int(0, I32_MAX), "5"),
            remembered(
                "repl-diskless-load",
                Format::OneOf(&["disabled", "on-empty-db", "swapdb"]),
                "disabled",
            ),
            remembered("repl-diskless-sync-max-replicas", int(0, I32_MAX), "0"),
            remembered("repl-disable-tcp-nodelay", Format::YesNo, "no"),
            remembered("repl-ping-replica-period", int(1, I32_MAX), "10"),
            remembered("repl-timeout", int(1, I32_MAX), "60"),
            remembered("replica-read-only", Format::YesNo, "yes"),
            remembered("replica-serve-stale-data", Format::YesNo, "yes"),
            remembered("replica-priority", int(0, I32_MAX), "100"),
            remembered("replica-announced", Format::YesNo, "yes"),
            remembered("replica-ignore-maxmemory", Format::YesNo, "yes"),
            remembered("replica-ignore-disk-write-errors", Format::YesNo, "no"),
            remembered(
                "propagation-error-behavior",
                Format::OneOf(&["ignore", "panic", "panic-on-replicas"]),
                "ignore",
            ),
            remembered("cluster-announce-ip", Format::Text, ""),
            remembered("cluster-announce-hostname", Format::Text, ""),
            remembered("cluster-announce-port", int(0, 65_535), "0"),
            remembered("cluster-announce-tls-port", int(0, 65_535), "0"),
            remembered("cluster-announce-bus-port", int(0, 65_535), "0"),
            remembered(
                "cluster-preferred-endpoint-type",
                Format::OneOf(&["ip", "hostname", "unknown-endpoint"]),
                "ip",
            ),
            remembered("cluster-node-timeout", int(0, i64::MAX), "15000"),
            remembered("cluster-require-full-coverage", Format::YesNo, "yes"),
            remembered("cluster-allow-pubsubshard-when-down", Format::YesNo, "yes"),
            remembered("cluster-allow-reads-when-down", Format::YesNo, "no"),
            remembered("cluster-allow-replica-migration", Format::YesNo, "yes"),
            remembered("cluster-link-sendbuf-limit", bytes(0, SIZE_MAX), "0"),
            remembered("cluster-migration-barrier", int(0, I32_MAX), "1"),
            remembered("cluster-replica-no-failover", Format::YesNo, "no"),
            remembered("cluster-replica-validity-factor", int(0, I32_MAX), "10"),
            remembered("hash-max-listpack-entries", int(0, i64::MAX), "512"),
            remembered("hash-max-listpack-value", bytes(0, SIZE_MAX), "64"),
            remembered("list-max-listpack-size", int(I32_MIN, I32_MAX), "-2"),
            remembered("list-compress-depth", int(0, I32_MAX), "0"),
            remembered("set-max-intset-entries", int(0, i64::MAX), "512"),
            remembered("zset-max-listpack-entries", int(0, i64::MAX), "128"),
            remembered("zset-max-listpack-value", bytes(0, SIZE_MAX), "64"),
            remembered("hll-sparse-max-bytes", bytes(0, SIZE_MAX), "3000"),
            remembered("stream-node-max-bytes", bytes(0, SIZE_MAX), "4096"),
            remembered("stream-node-max-entries", int(0, i64::MAX), "100"),
            hidden("key-load-delay", int(I32_MIN, I32_MAX), "0"),
            hidden("rdb-key-save-delay", int(I32_MIN, I32_MAX), "0"),
            hidden("loading-process-events-interval-bytes", int(1024, I32_MAX), "2097152"),
            hidden("use-exit-on-panic", Format::YesNo, "no"),
            hidden("watchdog-period", int(0, I32_MAX), "0"),
        ],
    },
];

/// Second names, which CONFIG knows as Redis does.
static ALIASES: [(&str, &str); 20] = [
    ("cluster-slave-no-failover", "cluster-replica-no-failover"),
    ("cluster-slave-validity-factor", "cluster-replica-validity-factor"),
    ("dir", "data"),
    ("hash-max-ziplist-entries", "hash-max-listpack-entries"),
    ("hash-max-ziplist-value", "hash-max-listpack-value"),
    ("list-max-ziplist-size", "list-max-listpack-size"),
    ("lua-time-limit", "busy-reply-threshold"),
    ("min-slaves-max-lag", "min-replicas-max-lag"),
    ("min-slaves-to-write", "min-replicas-to-write"),
    ("repl-ping-slave-period", "repl-ping-replica-period"),
    ("slave-announce-ip", "replica-announce-ip"),
    ("slave-announce-port", "replica-announce-port"),
    ("slave-ignore-maxmemory", "replica-ignore-maxmemory"),
    ("slave-lazy-flush", "replica-lazy-flush"),
    ("slave-priority", "replica-priority"),
    ("slave-read-only", "replica-read-only"),
    ("slave-serve-stale-data", "replica-serve-stale-data"),
    ("slaveof", "replicaof"),
    ("zset-max-ziplist-entries", "zset-max-listpack-entries"),
    ("zset-max-ziplist-value", "zset-max-listpack-value"),
];

/// The file of options. Not in [`TOPICS`]: it is where values come from, not one of them.
pub static FILE: Opt =
    start("config", Format::Path, "", "TOML file of options; its keys are the names of the flags.");

/// What `quorate dev` knows beside the options it hands on to the nodes.
pub static DEV: [Opt; 3] = [
    start("nodes", int(1, 9), "3", "Number of nodes."),
    start(
        "base-port",
        int(1, 65_000),
        "7001",
        "Port of the first node; the next follow it, peers are 100 above, HTTP 200, Sentinels 300.",
    ),
    start("data", Format::Path, "./quorate-dev", "Directory that holds the nodes' directories."),
];

/// All options of [`TOPICS`], in order.
pub fn all() -> impl Iterator<Item = &'static Opt> {
    TOPICS.iter().flat_map(|topic| topic.options)
}

/// Every name CONFIG knows, with the place of its option in [`all`].
pub fn names() -> impl Iterator<Item = (&'static str, usize)> {
    let own = all().enumerate().map(|(place, option)| (option.name, place));
    own.chain(ALIASES.iter().map(|(alias, name)| (*alias, place(name))))
}

/// Whether CONFIG GET finds the option at a place in [`all`] only by its name.
pub fn is_hidden(place: usize) -> bool {
    all().nth(place).is_some_and(|option| option.scope == Scope::Hidden)
}

/// The place in [`all`] of the option called `name` (an alias is a name too), in any case.
pub fn find(name: &str) -> Option<usize> {
    static PLACES: OnceLock<HashMap<&'static str, usize>> = OnceLock::new();
    let own = || all().enumerate().map(|(place, option)| (option.name, place)).collect();
    let places = PLACES.get_or_init(own);
    let name = name.to_ascii_lowercase();
    let canonical = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name.as_str(), |(_, own)| own);
    places.get(canonical).copied()
}

/// The place of an option this program names itself.
pub fn place(name: &str) -> usize {
    find(name).unwrap_or_else(|| panic!("{name} is not in the table of options"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_canonical() {
        let mut seen = HashSet::new();
        for (name, _) in names() {
            assert!(seen.insert(name), "{name} is declared twice");
            // A hyphen joins words, but in four of Redis' own.
            let joins = |c: char| c == '-' || (c == '_' && name.ends_with("_cpulist"));
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || joins(c);
            assert!(name.chars().all(fits), "{name}");
        }
    }

    #[test]
    fn defaults_fit_their_format() {
        for option in all().chain(&DEV) {
            if let Err(why) = option.format.canonical(option.default) {
                panic!("{}: {}: {why}", option.name, option.default);
            }
        }
    }

    #[test]
    fn help_is_one_sentence() {
        for option in all().chain(&DEV).chain([&FILE]) {
            if option.scope.at_start() {
                assert!(option.help.ends_with('.'), "{}: {}", option.name, option.help);
                assert!(option.help.len() <= 110, "{}: too long", option.name);
            }
        }
    }

    #[test]
    fn every_start_option_is_read() {
        let readers = concat!(include_str!("mod.rs"), include_str!("settings.rs"));
        for option in all().filter(|option| option.scope.at_start()) {
            let quoted = format!("\"{}\"", option.name);
            assert!(readers.contains(&quoted), "nothing reads {}", option.name);
        }
    }
}
