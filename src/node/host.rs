//! A node, as its commands and its metrics see it.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::figures::data_bytes;
use super::{Contributor, Node, housekeeping};
use crate::commands::host::{
    ClientsInfo, CommandInfo, CpuInfo, DatabaseInfo, Follower, Following, Host, MemoryInfo, NodeInfo,
    PauseScope, PersistenceInfo, RaftInfo, Replication, ServerInfo, StatsInfo, Topology,
};
use crate::commands::server::{LatencyEvent, LatencyMonitor, Said, SlowLog};
use crate::commands::{self, host};
use crate::config::Events;
use crate::error::ClientError;
use crate::metrics::{self, Process};
use crate::raft::Role;
use crate::session::Client;
use crate::types::{expiry, libraries, scripts};

/// The option whose value is in the state.
const NOTIFY: &str = "notify-keyspace-events";
/// How often WAIT looks again.
const REPLICAS_PAUSE: Duration = Duration::from_millis(5);

pub(super) fn port(address: &str) -> u16 {
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0)
}

pub(super) fn host_and_port(address: &str) -> (String, u16) {
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    (host.to_owned(), port(address))
}

impl Node {
    /// An error reply was given.
    pub fn count_error(&self, error: &ClientError) {
        self.count_errors(error.code(), 1);
    }

    /// So many of this code.
    pub fn count_errors(&self, code: &str, count: u64) {
        self.metrics.hot.error_replies.fetch_add(count, Ordering::Relaxed);
        self.figures.count_errors(code, count);
    }

    /// A command took long.
    pub fn record_slow(&self, said: &Said, took: Duration, client: &Client) {
        let (wall_ms, entries_max) = (self.env.clock.wall_ms(), self.settings.slowlog_entries_max());
        self.figures.slow_log.record(said, wall_ms, took, client, entries_max);
    }

    /// A command took so long; LATENCY remembers it if that is long enough.
    pub fn record_latency(&self, fast: bool, took: Duration) {
        if self.settings.latency_threshold().is_some_and(|threshold| took >= threshold) {
            let event = if fast { LatencyEvent::FastCommand } else { LatencyEvent::Command };
            self.figures.latency.record(event, self.env.clock.wall_ms(), took);
        }
    }

    /// Where a client is sent that follows redirections: to the leader, if that is another node.
    #[must_use]
    pub fn elsewhere(&self) -> Option<ClientError> {
        let view = self.view().borrow().clone();
        let (_, leader) = view.leader_member().filter(|(id, _)| *id != self.consensus.identity().node)?;
        Some(ClientError::new(format!("REDIRECT {}", leader.client_address)))
    }

    /// How many other nodes certainly have everything this node has acknowledged: all but one of a quorum.
    #[must_use]
    pub fn acknowledging(&self) -> i64 {
        let voters = self.view().borrow().voters.len() as i64;
        voters / 2
    }

    /// Waits until `wanted` other nodes have what this connection wrote, or `timeout` has passed (zero: for
    /// as long as it takes); how many have. Only the leader knows of more than a quorum.
    pub async fn replicas(&self, contributor: &Contributor, wanted: i64, timeout: Duration) -> i64 {
        // Behind a barrier, everything this connection was answered is committed at its index at the latest.
        let Ok(barrier) = self.barrier(contributor).await else { return 0 };
        let enough = async {
            loop {
                let have = self.matching(barrier.index);
                if have >= wanted {
                    return have;
                }
                self.env.clock.sleep(REPLICAS_PAUSE).await;
            }
        };
        if timeout.is_zero() {
            return enough.await;
        }
        tokio::select! {
            have = enough => have,
            () = self.env.clock.sleep(timeout) => self.matching(barrier.index),
        }
    }

    fn matching(&self, index: u64) -> i64 {
        let matched = self.consensus.progress().matched;
        let node = self.consensus.identity().node;
        let others = matched.iter().filter(|(other, matched)| **other != node && **matched >= index);
        (others.count() as i64).max(self.acknowledging())
    }

