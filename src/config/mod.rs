//! Options: where they come from and what they are.
//!
//! One table ([`options`]) says everything about an option. A value comes, in this order, from a flag, a
//! `QUORATE_*` variable, the file that `--config` names, or the table's default; something unknown or
//! malformed in any of them stops the start with a message that says what and where. [`Config`] is what
//! holds from then on; [`Settings`] is what CONFIG SET can change.
//!
//! # Why not an argument parser's derive
//! It would own half of the facts: CONFIG, the file, the README and the units would need a second table
//! beside it. What is left to do by hand is a loop over `--name value`.

pub mod options;

mod events;
mod format;
mod help;
mod parse;
mod settings;
mod texts;

pub use events::Events;
pub use format::{OutputLimit, OutputLimits, byte_count};
pub use help::{readme_remembered, readme_table};
pub use parse::{ConfigError, Dev, Invocation, parse};
pub use settings::Settings;

use std::path::PathBuf;
use std::time::Duration;

use texts::Texts;

/// What a node is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory that holds all the node knows.
    pub data: PathBuf,
    /// Where clients connect, `host:port`.
    pub listen: String,
    /// Where `/metrics` and the health checks are, if anywhere.
    pub http_listen: Option<String>,
    /// Where other nodes connect; one of `peers`. `None`: a node on its own.
    pub peer_listen: Option<String>,
    /// The peer addresses of all nodes that form the cluster. Empty exactly when `peer_listen` is `None`.
    pub peers: Vec<String>,
    /// Where clients reach the node, if not where it listens: host, and port.
    pub announce_host: Option<String>,
    pub announce_port: Option<u16>,
    /// Whether the members show themselves as a Redis cluster.
    pub cluster_enabled: bool,
    /// Whose DEBUG is listened to.
    pub debug_clients: DebugClients,
    /// What the leader is called by Sentinel.
    pub sentinel_master_name: String,
    /// Where the node is a Sentinel by its role, too, if anywhere.
    pub sentinel_listen: Option<String>,
    /// Threads that serve clients; 0: as many as fit the machine.
    pub threads: usize,
    pub heartbeat: Duration,
    /// An election starts after a silence chosen between these two.
    pub election_min: Duration,
    pub election_max: Duration,
    /// How long a busy node gathers commands into one entry, at most.
    pub gather: Duration,
    pub wal_segment_bytes: u64,
    /// Log kept for slow followers.
    pub wal_keep_bytes: u64,
    /// Applied writes held in memory before a checkpoint.
    pub buffer_bytes: u64,
    /// Values read from the database that are kept in memory.
    pub cache_bytes: u64,
    /// Time between checkpoints, at most.
    pub checkpoint_interval: Duration,
    pub log_format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: String,
    /// The file of options, if there was one.
    pub file: Option<PathBuf>,
    /// The texts of all options: [`Settings`] starts from them.
    texts: Texts,
}

/// Who may send DEBUG (`enable-debug-command`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DebugClients {
    #[default]
    None,
    /// Those on this machine.
    Local,
    All,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self::of(&[]).expect("a test checks every default in the table")
    }
}

impl Config {
    /// The configuration in which these options have these values, and all others their defaults.
    ///
    /// # Errors
    /// An unknown or malformed option, by name.
    pub fn of(values: &[(&str, &str)]) -> Result<Self, ConfigError> {
        parse::values(values)
    }

