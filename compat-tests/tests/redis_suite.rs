//! Redis' own test suite against three nodes, through a follower.

use std::path::Path;

use anyhow::Result;
use compat_tests::cluster::Cluster;
use compat_tests::suite::{self, redis_tcl, source};

/// The units that are about what Quorate has.
const UNITS: [&str; 18] = [
    "protocol",
    "keyspace",
    "scan",
    "info-command",
    "type/string",
    "type/incr",
    "type/hash",
    "expire",
    "multi",
    "quit",
    "pubsub",
    "scripting",
    "functions",
    "introspection",
    "introspection-2",
    "tracking",
    "pause",
    "slowlog",
];

#[test]
fn redis_suite() -> Result<()> {
    let source = source::redis(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let cluster = Cluster::start(3)?;
    let address = cluster.nodes[cluster.follower()?].listen;
    suite::hold("redis-suite", &UNITS, |unit, skipped| redis_tcl::run(&source, unit, skipped, address))
}
