//! How clusters begin and end: in any order, with late peers, by a signal, and as `quorate dev`.

#![allow(clippy::print_stdout)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use compat_tests::client::{Connection, ask, http_get, info};
use compat_tests::cluster::{Cluster, PATIENCE};
use compat_tests::reply::Reply;
use compat_tests::workload::Workload;
use compat_tests::{alone, free_ports, wait_for};
use rustix::process::Signal;

#[test]
fn nodes_start_in_any_order_and_wait_for_late_ones() -> Result<()> {
    let _alone = alone();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut cluster = Cluster::prepare(3)?;
        let peers: Vec<_> = cluster.nodes.iter().map(|node| node.peer.to_string()).collect();
        let start = Instant::now();
        for (started, &number) in order.iter().enumerate() {
            cluster.nodes[number].start()?;
            // The next one starts when all before say that they wait for it.
            for &missing in &order[started + 1..] {
                for &waiting in &order[..=started] {
                    let what = format!("node {waiting} to say that it waits for {}", peers[missing]);
                    wait_for(&what, PATIENCE, || {
                        let log = cluster.nodes[waiting].log_text()?;
                        // The options may be logged, too: `--peers a,b,c` is no complaint.
                        let complains = log.lines().any(|line| {
                            line.contains(&peers[missing]) && line.to_lowercase().contains("waiting")
                        });
                        Ok(complains.then_some(()))
                    })?;
                }
            }
            if started == 0 {
                let (live, ready) = (
                    http_get(cluster.nodes[number].http, "/livez")?,
                    http_get(cluster.nodes[number].http, "/readyz")?,
                );
                ensure!(
                    live.0 == 200 && ready.0 == 503,
                    "alone it is alive, and not ready: {live:?}, {ready:?}"
                );
            }
        }
        cluster.start_all()?;
        let leader = cluster.leader()?;
        println!("started in the order {order:?}: ready after {:.1?}, node {leader} leads", start.elapsed());
        ask(cluster.nodes[0].listen, &["SET", "k", "v"])?;
        ensure!(ask(cluster.nodes[2].listen, &["GET", "k"])? == Reply::Bulk(b"v".to_vec()), "one cluster");
    }
    Ok(())
}

#[test]
fn clients_of_a_node_that_waits_for_others_are_answered() -> Result<()> {
    let _alone = alone();
    let mut cluster = Cluster::prepare(3)?;
    let missing = cluster.nodes[2].peer.to_string();
    let (node, arguments) = (cluster.nodes[0].listen, cluster.nodes[0].arguments());
    let patient = [("QUORATE_REQUEST_TIMEOUT_MS", "60000")];
    cluster.nodes[0].start_with(&arguments, &patient)?;
    let mut early = wait_for("the node to listen", PATIENCE, || Ok(Connection::open(node).ok()))?;

    // What libraries say when they connect.
    ensure!(matches!(early.call(&["HELLO", "3", "SETNAME", "early"])?, Reply::Map(_)), "HELLO 3");
    early.call(&["CLIENT", "SETINFO", "LIB-NAME", "library"])?;
    early.call(&["SELECT", "5"])?;
    let id = early.call(&["CLIENT", "ID"])?;
    let unknown = early.call(&["NOSUCH"])?;
    ensure!(unknown.error().is_some_and(|error| error.starts_with("ERR unknown command")), "{unknown:?}");

    // What operators ask.
    wait_for("the node to say whom it waits for", PATIENCE, || {
        let ping = early.call(&["PING"])?;
        let error = ping.error().with_context(|| format!("PING: {ping:?}"))?;
        ensure!(error.starts_with("CLUSTERDOWN The node is not part of a cluster yet"), "{error}");
        Ok(error.contains(&missing).then_some(()))
    })?;
    ensure!(info(node, "persistence", "loading")?.as_deref() == Some("1"), "INFO: loading");
    let waited_for = info(node, "quorate", "waiting_for")?.context("INFO: waiting_for")?;
    ensure!(waited_for.contains(&missing), "{waited_for}");

    // A transaction that was begun goes on where the connection does.
    let mut careful = Connection::open(node)?;
    careful.call(&["MULTI"])?;
    ensure!(careful.call(&["INCR", "counter"])? == Reply::Status(b"QUEUED".to_vec()), "INCR");

    // What needs the state waits for the cluster, on the same connection.
    early.send(&["HSET", "h", "field", "value"])?;
    for number in [1, 2] {
        cluster.nodes[number].start()?;
    }
    ensure!(early.receive()? == Reply::Int(1), "HSET");
    ensure!(matches!(early.call(&["HGETALL", "h"])?, Reply::Map(_)), "it still speaks RESP3");
    ensure!(early.call(&["CLIENT", "ID"])? == id, "it has another number");
    let about = early.call(&["CLIENT", "INFO"])?;
    let about = String::from_utf8_lossy(about.text().context("CLIENT INFO answers with text")?).into_owned();
    for said in ["name=early", "lib-name=library", "db=5"] {
        ensure!(about.contains(said), "{said}: {about}");
    }
    ensure!(careful.call(&["INCR", "counter"])? == Reply::Status(b"QUEUED".to_vec()), "INCR, afterwards");
    let done = careful.call(&["EXEC"])?;
    ensure!(done == Reply::Array(vec![Reply::Int(1), Reply::Int(2)]), "EXEC: {done:?}");
    ensure!(info(node, "persistence", "loading")?.as_deref() == Some("0"), "INFO: loading, afterwards");
    Ok(())
}

