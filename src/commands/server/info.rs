//! INFO: lines of `field:value` in sections.
//!
//! Monitoring tools parse this text, so names, order and formats are those of Redis 7.0 where the same
//! thing exists here: redis_exporter picks its parser by the section's heading, reads some values by
//! position (`cmdstat_...`, `db0:...`, `slave0:...`), and wants `master_host` before `master_link_status`.
//! Fields about what does not exist here (forks, defragmentation, replication backlogs) are 0; README.md names
//! the few that have no honest value, and are left out.
//! It also exports any field whose name begins with `cluster_`, so consensus shows itself there too.

use std::fmt::{Display, Write};

use bytes::Bytes;

use super::READY;
use crate::commands::host::{NodeInfo, REDIS_VERSION, Replication, Role};
use crate::commands::{Answer, Args, Group, Host, Node, Spec};
use crate::error::Result;
use crate::resp::Reply;
use crate::session::Session as Connection;

/// Describes the node.
pub struct Info {
    sections: Vec<Bytes>,
}

impl Node for Info {
    const SPEC: Spec = Spec {
        name: "INFO",
        syntax: "[section [section ...]]",
        summary: "Get information and statistics about the server",
        flags: READY.and(crate::commands::Flags::DANGEROUS),
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { sections: args.rest() })
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        let text = render(&host.info(), host.wall_ms(), &self.sections);
        Ok(Reply::Verbatim(Bytes::from(text)).into())
    }
}

