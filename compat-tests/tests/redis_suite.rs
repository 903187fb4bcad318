//! Redis' own test suite against three nodes, through a follower.

#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use compat_tests::cluster::Cluster;
use compat_tests::suite::exceptions::Exceptions;
use compat_tests::suite::{redis_tcl, source, table};

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
    let only = std::env::var("UNIT").ok();
    let units: Vec<_> =
        UNITS.into_iter().filter(|&unit| only.as_deref().is_none_or(|only| only == unit)).collect();
    ensure!(!units.is_empty(), "UNIT is one of {}", UNITS.join(", "));
    let exceptions =
        Exceptions::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("redis-suite/exceptions.txt"))?;
    let source = source::redis(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let cluster = Cluster::start(3)?;
    let address = cluster.nodes[cluster.follower()?].listen;
    let mut rows = Vec::new();
    let mut complaints = exceptions.unknown_units(&UNITS);
    for unit in units {
        let start = Instant::now();
        let report = redis_tcl::run(&source, unit, &exceptions.skipped(unit), address)?;
        let verdict = exceptions.judge(&report);
        println!(
            "{unit}: {} passed, {} not as listed, {:.1?}",
            verdict.row.passed,
            verdict.complaints.len(),
            start.elapsed()
        );
        complaints.extend(verdict.complaints);
        rows.push(verdict.row);
    }
    ensure!(
        complaints.is_empty(),
        "{} differences from redis-suite/exceptions.txt\n\n{}",
        complaints.len(),
        complaints.join("\n")
    );
    table::check("redis-suite", &rows, only.is_none())
}