    /// Everything a scrape of the metrics asks for.
    #[must_use]
    pub fn snapshot(&self) -> metrics::Snapshot {
        let view = self.view().borrow().clone();
        let progress = self.consensus.progress();
        let stats = self.store.stats().unwrap_or_default();
        let head = self.store.view(0).head().clone();
        let node = self.consensus.identity().node;
        let peers = view.members.keys().filter(|member| **member != node).map(|&id| {
            let matched = progress.matched.get(&id).copied();
            metrics::Peer {
                id,
                lag_entries: matched.map_or(0, |matched| progress.last.saturating_sub(matched)),
                connected: matched.is_some() || view.leader == Some(id),
            }
        });
        let databases = (0..).zip(&head.databases).filter(|(_, database)| database.keys > 0);
        metrics::Snapshot {
            node_id: node,
            uptime_seconds: self.uptime().as_secs(),
            redis_version: host::REDIS_VERSION,
            has_leader: view.leader.is_some(),
            is_leader: view.role == Role::Leader,
            is_learner: view.role == Role::Learner,
            voters: view.voters.len() as u64,
            learners: (view.members.len() - view.voters.len()) as u64,
            term: view.term,
            log_last: progress.last,
            log_committed: progress.committed,
            log_applied: self.applied.reached().index,
            log_snapshot: progress.snapshot,
            log_purged: progress.purged,
            proposals_pending: self.proposals.pending() as u64,
            commands_waiting: self.proposals.pending() as u64,
            peers: peers.collect(),
            clients_connected: self.registry.len() as u64,
            clients_blocked: self.registry.blocked() as u64,
            clients_max: self.settings.clients_max(),
            pubsub_channels: self.hub.channel_count() as u64,
            pubsub_patterns: self.hub.pattern_count() as u64,
            data_bytes: data_bytes(&self.store),
            data_bytes_max: self.settings.memory_bytes_max().unwrap_or(0),
            store_bytes: stats.database_bytes,
            store_bytes_used: stats.used_bytes,
            buffer_bytes: stats.active_bytes + stats.frozen_bytes,
            cache_bytes: stats.cache_bytes,
            wal_bytes: self.wal.bytes(),
            disk_bytes_free: self.env.disk.free_bytes(&self.figures.config.data).unwrap_or(0),
            revision: head.revision,
            databases: databases
                .map(|(index, database)| metrics::Database {
                    index,
                    keys: database.keys,
                    expiring: database.expiring,
                })
                .collect(),
        }
    }

    fn rewrite_options(&self, file: &Path) -> io::Result<()> {
        let disk = &*self.env.disk;
        let old = disk.open(file)?;
        let mut bytes = vec![0; usize::try_from(old.len()?).unwrap_or(usize::MAX)];
        old.read_at(&mut bytes, 0)?;
        let old = String::from_utf8(bytes).map_err(io::Error::other)?;
        let new = self.settings.rewrite(&self.figures.config, &old).map_err(io::Error::other)?;
        disk.replace(file, new.as_bytes())
    }

    fn uptime(&self) -> Duration {
        self.env.clock.monotonic().saturating_sub(self.figures.started)
    }

    fn commands_info(&self) -> Vec<CommandInfo> {
        let stats = &self.metrics.commands;
        let percents = self.settings.latency_percents().unwrap_or_default();
        let rows = commands::all().iter().map(|command| {
            let figures = stats.read(command.index);
            CommandInfo {
                name: command.spec.name,
                calls: figures.calls,
                micros: figures.micros,
                rejected: figures.rejected,
                failed: figures.failed,
                percentiles: percents.iter().map(|percent| figures.percentile(*percent) as f64).collect(),
            }
        });
        rows.collect()
    }

    fn raft_info(&self) -> RaftInfo {
        let view = self.view().borrow().clone();
        let progress = self.consensus.progress();
        RaftInfo {
            node_id: self.consensus.identity().node,
            state: view.role.as_str(),
            leader_id: view.leader.unwrap_or(0),
            term: view.term,
            last_log_index: progress.last,
            commit_index: progress.committed,
            applied_index: self.applied.reached().index,
            snapshot_index: progress.snapshot,
            members: self.members(&view),
        }
    }
}

