//! Redis' own test suite against three nodes, through a follower. Each unit has nodes of its own: what one leaves
//! behind, keys as well as limits, is not there for the next.

use std::path::Path;

use anyhow::Result;
use compat_tests::cluster::Cluster;
use compat_tests::suite::{self, redis_tcl, source};

/// The units that are about what Quorate has.
const UNITS: [&str; 19] = [
    "protocol",
    "keyspace",
    "scan",
    "info-command",
    "type/string",
    "type/incr",
    "type/hash",
    "type/list-3",
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
    suite::hold("redis-suite", &UNITS, |unit, skipped| {
        let cluster = Cluster::start(3)?;
        let address = cluster.nodes[cluster.follower()?].listen;
        redis_tcl::run(&source, unit, skipped, address)
    })
}