#[test]
fn a_command_waits_for_the_cluster_as_long_as_for_a_leader() -> Result<()> {
    let _alone = alone();
    let mut cluster = Cluster::prepare(3)?;
    let arguments = cluster.nodes[0].arguments();
    let impatient = [("QUORATE_REQUEST_TIMEOUT_MS", "100"), ("QUORATE_REQUIREPASS", "secret")];
    cluster.nodes[0].start_with(&arguments, &impatient)?;
    let node = cluster.nodes[0].listen;
    let mut client = wait_for("the node to listen", PATIENCE, || Ok(Connection::open(node).ok()))?;
    let mut error_of = |words: &[&str]| -> Result<String> {
        let reply = client.call(words)?;
        reply.error().with_context(|| format!("{words:?}: {reply:?}"))
    };
    ensure!(error_of(&["GET", "k"])?.starts_with("NOAUTH "), "GET without a password");
    ensure!(error_of(&["AUTH", "wrong"])?.starts_with("WRONGPASS "), "AUTH");
    ensure!(error_of(&["HELLO", "3"])?.starts_with("NOAUTH "), "HELLO without a password");
    ensure!(client.call(&["AUTH", "secret"])? == Reply::Status(b"OK".to_vec()), "AUTH");
    for words in [&["GET", "k"][..], &["SUBSCRIBE", "c"], &["CLUSTER", "SLOTS"], &["ROLE"]] {
        let reply = client.call(words)?;
        let error = reply.error().with_context(|| format!("{words:?}: {reply:?}"))?;
        ensure!(error.starts_with("CLUSTERDOWN "), "{words:?}: {error}");
    }

    // All of a transaction is refused, or nothing.
    ensure!(client.call(&["MULTI"])? == Reply::Status(b"OK".to_vec()), "MULTI");
    ensure!(client.call(&["SET", "k", "v"])? == Reply::Status(b"QUEUED".to_vec()), "SET in a transaction");
    for (words, prefix) in [
        (&["EXEC"][..], "EXECABORT Transaction discarded because of: CLUSTERDOWN "),
        (&["EXEC"], "ERR EXEC without MULTI"),
        (&["DISCARD"], "ERR DISCARD without MULTI"),
    ] {
        let reply = client.call(words)?;
        let error = reply.error().with_context(|| format!("{words:?}: {reply:?}"))?;
        ensure!(error.starts_with(prefix), "{words:?}: {error}");
    }
    Ok(())
}

