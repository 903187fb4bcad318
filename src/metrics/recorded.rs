//! Events that are rare beside commands: elections, batches, syncs, what goes between nodes.
//!
//! A field here is a metric: its name and help stand where it is made. A histogram's buckets follow from
//! the unit its name ends in, so none can be forgotten and become a summary.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Histogram, Key, KeyName, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use super::text::Text;
use super::{Kind, Metric};

/// Handles to record with. Cheap to clone out of here, and lock-free to use.
pub struct Recorded {
    pub leader_changes: Counter,
    pub elections: Counter,
    pub heartbeat_send_failures: Counter,
    pub proposals_failed: Counter,
    /// Commands in an entry.
    pub entry_commands: Histogram,
    /// Bytes of an entry.
    pub entry_bytes: Histogram,
    /// From a proposal to its reply.
    pub proposal_seconds: Histogram,
    /// Time the machine takes for a batch of entries.
    pub apply_seconds: Histogram,
    pub read_rounds: Counter,
    pub read_rounds_failed: Counter,
    /// Reads released by one round.
    pub round_reads: Histogram,
    pub round_seconds: Histogram,
    pub forwarded_out: Counter,
    pub forwarded_in: Counter,
    pub wal_fsync_seconds: Histogram,
    pub wal_write_bytes: Counter,
    /// Entries made durable by one sync.
    pub wal_sync_entries: Histogram,
    pub checkpoint_seconds: Histogram,
    pub checkpoint_keys: Counter,
    pub snapshot_send_bytes: Counter,
    pub snapshot_send_failures: Counter,
    pub snapshot_send_seconds: Histogram,
    pub snapshot_receive_bytes: Counter,
    pub snapshot_receive_failures: Counter,
    pub snapshot_receive_seconds: Histogram,
    pub pubsub_messages: Counter,
    pub pubsub_dropped_clients: Counter,
    peers: Mutex<BTreeMap<u64, Arc<PeerRecorded>>>,
    register: Register,
}

/// What goes between this node and another. Bytes count all links together.
pub struct PeerRecorded {
    pub round_trip_seconds: Histogram,
    pub sent_bytes: Counter,
    pub received_bytes: Counter,
    pub sent_failures: Counter,
    pub disconnects: Counter,
}

impl Recorded {
    pub(super) fn new() -> Self {
        let register = Register::new();
        let r = &register;
        // Described once before there is any peer, so that the table of metrics is whole.
        PeerRecorded::new(r, None);
        Self {
            leader_changes: r.counter("quorate_server_leader_changes_seen_total", "Changes of leader seen."),
            elections: r.counter("quorate_server_elections_started_total", "Elections this node started."),
            heartbeat_send_failures: r.counter(
                "quorate_server_heartbeat_send_failures_total",
                "Heartbeats that could not be sent.",
            ),
            proposals_failed: r
                .counter("quorate_server_proposals_failed_total", "Proposals that were not applied."),
            entry_commands: r.histogram("quorate_raft_entry_commands", "Commands in one log entry."),
            entry_bytes: r.histogram("quorate_raft_entry_bytes", "Size of a log entry."),
            proposal_seconds: r
                .histogram("quorate_server_proposal_duration_seconds", "Time from proposal to reply."),
            apply_seconds: r
                .histogram("quorate_server_apply_duration_seconds", "Time to apply a batch of entries."),
            read_rounds: r.counter("quorate_server_read_indexes_total", "Rounds that confirmed the leader."),
            read_rounds_failed: r
                .counter("quorate_server_read_indexes_failed_total", "Rounds that did not reach a quorum."),
            round_reads: r.histogram("quorate_server_read_index_reads", "Reads released by one round."),
            round_seconds: r
                .histogram("quorate_server_read_index_duration_seconds", "Time of a round of reads."),
            forwarded_out: r.counter("quorate_server_forwarded_total", "Commands sent on to the leader."),
            forwarded_in: r
                .counter("quorate_server_forwarded_received_total", "Commands received from other nodes."),
            wal_fsync_seconds: r
                .histogram("quorate_disk_wal_fsync_duration_seconds", "Time of a durable write of the log."),
            wal_write_bytes: r.counter("quorate_disk_wal_write_bytes_total", "Bytes written to the log."),
            wal_sync_entries: r.histogram("quorate_disk_wal_sync_entries", "Entries made durable at once."),
            checkpoint_seconds: r.histogram(
                "quorate_disk_checkpoint_duration_seconds",
                "Time of a checkpoint to the database.",
            ),
            checkpoint_keys: r
                .counter("quorate_disk_checkpoint_keys_total", "Records written by checkpoints."),
            snapshot_send_bytes: r
                .counter("quorate_network_snapshot_send_bytes_total", "Bytes of snapshots sent."),
            snapshot_send_failures: r
                .counter("quorate_network_snapshot_send_failures_total", "Snapshots not sent to the end."),
            snapshot_send_seconds: r
                .histogram("quorate_network_snapshot_send_duration_seconds", "Time to send a snapshot."),
            snapshot_receive_bytes: r
                .counter("quorate_network_snapshot_receive_bytes_total", "Bytes of snapshots received."),
            snapshot_receive_failures: r.counter(
                "quorate_network_snapshot_receive_failures_total",
                "Snapshots not received to the end.",
            ),
            snapshot_receive_seconds: r.histogram(
                "quorate_network_snapshot_receive_duration_seconds",
                "Time to receive a snapshot.",
            ),
            pubsub_messages: r
                .counter("quorate_pubsub_messages_total", "Messages handed to local subscribers."),
            pubsub_dropped_clients: r
                .counter("quorate_clients_dropped_total", "Clients dropped because they did not read."),
            peers: Mutex::default(),
            register,
        }
    }