/// A section: its heading, whether it is shown when not asked for, and its lines.
type Section = (&'static str, bool, fn(&NodeInfo, u64, &mut Lines));

const SECTIONS: [Section; 15] = [
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Replication", true, |info, _, lines| replication(&info.replication, lines)),
    ("CPU", true, cpu),
    ("Modules", true, |_, _, _| {}),
    ("Commandstats", false, command_stats),
    ("Errorstats", true, error_stats),
    ("Latencystats", false, latency_stats),
    ("Cluster", true, cluster),
    ("Keyspace", true, keyspace),
    ("Raft", true, raft),
    ("Quorate", true, quorate),
];

/// The sections asked for, each once and in the usual order.
fn render(info: &NodeInfo, wall_ms: u64, asked: &[Bytes]) -> String {
    let asks = |word: &str| asked.iter().any(|name| name.eq_ignore_ascii_case(word.as_bytes()));
    let all = asks("all") || asks("everything");
    let defaults = asked.is_empty() || asks("default");
    let mut lines = Lines(String::with_capacity(4096));
    for (heading, by_default, section) in SECTIONS {
        if all || (defaults && by_default) || asks(heading) {
            lines.heading(heading);
            section(info, wall_ms, &mut lines);
        }
    }
    lines.0
}

/// The text so far.
struct Lines(String);

impl Lines {
    fn heading(&mut self, heading: &str) {
        let gap = if self.0.is_empty() { "" } else { "\r\n" };
        self.add(format_args!("{gap}# {heading}\r\n"));
    }

    fn field(&mut self, name: impl Display, value: impl Display) {
        self.add(format_args!("{name}:{value}\r\n"));
    }

    fn fields<V: Display>(&mut self, fields: impl IntoIterator<Item = (&'static str, V)>) {
        for (name, value) in fields {
            self.field(name, value);
        }
    }

    /// A number of bytes, and again for people.
    fn bytes(&mut self, name: &str, bytes: u64) {
        self.field(name, bytes);
        self.field(format_args!("{name}_human"), human(bytes));
    }

    fn add(&mut self, text: std::fmt::Arguments) {
        self.0.write_fmt(text).expect("writing to a String does not fail");
    }
}

fn server(info: &NodeInfo, wall_ms: u64, lines: &mut Lines) {
    let server = &info.server;
    lines.field("redis_version", REDIS_VERSION);
    lines.field("redis_git_sha1", "00000000");
    lines.field("redis_git_dirty", 0);
    lines.field("redis_build_id", concat!("quorate-", env!("CARGO_PKG_VERSION")));
    lines.field("redis_mode", if info.cluster_enabled { "cluster" } else { "standalone" });
    lines.field("os", &server.os);
    lines.field("arch_bits", usize::BITS);
    lines.field("monotonic_clock", "POSIX clock_gettime");
    lines.field("multiplexing_api", "epoll");
    lines.field("process_id", server.process_id);
    lines.field("process_supervised", "no");
    lines.field("run_id", &server.run_id);
    lines.field("tcp_port", server.tcp_port);
    lines.field("server_time_usec", wall_ms * 1000);
    lines.field("uptime_in_seconds", server.uptime.as_secs());
    lines.field("uptime_in_days", server.uptime.as_secs() / 86_400);
    lines.field("hz", 10);
    lines.field("configured_hz", 10);
    lines.field("lru_clock", (wall_ms / 1000) & 0xff_ffff);
    lines.field("executable", &server.executable);
    lines.field("config_file", &server.config_file);
    lines.field("io_threads_active", 0);
}

fn clients(info: &NodeInfo, _: u64, lines: &mut Lines) {
    let clients = &info.clients;
    lines.fields([
        ("connected_clients", clients.connected),
        ("cluster_connections", 0),
        ("maxclients", clients.connected_max),
        ("client_recent_max_input_buffer", clients.input_bytes_max),
        ("client_recent_max_output_buffer", clients.output_bytes_max),
        ("blocked_clients", clients.blocked),
        ("tracking_clients", clients.tracking),
        ("clients_in_timeout_table", 0),
    ]);
}

fn memory(info: &NodeInfo, _: u64, lines: &mut Lines) {
    let memory = &info.memory;
    let peak = memory.peak.max(memory.used);
    let dataset = memory.used.saturating_sub(memory.overhead);
    let data = memory.used.saturating_sub(memory.startup);
    lines.bytes("used_memory", memory.used);
    lines.bytes("used_memory_rss", memory.resident);
    lines.bytes("used_memory_peak", peak);
    lines.field("used_memory_peak_perc", format_args!("{:.2}%", 100.0 * ratio(memory.used, peak)));
    lines.field("used_memory_overhead", memory.overhead);
    lines.field("used_memory_startup", memory.startup);
    lines.field("used_memory_dataset", dataset);
    lines
        .field("used_memory_dataset_perc", format_args!("{:.2}%", (100.0 * ratio(dataset, data)).min(100.0)));
    lines.fields([
        ("allocator_allocated", memory.used),
        ("allocator_active", memory.used),
        ("allocator_resident", memory.resident),
    ]);
    lines.bytes("total_system_memory", memory.system);
    // The interpreter's own memory is the process'.
    lines.fields([("used_memory_lua", 0), ("used_memory_vm_eval", 0)]);
    lines.field("used_memory_lua_human", human(0));
    lines.fields([
        ("used_memory_scripts_eval", memory.script_bytes),
        ("number_of_cached_scripts", memory.scripts),
        ("number_of_functions", memory.functions),
        ("number_of_libraries", memory.libraries),
        ("used_memory_vm_functions", 0),
    ]);
    lines.bytes("used_memory_vm_total", 0);
    lines.field("used_memory_functions", memory.library_bytes);
    lines.bytes("used_memory_scripts", memory.script_bytes + memory.library_bytes);
    lines.bytes("maxmemory", memory.limit);
    lines.field("maxmemory_policy", "noeviction");
    let beyond = memory.resident.saturating_sub(memory.used);
    lines.field("allocator_frag_ratio", "1.00");
    lines.field("allocator_frag_bytes", 0);
    lines.field("allocator_rss_ratio", format_args!("{:.2}", ratio(memory.resident, memory.used)));
    lines.field("allocator_rss_bytes", beyond);
    lines.field("rss_overhead_ratio", "1.00");
    lines.field("rss_overhead_bytes", 0);
    lines.field("mem_fragmentation_ratio", format_args!("{:.2}", ratio(memory.resident, memory.used)));
    lines.fields([
        ("mem_fragmentation_bytes", beyond),
        ("mem_not_counted_for_evict", 0),
        ("mem_replication_backlog", 0),
        ("mem_total_replication_buffers", 0),
        ("mem_clients_slaves", 0),
        ("mem_clients_normal", memory.clients),
        ("mem_cluster_links", 0),
        ("mem_aof_buffer", 0),
    ]);
    lines.field("mem_allocator", memory.allocator);
    lines.fields([("active_defrag_running", 0), ("lazyfree_pending_objects", 0), ("lazyfreed_objects", 0)]);
}

fn persistence(info: &NodeInfo, _: u64, lines: &mut Lines) {
    let persistence = &info.persistence;
    let took = persistence.last_checkpoint_took.map_or(-1, |took| took.as_secs() as i64);
    lines.field("loading", u8::from(persistence.loading));
    lines.fields([
        ("async_loading", "0"),
        ("current_cow_peak", "0"),
        ("current_cow_size", "0"),
        ("current_cow_size_age", "0"),
        ("current_fork_perc", "0.00"),
        ("current_save_keys_processed", "0"),
        ("current_save_keys_total", "0"),
    ]);
    lines.field("rdb_changes_since_last_save", persistence.changes_since_checkpoint);
    lines.field("rdb_bgsave_in_progress", u8::from(persistence.checkpoint_running));
    lines.field("rdb_last_save_time", persistence.last_checkpoint_ms / 1000);
    lines.field("rdb_last_bgsave_status", "ok");
    lines.field("rdb_last_bgsave_time_sec", took);
    lines.field("rdb_current_bgsave_time_sec", -1);
    lines.field("rdb_saves", persistence.checkpoints);
    lines.fields([
        ("rdb_last_cow_size", "0"),
        ("rdb_last_load_keys_expired", "0"),
        ("rdb_last_load_keys_loaded", "0"),
        ("aof_enabled", "1"),
        ("aof_rewrite_in_progress", "0"),
        ("aof_rewrite_scheduled", "0"),
        ("aof_last_rewrite_time_sec", "-1"),
        ("aof_current_rewrite_time_sec", "-1"),
        ("aof_last_bgrewrite_status", "ok"),
        ("aof_rewrites", "0"),
        ("aof_rewrites_consecutive_failures", "0"),
        ("aof_last_write_status", "ok"),
        ("aof_last_cow_size", "0"),
        ("module_fork_in_progress", "0"),
        ("module_fork_last_cow_size", "0"),
    ]);
    lines.field("aof_current_size", persistence.log_bytes);
    lines.fields([
        ("aof_base_size", 0),
        ("aof_pending_rewrite", 0),
        ("aof_buffer_length", 0),
        ("aof_pending_bio_fsync", 0),
        ("aof_delayed_fsync", 0),
    ]);
}

fn stats(info: &NodeInfo, _: u64, lines: &mut Lines) {
    let stats = &info.stats;
    lines.fields([
        ("total_connections_received", stats.connections_received),
        ("total_commands_processed", stats.commands_processed),
        ("instantaneous_ops_per_sec", stats.commands_per_second),
        ("total_net_input_bytes", stats.input_bytes),
        ("total_net_output_bytes", stats.output_bytes),
        ("total_net_repl_input_bytes", stats.peer_input_bytes),
        ("total_net_repl_output_bytes", stats.peer_output_bytes),
    ]);
    lines.field("instantaneous_input_kbps", format_args!("{:.2}", stats.input_kbps));
    lines.field("instantaneous_output_kbps", format_args!("{:.2}", stats.output_kbps));
    lines.fields([
        ("rejected_connections", stats.connections_rejected),
        ("sync_full", stats.snapshots_sent),
        ("sync_partial_ok", 0),
        ("sync_partial_err", 0),
        ("expired_keys", stats.expired_keys),
    ]);
    // None waits for its turn to be removed.
    lines.field("expired_stale_perc", "0.00");
    lines.fields([
        ("expired_time_cap_reached_count", 0),
        ("expire_cycle_cpu_milliseconds", 0),
        ("evicted_keys", 0),
        ("evicted_clients", 0),
        ("total_eviction_exceeded_time", 0),
        ("current_eviction_exceeded_time", 0),
        ("keyspace_hits", stats.keyspace_hits),
        ("keyspace_misses", stats.keyspace_misses),
        ("pubsub_channels", stats.pubsub_channels),
        ("pubsub_patterns", stats.pubsub_patterns),
        ("pubsubshard_channels", stats.pubsub_shard_channels),
        ("latest_fork_usec", 0),
        ("total_forks", 0),
        ("migrate_cached_sockets", 0),
        ("slave_expires_tracked_keys", 0),
        ("active_defrag_hits", 0),
        ("active_defrag_misses", 0),
        ("active_defrag_key_hits", 0),
        ("active_defrag_key_misses", 0),
        ("total_active_defrag_time", 0),
        ("current_active_defrag_time", 0),
        ("tracking_total_keys", stats.tracked_keys),
        ("tracking_total_items", stats.tracked_items),
        ("tracking_total_prefixes", stats.tracked_prefixes),
        ("unexpected_error_replies", 0),
        ("total_error_replies", stats.error_replies),
        ("dump_payload_sanitizations", 0),
        ("total_reads_processed", stats.reads_processed),
        ("total_writes_processed", stats.writes_processed),
        ("io_threaded_reads_processed", 0),
        ("io_threaded_writes_processed", 0),
        ("reply_buffer_shrinks", 0),
        ("reply_buffer_expands", 0),
    ]);
}

fn replication(replication: &Replication, lines: &mut Lines) {
    match &replication.role {
        Role::Leader { followers } => {
            lines.field("role", "master");
            lines.field("connected_slaves", followers.len());
            for (place, follower) in followers.iter().enumerate() {
                let state = if follower.online { "online" } else { "wait_bgsave" };
                lines.field(
                    format_args!("slave{place}"),
                    format_args!(
                        "ip={},port={},state={state},offset={},lag={}",
                        follower.host,
                        follower.port,
                        follower.offset,
                        follower.lag.as_secs()
                    ),
                );
            }
        }
        Role::Follower(following) => {
            let (host, port) = following.leader.clone().unwrap_or_default();
            let up = following.leader.is_some();
            lines.field("role", "slave");
            lines.field("master_host", host);
            lines.field("master_port", port);
            lines.field("master_link_status", if up { "up" } else { "down" });
            let silence = following.silence.as_secs();
            if up {
                lines.field("master_last_io_seconds_ago", silence);
            } else {
                lines.field("master_last_io_seconds_ago", -1);
            }
            lines.field("master_sync_in_progress", u8::from(following.syncing));
            lines.field("slave_read_repl_offset", following.offset);
            lines.field("slave_repl_offset", following.offset);
            if !up {
                lines.field("master_link_down_since_seconds", silence);
            }
            lines.field("slave_priority", 100);
            // Writes are forwarded.
            lines.field("slave_read_only", 0);
            lines.field("replica_announced", 1);
            lines.field("connected_slaves", 0);
        }
    }
    lines.field("master_failover_state", "no-failover");
    lines.field("master_replid", &replication.id);
    lines.field("master_replid2", format_args!("{:040}", 0));
    lines.field("master_repl_offset", replication.offset);
    lines.field("second_repl_offset", -1);
    lines.fields([
        ("repl_backlog_active", 0),
        ("repl_backlog_size", 0),
        ("repl_backlog_first_byte_offset", 0),
        ("repl_backlog_histlen", 0),
    ]);
}

fn cpu(info: &NodeInfo, _: u64, lines: &mut Lines) {
    for (name, seconds) in [
        ("used_cpu_sys", info.cpu.system),
        ("used_cpu_user", info.cpu.user),
        ("used_cpu_sys_children", info.cpu.children_system),
        ("used_cpu_user_children", info.cpu.children_user),
    ] {
        lines.field(name, format_args!("{seconds:.6}"));
    }
}

fn command_stats(info: &NodeInfo, _: u64, lines: &mut Lines) {
    for command in &info.commands {
        if command.calls + command.rejected + command.failed == 0 {
            continue;
        }
        lines.field(
            format_args!("cmdstat_{}", command.name.to_ascii_lowercase()),
            format_args!(
                "calls={},usec={},usec_per_call={:.2},rejected_calls={},failed_calls={}",
                command.calls,
                command.micros,
                ratio(command.micros, command.calls),
                command.rejected,
                command.failed
            ),
        );
    }
}

fn error_stats(info: &NodeInfo, _: u64, lines: &mut Lines) {
    for (code, count) in &info.errors {
        lines.field(format_args!("errorstat_{code}"), format_args!("count={count}"));
    }
}

fn latency_stats(info: &NodeInfo, _: u64, lines: &mut Lines) {
    let Some(percents) = &info.percents else { return };
    for command in info.commands.iter().filter(|command| command.calls > 0) {
        let shown = percents.iter().zip(&command.percentiles);
        let shown: Vec<String> = shown.map(|(percent, micros)| format!("p{percent}={micros:.3}")).collect();
        let name = command.name.to_ascii_lowercase();
        lines.field(format_args!("latency_percentiles_usec_{name}"), shown.join(","));
    }
}

fn cluster(info: &NodeInfo, _: u64, lines: &mut Lines) {
    let raft = &info.raft;
    lines.fields([
        ("cluster_enabled", u64::from(info.cluster_enabled)),
        ("cluster_raft_node_id", raft.node_id),
        ("cluster_raft_leader_id", raft.leader_id),
        ("cluster_raft_is_leader", u64::from(raft.state == "leader")),
        ("cluster_raft_term", raft.term),
        ("cluster_raft_last_log_index", raft.last_log_index),
        ("cluster_raft_commit_index", raft.commit_index),
        ("cluster_raft_applied_index", raft.applied_index),
        ("cluster_raft_snapshot_index", raft.snapshot_index),
        ("cluster_raft_members", raft.members.len() as u64),
        ("cluster_raft_voters", voters(info)),
    ]);
}

fn keyspace(info: &NodeInfo, _: u64, lines: &mut Lines) {
    for database in &info.keyspace {
        lines.field(
            format_args!("db{}", database.db),
            format_args!(
                "keys={},expires={},avg_ttl={}",
                database.keys, database.expires, database.average_ttl_ms
            ),
        );
    }
}

/// Named as in RedisRaft.
fn raft(info: &NodeInfo, _: u64, lines: &mut Lines) {
    let raft = &info.raft;
    lines.field("raft_node_id", raft.node_id);
    lines.field("raft_state", raft.state);
    lines.field("raft_leader_id", raft.leader_id);
    lines.field("raft_current_term", raft.term);
    lines.field("raft_log_last_index", raft.last_log_index);
    lines.field("raft_commit_index", raft.commit_index);
    lines.field("raft_applied_index", raft.applied_index);
    lines.field("raft_snapshot_index", raft.snapshot_index);
    lines.field("raft_num_nodes", raft.members.len());
    lines.field("raft_num_voting_nodes", voters(info));
    for (place, member) in raft.members.iter().enumerate() {
        let voting = if member.voter { "yes" } else { "no" };
        lines.field(
            format_args!("raft_node{}", place + 1),
            format_args!("id={},state={},voting={voting},addr={}", member.id, member.state, member.address),
        );
    }
}

fn quorate(info: &NodeInfo, _: u64, lines: &mut Lines) {
    lines.field("quorate_version", env!("CARGO_PKG_VERSION"));
    for (name, value) in &info.quorate {
        lines.field(name, value);
    }
}

fn voters(info: &NodeInfo) -> u64 {
    info.raft.members.iter().filter(|member| member.voter).count() as u64
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// `1.50M`, in Redis' way.
fn human(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut units = "KMGT".chars();
    let mut unit = units.next().unwrap_or('K');
    while size >= 1024.0 {
        let Some(next) = units.next() else { break };
        size /= 1024.0;
        unit = next;
    }
    format!("{size:.2}{unit}")
}

#[cfg(test)]
mod tests;
