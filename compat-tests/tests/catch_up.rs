//! A follower that was away catches up: from the log if that reaches back, from a snapshot if not.

#![allow(clippy::print_stdout)]

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use compat_tests::client::{Connection, ask, http_get, metric};
use compat_tests::cluster::{Cluster, PATIENCE, memory_bytes};
use compat_tests::reply::Reply;
use compat_tests::{alone, wait_for};

/// Writes while the follower is away, unless `QUORATE_CATCH_UP_WRITES` says otherwise.
const WRITES: usize = 200_000;
const WRITERS: usize = 4;
const PIPELINE: usize = 500;
const VALUE_BYTES: usize = 100;
/// What a node may hold in memory of its own, mapped files apart: two write buffers and the log's cache,
/// amply.
const MEMORY_BYTES_MAX: u64 = 512 << 20;

#[test]
fn from_the_log() -> Result<()> {
    let _alone = alone();
    catch_up(Cluster::prepare(3)?, "from the log")
}

/// The log keeps next to nothing, so the follower's place in it is gone.
#[test]
fn from_a_snapshot() -> Result<()> {
    let _alone = alone();
    let mut cluster = Cluster::prepare(3)?;
    for node in &mut cluster.nodes {
        node.options = options("1mb", "4mb", "1");
    }
    catch_up(cluster, "from a snapshot")
}

/// What is kept for slow followers is bounded, also where a full buffer makes one checkpoint after the other and a snapshot
/// is not due for hours.
#[test]
fn the_log_is_bounded() -> Result<()> {
    let _alone = alone();
    let mut cluster = Cluster::prepare(1)?;
    cluster.nodes[0].options = options("4mb", "1mb", "3600");
    cluster.start_all()?;
    let node = &cluster.nodes[0];
    write(&[node.listen], WRITES)?;
    let log_bytes = || -> Result<u64> {
        let (_, metrics) = http_get(node.http, "/metrics")?;
        Ok(metric(&metrics, "quorate_disk_wal_size_bytes").context("quorate_disk_wal_size_bytes")? as u64)
    };
    let written = log_bytes()?;
    let left = wait_for("the log to be let go", PATIENCE, || {
        Ok(Some(log_bytes()?).filter(|&bytes| bytes < 5 << 20))
    })?;
    println!("of at least {} KiB of log {} KiB are kept", written >> 10, left >> 10);
    Ok(())
}

/// Small segments, and so much of the log kept, so much buffered, and a checkpoint at least so often.
fn options(keep_bytes: &str, buffer_bytes: &str, checkpoint_seconds: &str) -> Vec<String> {
    let options = [
        ["--wal-segment-bytes", "1mb"],
        ["--wal-keep-bytes", keep_bytes],
        ["--buffer-bytes", buffer_bytes],
        ["--checkpoint-seconds", checkpoint_seconds],
    ];
    options.as_flattened().iter().map(|&word| word.to_owned()).collect()
}

fn catch_up(mut cluster: Cluster, how: &str) -> Result<()> {
    let writes = match std::env::var("QUORATE_CATCH_UP_WRITES") {
        Ok(text) => text.parse().context("QUORATE_CATCH_UP_WRITES")?,
        Err(_) => WRITES,
    };
    cluster.start_all()?;
    let follower = cluster.follower()?;
    let away = cluster.nodes[follower].listen;
    ask(away, &["SET", "before", "1"])?;
    cluster.nodes[follower].kill();

    let others: Vec<_> = cluster.addresses().into_iter().filter(|&address| address != away).collect();
    let pids: Vec<_> = cluster.nodes.iter().filter_map(|node| node.pid()).collect();
    let start = Instant::now();
    let (written, peak) = with_memory_peak(&pids, || write(&others, writes));
    written?;
    println!(
        "{how}: {writes} writes without the follower in {:.1?}; the others took at most {} MiB",
        start.elapsed(),
        peak >> 20
    );
    ensure!(peak < MEMORY_BYTES_MAX, "{peak} bytes");

    let start = Instant::now();
    cluster.nodes[follower].start()?;
    let pids: Vec<_> = cluster.nodes.iter().filter_map(|node| node.pid()).collect();
    let (caught_up, peak) = with_memory_peak(&pids, || {
        cluster.nodes[follower].wait_ready()?;
        // Linearizable, so an answer is only possible once all of it has been applied.
        count(away)
    });
    println!(
        "{how}: the follower had all of it after {:.1?}; nodes took at most {} MiB meanwhile",
        start.elapsed(),
        peak >> 20
    );
    ensure!(caught_up? == writes + 1, "it does not have all keys");
    ensure!(peak < MEMORY_BYTES_MAX, "{peak} bytes");

    let mut connection = Connection::open(away)?;
    for number in (0..writes).step_by(97) {
        let reply = connection.call(&["GET", &key(number)])?;
        ensure!(reply == Reply::Bulk(value(number)), "{}: {reply:?}", key(number));
    }
    // Alone with the other node that was there all along, it is part of the quorum again.
    let leader = cluster.leader()?;
    let third = (0..3).find(|&i| i != leader && i != follower).context("three nodes")?;
    let out = if leader == follower { third } else { leader };
    cluster.nodes[out].kill();
    let reply = Connection::open(away)?.call(&["SET", "after", "1"])?;
    ensure!(reply == Reply::Status(b"OK".to_vec()), "{reply:?}");
    for (i, node) in cluster.nodes.iter().enumerate().filter(|&(i, _)| i != out) {
        ensure!(count(node.listen)? == writes + 2, "node {i} does not have all keys");
    }
    Ok(())
}

fn key(number: usize) -> String {
    format!("key:{number:08}")
}

fn value(number: usize) -> Vec<u8> {
    format!("{number:0>VALUE_BYTES$}").into_bytes()
}

fn count(address: SocketAddr) -> Result<usize> {
    match ask(address, &["DBSIZE"])? {
        Reply::Int(count) => Ok(usize::try_from(count)?),
        other => bail!("DBSIZE: {other:?}"),
    }
}

fn write(addresses: &[SocketAddr], writes: usize) -> Result<()> {
    let threads: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let address = addresses[writer % addresses.len()];
            thread::spawn(move || -> Result<()> {
                let mut connection = Connection::open(address)?;
                let numbers: Vec<_> = (writer..writes).step_by(WRITERS).collect();
                for chunk in numbers.chunks(PIPELINE) {
                    let commands: Vec<_> =
                        chunk.iter().map(|&n| vec![b"SET".to_vec(), key(n).into_bytes(), value(n)]).collect();
                    for reply in connection.pipeline(&commands)? {
                        ensure!(reply == Reply::Status(b"OK".to_vec()), "{reply:?}");
                    }
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        let Ok(result) = thread.join() else { bail!("a writer panicked") };
        result?;
    }
    Ok(())
}

/// Does the work, and says what the greediest of the processes took meanwhile.
fn with_memory_peak<T>(pids: &[u32], work: impl FnOnce() -> T) -> (T, u64) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = 0;
            while !done.load(Ordering::Relaxed) {
                let now = pids.iter().filter_map(|&pid| memory_bytes(pid, "RssAnon").ok()).max();
                peak = peak.max(now.unwrap_or(0));
                thread::sleep(compat_tests::POLL);
            }
            peak
        });
        let result = catch_unwind(AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        let peak = watcher.join().expect("it only reads /proc");
        (result.unwrap_or_else(|panic| resume_unwind(panic)), peak)
    })
}