    /// The handles of a peer, by its node id.
    #[must_use]
    pub fn peer(&self, id: u64) -> Arc<PeerRecorded> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.entry(id).or_insert_with(|| Arc::new(PeerRecorded::new(&self.register, Some(id)))).clone()
    }

    pub(super) fn render(&self) -> String {
        let mut text = self.register.recorder.handle().render();
        // The recorder leaves out a histogram without samples and a peer's metric without peers. Told
        // here, whoever looks for a metric sees that it exists.
        for metric in self.table() {
            if !text.contains(&format!("# TYPE {} ", metric.name)) {
                let mut missing = Text::default();
                missing.describe(metric);
                text.push_str(&missing.into_string());
            }
        }
        text
    }

    pub(super) fn upkeep(&self) {
        self.register.recorder.handle().run_upkeep();
    }

    pub(super) fn table(&self) -> Vec<Metric> {
        self.register.table.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect()
    }
}

impl PeerRecorded {
    fn new(r: &Register, id: Option<u64>) -> Self {
        Self {
            round_trip_seconds: r.peer_histogram(
                "quorate_network_peer_round_trip_time_seconds",
                "Time from a message to a peer to its answer.",
                id,
            ),
            sent_bytes: r.peer_counter("quorate_network_peer_sent_bytes_total", "Bytes sent to a peer.", id),
            received_bytes: r.peer_counter(
                "quorate_network_peer_received_bytes_total",
                "Bytes received from a peer.",
                id,
            ),
            sent_failures: r.peer_counter(
                "quorate_network_peer_sent_failures_total",
                "Messages that could not be sent to a peer.",
                id,
            ),
            disconnects: r.peer_counter(
                "quorate_network_peer_disconnects_total",
                "Connections to a peer that broke.",
                id,
            ),
        }
    }
}

/// Where handles come from.
struct Register {
    recorder: PrometheusRecorder,
    table: Mutex<BTreeMap<&'static str, Metric>>,
}

const METADATA: Metadata<'static> = Metadata::new("quorate", Level::INFO, None);

