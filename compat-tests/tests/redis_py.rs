//! redis-py's own tests against three nodes, through a follower.

use std::path::Path;

use anyhow::Result;
use compat_tests::cluster::Cluster;
use compat_tests::suite;
use compat_tests::suite::redis_py::RedisPy;

const UNITS: [&str; 7] = [
    "test_lock",
    "test_scripting",
    "test_pubsub",
    "test_pipeline",
    "test_keyspace_notifications",
    "test_cache",
    "test_commands",
];

#[test]
fn redis_py() -> Result<()> {
    let redis_py = RedisPy::fetch(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let cluster = Cluster::start(3)?;
    let address = cluster.nodes[cluster.follower()?].listen;
    let sentinels = cluster.addresses();
    suite::hold("redis-py", &UNITS, |unit, skipped| redis_py.run(unit, skipped, address, &sentinels))
}