impl Host for Node {
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
        self.view().borrow().role == Role::Leader
    }

    fn replication(&self) -> Replication {
        let view = self.view().borrow().clone();
        let progress = self.consensus.progress();
        let identity = self.consensus.identity();
        let role = if view.role == Role::Leader {
            let followers =
                view.members.iter().filter(|(id, _)| **id != identity.node && self.reach.answers(**id)).map(
                    |(id, member)| {
                        let (host, port) = host_and_port(&member.client_address);
                        let matched = progress.matched.get(id).copied().unwrap_or(0);
                        Follower {
                            id: *id,
                            host,
                            port,
                            online: matched > 0,
                            offset: matched,
                            lag: Duration::ZERO,
                        }
                    },
                );
            host::Role::Leader { followers: followers.collect() }
        } else {
            host::Role::Follower(Following {
                leader: view.leader_member().map(|(_, member)| host_and_port(&member.client_address)),
                silence: Duration::ZERO,
                syncing: false,
                offset: progress.last,
            })
        };
        Replication { role, id: format!("{:040x}", identity.cluster), offset: progress.committed }
    }

    fn info(&self) -> NodeInfo {
        let hot = &self.metrics.hot;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let rates = {
            let (input, output) = (load(&hot.net_input_bytes), load(&hot.net_output_bytes));
            let mut last = self.figures.last_look.lock().expect("no holder panics");
            *last = last.again(self.env.clock.monotonic(), self.metrics.commands.calls(), input, output);
            last.rates
        };
        let process = Process::read();
        let head = self.store.view(0).head().clone();
        let stats = self.store.stats().unwrap_or_default();
        let commands = self.commands_info();
        let errors = self.figures.errors.lock().expect("no holder panics").clone();
        let tracked = self.registry.tracking().totals();
        let calls_in = |class: fn(&commands::Lane) -> bool| {
            let rows = commands::all().iter().filter(|command| class(&command.lane));
            rows.map(|command| self.metrics.commands.read(command.index).calls).sum()
        };
        let databases = (0..).zip(&head.databases).filter(|(_, database)| database.keys > 0);
        // A state that cannot be read is noticed by the next command.
        let ttls = expiry::average_ttls(&self.store.view(0)).unwrap_or_default();
        let (scripts, script_bytes) = scripts::totals(&self.store.view(0)).unwrap_or_default();
        let functions = libraries::counts(&self.store.view(0)).unwrap_or_default();
        NodeInfo {
            server: ServerInfo {
                os: metrics::operating_system(),
                process_id: std::process::id(),
                run_id: self.figures.run_id.clone(),
                tcp_port: self.figures.port,
                uptime: self.uptime(),
                executable: std::env::current_exe()
                    .map_or_else(|_| String::new(), |path| path.display().to_string()),
                config_file: self.figures.config_file(),
            },
            clients: ClientsInfo {
                connected: self.registry.len() as u64,
                connected_max: self.settings.clients_max(),
                tracking: tracked.clients as u64,
                blocked: self.registry.blocked() as u64,
                input_bytes_max: hot.input_waiting.recent(),
                output_bytes_max: hot.output_waiting.recent(),
            },
            memory: MemoryInfo {
                used: data_bytes(&self.store),
                resident: process.resident_bytes,
                peak: process.resident_bytes_peak,
                startup: self.figures.startup_bytes,
                overhead: self.figures.startup_bytes,
                system: process.machine_memory_bytes,
                limit: self.settings.memory_bytes_max().unwrap_or(0),
                clients: 0,
                scripts,
                script_bytes,
                functions: functions.functions,
                libraries: functions.libraries,
                library_bytes: functions.bytes,
                allocator: "jemalloc-5.3.0",
            },
            persistence: PersistenceInfo {
                loading: false,
                changes_since_checkpoint: self
                    .applied
                    .reached()
                    .index
                    .saturating_sub(housekeeping::durable_index(&self.store)),
                checkpoint_running: stats.frozen_bytes > 0,
                last_checkpoint_ms: self.last_checkpoint_ms(),
                last_checkpoint_took: (stats.checkpoints > 0)
                    .then(|| Duration::from_micros(stats.last_checkpoint_micros)),
                checkpoints: stats.checkpoints,
                log_bytes: self.wal.bytes(),
            },
            stats: StatsInfo {
                connections_received: load(&hot.connections_accepted),
                connections_rejected: load(&hot.connections_rejected),
                commands_processed: self.metrics.commands.calls(),
                commands_per_second: rates.commands,
                input_kbps: rates.input_kib,
                output_kbps: rates.output_kib,
                input_bytes: load(&hot.net_input_bytes),
                output_bytes: load(&hot.net_output_bytes),
                peer_input_bytes: load(&hot.peer_input_bytes),
                peer_output_bytes: load(&hot.peer_output_bytes),
                expired_keys: load(&hot.expired_keys),
                keyspace_hits: load(&hot.keyspace_hits),
                keyspace_misses: load(&hot.keyspace_misses),
                pubsub_channels: self.hub.channel_count() as u64,
                pubsub_patterns: self.hub.pattern_count() as u64,
                pubsub_shard_channels: self.hub.shard_channels(None).len() as u64,
                tracked_keys: tracked.keys as u64,
                tracked_items: tracked.items as u64,
                tracked_prefixes: tracked.prefixes as u64,
                error_replies: load(&hot.error_replies),
                reads_processed: calls_in(|lane| matches!(lane, commands::Lane::Read(_))),
                writes_processed: calls_in(|lane| matches!(lane, commands::Lane::Write(_))),
                ..StatsInfo::default()
            },
            replication: self.replication(),
            cpu: CpuInfo {
                system: process.cpu_system_seconds,
                user: process.cpu_user_seconds,
                ..CpuInfo::default()
            },
            commands,
            errors: errors.into_iter().collect(),
            percents: self.settings.latency_percents(),
            keyspace: databases
                .map(|(db, database)| DatabaseInfo {
                    db,
                    keys: database.keys,
                    expires: database.expiring,
                    average_ttl_ms: ttls.get(&db).copied().unwrap_or(0),
                })
                .collect(),
            raft: self.raft_info(),
            cluster_enabled: self.figures.config.cluster_enabled,
            quorate: vec![
                ("quorate_version", env!("CARGO_PKG_VERSION").to_owned()),
                ("cluster_raft_term", self.view().borrow().term.to_string()),
                ("revision", head.revision.to_string()),
                ("clock_ms", head.clock_ms.to_string()),
            ],
        }
    }

    fn reset_stats(&self) {
        self.metrics.reset();
        self.figures.errors.lock().expect("no holder panics").clear();
    }

    fn config_get(&self, patterns: &[Bytes]) -> Vec<(String, String)> {
        let mut found = self.settings.get(patterns);
        for (_, value) in found.iter_mut().filter(|(name, _)| name.eq_ignore_ascii_case(NOTIFY)) {
            *value = Events::from_bits(self.store.view(0).head().notify).to_string();
        }
        found
    }

    fn config_replicated(&self, options: &[(Bytes, Bytes)]) -> Result<Vec<Bytes>, ClientError> {
        self.settings.replicated(options)
    }

    fn config_set(&self, options: &[(Bytes, Bytes)]) -> Result<(), ClientError> {
        self.settings.set(options)?;
        self.registry.tracking().limit(self.settings.tracked_keys_max());
        self.figures.slow_log.trim(self.settings.slowlog_entries_max());
        Ok(())
    }

    fn config_rewrite(&self) -> Result<(), ClientError> {
        const NO_FILE: ClientError = ClientError::fixed("ERR The server is running without a config file");
        let file = self.figures.config.file.as_deref().ok_or(NO_FILE)?;
        self.rewrite_options(file)
            .map_err(|error| ClientError::new(format!("ERR Rewriting config file: {error}")))
    }

    fn pause(&self, scope: PauseScope, length: Duration) {
        self.pause.begin(scope, length);
    }

    fn unpause(&self) {
        self.pause.end();
    }

    fn expire_actively(&self, on: bool) {
        self.expires.store(on, Ordering::Relaxed);
    }

    fn last_checkpoint_ms(&self) -> u64 {
        match self.figures.last_checkpoint_ms.load(Ordering::Relaxed) {
            0 => self.env.clock.wall_ms().saturating_sub(self.uptime().as_millis() as u64),
            last => last,
        }
    }

    fn begin_checkpoint(&self) {
        let consensus = self.consensus.clone();
        let begin = async move {
            if let Err(error) = consensus.snapshot().await {
                tracing::warn!(%error, "no checkpoint was begun");
            }
        };
        self.env.spawner.spawn(Box::pin(begin)).detach();
    }

    fn hand_over(&self, to: u64) {
        let consensus = self.consensus.clone();
        let hand_over = async move {
            tracing::info!(to, "handing leadership over");
            if let Err(error) = consensus.transfer_leader(to).await {
                tracing::warn!(%error, "leadership was not handed over");
            }
        };
        self.env.spawner.spawn(Box::pin(hand_over)).detach();
    }

    fn topology(&self) -> Topology {
        let config = &self.figures.config;
        let view = self.view().borrow().clone();
        Topology {
            cluster: format!("{:032x}", self.consensus.identity().cluster),
            node: self.consensus.identity().node,
            leader: view.leader,
            term: view.term,
            members: self.members(&view),
            cluster_enabled: config.cluster_enabled,
            master_name: config.sentinel_master_name.clone(),
            election_ms: config.election_max.as_millis() as u64,
        }
    }

    fn histogram(&self, index: usize) -> Vec<(u64, u64)> {
        self.metrics.commands.read(index).cumulative()
    }

    fn latency_monitor(&self) -> &LatencyMonitor {
        &self.figures.latency
    }

    fn shut_down(&self) {
        tracing::info!("asked to stop by a client");
        self.stop_requested.notify_one();
    }

    fn slow_log(&self) -> &SlowLog {
        &self.figures.slow_log
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::Look;
    use super::*;

    #[test]
    fn rates_are_those_since_the_look_before() {
        let check = |look: Look, expect: (u64, f64, f64)| {
            assert_eq!((look.rates.commands, look.rates.input_kib, look.rates.output_kib), expect);
            look
        };
        let at = Duration::from_millis;
        let look = check(Look::default().again(at(2_000), 100, 4_096, 0), (50, 2.0, 0.0));
        let look = check(look.again(at(2_050), 900, 9_999, 9_999), (50, 2.0, 0.0));
        let look = check(look.again(at(2_500), 200, 4_096, 1_024), (200, 0.0, 2.0));
        check(look.again(at(3_500), 0, 0, 0), (0, 0.0, 0.0));
    }
}