impl Register {
    fn new() -> Self {
        let doubling = |first: f64, count: i32| (0..count).map(|n| first * 2_f64.powi(n)).collect::<Vec<_>>();
        let units = [
            // 50 microseconds to 26 seconds.
            (Matcher::Suffix("_seconds".to_owned()), doubling(0.000_05, 20)),
            // A tenth of a second to seven minutes.
            (Matcher::Prefix("quorate_network_snapshot_".to_owned()), doubling(0.1, 13)),
            (Matcher::Suffix("_bytes".to_owned()), doubling(64.0, 16)),
            (Matcher::Suffix("_commands".to_owned()), doubling(1.0, 16)),
            (Matcher::Suffix("_entries".to_owned()), doubling(1.0, 14)),
            (Matcher::Suffix("_reads".to_owned()), doubling(1.0, 14)),
        ];
        let builder = units.iter().fold(PrometheusBuilder::new(), |builder, (matcher, buckets)| {
            builder.set_buckets_for_metric(matcher.clone(), buckets).expect("there are buckets")
        });
        Self { recorder: builder.build_recorder(), table: Mutex::default() }
    }

    fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        self.describe(Metric { name, kind: Kind::Counter, help });
        self.recorder.register_counter(&Key::from_static_name(name), &METADATA)
    }

    fn histogram(&self, name: &'static str, help: &'static str) -> Histogram {
        self.describe(Metric { name, kind: Kind::Histogram, help });
        self.recorder.register_histogram(&Key::from_static_name(name), &METADATA)
    }

    fn peer_counter(&self, name: &'static str, help: &'static str, id: Option<u64>) -> Counter {
        self.describe(Metric { name, kind: Kind::Counter, help });
        id.map_or(Counter::noop(), |id| self.recorder.register_counter(&peer_key(name, id), &METADATA))
    }

    fn peer_histogram(&self, name: &'static str, help: &'static str, id: Option<u64>) -> Histogram {
        self.describe(Metric { name, kind: Kind::Histogram, help });
        id.map_or(Histogram::noop(), |id| self.recorder.register_histogram(&peer_key(name, id), &METADATA))
    }

    fn describe(&self, metric: Metric) {
        let name = KeyName::from_const_str(metric.name);
        match metric.kind {
            Kind::Histogram => self.recorder.describe_histogram(name, None, metric.help.into()),
            _ => self.recorder.describe_counter(name, None, metric.help.into()),
        }
        self.table.lock().unwrap_or_else(PoisonError::into_inner).insert(metric.name, metric);
    }
}

fn peer_key(name: &'static str, id: u64) -> Key {
    Key::from_parts(name, vec![Label::new("peer", id.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_histogram_has_buckets() {
        let recorded = Recorded::new();
        let all = [
            &recorded.entry_commands,
            &recorded.entry_bytes,
            &recorded.proposal_seconds,
            &recorded.apply_seconds,
            &recorded.round_reads,
            &recorded.round_seconds,
            &recorded.wal_fsync_seconds,
            &recorded.wal_sync_entries,
            &recorded.checkpoint_seconds,
            &recorded.snapshot_send_seconds,
            &recorded.snapshot_receive_seconds,
            &recorded.peer(1).round_trip_seconds,
        ];
        all.iter().for_each(|histogram| histogram.record(1.0));
        let text = recorded.render();
        let histograms = recorded.table().into_iter().filter(|metric| metric.kind == Kind::Histogram);
        for Metric { name, .. } in histograms {
            assert!(text.contains(&format!("{name}_bucket{{")), "{name} has no buckets\n{text}");
        }
    }

    #[test]
    fn peers_are_told_apart() {
        let recorded = Recorded::new();
        recorded.peer(1).sent_bytes.increment(10);
        recorded.peer(1).sent_bytes.increment(10);
        recorded.peer(2).sent_bytes.increment(5);
        let text = recorded.render();
        for line in [
            r#"quorate_network_peer_sent_bytes_total{peer="1"} 20"#,
            r#"quorate_network_peer_sent_bytes_total{peer="2"} 5"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn snapshots_have_their_own_buckets() {
        let recorded = Recorded::new();
        recorded.snapshot_send_seconds.record(100.0);
        recorded.upkeep();
        let line = r#"quorate_network_snapshot_send_duration_seconds_bucket{le="102.4"} 1"#;
        assert!(recorded.render().contains(line));
    }
}
