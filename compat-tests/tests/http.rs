//! What an operator's tools see on `--http-listen`.

#![allow(clippy::print_stdout)]

use anyhow::{Result, ensure};
use compat_tests::client::{ask, http_get};
use compat_tests::cluster::{Cluster, PATIENCE};
use compat_tests::wait_for;

#[test]
fn health_and_metrics() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    ask(cluster.nodes[0].listen, &["SET", "k", "v"])?;
    let follower = cluster.follower()?;
    let node = &cluster.nodes[follower];
    for path in ["/livez", "/readyz"] {
        let (status, body) = http_get(node.http, path)?;
        ensure!(status == 200, "{path}: {status} {body}");
    }
    ensure!(http_get(node.http, "/nothing")?.0 == 404, "no such resource");

    let (status, text) = http_get(node.http, "/metrics")?;
    ensure!(status == 200, "/metrics: {status}");
    let samples: Vec<_> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    for sample in &samples {
        let value = sample.rsplit(' ').next().unwrap_or_default();
        ensure!(value.parse::<f64>().is_ok(), "no sample: {sample}");
    }
    for name in ["quorate_server_has_leader", "redis_connected_clients", "redis_commands_processed_total"] {
        ensure!(samples.iter().any(|sample| sample.starts_with(name)), "/metrics lacks {name}");
    }
    println!("/metrics has {} samples", samples.len());

    // Without a quorum a node lives on, and says that it cannot serve.
    for number in (0..3).filter(|&number| number != follower) {
        cluster.nodes[number].kill();
    }
    let node = &cluster.nodes[follower];
    wait_for("the node to notice that it is alone", PATIENCE, || {
        Ok((http_get(node.http, "/readyz")?.0 == 503).then_some(()))
    })?;
    ensure!(http_get(node.http, "/livez")?.0 == 200, "it lives");
    Ok(())
}
