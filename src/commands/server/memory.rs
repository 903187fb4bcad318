//! MEMORY: where the memory is. MEMORY USAGE, which is about a key, is with the keys.

use bytes::Bytes;

use crate::commands::host::NodeInfo;
use crate::commands::{Answer, Args, Command, Flags, Group, Host, Node, Session, Spec, help};
use crate::error::Result;
use crate::resp::Reply;
use crate::session::Session as Connection;

pub(in crate::commands) const COMMANDS: &[Command] = &[
    Command::node::<Stats>(),
    Command::node::<Doctor>(),
    Command::session::<Purge>(),
    Command::session::<MallocStats>(),
    Command::session::<Help>(),
];

/// Lists figures about memory.
pub struct Stats;

impl Node for Stats {
    const SPEC: Spec = Spec {
        name: "MEMORY|STATS",
        summary: "Show memory usage details",
        since: "4.0.0",
        flags: Flags::NONE,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        Ok(stats(&host.info()).into())
    }
}

fn stats(info: &NodeInfo) -> Reply {
    let memory = &info.memory;
    let int = |value: u64| Reply::Int(value as i64);
    let keys: u64 = info.keyspace.iter().map(|database| database.keys).sum();
    let data = memory.used;
    let percent = |part: u64, whole: u64| Reply::Double(100.0 * part as f64 / whole.max(1) as f64);
    let mut fields = vec![
        (Reply::text("peak.allocated"), int(memory.peak)),
        (Reply::text("total.allocated"), int(memory.resident)),
        (Reply::text("startup.allocated"), int(memory.startup)),
        (Reply::text("replication.backlog"), int(0)),
        (Reply::text("clients.slaves"), int(0)),
        (Reply::text("clients.normal"), int(memory.clients)),
        (Reply::text("cluster.links"), int(0)),
        (Reply::text("aof.buffer"), int(0)),
        (Reply::text("lua.caches"), int(0)),
        (Reply::text("functions.caches"), int(0)),
    ];
    for database in &info.keyspace {
        // The index is part of the data: what a key costs is in `dataset.bytes`.
        let overheads =
            ["overhead.hashtable.main", "overhead.hashtable.expires", "overhead.hashtable.slot-to-keys"];
        let overheads = overheads.map(|name| (Reply::text(name), int(0)));
        fields.push((Reply::bulk(format!("db.{}", database.db)), Reply::Map(overheads.into())));
    }
    fields.extend([
        (Reply::text("overhead.total"), int(memory.overhead + memory.clients)),
        (Reply::text("keys.count"), int(keys)),
        (Reply::text("keys.bytes-per-key"), int(data.checked_div(keys).unwrap_or(0))),
        (Reply::text("dataset.bytes"), int(data)),
        (Reply::text("dataset.percentage"), percent(data, memory.resident)),
        (Reply::text("peak.percentage"), percent(memory.resident, memory.peak)),
        (Reply::text("allocator.allocated"), int(memory.resident)),
        (Reply::text("allocator.active"), int(memory.resident)),
        (Reply::text("allocator.resident"), int(memory.resident)),
        (Reply::text("allocator-fragmentation.ratio"), Reply::Double(1.0)),
        (Reply::text("allocator-fragmentation.bytes"), int(0)),
        (Reply::text("allocator-rss.ratio"), Reply::Double(1.0)),
        (Reply::text("allocator-rss.bytes"), int(0)),
        (Reply::text("rss-overhead.ratio"), Reply::Double(1.0)),
        (Reply::text("rss-overhead.bytes"), int(0)),
        (Reply::text("fragmentation"), Reply::Double(1.0)),
        (Reply::text("fragmentation.bytes"), int(0)),
    ]);
    Reply::Map(fields)
}

/// Says in sentences whether memory is short.
pub struct Doctor;

impl Node for Doctor {
    const SPEC: Spec = Spec {
        name: "MEMORY|DOCTOR",
        summary: "Outputs memory problems report",
        since: "4.0.0",
        flags: Flags::NONE,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        Ok(Reply::Verbatim(Bytes::from(report(&host.info()))).into())
    }
}

fn report(info: &NodeInfo) -> String {
    let memory = &info.memory;
    let mut complaints = Vec::new();
    if memory.limit > 0 && memory.used > memory.limit / 10 * 9 {
        complaints.push("The data is close to maxmemory, above which writes that need memory are refused.");
    }
    if memory.system > 0 && memory.resident > memory.system / 10 * 9 {
        complaints.push("The process holds nearly all of the machine's memory.");
    }
    if memory.clients > memory.resident / 4 {
        complaints.push("Much memory is in clients' buffers: see CLIENT LIST for who does not read.");
    }
    if complaints.is_empty() {
        "No memory problems were found.\n".to_owned()
    } else {
        complaints.join("\n") + "\n"
    }
}

/// Has nothing to do: the allocator gives memory back by itself.
pub struct Purge;

impl Session for Purge {
    const SPEC: Spec = Spec {
        name: "MEMORY|PURGE",
        summary: "Ask the allocator to release memory",
        complexity: "Depends on how much memory is allocated, could be slow",
        since: "4.0.0",
        flags: Flags::NONE,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(Reply::Ok)
    }
}

/// Says that the allocator tells nothing.
pub struct MallocStats;

impl Session for MallocStats {
    const SPEC: Spec = Spec {
        name: "MEMORY|MALLOC-STATS",
        summary: "Show allocator internal stats",
        complexity: "Depends on how much memory is allocated, could be slow",
        since: "4.0.0",
        flags: Flags::NONE,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(Reply::text("Stats not supported for the current allocator"))
    }
}

/// The subcommands.
pub struct Help;

impl Session for Help {
    const SPEC: Spec = Spec {
        name: "MEMORY|HELP",
        summary: "Show helpful text about the different subcommands",
        since: "4.0.0",
        flags: Flags::LOADING.and(Flags::STALE),
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(help::reply(
            "MEMORY",
            &[
                "DOCTOR",
                "    Return memory problems reports.",
                "MALLOC-STATS",
                "    Return internal statistics report from the memory allocator.",
                "PURGE",
                "    Attempt to purge dirty pages for reclamation by the allocator.",
                "STATS",
                "    Return information about the memory usage of the node.",
                "USAGE <key> [SAMPLES <count>]",
                "    Return the bytes that <key> takes in the database. They are counted, whatever",
                "    <count> says.",
            ],
        ))
    }
}