#[test]
fn sigterm_hands_leadership_over() -> Result<()> {
    let _alone = alone();
    let mut cluster = Cluster::start(3)?;
    let workload = Workload::start(&cluster.addresses(), 4, "sigterm");
    let mut outages = Vec::new();
    for _ in 0..3 {
        workload.wait_for(200)?;
        let leader = cluster.leader()?;
        let asked = Instant::now();
        let status = cluster.nodes[leader].terminate()?;
        ensure!(status.success(), "SIGTERM: {status}");
        let ended = asked.elapsed();
        workload.wait_for(100)?;
        outages.push((asked, Instant::now(), ended));
        let log = cluster.nodes[leader].log_text()?;
        let error = log.lines().find(|line| line.contains("ERROR"));
        ensure!(error.is_none(), "a clean stop: {error:?}");
        cluster.nodes[leader].restart()?;
    }
    let record = workload.finish()?;
    for &(from, to, ended) in &outages {
        let gap = record.longest_gap(from, to);
        println!(
            "SIGTERM to the leader: exit 0 after {ended:.0?}, longest time without an acknowledgement {gap:.0?}"
        );
    }
    println!("{}", record.summary());
    cluster.addresses().into_iter().try_for_each(|node| record.check(node))
}

#[test]
fn a_lone_node_keeps_its_data_over_a_stop() -> Result<()> {
    let _alone = alone();
    let mut cluster = Cluster::single()?;
    let address = cluster.nodes[0].listen;
    ask(address, &["SET", "k", "v"])?;
    ensure!(info(address, "replication", "role")?.as_deref() == Some("master"), "alone it leads");
    let status = cluster.nodes[0].terminate()?;
    ensure!(status.success(), "SIGTERM: {status}");
    ensure!(Connection::open(address).is_err(), "it is gone");
    cluster.nodes[0].restart()?;
    ensure!(ask(address, &["GET", "k"])? == Reply::Bulk(b"v".to_vec()), "k is gone");
    Ok(())
}

#[test]
fn dev_runs_a_cluster_of_children() -> Result<()> {
    let _alone = alone();
    // One prepared node stands for the process of `quorate dev`: its log, its signals, its end.
    let mut cluster = Cluster::prepare(1)?;
    let (base, clients) = dev_ports()?;
    let data = cluster.directory().join("dev");
    let arguments: Vec<String> = ["dev", "--nodes", "3", "--base-port", &base.to_string(), "--data"]
        .into_iter()
        .map(str::to_owned)
        .chain([data.display().to_string()])
        .collect();
    let dev = &mut cluster.nodes[0];
    dev.start_with(&arguments, &[])?;
    let start = Instant::now();
    wait_for("the cluster to take a write", PATIENCE, || {
        ensure!(dev.exit_status()?.is_none(), "it ended: {}", dev.log_text()?);
        Ok(ask(clients[0], &["SET", "k", "v"]).ok())
    })?;
    println!("quorate dev took its first write after {:.1?}", start.elapsed());
    for client in clients {
        ensure!(ask(client, &["GET", "k"])? == Reply::Bulk(b"v".to_vec()), "{client} belongs to the cluster");
        ensure!(dev.log_text()?.contains(&client.port().to_string()), "{client} was not printed");
    }
    let start = Instant::now();
    dev.signal(Signal::INT)?;
    let status = dev.wait_exit()?;
    println!("Ctrl-C: {status} after {:.1?}", start.elapsed());
    ensure!(status.success(), "Ctrl-C: {status}: {}", dev.log_text()?);
    for client in clients {
        wait_for("the children to end", Duration::from_secs(5), || {
            Ok(Connection::open(client).is_err().then_some(()))
        })?;
    }
    Ok(())
}

/// A base port with room for three nodes: clients' ports from there, peers' a hundred higher, HTTP two
/// hundred, Sentinels' three hundred.
fn dev_ports() -> Result<(u16, [SocketAddr; 3])> {
    for _ in 0..100 {
        let clients = free_ports::<3>();
        let free = |above: u16| {
            clients
                .iter()
                .all(|client| std::net::TcpListener::bind((client.ip(), client.port() + above)).is_ok())
        };
        if [100, 200, 300].into_iter().all(free) {
            return Ok((clients[0].port(), clients));
        }
    }
    None.context("no room for three nodes")
}