    fn from_texts(mut texts: Texts) -> Result<Self, ConfigError> {
        let (host, port) = texts.text("listen").rsplit_once(':').expect("addresses have a port");
        let (host, port) = (host.trim_matches(['[', ']']).to_owned(), port.to_owned());
        texts.put(options::place("bind"), host);
        texts.put(options::place("port"), port);
        let config = Self {
            data: PathBuf::from(texts.text("data")),
            listen: texts.text("listen").to_owned(),
            http_listen: texts.optional("http-listen"),
            peer_listen: texts.optional("peer-listen"),
            peers: texts.list("peers"),
            announce_host: texts.optional("replica-announce-ip"),
            announce_port: u16::try_from(texts.number("replica-announce-port")).ok().filter(|port| *port > 0),
            cluster_enabled: texts.text("cluster-enabled") == "yes",
            debug_clients: match texts.text("enable-debug-command") {
                "yes" => DebugClients::All,
                "local" => DebugClients::Local,
                _ => DebugClients::None,
            },
            sentinel_master_name: texts.text("sentinel-master-name").to_owned(),
            sentinel_listen: texts.optional("sentinel-listen"),
            threads: texts.number("threads") as usize,
            heartbeat: texts.millis("heartbeat-ms"),
            election_min: texts.millis("election-min-ms"),
            election_max: texts.millis("election-max-ms"),
            gather: Duration::from_micros(texts.number("gather-us")),
            wal_segment_bytes: texts.number("wal-segment-bytes"),
            wal_keep_bytes: texts.number("wal-keep-bytes"),
            buffer_bytes: texts.number("buffer-bytes"),
            cache_bytes: texts.number("cache-bytes"),
            checkpoint_interval: Duration::from_secs(texts.number("checkpoint-seconds")),
            log_format: if texts.text("log-format") == "json" { LogFormat::Json } else { LogFormat::Text },
            log_level: texts.text("log-level").to_owned(),
            file: None,
            texts,
        };
        config.check()?;
        Ok(config)
    }

    /// Where clients reach a node that listens at this address.
    #[must_use]
    pub fn announced(&self, listens: &str) -> String {
        let (host, port) = listens.rsplit_once(':').unwrap_or((listens, "0"));
        let host = self.announce_host.as_deref().unwrap_or(host);
        let port = self.announce_port.map_or_else(|| port.to_owned(), |port| port.to_string());
        format!("{host}:{port}")
    }

    /// What no single option can say.
    fn check(&self) -> Result<(), ConfigError> {
        let misfit = |option, why: &str| Err(ConfigError::Misfit { option, why: why.to_owned() });
        // Half of the longest silence is the leader's lease, see `raft::Timers`.
        if self.election_min < self.election_max / 2 + 3 * self.heartbeat {
            return misfit(
                "election-min-ms",
                "must be longer than three heartbeats and half of election-max-ms",
            );
        }
        if self.election_min >= self.election_max {
            return misfit("election-max-ms", "must be longer than election-min-ms");
        }
        match &self.peer_listen {
            None if !self.peers.is_empty() => misfit("peers", "needs peer-listen, this node's own address"),
            Some(_) if self.peers.is_empty() => {
                misfit("peer-listen", "needs peers, the addresses of all nodes")
            }
            Some(own) if !self.peers.contains(own) => {
                misfit("peer-listen", &format!("{own} is not among the peers, {}", self.peers.join(",")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_a_node_on_its_own() {
        let config = Config::default();
        assert_eq!(config.data, PathBuf::from("./quorate-data"));
        assert_eq!(config.listen, "127.0.0.1:6379");
        assert_eq!((config.http_listen, config.peer_listen), (None, None));
        assert!(config.peers.is_empty());
        assert_eq!(config.heartbeat, Duration::from_millis(60));
        assert_eq!(config.gather, Duration::from_micros(300));
        assert_eq!(config.wal_segment_bytes, 64 << 20);
        assert_eq!(config.log_format, LogFormat::Text);
    }

    #[test]
    fn options_must_fit_each_other() {
        let check = |values: &[(&str, &str)], expect: &str| {
            let found = Config::of(values).map_or_else(|error| error.to_string(), |_| "fits".to_owned());
            assert_eq!(found, expect);
        };
        check(&[("peer-listen", "a:1"), ("peers", "a:1,b:1")], "fits");
        check(&[("peers", "a:1")], "peers: needs peer-listen, this node's own address");
        check(&[("peer-listen", "a:1")], "peer-listen: needs peers, the addresses of all nodes");
        check(
            &[("peer-listen", "c:1"), ("peers", "a:1,b:1")],
            "peer-listen: c:1 is not among the peers, a:1,b:1",
        );
        let short = "election-min-ms: must be longer than three heartbeats and half of election-max-ms";
        check(&[("heartbeat-ms", "600")], short);
        check(&[("election-max-ms", "600")], "election-max-ms: must be longer than election-min-ms");
    }
}
